"""Fixtures shared by all tests, loaded as a plugin: quiet logs, the real servers (found or started once a session), modes.

How a server is found is in tests/support/servers.py. A test that needs one is marked `real`; tests/support/prerequisites.py
says what happens without it.
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
from tests.support.system import MODES, Servers, a_prefix


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report once for each reason what was skipped and how to run it."""
    reports = terminalreporter.getreports("skipped")
    reasons = [report.longrepr[2].removeprefix("Skipped: ") for report in reports if isinstance(report.longrepr, tuple)]
    if reasons:
        terminalreporter.write_sep("=", "skipped", yellow=True)
        for line in prerequisites.summary(reasons):
            terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def logs_as_they_come() -> Iterator[None]:
    """No test inherits another's log level."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def mongo_url() -> Iterator[str]:
    """A MongoDB-wire server with transactions. Use a database name of your own and drop it."""
    yield from offered(servers.mongo, prerequisites.DATABASE)


@pytest.fixture(scope="session")
def rabbit_url() -> Iterator[str]:
    """A RabbitMQ. Use a prefix of your own for what you declare and delete it."""
    yield from offered(servers.rabbit, prerequisites.BROKER)


def offered(server: Callable[[], AbstractContextManager[str]], needed: prerequisites.Prerequisite) -> Iterator[str]:
    """The server's URL; without one the test is skipped, or failed in CI."""
    try:
        with server() as url:
            yield url
    except servers.NoServer as reason:
        needed.missing(str(reason))


@pytest.fixture(autouse=True)
def quiet_logs() -> None:
    """Warnings and worse only: a line for every handled message would cost more than the message."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


@pytest.fixture(scope="session")
def real(rabbit_url: str, mongo_url: str, gateway_url: str) -> Servers:
    return Servers(rabbit_url, mongo_url, gateway_url)


@pytest.fixture(scope="module", params=MODES)
def mode(request: pytest.FixtureRequest) -> Mode:
    return Mode(request.param)


@pytest.fixture(scope="module")
def prefix(real: Servers, mode: Mode) -> Iterator[str]:
    """One set of queues for a mode; pytest runs all tests of one mode before it removes them and goes on to the other."""
    with a_prefix(real, mode) as name:
        yield name


@pytest.fixture(scope="session")
def gateway_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real payment gateway with faults enabled. Use a book of your own."""
    with running_gateway(tmp_path_factory.mktemp("gateway") / "books.db") as gateway:
        yield gateway.url


@pytest.fixture
def standalone() -> Iterator[str]:
    """A MongoDB-wire server without transactions."""
    yield from secantus_with("--standalone")


@pytest.fixture
def guarded() -> Iterator[str]:
    """A MongoDB-wire server that requires a login."""
    yield from secantus_with("--auth")


def secantus_with(option: str) -> Iterator[str]:
    """A SecantusDB with one more option. No other server is configured like this, so without SecantusDB the test is skipped."""
    try:
        with servers.secantus(option) as url:
            yield url
    except servers.NoServer as reason:
        prerequisites.DATABASE.missing(str(reason))


@pytest.fixture
def reader_url(rabbit_url: str) -> Iterator[str]:
    """The broker, as a user who may read queues and declare nothing."""
    with lent(rabbit_url, read=".*") as url:
        yield url
