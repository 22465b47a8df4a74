"""How the tests find their servers: the first that is there, and no silence when none is.

Without this, a wrong turn in tests/support/servers.py would show as a green run that tested nothing real.
"""

import gc
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import prerequisites, servers
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
        next(offered(missing, prerequisites.BROKER))


def test_a_missing_server_fails_where_ci_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no such thing"):
        next(offered(missing, prerequisites.BROKER))


@contextmanager
def nothing_left_open() -> Iterator[None]:
    """Fails if the block leaves a socket or a file to the garbage collector."""
    left: list[Any] = []
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("error")
        patch.setattr(sys, "unraisablehook", lambda it: left.append((it.exc_value, it.object)))
        yield
        gc.collect()
    assert left == []


@pytest.mark.parametrize("where", ["no file", "no listener", "no port", "no engine"])
@pytest.mark.parametrize("container", [servers.mongo_container, servers.rabbit_container])
def test_without_an_engine_no_container_starts_and_nothing_stays_open(
    container: servers.Offer, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX) as unix, socket.create_server(("127.0.0.1", 0)) as silent:
        unix.bind(str(tmp_path / "docker.sock"))
        hosts = {
            "no file": "unix:///nonexistent/docker.sock",
            "no listener": f"unix://{tmp_path}/docker.sock",
            "no port": f"tcp://127.0.0.1:{servers.free_port()}",
            "no engine": f"tcp://127.0.0.1:{silent.getsockname()[1]}",
        }
        monkeypatch.setattr(servers, "ENGINE_TIMEOUT_S", 0.2)
        monkeypatch.setenv("DOCKER_HOST", hosts[where])
        with nothing_left_open():
            with pytest.raises(servers.NoServer) as caught, container():
                pass
            said = str(caught.value)
            del caught
    assert said.startswith(f"no Docker engine answers at {hosts[where]} (")
    assert " object at 0x" not in said


def test_a_container_that_does_not_start_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = []

    class Unstartable:
        def __init__(self, image: str) -> None:
            self.image = image

        def with_exposed_ports(self, port: int) -> "Unstartable":
            return self

        def waiting_for(self, strategy: object) -> None: ...

        def start(self) -> None:
            raise RuntimeError("no such image")

        def stop(self) -> None:
            stopped.append(self.image)

    monkeypatch.setattr(servers, "engine_answers", lambda: None)
    monkeypatch.setattr("testcontainers.core.container.DockerContainer", Unstartable)
    with pytest.raises(servers.NoServer, match="no such image"), servers.container("an-image", 1, "ready"):
        pass
    assert stopped == ["an-image"]


def test_a_program_that_ends_at_once_is_no_server() -> None:
    with (
        pytest.raises(servers.NoServer, match="ended with code"),
        servers.process([servers.found("python"), "-c", "raise SystemExit(3)"]),
    ):
        pass
