"""Each check of `saga doctor` finds its fault on real servers, and only that one.

Queues have a prefix of the test's own on the broker. A database with a wrong set-up is started for the test.
"""

import asyncio
import socketserver
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aiohttp import web
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from yarl import URL

from bootstrap.modes import Mode, database_name, roles, topology
from bootstrap.server_backend import ServerBackend
from broker.environment import Environment
from broker.rabbitmq.transport import RabbitTransport
from broker.topology import dead_queue, events_exchange, queue_of
from broker.transport import Outgoing, Receipt, TransportUnavailable, Wire
from lab.system import System
from ops.dead_letters import with_api
from ops.doctor import broker as broker_checks
from ops.doctor.all_checks import ALL_CHECKS
from ops.doctor.check import Check, CheckResult, run_checks
from ops.doctor.port_probe import addresses_in
from ops.doctor.targets import DOCKER_HOST, MEMINFO, Targets
from store.document import Record
from store.mongo.preflight import check_user
from store.protocol import Changes, OutboxRow, Reader, StoreUnavailable
from tests.support import prerequisites, servers
from tests.support.gateway_process import running_gateway
from tests.support.network.mongo_stub import NonUniqueCollection, greeting
from tests.support.system import MODES, Servers, temporary_prefix

real = pytest.mark.real
MODE = Mode.CHOREOGRAPHY
WORKERS = tuple(roles(MODE))


def only(*names: str) -> list[Check]:
    """The named checks and all that they require."""
    wanted, known = set(names), {item.name: item for item in ALL_CHECKS}
    for item in reversed(ALL_CHECKS):
        if item.name in wanted:
            wanted.update(item.requires)
    assert wanted <= known.keys()
    return [item for item in ALL_CHECKS if item.name in wanted]


async def examined(
    backend: ServerBackend, *names: str, mode: Mode = MODE, meminfo: Path = MEMINFO, docker_host: str = DOCKER_HOST
) -> dict[str, CheckResult]:
    """The results of the named checks and those that they require, by name; of all checks without names."""
    async with Targets(mode, backend, meminfo, docker_host) as targets:
        return await run_checks(targets, only(*names) if names else ALL_CHECKS)


def failed(found: dict[str, CheckResult]) -> set[str]:
    return {name for name, result in found.items() if result.ok is False}


def not_made(found: dict[str, CheckResult]) -> set[str]:
    return {name for name, result in found.items() if result.ok is None}


def nowhere(**urls: str) -> ServerBackend:
    """A back end whose servers do not exist, except for the given URLs."""
    port = servers.free_port()
    away = {"broker": f"amqp://127.0.0.1:{port}/", "store": f"mongodb://127.0.0.1:{port}/", "gateway": f"http://127.0.0.1:{port}"}
    return ServerBackend("missing", *(away | urls).values())


@pytest.fixture
def own(rabbit_url: str, mongo_url: str, gateway_url: str) -> Iterator[ServerBackend]:
    """Real servers with a prefix of this test's own, nothing declared or stored."""
    there = Servers(rabbit_url, mongo_url, gateway_url)
    with temporary_prefix(there, MODE) as prefix:
        yield there.backend(prefix)


Either = tuple[Mode, ServerBackend]


@pytest.fixture(params=MODES)
def either(request: pytest.FixtureRequest, rabbit_url: str, mongo_url: str, gateway_url: str) -> Iterator[Either]:
    """Each mode with real servers, nothing declared or stored."""
    there = Servers(rabbit_url, mongo_url, gateway_url)
    with temporary_prefix(there, request.param) as prefix:
        yield request.param, there.backend(prefix)


@asynccontextmanager
async def transport_of(backend: ServerBackend) -> AsyncIterator[RabbitTransport]:
    transport = backend.transport("tests")
    await transport.open()
    try:
        yield transport
    finally:
        await transport.close()


async def declare(backend: ServerBackend, **changed: Any) -> None:
    async with transport_of(backend) as transport:
        await transport.declare(replace(topology(MODE, backend.prefix), **changed))


async def announce(backend: ServerBackend, mode: Mode = MODE, /, faults: bool = True, **ahead_s: float) -> None:
    """Write what every worker of the mode records when it starts."""
    for worker in roles(mode):
        store = backend.store(worker)
        await store.open([])
        record = {"faults": faults, "started_at": 0.0, "clock_ahead_s": ahead_s.get(worker, 0.0)}
        await store.put([Record("workers", worker, 1, record)])
        await store.close()


