"""`saga worker` with its database commands counted. `python -m benchmarks.counted_worker FILE NAME --mode M ...`.

The driver notifies a listener of every command. Commands of a transaction are added when it commits. Commands outside
transactions (polls of the outbox relay and the timers, setup) depend on time, not on orders, so they are counted separately.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from pymongo import monitoring

from cli.app import app

#: Commands that end a transaction -> the total that each adds to.
TRANSACTION_ENDS = {"commitTransaction": "transactions", "abortTransaction": "aborted"}


class CommandCounter(monitoring.CommandListener):
    """Counts `transactions`, `aborted` ones, `commands` in them (commits included) and, as `beside`, all others."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter(transactions=0, aborted=0, commands=0, beside=0)
        self._open: Counter[tuple[bytes, int]] = Counter()

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        command: dict[str, Any] = event.command  # type: ignore[assignment]
        if command.get("autocommit") is not False:  # set on every command of a transaction
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
        """Do nothing: counted when it started."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Do nothing: counted when it started."""


if __name__ == "__main__":
    counts = CommandCounter()
    monitoring.register(counts)
    try:
        sys.exit(app(["worker", *sys.argv[2:]], standalone_mode=False))
    finally:
        Path(sys.argv[1]).write_text(json.dumps(counts.totals))
