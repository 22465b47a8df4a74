"""`saga audit`: checks the promises against what is stored now.

The checks are in ops/audit.py.
"""

import typer

from bootstrap.connections import open_stores
from bootstrap.modes import Mode
from cli.findings_view import show_findings
from cli.options import JsonFlag, ModeFlag
from cli.output import Code, print_json, run, stop
from cli.settings import load
from ops.audit import Audit
from ops.audit import audit as judge
from ops.snapshot import take_snapshot


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: saga audit --mode choreography --json")(audit)


def audit(mode: ModeFlag = Mode.ORCHESTRATOR, as_json: JsonFlag = False) -> None:
    """Check the promises against what is stored now, payments and the gateway's books included. Exit 3 when one does not hold."""
    verdict = run(_audit(mode))
    if as_json:
        findings = [{"promise": finding.promise, "ids": list(finding.ids)} for finding in verdict.findings]
        print_json({"mode": str(mode), "ok": verdict.ok, "open": verdict.open_orders, "findings": findings})
    else:
        show_findings(verdict)
    if not verdict.ok:
        stop(Code.AUDIT_FAILED, f"{len(verdict.findings)} promises do not hold in the {mode} mode. The findings are above.")


async def _audit(mode: Mode) -> Audit:
    backend = load().backend(mode)
    async with open_stores(mode, backend) as seen:
        return judge(await take_snapshot(seen.stores, await backend.books()))
