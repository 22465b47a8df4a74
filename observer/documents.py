"""The observer's documents: the observations of each order, and the periods in which it may have lost messages."""

from collections.abc import Collection, Iterable
from typing import Any, ClassVar, Self

from pydantic import Field

from observer.history import FINAL_EVENT_NAMES, LossPeriod
from observer.observation import Observation, merge
from store.document import Document

#: Messages of one order that are kept. An order has a dozen; more only if it is retried or withdrawn again and again.
OBSERVATIONS_MAX = 500
#: Loss periods that are kept. Beyond that the two oldest are joined.
LOSSES_MAX = 100


class ObservedOrder(Document):
    """The observations of one order, by message id. `cut`: there were more than OBSERVATIONS_MAX.

    `due_at` is the time of the newest message, and absent once the order has ended, so that the store's index on `due_at` finds
    open orders."""

    collection: ClassVar[str] = "heard"

    order_id: str
    sightings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    cut: bool = False
    due_at: float | None = None

    def with_observations(self, observed: Iterable[Observation]) -> Self:
        """The document with more observations of the same order. Idempotent: an observation may be added any number of times."""
        kept, cut = dict(self.sightings), self.cut
        for observation in observed:
            known = kept.get(observation.message_id)
            if known is None and len(kept) >= OBSERVATIONS_MAX:
                cut = True
                continue
            kept[observation.message_id] = (merge(Observation.from_body(known), observation) if known else observation).to_body()
        ended = any(body["type"] in FINAL_EVENT_NAMES for body in kept.values())
        return self.copy_with(sightings=kept, cut=cut, due_at=None if ended else max(body["sent_at"] for body in kept.values()))

    def all(self) -> list[Observation]:
        return [Observation.from_body(body) for body in self.sightings.values()]


class LossPeriods(Document):
    """Periods in which messages were lost, as (since, until) in seconds since the epoch.

    No message that was sent after the last period and before `sure_until` was lost."""

    collection: ClassVar[str] = "losses"
    id_field: ClassVar[str] = "name"

    #: The id of the only document.
    name_of_all: ClassVar[str] = "all"

    name: str = name_of_all
    times: tuple[tuple[float, float], ...] = ()
    sure_until: float

    def with_loss(self, until: float) -> Self:
        """The document with the loss of a message that was sent after `sure_until` and before `until`."""
        since = self.sure_until
        until = max(since, until)
        *earlier, last = self.times or ((since, until),)
        times = (*earlier, (last[0], max(until, last[1]))) if since <= last[1] else (*earlier, last, (since, until))
        if len(times) > LOSSES_MAX:
            times = ((times[0][0], times[1][1]), *times[2:])
        return self.copy_with(times=times)

    def all(self) -> Collection[LossPeriod]:
        return [LossPeriod(since, until) for since, until in self.times]
