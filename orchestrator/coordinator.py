"""The coordinator: receives every event of the saga, moves that order's run and sends the next command.

It is an ordinary worker, with the same loop, inbox, outbox and group commit as the services. Its documents are the runs; every
decision is made by `saga.advance`.
"""

from collections.abc import Iterable, Sequence

from broker.handler import NOTHING, Context, Documents, Handler, Outcome
from broker.message import Event
from broker.role import Service
from orchestrator.saga import Saga, SagaRun, advance
from services.vocabulary import StepFailed
from store.document import Key

NAME = "coordinator"


def run_keys(event: Event, _: Documents) -> Iterable[Key]:
    """The key of the order's run, which is all that an event needs."""
    return (SagaRun.key_of(event.order_id),)


def coordinator(saga: Saga, escalations: Sequence[type[StepFailed]]) -> Service:
    """The coordinator of `saga`: a service whose handlers take events, those of the saga and the escalations."""

    def handle_event(event: Event, documents: Documents, _: Context) -> Outcome:
        transition = advance(saga, documents.get(SagaRun, event.order_id), event)
        if transition is None:
            return NOTHING
        run, command = transition
        return Outcome((run,), (command,) if command else ())

    return Service(NAME, {kind: Handler(run_keys, handle_event, must_not_fail=True) for kind in (*saga.events(), *escalations)})
