"""A transport that duplicates, delays and reorders messages, as far as the transport protocol allows.

It wraps another transport. Each message of a batch is published twice, in shuffled order, each copy after a random delay. The
receipts are returned when all copies have theirs, so they remain reliable.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from broker.transport import Outgoing, Receipt, Transport

#: Maximum delay of a copy, in seconds: longer than a worker needs for a batch, so that whole steps are reordered.
DELAY_MAX_S = 0.05


class ChaoticTransport:
    """Duplicates and delays publishes; all other calls go to the wrapped transport."""

    def __init__(self, transport: Transport, rng: random.Random) -> None:
        self._transport = transport
        self._rng = rng

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def publish(self, outgoing: Sequence[Outgoing]) -> list[Receipt]:
        copies = [index for index in range(len(outgoing)) for _ in range(2)]
        self._rng.shuffle(copies)
        delays = [self._rng.uniform(0.0, DELAY_MAX_S) for _ in copies]
        receipts = await asyncio.gather(
            *(self._send(outgoing[index], delay_s) for index, delay_s in zip(copies, delays, strict=True))
        )
        worst = [Receipt.CONFIRMED] * len(outgoing)
        for index, receipt in zip(copies, receipts, strict=True):
            worst[index] = receipt if receipt is not Receipt.CONFIRMED else worst[index]
        return worst

    async def _send(self, item: Outgoing, delay_s: float) -> Receipt:
        await asyncio.sleep(delay_s)
        (receipt,) = await self._transport.publish([item])
        return receipt


class ChaoticBackend:
    """A backend whose transports are chaotic, from one seed."""

    def __init__(self, backend: Any, seed: int) -> None:
        self._backend = backend
        self._rng = random.Random(seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def transport(self, worker: str) -> ChaoticTransport:
        return ChaoticTransport(self._backend.transport(worker), self._rng)
