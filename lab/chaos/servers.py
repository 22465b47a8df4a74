"""The private servers of a run: ports and commands of a RabbitMQ node, a MongoDB-wire server and a payment gateway.

Describes the processes and starts none. All their data is in one folder, their ports were free when they were chosen, and servers
that already run on the machine are not touched.
"""

import asyncio
import resource
import shutil
import socket
import sys
import sysconfig
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lab.chaos.schedule import BROKER, DATABASE, GATEWAY

#: The Erlang port mapper, which a node needs to start.
PORT_MAPPER = "epmd"
#: Where Debian and RabbitMQ's own packages keep the script that becomes the node. (The one on the PATH changes user and folder.)
RABBITMQ_SCRIPTS = (Path("/usr/lib/rabbitmq/bin"), Path("/usr/local/lib/rabbitmq/bin"), Path("/opt/rabbitmq/sbin"))
#: Seconds one probe of a port may take.
PROBE_TIMEOUT_S = 2.0
#: Seconds between two evaluations of a condition that is waited for.
PROBE_INTERVAL_S = 0.02
AMQP_HEADER = b"AMQP\x00\x00\x09\x01"


class NotInstalled(Exception):  # noqa: N818 - it names what is the case
    """A server that a chaos run needs is not installed. The message says which, and how to install it."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """How to run one process. `ready`: whether it accepts connections; None for a worker, which logs `started`."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], Awaitable[bool]] | None = None


