"""How the tests find their servers: the first that is there, and no silence when none is.

Without this, a wrong turn in tests/support/servers.py would show as a green run that tested nothing real.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support import servers
from tests.support.fixtures import offered


@contextmanager
def missing() -> Iterator[str]:
    raise servers.NoServer("no such thing here")
    yield ""


@contextmanager
def present() -> Iterator[str]:
    yield "mongodb://here"


def test_the_first_server_that_is_there_is_used() -> None:
    with servers.first_of([missing, present, missing]) as url:
        assert url == "mongodb://here"


def test_when_none_is_there_every_reason_is_given() -> None:
    with pytest.raises(servers.NoServer, match=r"no such thing.*; no such thing"), servers.first_of([missing, missing]):
        pass


def test_a_url_in_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGA_STORE_URL", "mongodb://given")
    monkeypatch.setenv("SAGA_BROKER_URL", "amqp://given")
    with servers.mongo() as store, servers.rabbit() as broker:
        assert (store, broker) == ("mongodb://given", "amqp://given")


def test_a_missing_server_skips_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no such thing"):
        next(offered(missing))


def test_a_missing_server_fails_where_ci_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no such thing"):
        next(offered(missing))


def test_without_a_docker_engine_there_is_no_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{servers.free_port()}")
    with pytest.raises(servers.NoServer, match="no docker engine"), servers.mongo_container():
        pass


def test_a_program_that_ends_at_once_is_no_server() -> None:
    with (
        pytest.raises(servers.NoServer, match="ended with code"),
        servers.process([servers.found("python"), "-c", "raise SystemExit(3)"]),
    ):
        pass
