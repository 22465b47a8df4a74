"""`saga doctor`: what is missing or wrong, and the next step.

Room: cli/. The checks are lab/doctor/; this shows what they found.
"""

import os

import typer
from rich.markup import escape

from cli.order import JsonFlag, ModeFlag
from cli.output import Code, data, print_json, run, stop
from cli.settings import load
from lab.doctor.check import Finding, examine
from lab.doctor.patient import DOCKER_HOST, Patient
from lab.doctor.plan import PLAN
from lab.modes import Mode

WORDS = {True: "[green]ok      [/]", False: "[bold red]FAILED  [/]", None: "[yellow]not made[/]"}
#: Columns of a check's name.
NAMES = max(len(check.name) for check in PLAN)


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: saga doctor --mode choreography")(doctor)


def doctor(mode: ModeFlag = Mode.ORCHESTRATOR, as_json: JsonFlag = False) -> None:
    """Name what is missing or wrong for a mode, and the next step. Exit 1 when a check fails, 4 when a server is missing.

    In the JSON `ok` is null where a check was not made, because of something else that failed or has not begun."""
    found = run(_examine(mode))
    failed = {name: finding for name, finding in found.items() if finding.ok is False}
    if as_json:
        checks = [{"name": name, "ok": it.ok, "why": it.why, "next": it.next} for name, it in found.items()]
        print_json({"ok": not failed, "checks": checks})
    else:
        for name, finding in found.items():
            _show(name, finding)
    if failed:
        code = Code.SERVER_MISSING if any(finding.server_missing for finding in failed.values()) else Code.FAILED
        stop(code, f"{len(failed)} of {len(found)} checks failed: {', '.join(failed)}.")


async def _examine(mode: Mode) -> dict[str, Finding]:
    docker_host = os.environ.get("DOCKER_HOST") or DOCKER_HOST
    async with Patient(mode, load().parts(mode), docker_host=docker_host) as patient:
        return await examine(patient, PLAN)


def _show(name: str, finding: Finding) -> None:
    """One line; beneath one that failed, why. The next step may come with a check that is ok, too."""
    said = f"{name}\n            {finding.why}" if finding.ok is False else f"{name:{NAMES}}  {finding.why}"
    step = f"\n            next: {finding.next}" if finding.next else ""
    data.print(f"{WORDS[finding.ok]}  {escape(said + step)}", highlight=False, soft_wrap=True)
