"""Finds or starts the real servers that tests marked `real` need: a MongoDB replica set and a RabbitMQ.

Order of preference, for both: a URL from the environment (SAGA_STORE_URL, SAGA_BROKER_URL), a container of our own
through testcontainers (MONGO_IMAGE, RABBITMQ_IMAGE), a server on this machine. Whatever is started here is stopped here again,
by its own handle; a server that was there before is only used. Nothing found: `NoServer`, with what was tried.
"""

import os
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yarl import URL

MONGO_PORT, RABBIT_PORT = 27017, 5672
LOCAL_RABBIT = f"amqp://guest:guest@127.0.0.1:{RABBIT_PORT}/"
#: How long a server may take to answer once its container or process was started.
START_TIMEOUT_S = 90.0
#: How long a docker engine may take to answer a ping before we do without it.
ENGINE_TIMEOUT_S = 3


class NoServer(Exception):  # noqa: N818 - says what is the case
    """There is no such server here and none could be started; the message says what was tried."""


#: Something that yields the URL of a running server, or raises NoServer.
Offer = Callable[[], AbstractContextManager[str]]


@dataclass(frozen=True)
class Process:
    """A server process that a test started: where it listens, and its handle (to freeze, kill or wait for)."""

    port: int
    popen: subprocess.Popen[bytes]


@contextmanager
def first_of(offers: Sequence[Offer]) -> Iterator[str]:
    """The URL from the first of `offers` that has one; raises NoServer with every reason when none has."""
    reasons = []
    for offer in offers:
        server = offer()
        try:
            url = server.__enter__()
        except NoServer as reason:
            reasons.append(str(reason))
            continue
        try:
            yield url
        finally:
            server.__exit__(None, None, None)
        return
    raise NoServer("; ".join(reasons))


def mongo() -> AbstractContextManager[str]:
    """A MongoDB-wire server that can do transactions."""
    return first_of([lambda: from_environment("SAGA_STORE_URL"), mongo_container, secantus, mongod])


def rabbit() -> AbstractContextManager[str]:
    """A RabbitMQ with a virtual host to declare things in."""
    return first_of([lambda: from_environment("SAGA_BROKER_URL"), rabbit_container, local_rabbit])


@contextmanager
def from_environment(name: str) -> Iterator[str]:
    if not os.environ.get(name):
        msg = f"{name} is not set"
        raise NoServer(msg)
    yield os.environ[name]


# --- containers -----------------------------------------------------------------------------------------------------------


@contextmanager
def mongo_container() -> Iterator[str]:
    """A one-member replica set. testcontainers' own MongoDbContainer starts a standalone, which has no transactions."""
    command = "--replSet rs0 --bind_ip_all --setParameter enableTestCommands=1 --setParameter transactionLifetimeLimitSeconds=5"
    image = os.environ.get("MONGO_IMAGE", "mongo:8")
    with container(image, MONGO_PORT, "(?i)waiting for connections", command=command) as (started, host, port):
        said = started.exec(["mongosh", "--quiet", "--eval", "rs.initiate()"])
        if said.exit_code != 0:
            msg = f"rs.initiate() in {image} failed: {said.output!r}"
            raise NoServer(msg)
        # From outside the container the member's own name means nothing: connect to this port whatever the set says.
        url = f"mongodb://{host}:{port}/?directConnection=true"
        wait_until(lambda: is_primary(url), f"{image} is a primary")
        yield url


@contextmanager
def rabbit_container() -> Iterator[str]:
    image = os.environ.get("RABBITMQ_IMAGE", "rabbitmq:4-management")
    with container(image, RABBIT_PORT, "Server startup complete") as (_, host, port):
        wait_until(lambda: speaks_amqp(host, port), f"{image} speaks AMQP")
        yield f"amqp://guest:guest@{host}:{port}/"


