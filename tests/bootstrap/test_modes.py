"""The mode names and services that Makefile, compose.yaml and .env repeat equal those of the code."""

import re
from pathlib import Path

import pytest

from api.messages import NAME as API
from bootstrap.modes import Mode, roles
from observer.recorder import NAME as OBSERVER
from orchestrator.coordinator import NAME as COORDINATOR

ROOT = Path(__file__).parents[2]
STACK_FILES = ("Makefile", "compose.yaml", ".env")
#: Services of compose that belong to no mode.
SHARED = {"secrets", "rabbitmq", "mongo", "users", "gateway", "saga", "security"}
#: The name of the HTTP API's service in compose.
API_SERVICE = "api"


def read(name: str) -> str:
    return (ROOT / name).read_text()


def services() -> set[str]:
    """The services of compose.yaml."""
    block = re.search(r"^services:\n(.*?)^\w", read("compose.yaml"), re.MULTILINE | re.DOTALL)
    assert block
    return set(re.findall(r"^  ([\w-]+):", block[1], re.MULTILINE))


@pytest.mark.parametrize("name", STACK_FILES)
def test_default_mode_is_a_mode(name: str) -> None:
    defaults = re.findall(r"\$\{MODE:-(\w+)\}|^MODE \?= (\w+)$", read(name), re.MULTILINE)
    assert {one or other for one, other in defaults} == {Mode.ORCHESTRATOR}


def test_mode_names_of_compose_are_modes() -> None:
    text = read("compose.yaml")
    named = set(re.findall(r"SAGA_MODE: (\w+)", text))
    named |= set(re.findall(r"subpath: (\w+)/", text))
    assert named == set(Mode)


def test_profiles_of_the_coordinator_are_the_mode_that_has_one_and_both() -> None:
    (profiles,) = re.findall(r"^  coordinator:.*?profiles: \[(.*?)\]", read("compose.yaml"), re.MULTILINE | re.DOTALL)
    with_coordinator = {mode for mode in Mode if COORDINATOR in roles(mode)}
    assert set(re.findall(r"\w+", profiles)) == with_coordinator | {"both"}


def test_services_of_compose_are_the_workers_of_both_modes() -> None:
    beside = {f"{Mode.CHOREOGRAPHY}-{worker}" for worker in (*roles(Mode.CHOREOGRAPHY), OBSERVER, API_SERVICE)}
    assert services() == SHARED | {*roles(Mode.ORCHESTRATOR), OBSERVER, API_SERVICE} | beside


def test_secrets_of_a_service_are_those_of_its_worker() -> None:
    mounted = re.findall(r"subpath: \"?(?:\$\{MODE:-\w+\}|\w+)/(\w+)", read("compose.yaml"))
    assert set(mounted) - {"operator"} == {*roles(Mode.ORCHESTRATOR), OBSERVER, API}


def test_makefile_removes_the_services_of_the_second_mode() -> None:
    makefile = read("Makefile")
    (prefix, names) = re.findall(r"^BESIDE := \$\(addprefix (\w+)-,([\w ]+)\)$", makefile, re.MULTILINE)[0]
    assert prefix == Mode.CHOREOGRAPHY
    assert set(names.split()) == {*roles(Mode.CHOREOGRAPHY), OBSERVER, API_SERVICE}
    assert re.findall(r"\$\(filter (\w+),\$\(MODE\)\),(\w+)\)", makefile) == [(Mode.CHOREOGRAPHY, COORDINATOR)]
    assert set(re.findall(r"MODE=(\w+) docker", makefile)) <= set(Mode)
    assert "for mode in " + " ".join(Mode) in makefile