# --- a healthy mode -------------------------------------------------------------------------------------------------------


@real
async def test_a_healthy_mode_passes_every_check(either: Either, tmp_path: Path) -> None:
    mode, backend = either
    enough = tmp_path / "meminfo"
    enough.write_text("MemTotal: 9000000 kB\nMemAvailable: 2000000 kB\n")
    async with System(mode, backend, backend.prefix):
        await announce(backend, mode)
        async with docker_engine(tmp_path / "engine") as docker_host:
            found = await examined(backend, mode=mode, meminfo=enough, docker_host=docker_host)
    assert {name: finding.why for name, finding in found.items() if finding.ok is not True} == {}
    assert list(found) == [check.name for check in ALL_CHECKS]
    assert {name: finding.next_step for name, finding in found.items() if finding.next_step} == {}
    assert all(finding.why for finding in found.values())


# --- the broker -----------------------------------------------------------------------------------------------------------

BROKER = ("broker", "broker user", "broker version", "topology", "consumers", "dead letters")


async def test_a_missing_broker_is_one_failure_and_the_rest_is_not_made() -> None:
    found = await examined(nowhere(), *BROKER)
    assert failed(found) == {"broker"}
    assert not_made(found) == {*BROKER} - {"broker"}
    assert found["broker"].server_missing
    assert "SAGA_BROKER_URL" in found["broker"].next_step
    assert {found[name].why for name in not_made(found)} == {"see broker"}


@real
@pytest.mark.parametrize(
    ("changed", "why"),
    [({"password": "hunter2"}, "refused the user name or password"), ({"path": "/unknown"}, "virtual host")],
    ids=["password", "virtual host"],
)
async def test_a_user_refused_by_the_broker_is_not_a_missing_broker(rabbit_url: str, changed: dict[str, str], why: str) -> None:
    url = URL(rabbit_url)
    url = url.with_password(changed["password"]) if "password" in changed else url.with_path(changed["path"])
    found = await examined(nowhere(broker=str(url)), *BROKER)
    assert found["broker"].ok
    assert failed(found) == {"broker user"}
    assert why in found["broker user"].why
    assert not found["broker user"].server_missing
    assert not_made(found) == {*BROKER} - {"broker", "broker user"}
    assert "hunter2" not in str(found)


async def test_an_unusable_broker_url_is_reported_once() -> None:
    found = await examined(nowhere(broker="amqp://guest@127.0.0.1:port/"), *BROKER)
    assert failed(found) == {"broker"}
    assert "cannot be used" in found["broker"].why
    assert not found["broker"].server_missing


@pytest.mark.parametrize(
    ("version", "ok"), [("3.9.29", False), ("2.8.1", False), ("3.10.0", True), ("4.1.0", True), ("5.0.0-rc.1", True), ("", None)]
)
def test_an_old_broker_is_named_with_its_version(version: str, ok: bool | None) -> None:
    finding = broker_checks.check_version("RabbitMQ", version)
    assert finding.ok is ok
    assert version in finding.why


@real
async def test_an_undeclared_topology_is_named_and_not_declared(own: ServerBackend) -> None:
    for _ in range(2):
        found = await examined(own, *BROKER)
        assert failed(found) == {"topology"}
        assert not_made(found) == {"consumers", "dead letters"}
        for name in (*topology(MODE, own.prefix).queue_names(), events_exchange(own.prefix)):
            assert name in found["topology"].why
        assert f"saga up --mode {MODE}" in found["topology"].next_step


@real
async def test_only_the_deleted_queue_is_named(own: ServerBackend, rabbit_url: str) -> None:
    await declare(own)
    lost = dead_queue(queue_of(own.prefix, "payment"))
    async with await aio_pika.connect(rabbit_url) as connection, connection.channel() as channel:
        await channel.queue_delete(lost, if_unused=False, if_empty=False)
    found = await examined(own, "topology", "dead letters")
    assert found["topology"].why == f"missing: {lost}"
    assert found["dead letters"].ok


