"""The differences and equalities of the two modes, checked on running systems. import-linter checks the imports.

Choreography has no coordinator, no commands on the broker except the HTTP API's two, and no store with two owners. In
orchestration, participants consume no events. Services, handlers, limits, retry budgets and messages are equal in both modes.
"""

import ast
import json
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

import choreography
import orchestrator
from bootstrap.memory_backend import MemoryBackend
from bootstrap.modes import Mode, database_name, roles, topology
from broker.declarations import queues
from broker.loop.retry import COMPENSATION_ATTEMPTS, FORWARD_ATTEMPTS
from broker.message import Command, Event
from broker.topology import commands_exchange, events_exchange, queue_of
from broker.transport import Outgoing
from lab.journeys.catalogue import JOURNEYS
from lab.journeys.run import JourneyRun
from lab.system import System
from orchestrator.coordinator import NAME as COORDINATOR
from services.message_types import SERVICES
from services.order.messages import PlaceOrder, WithdrawOrder
from services.registry import all_services
from services.timeouts import Timeouts
from services.vocabulary import ForwardCommand, ForwardEvent
from store.document import Key
from store.protocol import Store
from tests.support.journey_checks import BUSY_JOURNEYS, played, subclasses
from tests.support.system import MODES, in_memory, published

ORDER_ID = "019b0000-0000-7000-8000-000000000001"


def messages_of(mode: Mode, name: str) -> list[Outgoing]:
    """Every message of a journey that was published."""

    async def play(system: System) -> list[Outgoing]:
        seen = published(system)
        await played(JOURNEYS[name], system)
        return seen

    return in_memory(mode, play)


# --- choreography is choreography -----------------------------------------------------------------------------------------


def test_choreography_has_the_four_services_as_its_only_workers() -> None:
    assert tuple(roles(Mode.CHOREOGRAPHY)) == SERVICES
    assert {queue.worker for queue in topology(Mode.CHOREOGRAPHY).queues} == set(SERVICES)


def test_choreographed_workers_accept_only_the_commands_of_the_api() -> None:
    """In the roles: the order service accepts two commands, the other workers none."""
    taken = {queue.worker: set(queue.takes_commands) for queue in topology(Mode.CHOREOGRAPHY).queues if queue.takes_commands}
    assert taken == {"order": {PlaceOrder.type_name, WithdrawOrder.type_name}}
    for worker, role in roles(Mode.CHOREOGRAPHY).items():
        commands = {kind for kind in role.accepts if issubclass(kind, Command)}
        assert commands == ({PlaceOrder, WithdrawOrder} if worker == "order" else set())


def test_in_choreography_only_the_order_queue_is_bound_to_commands() -> None:
    """In the declarations for the broker."""
    declared_topology = topology(Mode.CHOREOGRAPHY)
    bound = [
        (spec.name, key)
        for spec in queues(declared_topology)
        for exchange, key in spec.bindings
        if exchange == commands_exchange(declared_topology.prefix)
    ]
    assert bound == [(queue_of(declared_topology.prefix, "order"), kind.type_name) for kind in (PlaceOrder, WithdrawOrder)]


@pytest.mark.parametrize("name", BUSY_JOURNEYS)
def test_in_choreography_all_messages_but_those_of_the_api_are_events(name: str) -> None:
    exchange = {False: events_exchange(Mode.CHOREOGRAPHY), True: commands_exchange(Mode.CHOREOGRAPHY)}
    messages = messages_of(Mode.CHOREOGRAPHY, name)
    events = {kind.type_name for kind in subclasses(Event)}
    workers = [item for item in messages if item.wire.app_id != "api" and not item.delay_s]
    assert workers
    assert {item.address.exchange for item in workers} == {exchange[False]}
    assert {item.wire.type for item in workers} <= events
    assert {item.wire.type for item in messages if item.address.exchange == exchange[True]} <= {
        PlaceOrder.type_name,
        WithdrawOrder.type_name,
    }


@pytest.mark.parametrize("name", BUSY_JOURNEYS)
def test_in_choreography_a_service_publishes_only_its_own_events(name: str) -> None:
    for item in messages_of(Mode.CHOREOGRAPHY, name):
        if item.wire.app_id != "api" and not item.delay_s:
            assert str(item.wire.type).split(".")[0] == item.wire.app_id


