"""The in-memory back end of one mode, for `saga demo`, the simulator and fast tests: no servers, sockets or files.

On a virtual-time event loop waits take no real time, and one seed gives one run.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bootstrap.backend import SETTLE_AFTER_S, BookEntry, GatewayBooks
from bootstrap.in_process_gateway import InProcessGateway
from bootstrap.modes import Mode
from broker.environment import Environment
from broker.limits import Limits
from broker.memory.transport import MemoryBroker, MemoryTransport
from payment_gateway.books import Books
from payment_gateway.storage import MemoryStorage
from services.timeouts import Timeouts
from store.memory import MemoryDatabase, MemoryStore


def seeded_environment(seed: int, now: Callable[[], float]) -> Environment:
    """An environment with the clock `now`, and with ids and random numbers from `seed`: on virtual time, runs repeat exactly."""
    rng = random.Random(seed)

    def new_id() -> str:
        bits = int(now() * 1000) << 80 | 0x7 << 76 | rng.getrandbits(12) << 64 | 0b10 << 62 | rng.getrandbits(62)
        text = f"{bits:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    return Environment(now=now, new_id=new_id, rng=rng)


@dataclass(slots=True)
class MemoryBackend:
    """`bootstrap.backend.Backend` in memory. Created inside a running event loop, whose clock it uses unless `clock` is given."""

    mode: Mode
    seed: int = 1
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    broker: MemoryBroker = field(default_factory=MemoryBroker)
    clock: Callable[[], float] | None = None
    environment: Environment = field(init=False)
    payment_books: Books = field(init=False)
    _databases: dict[str, MemoryDatabase] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environment = seeded_environment(self.seed, self.clock or asyncio.get_running_loop().time)
        self.payment_books = Books(MemoryStorage(), now=self.environment.now, faults=True, settle_after_s=SETTLE_AFTER_S)

    def transport(self, worker: str) -> MemoryTransport:  # noqa: ARG002 - only a server shows the names of its connections
        return MemoryTransport(self.broker)

    def store(self, worker: str) -> MemoryStore:
        return MemoryStore(self._databases.setdefault(worker, MemoryDatabase()))

    def store_copy(self, worker: str) -> MemoryStore:
        """A copy of what a worker has stored until now."""
        return MemoryStore(self._databases[worker].copy())

    def commit_count(self, workers: Iterable[str]) -> int:
        """The number of commits of these workers together. While it stays the same, no document has changed."""
        return sum(self._databases[worker].commits for worker in workers)

    def gateway(self) -> InProcessGateway:
        return InProcessGateway(self.payment_books, self.mode)

    async def books(self) -> GatewayBooks:
        page = await self.payment_books.page(self.mode, limit=1_000_000)
        acted = await self.payment_books.acted(self.mode)
        payments = {key: BookEntry(payment.state.value, payment.amount_cents or 0) for key, payment in page}
        return GatewayBooks(payments, {failure.value: keys for failure, keys in acted.items()})