@real
async def test_a_queue_declared_differently_is_named_with_the_difference(own: ServerBackend) -> None:
    await declare(own, delivery_limit=3)
    found = await examined(own, "topology")
    assert failed(found) == {"topology"}
    named = found["topology"].why.partition(" (")[0]
    assert named == "declared differently by another version: " + ", ".join(queue_of(own.prefix, worker) for worker in WORKERS)
    assert "x-delivery-limit" in found["topology"].why
    assert "rabbitmqctl delete_queue" in found["topology"].next_step
    assert f"saga reset --mode {MODE} --yes" in found["topology"].next_step


@real
async def test_an_exchange_of_another_type_is_named(own: ServerBackend, rabbit_url: str) -> None:
    async with await aio_pika.connect(rabbit_url) as connection, connection.channel() as channel:
        await channel.declare_exchange(events_exchange(own.prefix), "fanout", durable=True)
    found = await examined(own, "topology")
    assert f"declared differently by another version: {events_exchange(own.prefix)} (" in found["topology"].why


@real
async def test_without_permission_to_declare_nothing_is_compared(own: ServerBackend, reader_url: str) -> None:
    await declare(own)
    found = await examined(replace(own, broker_url=reader_url), *BROKER)
    assert found["topology"].ok
    assert "this user may not declare" in found["topology"].why
    assert failed(found) == {"consumers"}


@real
async def test_a_queue_without_consumers_is_named(own: ServerBackend) -> None:
    await declare(own)
    async with transport_of(own) as transport:
        await transport.consume(queue_of(own.prefix, "order"), 1, lambda _: None)
        found = await examined(own, "topology", "consumers")
    assert failed(found) == {"consumers"}
    idle = [queue_of(own.prefix, worker) for worker in WORKERS if worker != "order"]
    assert found["consumers"].why == f"no consumer on {', '.join(idle)}"
    assert "saga worker inventory" in found["consumers"].next_step


@real
async def test_dead_letters_are_counted_and_are_no_failure(own: ServerBackend) -> None:
    await declare(own)
    declared_topology = with_api(topology(MODE, own.prefix))
    dead = [Outgoing(declared_topology.dead_address(worker), Wire(b"{}")) for worker in ("order", "order", "payment", "api")]
    async with transport_of(own) as transport:
        await transport.declare(declared_topology)
        assert await transport.publish(dead) == [Receipt.CONFIRMED] * 4
    found = await examined(own, "dead letters")
    assert found["dead letters"].ok
    assert found["dead letters"].why == "dead letters: order 2, payment 1, api 1"
    assert "saga dlq list" in found["dead letters"].next_step


@real
@pytest.mark.parametrize(("age_s", "ok"), [(120.0, False), (5.0, True)])
async def test_an_overdue_outbox_row_reveals_a_missing_binding(own: ServerBackend, age_s: float, ok: bool) -> None:
    async def add_outbox_row(_: Reader) -> tuple[Changes, None]:
        return Changes(outbox=[OutboxRow("m1", time.time() - age_s, b"x")]), None

    store = own.store("payment")
    await store.open([])
    await store.transact(add_outbox_row)
    await store.close()
    found = await examined(own, "bindings")
    assert found["bindings"].ok is ok
    assert ok or "still in the outbox: payment 1." in found["bindings"].why


# --- the database ---------------------------------------------------------------------------------------------------------

DATABASE = ("database", "database user", "replica set", "transactions", "durable commits", "inbox key", "clock of the database")


async def test_a_missing_database_is_one_failure_and_the_rest_is_not_made() -> None:
    found = await examined(nowhere(), *DATABASE, "bindings", "clocks of the workers")
    assert failed(found) == {"database"}
    assert found["database"].server_missing
    assert "SAGA_STORE_URL" in found["database"].next_step
    assert found["durable commits"].ok
    assert {found[name].why for name in not_made(found)} == {"see database"}
    assert len(not_made(found)) == len(DATABASE)


@real
@pytest.mark.parametrize("login", ["", "unknown:hunter2@"], ids=["none", "wrong"])
async def test_a_user_refused_by_the_database_is_not_a_missing_database(guarded: str, login: str) -> None:
    found = await examined(nowhere(store=guarded.replace("//", f"//{login}")), *DATABASE)
    assert found["database"].ok
    assert failed(found) == {"database user"}
    assert "Check the user" in found["database user"].why
    assert not found["database user"].server_missing
    assert "hunter2" not in str(found)