@dataclass(frozen=True, slots=True)
class Servers:
    """The private servers in the folder `home`: their ports and how to run them."""

    home: Path
    rabbitmq: str
    secantus: str
    broker_port: int
    database_port: int
    gateway_port: int
    distribution_port: int
    mapper_port: int

    @classmethod
    def in_folder(cls, home: Path) -> "Servers":
        """Servers on free ports. Raises NotInstalled."""
        ports = free_ports(5)
        return cls(home, rabbitmq_server(), secantusd(), *ports)

    def process_specs(self, mode: str) -> list[ProcessSpec]:
        """The processes, in the order in which they must be started."""
        return [self._port_mapper(), self._broker(), self._database(), self._gateway(mode)]

    def folder_of(self, name: str) -> Path:
        """The folder in which a server keeps its data."""
        return self.home / name

    def broker_url(self, port: int | None = None) -> str:
        return f"amqp://guest:guest@127.0.0.1:{port or self.broker_port}/"

    def store_url(self, port: int | None = None) -> str:
        return f"mongodb://127.0.0.1:{port or self.database_port}/?directConnection=true"

    def gateway_url(self, port: int | None = None) -> str:
        return f"http://127.0.0.1:{port or self.gateway_port}"

    def _port_mapper(self) -> ProcessSpec:
        return ProcessSpec(
            PORT_MAPPER,
            [*parent_death_prefix(), PORT_MAPPER, "-port", str(self.mapper_port), "-address", "127.0.0.1"],
            ready=lambda: is_listening(self.mapper_port),
        )

    def _broker(self) -> ProcessSpec:
        home = self.folder_of(BROKER)
        home.mkdir(parents=True, exist_ok=True)
        (home / "enabled_plugins").write_text("[].\n")
        (home / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{self.broker_port}\nlog.file.level = warning\n")
        env = {
            "HOME": str(home),  # the Erlang cookie is written there
            "ERL_EPMD_PORT": str(self.mapper_port),
            "RABBITMQ_NODENAME": f"chaos{self.broker_port}@localhost",
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_MNESIA_BASE": str(home / "data"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(home / "no-such-file"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(home / "pid"),
            # The script then becomes the node instead of waiting for it, so a signal reaches the node. It also ends with stdin.
            "RABBITMQ_ALLOW_INPUT": "true",
        }
        return ProcessSpec(BROKER, [*parent_death_prefix(), self.rabbitmq], env, ready=lambda: answers_amqp(self.broker_port))

    def _database(self) -> ProcessSpec:
        home = self.folder_of(DATABASE)
        home.mkdir(parents=True, exist_ok=True)
        where = ["--host", "127.0.0.1", "--port", str(self.database_port), "--storage-path", str(home)]
        flags = ["--sync-on-commit", "--log-file-max", "128MB", "--oplog-max-entries", "100000000"]
        return ProcessSpec(
            DATABASE, [*parent_death_prefix(), self.secantus, *where, *flags], ready=lambda: is_listening(self.database_port)
        )

    def _gateway(self, mode: str) -> ProcessSpec:
        home = self.folder_of(GATEWAY)
        home.mkdir(parents=True, exist_ok=True)
        env = {"SAGA_GATEWAY_URL": self.gateway_url(), "SAGA_GATEWAY_BOOKS": str(home / "books.db")}
        return ProcessSpec(GATEWAY, worker_command(GATEWAY, mode), env, ready=lambda: is_listening(self.gateway_port))


def worker_command(name: str, mode: str) -> list[str]:
    return [sys.executable, "-m", "cli", "worker", name, "--mode", mode, "--tied", "--faults"]


def rabbitmq_server() -> str:
    """The path of the script that becomes the node. Raises NotInstalled."""
    if shutil.which(PORT_MAPPER) is None or shutil.which("erl") is None or shutil.which("rabbitmq-server") is None:
        raise NotInstalled("rabbitmq-server is not installed (on Debian: apt-get install rabbitmq-server)")
    for folder in RABBITMQ_SCRIPTS:
        if (folder / "rabbitmq-server").exists():
            return str(folder / "rabbitmq-server")
    return str(shutil.which("rabbitmq-server"))


def secantusd() -> str:
    """The path of the MongoDB-wire server itself, not of its wrapper script. Raises NotInstalled."""
    packaged = Path(sysconfig.get_path("platlib")) / "secantusdb.scripts" / "secantusd-rs"
    found = str(packaged) if packaged.exists() else shutil.which("secantusd-rs")
    if found is None:
        raise NotInstalled("secantusd-rs is not installed (`make setup` installs it, from the dependency group mongo-server)")
    return found


def parent_death_prefix() -> list[str]:
    """A command prefix that makes a process end with this one, even if this one is killed. Empty where setpriv is missing."""
    program = shutil.which("setpriv")
    return [program, "--pdeathsig", "KILL"] if program else []


def raise_open_files_limit() -> None:
    """Raise the limit of open files of this process and its children to the maximum. Quorum queues keep many files open."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def free_ports(count: int) -> list[int]:
    """`count` different ports of 127.0.0.1 that are free now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


async def wait_until(condition: Callable[[], bool | Awaitable[bool]], timeout_s: float) -> bool:
    """Evaluate `condition` (plain or awaitable) until it holds. False when it did not within `timeout_s`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        holds = condition()
        if holds if isinstance(holds, bool) else await holds:
            return True
        if loop.time() > deadline:
            return False
        await asyncio.sleep(PROBE_INTERVAL_S)


async def is_listening(port: int) -> bool:
    return await _answers(port, b"")


async def answers_amqp(port: int) -> bool:
    """A port may be open before the broker behind it is up."""
    return await _answers(port, AMQP_HEADER)


async def _answers(port: int, question: bytes) -> bool:
    """Whether the port accepts a connection and, if `question` is not empty, answers it."""
    writer = None
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            if question:
                writer.write(question)
                return await reader.read(1) == b"\x01"
            return True
    except (OSError, TimeoutError):
        return False
    finally:
        if writer is not None:
            writer.transport.abort()


def process_state(pid: int) -> str:
    """The state of a process by /proc: `R`, `S`, `T` for stopped, ...; empty when it is gone or /proc is missing."""
    try:
        about = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return about.rpartition(")")[2].split()[0]