def test_no_test_module_or_conftest_is_imported_by_another() -> None:
    """Code that test modules share belongs in tests/support, or in a conftest as a fixture."""
    root = Path(__file__).parent
    modules = {path: ".".join(("tests", *path.relative_to(root).with_suffix("").parts)) for path in root.rglob("*.py")}
    private = {name for name in modules.values() if name.rpartition(".")[2].startswith(("test_", "conftest"))}
    found = {path: private & names_imported(path) for path in modules}
    assert {str(path.relative_to(root)): names for path, names in found.items() if names} == {}


def names_imported(path: Path) -> set[str]:
    """Every module that a file imports, and every name that it imports from one, as dotted names."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom) and node.module]
    return {*imported(path), *(f"{node.module}.{alias.name}" for node in nodes for alias in node.names)}


def test_modes_do_not_import_each_other() -> None:
    rooms = {choreography: "orchestrator", orchestrator: "choreography"}
    for room, other in rooms.items():
        for path in Path(str(room.__path__[0])).glob("*.py"):
            assert not [name for name in imported(path) if name.split(".")[0] == other], path


def imported(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    return names


# --- orchestration is orchestration ---------------------------------------------------------------------------------------


def test_in_orchestration_participants_take_only_commands() -> None:
    for worker, role in roles(Mode.ORCHESTRATOR).items():
        kind = Event if worker == COORDINATOR else Command
        assert all(issubclass(accepted, kind) for accepted in role.accepts), worker
    for queue in topology(Mode.ORCHESTRATOR).queues:
        assert bool(queue.listens_to) == (queue.worker == COORDINATOR)
        assert bool(queue.takes_commands) == (queue.worker != COORDINATOR)
        assert {name.split(".")[0] for name in queue.takes_commands} <= {queue.worker}


@pytest.mark.parametrize("name", BUSY_JOURNEYS)
def test_in_orchestration_only_the_coordinator_and_the_api_send_commands(name: str) -> None:
    commands = {kind.type_name for kind in subclasses(Command)}
    senders = {
        item.wire.app_id for item in messages_of(Mode.ORCHESTRATOR, name) if item.wire.type in commands and not item.delay_s
    }
    assert senders <= {COORDINATOR, "api"}


# --- no service reads another's data --------------------------------------------------------------------------------------

#: Worker -> its collections.
COLLECTIONS = {
    "order": {"orders"},
    "inventory": {"stock", "reservations"},
    "payment": {"payments"},
    "delivery": {"deliveries"},
    COORDINATOR: {"sagas"},
}


class TracingBackend:
    """An in-memory back end that records which worker opens which database and uses which collections."""

    def __init__(self, mode: Mode) -> None:
        self._backend = MemoryBackend(mode)
        self.databases: dict[str, int] = {}
        self.touched: defaultdict[str, set[str]] = defaultdict(set)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def store(self, worker: str) -> Store:
        store = self._backend.store(worker)
        assert worker not in self.databases, f"{worker}'s database is opened twice"
        self.databases[worker] = id(store._database)
        return _TracingStore(store, self.touched[worker])  # type: ignore[return-value]


class _TracingStore:
    def __init__(self, store: Store, touched: set[str]) -> None:
        self._store = store
        self._touched = touched

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def transact(self, work: Any) -> Any:
        async def traced(reader: Any) -> Any:
            changes, result = await work(_TracingReader(reader, self._touched))
            self._touched |= {record.collection for record in changes.records}
            return changes, result

        return await self._store.transact(traced)


class _TracingReader:
    def __init__(self, reader: Any, touched: set[str]) -> None:
        self._reader = reader
        self._touched = touched

    async def load(self, keys: Collection[Key]) -> Any:
        self._touched |= {collection for collection, _ in keys}
        return await self._reader.load(keys)

    async def known_inbox_keys(self, inbox_keys: Collection[str]) -> set[str]:
        return set(await self._reader.known_inbox_keys(inbox_keys))


@pytest.mark.parametrize("name", BUSY_JOURNEYS)
@pytest.mark.parametrize("mode", MODES)
def test_each_store_has_one_worker_and_holds_only_its_documents(mode: Mode, name: str) -> None:
    backends: list[TracingBackend] = []

    def backend(mode: Mode) -> TracingBackend:
        backends.append(TracingBackend(mode))
        return backends[-1]

    in_memory(mode, lambda system: played(JOURNEYS[name], system), backend)
    assert len(set(backends[0].databases.values())) == len(roles(mode))
    for worker, touched in backends[0].touched.items():
        assert touched <= COLLECTIONS[worker], worker
    assert backends[0].touched["order"] == {"orders"}


@pytest.mark.parametrize("mode", MODES)
def test_every_worker_has_a_database_name_of_its_own(mode: Mode) -> None:
    names = [database_name(mode, worker) for worker in roles(mode)]
    assert len(set(names)) == len(names)
    other = Mode.CHOREOGRAPHY if mode is Mode.ORCHESTRATOR else Mode.ORCHESTRATOR
    assert not set(names) & {database_name(other, worker) for worker in roles(other)}


# --- everything else is equal ---------------------------------------------------------------------------------------------


def test_both_modes_run_the_same_services_handlers_and_timers() -> None:
    services = all_services(Timeouts())
    assert tuple(services) == SERVICES
    by_mode = [{worker: role.service for worker, role in roles(mode, Timeouts()).items()} for mode in MODES]
    for name, service in services.items():
        for mine in (by_mode[0][name], by_mode[1][name]):
            assert set(mine.handlers) == set(service.handlers)
            assert mine.timers == service.timers
            assert mine.single_active == service.single_active
            for kind, handler in service.handlers.items():
                assert code_of(mine.handlers[kind].handle) == code_of(handler.handle)
                assert mine.handlers[kind].must_not_fail == handler.must_not_fail, "another retry budget"


def code_of(function: Any) -> Any:
    """The code behind a function or a partial of one, with its arguments."""
    return getattr(function, "func", function), getattr(function, "keywords", None)


def test_steps_have_the_small_retry_budget_compensations_the_large_one() -> None:
    assert FORWARD_ATTEMPTS < COMPENSATION_ATTEMPTS
    for service in all_services(Timeouts()).values():
        for kind, handler in service.handlers.items():
            assert handler.must_not_fail != issubclass(kind, ForwardCommand), kind


def test_coordinator_has_the_large_retry_budget_for_every_event() -> None:
    """A dead-lettered event would leave its order without an end."""
    handlers = roles(Mode.ORCHESTRATOR)[COORDINATOR].service.handlers
    assert all(handler.must_not_fail for handler in handlers.values())


@pytest.mark.parametrize("mode", MODES)
def test_all_workers_of_a_mode_have_the_same_limits(mode: Mode) -> None:
    async def play(system: System) -> set[int]:
        return {id(running.worker.limits) for running in system.running.values()}

    assert len(in_memory(mode, play)) == 1


def bodies(mode: Mode) -> dict[str, bytes]:
    """Type -> body of every message of one happy order, the same order in both modes."""

    async def play(system: System) -> dict[str, bytes]:
        seen = published(system)
        run = JourneyRun(system)
        await run.place({"book": 2, "lamp": 1}, order_id=ORDER_ID)
        await run.result()
        return {str(item.wire.type): item.wire.body for item in seen}

    return in_memory(mode, play)


def test_messages_have_the_same_bytes_in_both_modes() -> None:
    one, other = bodies(Mode.ORCHESTRATOR), bodies(Mode.CHOREOGRAPHY)
    shared = set(one) & set(other)
    assert shared == {
        *("order.PlaceOrder", "order.OrderPlaced", "inventory.StockReserved", "payment.PaymentAuthorized"),
        *("delivery.DeliveryScheduled", "order.OrderCompleted"),
    }
    for type_name in shared:
        assert one[type_name] == other[type_name], type_name


def test_command_carries_the_same_details_as_the_event_in_its_place() -> None:
    """Stamp coupling is the same in both modes."""
    one, other = bodies(Mode.ORCHESTRATOR), bodies(Mode.CHOREOGRAPHY)
    stands_for = {
        "inventory.ReserveStock": "order.OrderPlaced",
        "payment.AuthorizePayment": "inventory.StockReserved",
        "delivery.ScheduleDelivery": "payment.PaymentAuthorized",
    }
    for command, event in stands_for.items():
        assert json.loads(one[command]) == json.loads(other[event])


def test_every_forward_message_carries_the_details() -> None:
    for kind in subclasses(ForwardCommand) | subclasses(ForwardEvent):
        assert "details" in kind.model_fields
