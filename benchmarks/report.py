"""The report of a benchmark: tables for a terminal, Markdown and JSON.

Every ratio has its spread. Rows that miss their floor are shown like the others.
"""

import dataclasses
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from benchmarks.per_order import PerOrder
from benchmarks.rows import FOREIGN_MAX_PERCENT, Result
from benchmarks.sides import Run

ROW_HEADS = ("", "mode", "floor", "ratio", "spread", "met", "ours", "other", "others' CPU", "repeated")
COST_HEADS = (
    "an order costs",
    "mode",
    "in flight",
    "messages",
    "body bytes",
    "property bytes",
    "database commands",
    "transactions",
)


@dataclass(slots=True)
class Report:
    """The results and the servers they were measured on. Filled row by row."""

    pairs: int
    description: str = ""
    results: list[Result] = field(default_factory=list)
    costs: list[PerOrder] = field(default_factory=list)

    @property
    def title(self) -> str:
        machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
        return f"medians of {self.pairs} alternating pairs; {self.description}; {machine}"

    def as_dict(self) -> dict[str, Any]:
        """The report as `--json` prints it. `foreign_percent`: the share of the machine that other processes used."""
        return {
            "about": self.title,
            "rows": [_row_dict(result) for result in self.results],
            "per_order": [dataclasses.asdict(cost) for cost in self.costs],
        }

    def tables(self) -> list[Table]:
        """The tables for a terminal."""
        return [_table(self.title, ROW_HEADS, self._row_cells())] * bool(self.results) + [
            _table("", COST_HEADS, self._cost_cells())
        ] * bool(self.costs)

    def markdown(self) -> str:
        """The report as Markdown."""
        parts = [f"Speed: {self.title}."]
        parts += [_markdown(ROW_HEADS, self._row_cells())] if self.results else []
        parts += [_markdown(COST_HEADS, self._cost_cells())] if self.costs else []
        return "\n\n".join(parts) + "\n"

    def _row_cells(self) -> list[tuple[str, ...]]:
        return [_row_cells(result) for result in self.results]

    def _cost_cells(self) -> list[tuple[str, ...]]:
        return [
            (
                cost.side,
                str(cost.mode),
                str(cost.in_flight),
                f"{cost.messages:g}",
                f"{cost.body_bytes:.0f}",
                f"{cost.property_bytes:.0f}",
                f"{cost.database_commands:g}",
                f"{cost.transactions:g}",
            )
            for cost in self.costs
        ]


def _row_cells(result: Result) -> tuple[str, ...]:
    unit = "ms" if result.row.figure.endswith("_ms") else "/s"
    ratios = [pair.ratio for pair in result.pairs]
    foreign = max(pair.foreign_percent for pair in result.pairs)
    return (
        result.row.title,
        str(result.mode),
        result.row.floor_text(result.mode),
        f"{result.ratio:.2f}",
        f"{min(ratios):.2f} … {max(ratios):.2f}",
        "yes" if result.is_met else "no",
        f"{result.median_of('ours'):.4g} {unit}",
        f"{result.median_of('other'):.4g} {unit}",
        f"{foreign:.0f} %" + (" (too much)" if foreign > FOREIGN_MAX_PERCENT else ""),
        str(result.repeated),
    )


def _row_dict(result: Result) -> dict[str, Any]:
    ratios = [pair.ratio for pair in result.pairs]
    return {
        "row": result.row.name,
        "mode": str(result.mode),
        "title": result.row.title,
        "figure": result.row.figure,
        "floor": result.row.floor_text(result.mode),
        "median_ratio": round(result.ratio, 3),
        "min_ratio": round(min(ratios), 3),
        "max_ratio": round(max(ratios), 3),
        "met": result.is_met,
        "repeated": result.repeated,
        "pairs": [
            {"ratio": round(pair.ratio, 3), "ours": _run_dict(pair.ours), "other": _run_dict(pair.other)} for pair in result.pairs
        ],
    }


def _run_dict(run: Run) -> dict[str, Any]:
    return {**run.figures, "foreign_percent": round(run.foreign_percent, 1), "cpu_ms_per_order": dict(run.cpu_ms)}


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*heads, title=title)
    for row in rows:
        table.add_row(*row)
    return table


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows))
