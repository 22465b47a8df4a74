"""`saga doctor`: what is missing or wrong, and the next step.

The checks are ops/doctor/; this shows what they found.
"""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from bootstrap.modes import Mode
from cli.credentials import keyring_in
from cli.http_orders import at_door
from cli.options import JsonFlag, ModeFlag
from cli.output import Code, data, ending, print_json, run, stop
from cli.settings import load
from ops.doctor.all_checks import PLAN
from ops.doctor.check import Finding, examine
from ops.doctor.security_probes import Tried
from ops.doctor.security_probes import examine as examine_security
from ops.doctor.targets import DOCKER_HOST, Patient

WORDS = {True: "[green]ok      [/]", False: "[bold red]FAILED  [/]", None: "[yellow]not made[/]"}
#: Columns of a check's name.
NAMES = max(len(check.name) for check in PLAN)


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: saga doctor --mode choreography")(doctor)


def doctor(
    mode: ModeFlag = Mode.ORCHESTRATOR,
    security: Annotated[
        Path | None, typer.Option(help="Try every forbidden act as everybody, in both modes; the folder has everybody's secrets.")
    ] = None,
    door: Annotated[str | None, typer.Option(help="With --security: the door to try, such as http://127.0.0.1:8080.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Name what is missing or wrong for a mode, and the next step. Exit 1 when a check fails, 4 when a server is missing.

    In the JSON `ok` is null where a check was not made, because of something else that failed or has not begun."""
    if security:
        _try_everything(security, door, as_json=as_json)
        return
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


def _try_everything(folder: Path, door: str | None, *, as_json: bool) -> None:
    """`--security`: what was tried as whom, where it was refused, and everything that was not as it should be."""
    with ending(), at_door():
        try:
            tried = asyncio.run(_all_of(examine_security(keyring_in(folder), door)))
        except OSError as error:
            stop(Code.FAILED, f"{error.filename}: {error.strerror}. Make the secrets first: saga admin secrets {folder}.")
    probes = [it for it in tried if not it.control]
    wrong = [it for it in tried if not it.ok]
    allowed = [it for it in probes if it.allowed]
    if as_json:
        counts = {"probes": len(probes), "controls": len(tried) - len(probes), "unexpectedly_allowed": len(allowed)}
        print_json({"ok": not wrong, **counts, "tried": [asdict(it) | {"ok": it.ok} for it in tried]})
    else:
        for (who, where), group in itertools.groupby(tried, lambda it: (it.who, it.where)):
            acts = list(group)
            refused = sum(it.allowed is False for it in acts)
            data.print(f"{escape(who):27}{where:10}{refused:4} of {sum(not it.control for it in acts)} refused", highlight=False)
        for it in wrong:
            word = {True: "ALLOWED", False: "REFUSED, and should not be", None: f"unknown: {it.why}"}[it.allowed]
            data.print(f"[bold red]{escape(it.who)}, {it.where}: {escape(it.what)}: {escape(word)}[/]", soft_wrap=True)
        data.print(f"{len(probes)} probes, {len(allowed)} unexpectedly allowed", highlight=False)
    if wrong:
        stop(Code.FAILED, f"{len(wrong)} of {len(tried)} acts did not end as they should.")


async def _all_of(tries: AsyncIterator[Tried]) -> list[Tried]:
    return [tried async for tried in tries]


def _show(name: str, finding: Finding) -> None:
    """One line; beneath one that failed, why. The next step may come with a check that is ok, too."""
    said = f"{name}\n            {finding.why}" if finding.ok is False else f"{name:{NAMES}}  {finding.why}"
    step = f"\n            next: {finding.next}" if finding.next else ""
    data.print(f"{WORDS[finding.ok]}  {escape(said + step)}", highlight=False, soft_wrap=True)
