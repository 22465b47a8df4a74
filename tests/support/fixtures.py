"""Fixtures for all tests, loaded as a plugin: quiet logs, the real servers (found or started once a session), modes.

tests/support/servers.py finds servers. A test that needs one is marked `real`; tests/support/prerequisites.py determines what
happens without it.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
import structlog

from bootstrap.modes import Mode
from tests.support import prerequisites, servers
from tests.support.broker.users import lent
from tests.support.gateway_process import running_gateway
from tests.support.system import MODES, Servers, temporary_prefix


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report once for each reason what was skipped and how to run it."""
    reports = terminalreporter.getreports("skipped")
    reasons = [report.longrepr[2].removeprefix("Skipped: ") for report in reports if isinstance(report.longrepr, tuple)]
    if reasons:
        terminalreporter.write_sep("=", "skipped", yellow=True)
        for line in prerequisites.summary(reasons):
            terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def default_logs() -> Iterator[None]:
    """Reset the log configuration after every test."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def mongo_url() -> Iterator[str]:
    """The URL of a MongoDB-wire server with transactions. A test uses a database name of its own and drops it."""
    yield from offered(servers.mongo, prerequisites.DATABASE)


@pytest.fixture(scope="session")
def rabbit_url() -> Iterator[str]:
    """The URL of a RabbitMQ server. A test declares under a prefix of its own and deletes it."""
    yield from offered(servers.rabbit, prerequisites.BROKER)


def offered(server: Callable[[], AbstractContextManager[str]], needed: prerequisites.Prerequisite) -> Iterator[str]:
    """The server's URL. Without a server the test is skipped, or fails in CI."""
    try:
        with server() as url:
            yield url
    except servers.NoServer as reason:
        needed.missing(str(reason))


@pytest.fixture(autouse=True)
def quiet_logs() -> None:
    """Log warnings and errors only."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


@pytest.fixture(scope="session")
def real(rabbit_url: str, mongo_url: str, gateway_url: str) -> Servers:
    return Servers(rabbit_url, mongo_url, gateway_url)


@pytest.fixture(scope="module", params=MODES)
def mode(request: pytest.FixtureRequest) -> Mode:
    return Mode(request.param)


@pytest.fixture(scope="module")
def prefix(real: Servers, mode: Mode) -> Iterator[str]:
    """One prefix for each mode in a module: pytest runs all tests of one mode before it removes its queues."""
    with temporary_prefix(real, mode) as name:
        yield name


@pytest.fixture(scope="session")
def gateway_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a payment gateway process with faults enabled. A test uses a book of its own."""
    with running_gateway(tmp_path_factory.mktemp("gateway") / "books.db") as gateway:
        yield gateway.url


@pytest.fixture
def standalone() -> Iterator[str]:
    """The URL of a MongoDB-wire server without transactions."""
    yield from secantus_with("--standalone")


@pytest.fixture
def guarded() -> Iterator[str]:
    """The URL of a MongoDB-wire server that requires a login."""
    yield from secantus_with("--auth")


def secantus_with(option: str) -> Iterator[str]:
    """A SecantusDB server with one more option. Only SecantusDB can be configured like this, so no other server takes its
    place."""
    try:
        with servers.secantus(option) as url:
            yield url
    except servers.NoServer as reason:
        prerequisites.DATABASE.missing(str(reason))


@pytest.fixture
def reader_url(rabbit_url: str) -> Iterator[str]:
    """The broker's URL for a user that may read queues and declare nothing."""
    with lent(rabbit_url, read=".*") as url:
        yield url
