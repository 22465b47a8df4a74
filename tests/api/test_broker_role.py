"""The API on the broker: it consumes events and takes no command, beside a mode that does not depend on it."""

import pytest

from api.handlers import api_role
from api.messages import EVENTS, NAME
from api.orders import api_topology
from bootstrap.modes import Mode, roles, topology
from broker.declarations import exchanges
from broker.message import Event
from services.message_types import CATALOGUE
from tests.support.system import MODES


def test_api_consumes_every_event_and_takes_no_command() -> None:
    assert {kind.type_name for kind in EVENTS} == {name for name, kind in CATALOGUE.items() if issubclass(kind, Event)}
    (queue,) = api_topology(Mode.CHOREOGRAPHY).queues
    assert not queue.takes_commands
    assert set(queue.listens_to) == {kind.type_name for kind in EVENTS}


@pytest.mark.parametrize("mode", MODES)
def test_api_is_no_part_of_a_mode_and_uses_its_exchanges(mode: Mode) -> None:
    assert NAME not in roles(mode)
    assert NAME not in {queue.worker for queue in topology(mode).queues}
    assert exchanges(api_topology(mode)) == exchanges(topology(mode))


def test_events_have_the_retry_budget_of_compensations() -> None:
    handlers = api_role().service.handlers
    assert all(handlers[kind].must_not_fail for kind in EVENTS)
