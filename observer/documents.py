"""What the observer keeps: the sightings of each order, and the times in which it may have missed some."""

from collections.abc import Collection, Iterable
from typing import Any, ClassVar, Self

from pydantic import Field

from observer.history import FINAL_EVENTS, LossPeriod
from observer.observation import Observation, merge
from store.document import Document

#: Messages of one order that are kept; an order has a dozen, and more only where something goes round and round.
OBSERVATIONS_MAX = 500
#: Times of loss that are kept; beyond that the oldest two become one.
LOSSES_MAX = 100


class ObservedOrder(Document):
    """What was heard of one order, by message id. `cut`: there was more than SIGHTINGS_MAX.

    `due_at` is when it last moved, and absent once it has ended: so open orders are found through the store's index."""

    collection: ClassVar[str] = "heard"

    order_id: str
    sightings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    cut: bool = False
    due_at: float | None = None

    def with_observations(self, observed: Iterable[Observation]) -> Self:
        """With more sightings of the same order; it makes no difference how often."""
        kept, cut = dict(self.sightings), self.cut
        for observation in observed:
            known = kept.get(observation.message_id)
            if known is None and len(kept) >= OBSERVATIONS_MAX:
                cut = True
                continue
            kept[observation.message_id] = (merge(Observation.from_body(known), observation) if known else observation).to_body()
        ended = any(body["type"] in FINAL_EVENTS for body in kept.values())
        return self.copy_with(sightings=kept, cut=cut, due_at=None if ended else max(body["sent_at"] for body in kept.values()))

    def all(self) -> list[Observation]:
        return [Observation.from_body(body) for body in self.sightings.values()]


class LossPeriods(Document):
    """Times in which messages were lost, as (since, until) in seconds since the epoch. Nothing sent between the last of them and
    `sure_until` was."""

    collection: ClassVar[str] = "losses"
    id_field: ClassVar[str] = "name"

    #: The id of the only one.
    name_of_all: ClassVar[str] = "all"

    name: str = name_of_all
    times: tuple[tuple[float, float], ...] = ()
    sure_until: float

    def with_loss(self, until: float) -> Self:
        """With a loss of something that was sent since it was last sure, and before `until`."""
        since = self.sure_until
        until = max(since, until)
        *earlier, last = self.times or ((since, until),)
        times = (*earlier, (last[0], max(until, last[1]))) if since <= last[1] else (*earlier, last, (since, until))
        if len(times) > LOSSES_MAX:
            times = ((times[0][0], times[1][1]), *times[2:])
        return self.copy_with(times=times)

    def all(self) -> Collection[LossPeriod]:
        return [LossPeriod(since, until) for since, until in self.times]
