"""Prints the findings of an audit."""

from cli.output import data
from ops.audit import IDS_NAMED, Audit


def show_findings(verdict: Audit) -> None:
    """Print the verdict as text: open orders, then each promise that does not hold with the ids concerned."""
    if verdict.open_orders:
        data.print(
            f"{verdict.open_orders} orders are open: only the promises that hold at all times were checked.", highlight=False
        )
    if verdict.ok:
        data.print("[green]audit: every checked promise holds[/]")
    for finding in verdict.findings:
        shown = ", ".join(finding.ids[:IDS_NAMED]) + (" ..." if len(finding.ids) > IDS_NAMED else "")
        data.print(f"[red]audit: does not hold:[/] {finding.promise} ({len(finding.ids)}): {shown}", highlight=False)