@real
async def test_a_standalone_database_is_reported_with_the_remedy(standalone: str) -> None:
    found = await examined(nowhere(store=standalone), *DATABASE)
    assert failed(found) == {"replica set"}
    assert "standalone" in found["replica set"].why
    assert "--replSet" in found["replica set"].next_step


@pytest.mark.parametrize(
    "hello",
    [
        {"setName": "rs0", "secondary": True, "isWritablePrimary": False},
        {"isreplicaset": True, "isWritablePrimary": False},
    ],
    ids=["a secondary", "never initiated"],
)
@pytest.mark.parametrize("query", ["", "?directConnection=true"], ids=["", "direct"])
async def test_a_replica_set_without_primary_is_not_a_missing_database(hello: dict[str, Any], query: str) -> None:
    async with greeting(hello) as port:
        found = await examined(nowhere(store=f"mongodb://127.0.0.1:{port}/{query}"), *DATABASE)
    assert found["database"].ok
    assert failed(found) == {"replica set"}
    assert "primary" in found["replica set"].why
    assert "rs.initiate()" in found["replica set"].next_step
    assert not found["replica set"].server_missing
    assert not_made(found) == {*DATABASE} - {"database", "replica set", "durable commits"}


async def test_unresolvable_member_names_are_not_a_missing_database() -> None:
    """As a replica set in a container reports itself to a client outside."""
    async with greeting({"setName": "rs0", "isWritablePrimary": True, "hosts": ["inside.invalid:27017"]}) as port:
        found = await examined(nowhere(store=f"mongodb://127.0.0.1:{port}/"), *DATABASE)
    assert found["database"].ok
    assert failed(found) == {"replica set"}
    assert "calls its members inside.invalid:27017" in found["replica set"].why
    assert "directConnection=true" in found["replica set"].next_step


@real
@pytest.mark.parametrize(("code", "why"), [(263, "refuses a transaction"), (13, "Check the user")], ids=["all", "this user"])
async def test_refused_transactions_are_reported(own: ServerBackend, code: int, why: str) -> None:
    """By a fail point that acts only on this test's clients, because the server is shared."""
    client_name = f"of {own.prefix}"
    data = {"failCommands": ["insert"], "errorCode": code, "appName": client_name}
    with MongoClient[dict[str, Any]](own.store_url) as client:
        try:
            client.admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data})
        except OperationFailure as error:
            prerequisites.FAIL_POINTS.missing(f"configureFailPoint, code {error.code}")
        url = str(URL(own.store_url).update_query(appName=client_name))
        found = await examined(replace(own, store_url=url), "transactions")
        client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
    assert failed(found) == {"transactions"}
    assert why in found["transactions"].why
    assert found["transactions"].next_step


@pytest.mark.parametrize("option", ["w=1", "journal=false", "retryWrites=false"])
async def test_an_undurable_url_is_found_without_a_server(option: str) -> None:
    backend = nowhere()
    found = await examined(replace(backend, store_url=f"{backend.store_url}?{option}"), *DATABASE)
    assert failed(found) == {"database", "durable commits"}
    assert "out of the URL" in found["durable commits"].why


async def test_an_unusable_database_url_is_reported_once() -> None:
    found = await examined(nowhere(store="http://nowhere"), *DATABASE)
    assert failed(found) == {"database"}
    assert "cannot be used" in found["database"].why
    assert not found["database"].server_missing


@real
async def test_an_inbox_that_accepts_a_key_twice_is_named(own: ServerBackend) -> None:
    async with Targets(MODE, own) as targets:
        connection = targets.store("payment").connection
        rows = connection.rows
        vars(connection)["rows"] = lambda name: NonUniqueCollection(rows(name)) if name == "inbox" else rows(name)
        found = await run_checks(targets, only("inbox key"))
    assert failed(found) == {"inbox key"}
    assert f"inbox of {database_name(own.prefix, 'payment')} takes a key twice" in found["inbox key"].why


# --- clocks ---------------------------------------------------------------------------------------------------------------