@contextmanager
def container(image: str, port: int, ready_log: str, command: str = "") -> Iterator[tuple[Any, str, int]]:
    """A started container and where its `port` is reached. NoServer when there is no engine or the image cannot be had."""
    engine_answers()
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - needs an engine, so only now
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy  # noqa: PLC0415

    started = DockerContainer(image).with_exposed_ports(port)
    started.waiting_for(LogMessageWaitStrategy(ready_log).with_startup_timeout(int(START_TIMEOUT_S)))
    if command:
        started.with_command(command)
    try:
        started.start()
    except Exception as error:  # whatever the reason, the next offer may do
        with suppress(Exception):  # the container may exist, and its client is open
            started.stop()
        msg = f"no container of {image}: {error!r:.300}"
        raise NoServer(msg) from error
    try:
        yield started, started.get_container_host_ip(), started.get_exposed_port(port)
    finally:
        started.stop()


def engine_answers() -> None:
    """Raise NoServer unless a Docker engine answers a ping soon, at the address that testcontainers uses. Leaves nothing open."""
    import docker  # type: ignore[import-untyped]  # noqa: PLC0415 - testcontainers' dependency, needed here only
    from docker.errors import DockerException  # type: ignore[import-untyped]  # noqa: PLC0415
    from testcontainers.core.docker_client import get_docker_host  # noqa: PLC0415

    host = get_docker_host()
    try:
        _connects(docker.utils.parse_host(host))
        environment = os.environ | ({"DOCKER_HOST": host} if host else {})
        with closing(docker.from_env(timeout=ENGINE_TIMEOUT_S, environment=environment)) as client:
            client.ping()
    except (DockerException, OSError, ValueError) as error:
        msg = f"no Docker engine answers at {host or 'the default socket'} ({_cause(error)})"
        raise NoServer(msg) from error


def _connects(address: str) -> None:
    """Raise OSError where no process listens on a Unix socket.

    docker-py leaves its socket open when it cannot connect, and returns no client to close. At a TCP address urllib3 closes it.
    """
    scheme, _, path = address.partition("://")
    if scheme == "http+unix":
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(ENGINE_TIMEOUT_S)
            probe.connect(f"/{path.lstrip('/')}")


