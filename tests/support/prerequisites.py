"""What a test needs from its machine, and the one way to say that it is missing.

A test whose prerequisite is missing is skipped, with a reason that says what was tried and how to get it. Where the environment
variable CI is set, it fails instead. The end of a run lists what was skipped, one entry a reason (`pytest_terminal_summary` in
tests/support/fixtures.py).
"""

import os
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NoReturn

import pytest

#: Separates the parts of a skip reason. A reason is a string, because it must cross from an xdist worker to the controller.
SEPARATOR = " | "


@dataclass(frozen=True)
class Prerequisite:
    """A program or server that tests need. `name` follows "need"; `remedy` is an imperative."""

    name: str
    remedy: str

    def missing(self, tried: str) -> NoReturn:
        """Skip the test, or fail it where CI is set. `tried` says why the prerequisite is not there."""
        if os.environ.get("CI"):
            pytest.fail(f"needs {self.name}; tried: {tried}; to run it: {self.remedy}")
        pytest.skip(SEPARATOR.join((self.name, tried, self.remedy)))


DATABASE = Prerequisite(
    "a MongoDB-wire server", "set SAGA_STORE_URL, start a Docker engine, install mongod, or let `make setup` install secantusdb"
)
BROKER = Prerequisite(
    "a RabbitMQ", "set SAGA_BROKER_URL, start a Docker engine, or install rabbitmq-server and run `scripts/servers start`"
)
BROKER_ADMINISTRATION = Prerequisite(
    "rabbitmqctl for the broker under test", "use a RabbitMQ in a local container, or one of this machine at port 5672"
)
ENGINE = Prerequisite("a Docker engine with compose", "install and start Docker, or set DOCKER_HOST")
BROWSER = Prerequisite(
    "chromium and playwright", "install chromium, or set SAGA_CHROMIUM; `make setup` installs playwright from the package index"
)
FAIL_POINTS = Prerequisite(
    "a MongoDB-wire server with fail points", "start mongod with `--setParameter enableTestCommands=1`, or unset SAGA_STORE_URL"
)
OWN_SERVERS = Prerequisite(
    "a RabbitMQ and a MongoDB-wire server to start and kill", "install rabbitmq-server, and let `make setup` install secantusdb"
)


def summary(reasons: Iterable[str]) -> Iterator[str]:
    """The lines that say what was skipped, why, and how to run it. `reasons`: of every skipped test, in any order."""
    for reason, count in Counter(reasons).most_common():
        tests = f"{count} test{'s' * (count != 1)}"
        if reason.count(SEPARATOR) != 2:
            yield f"{tests} skipped: {reason}"
            continue
        name, tried, remedy = reason.split(SEPARATOR)
        yield f"{tests} skipped: {'they need' if count != 1 else 'it needs'} {name}"
        for label, text in (("tried", tried), ("to run", remedy)):
            yield from textwrap.wrap(f"{label}: {text}", 120, initial_indent="  ", subsequent_indent="    ")
