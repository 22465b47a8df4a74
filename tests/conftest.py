"""Fixtures shared by all tests: the real servers, found or started once a session.

How a server is found is in tests/servers.py. A test that needs one is marked `real`; without a server it skips and
says what was tried, but where the environment variable CI is set a missing server is a failure: there it must not hide.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
import structlog

from tests import servers
from tests.gateway_process import gateway_url

__all__ = ["gateway_url"]  # a fixture of another file


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real: needs a real RabbitMQ or MongoDB server (see tests/servers.py)")


@pytest.fixture(autouse=True)
def logs_as_they_come() -> Iterator[None]:
    """No test inherits another's log level."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def mongo_url() -> Iterator[str]:
    """A MongoDB-wire server with transactions. Use a database name of your own and drop it."""
    yield from offered(servers.mongo)


@pytest.fixture(scope="session")
def rabbit_url() -> Iterator[str]:
    """A RabbitMQ. Use a prefix of your own for what you declare and delete it."""
    yield from offered(servers.rabbit)


def offered(server: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """The server's URL; without one the test is skipped, or failed in CI."""
    try:
        with server() as url:
            yield url
    except servers.NoServer as reason:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing(f"no server: {reason}")