@real
@pytest.mark.parametrize(("off_s", "where"), [(30.0, "30.0 s ahead of"), (-30.0, "30.0 s behind")])
async def test_a_skewed_clock_is_named_with_its_direction(own: ServerBackend, off_s: float, where: str) -> None:
    found = await examined(replace(own, environment=Environment(lambda: time.time() + off_s)), "clock of the database")
    assert failed(found) == {"clock of the database"}
    assert where in found["clock of the database"].why


@real
async def test_two_workers_with_different_clocks_are_named(own: ServerBackend) -> None:
    await announce(own, inventory=0.9, payment=-0.3)
    found = await examined(own, "clocks of the workers")
    assert failed(found) == {"clocks of the workers"}
    assert "the clock of inventory was 1.2 s ahead of payment's" in found["clocks of the workers"].why


@real
async def test_clocks_are_not_compared_before_a_worker_has_started(own: ServerBackend) -> None:
    found = await examined(own, "clocks of the workers")
    assert not_made(found) == {"clocks of the workers"}
    assert not failed(found)


# --- the payment gateway --------------------------------------------------------------------------------------------------


async def test_a_missing_gateway_is_a_missing_server() -> None:
    found = await examined(nowhere(), "payment gateway")
    assert failed(found) == {"payment gateway"}
    assert found["payment gateway"].server_missing
    assert "saga worker gateway" in found["payment gateway"].next_step


async def test_an_unusable_gateway_url_is_named() -> None:
    found = await examined(nowhere(gateway="http://127.0.0.1:port"), "payment gateway")
    assert failed(found) == {"payment gateway"}
    assert "cannot be used" in found["payment gateway"].why
    assert not found["payment gateway"].server_missing


@real
@pytest.mark.parametrize(("gateways", "workers"), [(True, False), (False, True)])
async def test_gateway_and_workers_must_agree_on_fault_injection(
    own: ServerBackend, tmp_path: Path, gateways: bool, workers: bool
) -> None:
    await announce(own, faults=workers)
    with running_gateway(tmp_path / "books.db", faults=gateways) as gateway:
        found = await examined(replace(own, gateway_url=gateway.url), "gateway faults")
    assert failed(found) == {"gateway faults"}
    word = {True: "enabled", False: "disabled"}
    names = ", ".join(WORKERS)
    why = f"fault injection is {word[gateways]} at the payment gateway and {word[workers]} at {names}"
    assert found["gateway faults"].why == why


# --- ports ----------------------------------------------------------------------------------------------------------------


class SpeaksSomethingElse(socketserver.BaseRequestHandler):
    """Answers every request as a web server that cannot parse it."""

    def handle(self) -> None:
        if self.request.recv(1024):
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


