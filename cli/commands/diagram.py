"""`saga diagram --mode M`: the static picture of a mode, generated from where its sequence is written down.

Drawn by observer/mermaid.py; README.md holds both (cli/generate_docs.py).
"""

from dataclasses import asdict

import typer

from bootstrap.modes import Mode
from cli.options import JsonFlag, ModeFlag
from cli.output import print_json
from observer.mermaid import edges, static
from observer.message_flow import PICTURES


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: saga diagram --mode choreography")(diagram)


def diagram(mode: ModeFlag = Mode.ORCHESTRATOR, as_json: JsonFlag = False) -> None:
    """Draw who sends what to whom in a mode, as a Mermaid flowchart: commands solid, events dashed, rollbacks marked with ↩.

    Generated from orchestrator/fulfilment.py or choreography/reactions.py; no server is needed."""
    picture = PICTURES[mode]
    if as_json:
        print_json({"mode": str(mode), "edges": [asdict(edge) for edge in edges(picture)], "mermaid": static(picture)})
    else:
        typer.echo(static(picture))
