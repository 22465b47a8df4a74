"""A transport that misbehaves as far as the protocol allows: everything arrives twice, late and in another order.

It wraps any transport. Each message of a batch is published twice, in shuffled order, each copy after a small delay
of its own; the receipts are given when all copies have theirs, so a worker still knows what it may rely on.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from broker.transport import Outgoing, Receipt, Transport

#: The longest that one copy is held back, in seconds: longer than a worker needs for a batch, so whole steps change places.
HELD_BACK_S = 0.05


class MischievousTransport:
    """Whatever is not about publishing is the wrapped transport's."""

    def __init__(self, transport: Transport, rng: random.Random) -> None:
        self._transport = transport
        self._chance = rng

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def publish(self, outgoing: Sequence[Outgoing]) -> list[Receipt]:
        copies = [index for index in range(len(outgoing)) for _ in range(2)]
        self._chance.shuffle(copies)
        delays = [self._chance.uniform(0.0, HELD_BACK_S) for _ in copies]
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


class MischievousParts:
    """`bootstrap.backend.Backend` whose transports misbehave, from one seed."""

    def __init__(self, backend: Any, seed: int) -> None:
        self._backend = backend
        self._chance = random.Random(seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def transport(self, worker: str) -> MischievousTransport:
        return MischievousTransport(self._backend.transport(worker), self._chance)
