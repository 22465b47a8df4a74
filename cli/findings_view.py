"""Prints the findings of an audit."""

from cli.output import data
from ops.audit import IDS_NAMED, Audit


def show_findings(verdict: Audit) -> None:
    """The verdict for people."""
    if verdict.open_orders:
        data.print(f"{verdict.open_orders} orders are open: only what must hold at all times was judged.", highlight=False)
    if verdict.ok:
        data.print("[green]audit: every promise judged holds[/]")
    for finding in verdict.findings:
        shown = ", ".join(finding.ids[:IDS_NAMED]) + (" ..." if len(finding.ids) > IDS_NAMED else "")
        data.print(f"[red]audit: does not hold:[/] {finding.promise} ({len(finding.ids)}): {shown}", highlight=False)
