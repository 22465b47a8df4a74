"""The coordinator: hears every event of the saga, moves that order's run, sends the next command.

It is an ordinary worker: the same loop, inbox, outbox and group commit as the services have; its documents
are the runs. All the thinking is in `saga.advance`.
"""

from collections.abc import Iterable, Sequence

from broker.handler import NOTHING, Context, Documents, Handler, Outcome
from broker.message import Event
from broker.role import Service
from orchestrator.saga import Saga, SagaRun, advance
from services.vocabulary import StuckEvent
from store.document import Key

NAME = "coordinator"


def the_run(event: Event, _: Documents) -> Iterable[Key]:
    """Every event concerns the one run of its order."""
    return (SagaRun.key_of(event.order_id),)


def coordinator(saga: Saga, calls_for_help: Sequence[type[StuckEvent]]) -> Service:
    """The coordinator of `saga`, as a service whose handlers take events: those of its sequence, and calls for help."""

    def follow(event: Event, found: Documents, _: Context) -> Outcome:
        move = advance(saga, found.get(SagaRun, event.order_id), event)
        if move is None:
            return NOTHING
        run, command = move
        return Outcome((run,), (command,) if command else ())

    return Service(NAME, {kind: Handler(the_run, follow, compensates=True) for kind in (*saga.events(), *calls_for_help)})
