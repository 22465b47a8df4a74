"""`saga doctor`: checks servers, settings and machine, and names the next step.

The checks are in ops/doctor/. This module prints their results.
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
from cli.credentials import credentials_in
from cli.http_orders import exit_on_api_error
from cli.options import JsonFlag, ModeFlag
from cli.output import Code, data, exit_on_error, print_json, run, stop
from cli.settings import load
from ops.doctor.all_checks import ALL_CHECKS
from ops.doctor.check import CheckResult, run_checks
from ops.doctor.security_probes import ProbeResult, probe_permissions
from ops.doctor.targets import DOCKER_HOST, Targets

STATUS_LABELS = {True: "[green]ok      [/]", False: "[bold red]FAILED  [/]", None: "[yellow]not made[/]"}
#: Columns for the name of a check.
NAME_WIDTH = max(len(check.name) for check in ALL_CHECKS)


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: saga doctor --mode choreography")(doctor)


def doctor(
    mode: ModeFlag = Mode.ORCHESTRATOR,
    security: Annotated[
        Path | None,
        typer.Option(help="Try every forbidden act as every account, in both modes. The folder has the secrets of all accounts."),
    ] = None,
    api_url: Annotated[
        str | None, typer.Option("--api", help="With --security: the HTTP API to try, such as http://127.0.0.1:8080.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Report what is missing or wrong for a mode, and the next step. Exit 1 when a check fails, 4 when a server is missing.

    In the JSON, `ok` is null for a check that was not made because something that it requires failed or does not run yet."""
    if security:
        _probe_permissions(security, api_url, as_json=as_json)
        return
    found = run(_examine(mode))
    failed = {name: finding for name, finding in found.items() if finding.ok is False}
    if as_json:
        checks = [{"name": name, "ok": probe.ok, "why": probe.why, "next": probe.next_step} for name, probe in found.items()]
        print_json({"ok": not failed, "checks": checks})
    else:
        for name, finding in found.items():
            _show(name, finding)
    if failed:
        code = Code.SERVER_MISSING if any(finding.server_missing for finding in failed.values()) else Code.FAILED
        stop(code, f"{len(failed)} of {len(found)} checks failed: {', '.join(failed)}. The next steps are above.")


async def _examine(mode: Mode) -> dict[str, CheckResult]:
    docker_host = os.environ.get("DOCKER_HOST") or DOCKER_HOST
    async with Targets(mode, load().backend(mode), docker_host=docker_host) as targets:
        return await run_checks(targets, ALL_CHECKS)


def _probe_permissions(folder: Path, api_url: str | None, *, as_json: bool) -> None:
    """Run the permission probes of `--security`; print the refusals for each account and server, then every wrong result."""
    with exit_on_error(), exit_on_api_error():
        try:
            tried = asyncio.run(_collect(probe_permissions(credentials_in(folder), api_url)))
        except OSError as error:
            stop(Code.FAILED, f"{error.filename}: {error.strerror}. Make the secrets first: saga admin secrets {folder}.")
    probes = [probe for probe in tried if not probe.control]
    wrong = [probe for probe in tried if not probe.ok]
    allowed = [probe for probe in probes if probe.allowed]
    if as_json:
        counts = {"probes": len(probes), "controls": len(tried) - len(probes), "unexpectedly_allowed": len(allowed)}
        print_json({"ok": not wrong, **counts, "tried": [asdict(probe) | {"ok": probe.ok} for probe in tried]})
    else:
        for (who, where), group in itertools.groupby(tried, lambda probe: (probe.who, probe.where)):
            acts = list(group)
            refused = sum(probe.allowed is False for probe in acts)
            data.print(
                f"{escape(who):27}{where:10}{refused:4} of {sum(not probe.control for probe in acts)} refused", highlight=False
            )
        for probe in wrong:
            word = {True: "ALLOWED", False: "REFUSED, but should be allowed", None: f"unknown: {probe.why}"}[probe.allowed]
            data.print(f"[bold red]{escape(probe.who)}, {probe.where}: {escape(probe.what)}: {escape(word)}[/]", soft_wrap=True)
        data.print(f"{len(probes)} probes, {len(allowed)} unexpectedly allowed", highlight=False)
    if wrong:
        stop(
            Code.FAILED,
            f"{len(wrong)} of {len(tried)} acts did not end as expected. Compare these permissions with docs/security.md.",
        )


async def _collect(tries: AsyncIterator[ProbeResult]) -> list[ProbeResult]:
    return [tried async for tried in tries]


def _show(name: str, finding: CheckResult) -> None:
    """Print a check on one line; below a failed one the reason. A check that is ok may have a next step, too."""
    line = f"{name}\n            {finding.why}" if finding.ok is False else f"{name:{NAME_WIDTH}}  {finding.why}"
    step = f"\n            next: {finding.next_step}" if finding.next_step else ""
    data.print(f"{STATUS_LABELS[finding.ok]}  {escape(line + step)}", highlight=False, soft_wrap=True)