def _cause(error: BaseException) -> str:
    """The kind of the innermost error. Not its text, which may hold an object's address and then differs in each xdist worker."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else type(error).__name__


# --- servers of this machine ----------------------------------------------------------------------------------------------


@contextmanager
def secantus(*options: str) -> Iterator[str]:
    """SecantusDB, a MongoDB-wire server with transactions, from PyPI (GPL-2.0: a separate process, never imported)."""
    binary = found("secantusd-rs")
    # Without a large oplog cap, inserts become four times dearer once 100,000 entries are there. No small `--cache-size`: a
    # transaction that writes more than a twentieth of the cache never ends (12 MB at 256M did not).
    flags = ["--log-file-max", "128MB", "--sync-on-commit", "--oplog-max-entries", "100000000"]
    with (
        tempfile.TemporaryDirectory(prefix="saga-secantus-") as home,
        process([binary, "--storage-path", home, *flags, *options]) as server,
    ):
        yield f"mongodb://127.0.0.1:{server.port}/?directConnection=true"


@contextmanager
def mongod() -> Iterator[str]:
    """A locally installed mongod as a one-member replica set."""
    binary = found("mongod")
    with tempfile.TemporaryDirectory(prefix="saga-mongod-") as home:
        flags = ["--replSet", "rs0", "--bind_ip", "127.0.0.1", "--setParameter", "enableTestCommands=1"]
        flags += ["--setParameter", "transactionLifetimeLimitSeconds=5"]
        with process([binary, "--dbpath", home, *flags]) as server:
            url = f"mongodb://127.0.0.1:{server.port}/?directConnection=true"
            member = {"_id": 0, "host": f"127.0.0.1:{server.port}"}
            ask(url, {"replSetInitiate": {"_id": "rs0", "members": [member]}})
            wait_until(lambda: is_primary(url), "mongod is a primary")
            yield url


@contextmanager
def local_rabbit() -> Iterator[str]:
    if not speaks_amqp("127.0.0.1", RABBIT_PORT):
        msg = f"nothing speaks AMQP at 127.0.0.1:{RABBIT_PORT}"
        raise NoServer(msg)
    yield LOCAL_RABBIT


@contextmanager
def process(command: Sequence[str]) -> Iterator[Process]:
    """Run a server on a free port (`--port N` is added) until the end of the block, killed by its handle if it lingers."""
    port = free_port()
    popen = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens("127.0.0.1", port) or died(popen, command[0]), f"{command[0]} listens")
        yield Process(port, popen)
    finally:
        popen.terminate()
        try:
            popen.wait(timeout=5)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait(timeout=5)


def found(program: str) -> str:
    """Where a program is: beside the running Python, or on the PATH. Raises NoServer."""
    beside = Path(sysconfig.get_path("scripts")) / program
    path = str(beside) if beside.exists() else shutil.which(program)
    if path is None:
        msg = f"{program} is not installed"
        raise NoServer(msg)
    return path


# --- small questions ------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False


def speaks_amqp(host: str, port: int) -> bool:
    """Whether an AMQP 0-9-1 server answers the protocol header (a port may be open before the broker behind it is up)."""
    try:
        with socket.create_connection((host, port), timeout=2) as probe:
            probe.sendall(b"AMQP\x00\x00\x09\x01")
            probe.settimeout(5)
            return probe.recv(1) == b"\x01"
    except OSError:
        return False


def is_primary(url: str) -> bool:
    return bool(ask(url, {"hello": 1}).get("isWritablePrimary"))


def ask(url: str, command: dict[str, Any]) -> dict[str, Any]:
    """Run one administrative command on a MongoDB-wire server."""
    from pymongo import MongoClient  # noqa: PLC0415 - tests speak to the server itself only here and in fault tests

    with MongoClient[dict[str, Any]](url, serverSelectionTimeoutMS=5000) as client:
        return client.admin.command(command)


def drop(url: str, database: str) -> None:
    """Drop a test's database on a MongoDB-wire server. First what a client that was cut off has left open there is ended: its
    transaction would hold up the drop for a minute."""
    from pymongo import MongoClient  # noqa: PLC0415 - as in `ask`

    with MongoClient[dict[str, Any]](url, serverSelectionTimeoutMS=5000) as client:
        client.admin.command("killAllSessions", [])
        client.drop_database(database)


def died(popen: subprocess.Popen[bytes], name: str) -> bool:
    """False while a process runs; raises NoServer once it has ended."""
    if popen.poll() is None:
        return False
    msg = f"{name} ended with code {popen.returncode} instead of serving"
    raise NoServer(msg)


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = START_TIMEOUT_S) -> None:
    """Ask until `condition` holds; raises NoServer that says what was waited for."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            msg = f"waited {timeout_s} s for this: {what}"
            raise NoServer(msg)
        time.sleep(0.05)


def rabbitmqctl(url: str) -> list[str] | None:
    """The command that administers the broker at `url`: inside its container, or on this machine; None if it is neither."""
    port = str(URL(url).port or RABBIT_PORT)
    if shutil.which("docker"):
        listing = ["docker", "ps", "-q", "--filter", f"publish={port}"]
        # Several may have that port: one for IPv4, and another for IPv6.
        for container_id in subprocess.run(listing, capture_output=True, text=True, check=False).stdout.split():
            asked = ["docker", "port", container_id, f"{RABBIT_PORT}/tcp"]
            if f"0.0.0.0:{port}\n" in subprocess.run(asked, capture_output=True, text=True, check=False).stdout:
                return ["docker", "exec", container_id, "rabbitmqctl"]
    here = URL(url).host in ("127.0.0.1", "localhost") and port == str(RABBIT_PORT) and shutil.which("rabbitmqctl")
    return ["rabbitmqctl"] if here else None
