"""What the observer keeps: the sightings of each order, and the times in which it may have missed some."""

from collections.abc import Collection, Iterable
from typing import Any, ClassVar, Self

from pydantic import Field

from observer.history import ENDS, Loss
from observer.observation import Sighting, merged
from store.document import Document

#: Messages of one order that are kept; an order has a dozen, and more only where something goes round and round.
SIGHTINGS_MAX = 500
#: Times of loss that are kept; beyond that the oldest two become one.
LOSSES_MAX = 100


class HeardOrder(Document):
    """What was heard of one order, by message id. `cut`: there was more than SIGHTINGS_MAX.

    `due_at` is when it last moved, and absent once it has ended: so open orders are found through the store's index."""

    collection: ClassVar[str] = "heard"

    order_id: str
    sightings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    cut: bool = False
    due_at: float | None = None

    def plus(self, heard: Iterable[Sighting]) -> Self:
        """With more sightings of the same order; it makes no difference how often."""
        kept, cut = dict(self.sightings), self.cut
        for sighting in heard:
            twin = kept.get(sighting.message_id)
            if twin is None and len(kept) >= SIGHTINGS_MAX:
                cut = True
                continue
            kept[sighting.message_id] = (merged(Sighting.from_body(twin), sighting) if twin else sighting).to_body()
        ended = any(body["type"] in ENDS for body in kept.values())
        return self.but(sightings=kept, cut=cut, due_at=None if ended else max(body["sent_at"] for body in kept.values()))

    def all(self) -> list[Sighting]:
        return [Sighting.from_body(body) for body in self.sightings.values()]


class Losses(Document):
    """Times in which messages were lost, as (since, until) in seconds since the epoch. Nothing sent between the last of them and
    `sure_until` was."""

    collection: ClassVar[str] = "losses"
    id_field: ClassVar[str] = "name"

    #: The id of the only one.
    name_of_all: ClassVar[str] = "all"

    name: str = name_of_all
    times: tuple[tuple[float, float], ...] = ()
    sure_until: float

    def lost(self, until: float) -> Self:
        """With a loss of something that was sent since it was last sure, and before `until`."""
        since = self.sure_until
        until = max(since, until)
        *earlier, last = self.times or ((since, until),)
        times = (*earlier, (last[0], max(until, last[1]))) if since <= last[1] else (*earlier, last, (since, until))
        if len(times) > LOSSES_MAX:
            times = ((times[0][0], times[1][1]), *times[2:])
        return self.but(times=times)

    def all(self) -> Collection[Loss]:
        return [Loss(since, until) for since, until in self.times]
