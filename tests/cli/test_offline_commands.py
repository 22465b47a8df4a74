"""`saga` where no server runs: the demo, the help, and what it says when something is wrong.

Every refusal is one sentence on stderr with its exit code, and never a traceback.
"""

import json
import subprocess
import sys
from collections import Counter

import pytest

from bootstrap.modes import Mode
from broker.loop.retry import COMPENSATION_ATTEMPTS, RETRY_TOTAL_S
from broker.topology import RETRY_LEVELS_S
from cli.generate_docs import command_lines
from cli.settings import Settings
from lab.journeys.catalogue import DEMO_JOURNEYS, JOURNEYS
from store.mongo.store import DAY_S, INBOX_DAYS
from tests.support.cli import NOWHERE, typed

COMMANDS = [name.split()[1:] for name in command_lines() if name != "saga"]
LEAVES = [words for words in COMMANDS if words not in (["order"], ["stock"], ["dlq"], ["admin"])]


def saga(*words: str) -> subprocess.CompletedProcess[str]:
    """A command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "cli", *words], capture_output=True, text=True, timeout=60, env=NOWHERE, check=False
    )


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_every_command_has_help_with_an_example(words: list[str]) -> None:
    said = typed(*words, "--help")
    assert said.exit_code == 0
    assert f"Example: saga {' '.join(words)}" in said.stdout


@pytest.mark.parametrize("words", [[], *COMMANDS], ids=lambda words: " ".join(words) or "saga")
def test_no_help_shows_a_value_after_a_flag(words: list[str]) -> None:
    said = typed(*words, "--help")
    assert "--help" in said.stdout
    assert "<bool>" not in said.stdout


def test_the_version_is_told() -> None:
    assert saga("--version").stdout == "saga 0.1.0\n"


def test_the_demo_shows_every_kind_of_journey_in_both_modes_with_balanced_books() -> None:
    said = saga("demo", "--json")
    assert said.returncode == 0
    assert said.stderr == ""
    runs = json.loads(said.stdout)["runs"]
    assert Counter(run["journey"] for run in runs) == dict.fromkeys(DEMO_JOURNEYS, 2)
    assert all(run["balanced"] for run in runs)
    assert all(run["messages"] > 0 for run in runs)
    by_name = {(run["journey"], run["mode"]): run for run in runs}
    assert by_name["happy", "choreography"]["messages"] == 6
    assert by_name["happy", "orchestrator"]["messages"] == 10
    for mode in ("choreography", "orchestrator"):
        assert by_name["last-unit", mode]["state"] == "1 COMPLETED, 19 REJECTED"
        refused = by_name["undeliverable", mode]
        assert (refused["state"], refused["reason"]) == ("REJECTED", "undeliverable")
        assert refused["compensations"] == ["VoidPayment", "ReleaseStock"]


@pytest.mark.parametrize("journey", [name for name in JOURNEYS if name not in DEMO_JOURNEYS])
def test_the_demo_shows_any_journey_by_name(journey: str) -> None:
    said = typed("demo", "--journey", journey)
    assert said.exit_code == 0
    assert said.stdout.count("books balance") == 2
    assert "virtual time" in said.stdout


def test_a_payment_that_was_voided_while_nobody_knew_of_it_is_told_as_undone_in_doubt() -> None:
    said = typed("demo", "--journey", "payment-down", "--explain")
    assert said.stdout.count("in doubt: what it undoes was not heard to succeed") == 2
    assert [line for line in said.stdout.splitlines() if "VoidPayment" in line and "found nothing to undo" in line] == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["demo", "--journey", "to-the-moon"], "there is no journey"),
        (["order", "place", "sku-001=none"], "is no order line"),
        (["order", "place", "sku-001=0"], "is no order line"),
        (["order", "place", "no.dots"], "is no order line"),
        (["order", "place", "[/x]"], "'[/x]' is no order line"),
        (["order", "place", "sku-001", "--fail", "payment"], "has no failure"),
        (["order", "place", "sku-001", "--fail", "kitchen:fire"], "there is no service"),
        (["order", "place", "sku-001", "--fail", "payment:late", "--fail", "payment:slow"], "one failure a service"),
        (["order", "place", "sku-001", "--country", "Britain"], "is no country code"),
        (["order", "place"], "Missing argument"),
        (["order", "show", "not-an-id"], "is no order id"),
        (["order", "withdraw", "not-an-id"], "is no order id"),
        (["order", "explain", "not-an-id"], "is no order id"),
        (["watch", "--limit", "0"], "Invalid value"),
        (["stock", "set", "a b", "1"], "is no SKU"),
        (["stock", "set", "sku-001", "--", "-1"], "Invalid value"),
        (["storm", "--fail", "payment:declined"], "SERVICE:FAILURE=PERCENT"),
        (["storm", "--fail", "payment:declined=130%"], "SERVICE:FAILURE=PERCENT"),
        (["storm", "--orders", "0"], "Invalid value"),
        (["storm", "--mode", "both"], "Invalid value"),
        (["reset"], "--yes"),
        (["dlq", "discard", "--all"], "--yes"),
        (["dlq", "requeue"], "--all"),
        (["dlq", "list", "--worker", "kitchen"], "has no worker"),
        (["order", "redrive", "not-an-id"], "is no order id"),
        (["simulate", "--trace"], "--seed"),
        (["simulate", "--seeds", "0"], "Invalid value"),
        (["worker", "coordinator", "--mode", "choreography"], "there is no coordinator"),
        (["worker", "kitchen"], "has no worker"),
        (["fly"], "No such command"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_makes_no_sense_is_refused_with_a_reason_and_exit_code_2(words: list[str], why: str) -> None:
    said = typed(*words)
    assert said.exit_code == 2
    assert why in " ".join(said.stderr.replace("│", " ").split())
    assert isinstance(said.exception, SystemExit)


@pytest.mark.parametrize(
    "words",
    [
        ["up"],
        ["worker", "inventory"],
        ["order", "place", "sku-001"],
        ["order", "list"],
        ["order", "show", "0190a0a0-0000-7000-8000-000000000000"],
        ["order", "withdraw", "0190a0a0-0000-7000-8000-000000000000"],
        ["order", "explain", "0190a0a0-0000-7000-8000-000000000000"],
        ["watch"],
        ["storm", "--orders", "1"],
        ["audit"],
        ["stock", "show"],
        ["stock", "set", "sku-001", "1"],
        ["reset", "--yes"],
        ["dlq", "list"],
        ["dlq", "requeue", "--all"],
        ["doctor"],
        ["order", "redrive", "0190a0a0-0000-7000-8000-000000000000"],
    ],
    ids=" ".join,
)
def test_a_server_that_is_not_there_is_said_in_one_sentence_with_exit_code_4(words: list[str]) -> None:
    said = saga(*words)
    assert said.returncode == 4, said.stderr
    assert "Traceback" not in said.stderr + said.stdout
    assert len([line for line in said.stderr.splitlines() if line.startswith("saga: ")]) == 1
    assert "Topology" not in said.stderr


@pytest.mark.parametrize("words", [["dlq", "list"], ["worker", "inventory"], ["api", "--port", "0"]], ids=" ".join)
def test_a_broker_url_that_makes_no_sense_is_said_in_one_sentence(words: list[str]) -> None:
    command, env = [sys.executable, "-m", "cli", *words], NOWHERE | {"SAGA_BROKER_URL": "amqp://host:port/"}
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, check=False)
    assert said.returncode == 1, said.stderr
    assert "saga: the broker's URL cannot be used" in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"SAGA_DEADLINE_S": "1"}, "must end well before the order's deadline"),
        ({"SAGA_DEADLINE_S": str(4 * 24 * 3600)}, "inbox forgets after 7 days and must outlive them"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, str], why: str) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "cli", "audit"],
        capture_output=True,
        text=True,
        timeout=60,
        env=NOWHERE | settings,
        check=False,
    )
    assert said.returncode == 2
    assert why in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize(
    ("beside", "why"),
    [
        ("choreography=http://other:8080", "http://other:8080 is the door of choreography, as this one is"),
        ("http://other:8080", "SAGA_BESIDE: String should match pattern"),
        ("anarchy=http://other:8080", "SAGA_BESIDE: String should match pattern"),
        ("orchestrator=other", "SAGA_BESIDE: String should match pattern"),
        ("orchestrator=http://other:99999", "SAGA_BESIDE: http://other:99999 is no URL"),
        ("orchestrator=http://[::1", "SAGA_BESIDE: http://[::1 is no URL"),
        ("orchestrator=http://:8080", "SAGA_BESIDE: http://:8080 is no URL"),
    ],
)
def test_a_door_beside_that_cannot_be_is_refused_before_anything_is_opened(beside: str, why: str) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "cli", "api", "-m", "choreography", "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        env=NOWHERE | {"SAGA_BESIDE": beside, "SAGA_OBSERVER_URL": "http://127.0.0.1:9"},
        check=False,
    )
    assert said.returncode == 2, said.stderr
    assert why in said.stderr
    assert "Traceback" not in said.stderr


def test_a_door_beside_needs_a_page_here() -> None:
    with pytest.raises(ValueError, match="needs SAGA_OBSERVER_URL"):
        Settings(beside="orchestrator=http://other:8080").remote_apis_of(Mode.CHOREOGRAPHY)


def test_by_default_the_inbox_outlives_every_wait_and_every_retry_by_days() -> None:
    waits_s = Settings().deadline_s + Settings().authorize_timeout_s + RETRY_TOTAL_S
    pauses = [RETRY_LEVELS_S[min(attempt, 3)] for attempt in range(COMPENSATION_ATTEMPTS - 1)]
    assert sum(pauses) == RETRY_TOTAL_S > 30.0
    assert INBOX_DAYS * DAY_S - waits_s > 6 * DAY_S


@pytest.mark.parametrize(
    ("module", "spared"),
    [
        ("cli.app", {"motor", "aio_pika", "aiohttp", "fastapi", "uvicorn"}),
        ("cli.commands.worker", {"aiohttp", "fastapi", "uvicorn"}),
        ("cli.commands.order", {"fastapi", "uvicorn"}),
    ],
)
def test_a_command_loads_nothing_large_that_it_does_without(module: str, spared: set[str]) -> None:
    """A start costs what it loads, and a mode starts seven processes, again after each crash."""
    look = f"import {module}, json, sys; print(json.dumps(sorted(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=60, check=True)
    assert not spared & set(json.loads(said.stdout))


def test_a_word_that_is_nearly_a_command_is_answered_with_the_command() -> None:
    said = typed("simulat")
    assert said.exit_code == 2
    assert "Did you mean 'simulate'?" in said.stderr
