"""`saga diagram --mode M`: a flowchart of a mode, generated from the table of its saga or of its reactions.

Drawn by observer/mermaid.py. docs/design.md shows both (cli/docs/generate.py).
"""

from dataclasses import asdict

import typer

from bootstrap.modes import Mode
from cli.options import JsonFlag, ModeFlag
from cli.output import print_json
from observer.mermaid import edges, flowchart
from observer.message_flow import MESSAGE_FLOWS


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: saga diagram --mode choreography")(diagram)


def diagram(mode: ModeFlag = Mode.ORCHESTRATOR, as_json: JsonFlag = False) -> None:
    """Draw the messages of a mode as a Mermaid flowchart: commands solid, events dashed, rollbacks marked with ↩.

    Generated from orchestrator/fulfilment.py or choreography/reactions.py. Needs no server."""
    flow = MESSAGE_FLOWS[mode]
    if as_json:
        print_json({"mode": str(mode), "edges": [asdict(edge) for edge in edges(flow)], "mermaid": flowchart(flow)})
    else:
        typer.echo(flowchart(flow))
