"""Places orders at a bare chain as `saga storm` places them at ours. `python -m benchmarks.load MODE ORDERS IN_FLIGHT`.

Uses the storm's code for sending, receiving and timing, without its databases, stock and audit, which a bare chain does not have.
Prints the figures that both have as one JSON document.
"""

import asyncio
import sys
import time

from api.sample_orders import LoadPlan
from bootstrap.modes import Mode
from cli.output import print_json, run
from cli.settings import Settings
from lab.storm import Storm, percentile_ms
from services.message_types import FINAL_EVENTS


def prefix_of(mode: Mode) -> str:
    """The bare chain's namespace on the broker and in the gateway's books."""
    return f"bare_{mode}"


class BareStorm(Storm):
    """A storm that uses no database."""

    async def figures(self) -> dict[str, object]:
        """Place the orders, wait until all have ended, and return the figures. Raises TimeoutError when they do not end."""
        await self._transport.open()
        try:
            ends = [kind.type_name for kind in FINAL_EVENTS]
            await self._transport.subscribe(self._order_client.topology, ends, self._on_event)
            started_at = time.monotonic()
            async with asyncio.timeout(self._plan.timeout_s):
                await self._send_all()
                await self._wait_until_all_ended()
            sent_orders = list(self._sent_orders.values())
            seconds = max(sent_order.ended_at for sent_order in sent_orders) - started_at
        finally:
            await self._transport.close()
        percentiles = {f"p{percent}_ms": percentile_ms(sent_orders, percent) for percent in (50, 95, 99)}
        counts = {"orders": len(sent_orders), "ended": len(sent_orders), "completed": len(sent_orders)}
        return {**counts, "seconds": round(seconds, 3), "rate_per_s": round(len(sent_orders) / seconds, 1), **percentiles}

    async def _poll_order_database(self) -> None:
        """Do nothing: there is no database."""


async def run_storm(mode: Mode, plan: LoadPlan) -> dict[str, object]:
    """Clear the gateway's book, then run one storm at the bare chain of a mode."""
    backend = Settings().backend(prefix_of(mode))
    await backend.clear_books()
    return await BareStorm(mode, backend, plan, prefix=prefix_of(mode)).figures()


if __name__ == "__main__":
    # Run like `saga storm`, so that both load generators use the same kind of event loop.
    print_json(run(run_storm(Mode(sys.argv[1]), LoadPlan(int(sys.argv[2]), int(sys.argv[3])))))
