"""`saga worker` with its database commands counted. `python -m benchmarks.counted_worker FILE NAME --mode M ...`.

The driver tells a listener of every command; those of a transaction are booked when it commits. What runs
beside (the relay's and the watch's looks, setting up) depends on time and not on orders, so it is booked apart.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from pymongo import monitoring

from cli.app import app

#: Commands that end a transaction: the word for each.
TRANSACTION_ENDS = {"commitTransaction": "transactions", "abortTransaction": "aborted"}


class CommandCounter(monitoring.CommandListener):
    """`transactions`, `commands` in them (their commit included), `beside`: commands that belong to none."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter(transactions=0, aborted=0, commands=0, beside=0)
        self._open: Counter[tuple[bytes, int]] = Counter()

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        command: dict[str, Any] = event.command  # type: ignore[assignment]
        if command.get("autocommit") is not False:  # what every command of a transaction says
            self.totals["beside"] += 1
            return
        transaction = (bytes(command["lsid"]["id"]), int(command["txnNumber"]))
        self._open[transaction] += 1
        ending = TRANSACTION_ENDS.get(event.command_name)
        if ending:
            self.totals[ending] += 1
            count = self._open.pop(transaction)
            if ending == "transactions":
                self.totals["commands"] += count

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Counted when it started."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Counted when it started."""


if __name__ == "__main__":
    counts = CommandCounter()
    monitoring.register(counts)
    try:
        sys.exit(app(["worker", *sys.argv[2:]], standalone_mode=False))
    finally:
        Path(sys.argv[1]).write_text(json.dumps(counts.totals))