@contextmanager
def something_else(port: int) -> Iterator[None]:
    """Another program on a port. In a thread, so that a driver's late connection leaves nothing in the test's event loop."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", port), SpeaksSomethingElse) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield
        server.shutdown()


@pytest.mark.parametrize("name", ["broker", "database", "payment gateway"])
async def test_a_port_held_by_another_program_is_not_a_free_port(name: str) -> None:
    port = servers.free_port()
    urls = {"broker": f"amqp://127.0.0.1:{port}/", "store": f"mongodb://127.0.0.1:{port}/", "gateway": f"http://127.0.0.1:{port}"}
    with something_else(port):
        taken = (await examined(nowhere(**urls), name))[name]
    free = (await examined(nowhere(**urls), name))[name]
    assert (taken.ok, taken.server_missing) == (free.ok, free.server_missing) == (False, True)
    assert f"port {port} of 127.0.0.1 is held by a program that does not answer as a {name}" in taken.why
    assert "Find it with `ss -ltnp` on 127.0.0.1" in taken.next_step
    assert "held by" not in free.why
    assert "Start" in free.next_step


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("amqp://guest:guest@rabbit/", [("rabbit", 5672)]),
        ("amqps://rabbit:1/shop", [("rabbit", 1)]),
        ("mongodb://u:p@one,two:2,[::1]/orders?replicaSet=rs0", [("one", 27017), ("two", 2), ("::1", 27017)]),
        ("mongodb://one?directConnection=true", [("one", 27017)]),
        ("mongodb+srv://of.many", []),
        ("http://127.0.0.1:8090", [("127.0.0.1", 8090)]),
    ],
)
def test_hosts_and_ports_are_read_from_a_url(url: str, addresses: list[tuple[str, int]]) -> None:
    assert addresses_in(url) == addresses


# --- this machine ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ok", "why"),
    [
        ("MemTotal: 9000000 kB\nMemAvailable: 209715 kB\n", False, "0.2 GB are free"),
        ("MemTotal: 9000000 kB\nMemAvailable: 1887437 kB\n", True, "1.8 GB are free"),
        ("MemTotal: 9000000 kB\n", None, "does not report"),
        (None, None, "not Linux"),
    ],
)
async def test_too_little_memory_fails_and_unknown_memory_is_not_checked(
    tmp_path: Path, text: str | None, ok: bool | None, why: str
) -> None:
    meminfo = tmp_path / "meminfo"
    if text is not None:
        meminfo.write_text(text)
    found = await examined(nowhere(), "memory", meminfo=meminfo)
    assert found["memory"].ok is ok
    assert why in found["memory"].why


async def test_memory_below_the_need_of_a_mode_is_a_warning(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemAvailable: 524288 kB\n")
    memory = (await examined(nowhere(), "memory", meminfo=meminfo))["memory"]
    assert (memory.ok, memory.why) == (True, "0.5 GB are free")
    assert "before you start a mode here" in memory.next_step


async def test_a_missing_docker_engine_is_a_warning(tmp_path: Path) -> None:
    async with docker_engine(tmp_path / "engine") as docker_host:
        there = (await examined(nowhere(), "docker", docker_host=docker_host))["docker"]
    away = (await examined(nowhere(), "docker", docker_host=docker_host))["docker"]
    assert (there.ok, there.why, there.next_step) == (True, "an engine answers", "")
    assert (away.ok, away.why) == (True, f"no engine answers at {docker_host}")
    assert "start Docker" in away.next_step


@asynccontextmanager
async def docker_engine(socket: Path) -> AsyncIterator[str]:
    """A server that answers a ping as a Docker engine does. Yields a value for DOCKER_HOST."""

    async def pong(_: web.Request) -> web.Response:
        return web.Response(text="OK")

    app = web.Application()
    app.add_routes([web.get("/_ping", pong)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(socket)).start()
        yield f"unix://{socket}"
    finally:
        await runner.cleanup()


# --- running checks -------------------------------------------------------------------------------------------------------


async def made(*plan: Check, timeout_s: float = 5.0) -> list[CheckResult]:
    return list((await run_checks(Targets(MODE, nowhere()), plan, timeout_s)).values())


async def fine(_: Targets) -> CheckResult:
    return CheckResult(True)


async def lost(_: Targets) -> CheckResult:
    raise StoreUnavailable("it went away")


async def endless(_: Targets) -> CheckResult:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize(("ask", "why"), [(lost, "it went away"), (endless, "no answer within 0.05 s")])
async def test_a_check_without_an_answer_fails_if_its_requirements_passed(ask: Any, why: str) -> None:
    _, asked = await made(Check("server", fine), Check("asked", ask, ("server",), "look"), timeout_s=0.05)
    assert (asked.ok, asked.why, asked.next_step) == (False, why, "look")


async def test_a_check_is_not_made_if_its_requirements_were_not_made() -> None:
    server, _, last = await made(Check("server", away), Check("asked", lost, ("server",)), Check("last", lost, ("asked",)))
    assert server.server_missing
    assert last.ok is None


async def away(_: Targets) -> CheckResult:
    return CheckResult(False, server_missing=True)


async def test_a_check_that_times_out_does_not_cancel_a_shared_request() -> None:
    async def impatient(targets: Targets) -> CheckResult:
        async with asyncio.timeout(0):
            await targets._cached_call("shared", answer)
        raise AssertionError

    async def patient(targets: Targets) -> CheckResult:
        return CheckResult(True, await targets._cached_call("shared", answer))

    async def answer() -> str:
        await asyncio.sleep(0)
        return "here"

    async with Targets(MODE, nowhere()) as targets:
        first, second = (await run_checks(targets, [Check("first", impatient), Check("second", patient)])).values()
    assert first.ok is False
    assert second.why == "here"


@real
async def test_the_doctor_closes_its_connections(own: ServerBackend) -> None:
    async with Targets(MODE, own) as targets:
        transport = await targets.broker()
        await check_user(targets.store("order").connection)
    with pytest.raises(TransportUnavailable):
        await transport.product()
