"""`saga` without servers: the demo, the help, and the errors.

Every error is one sentence on stderr with its exit code, without a traceback.
"""

import json
import subprocess
import sys
from collections import Counter

import pytest

from bootstrap.modes import Mode
from broker.loop.retry import COMPENSATION_ATTEMPTS, RETRY_TOTAL_S
from broker.topology import RETRY_LEVELS_S
from cli.docs.generate import command_lines
from cli.settings import Settings
from lab.journeys.catalogue import DEMO_JOURNEYS, JOURNEYS
from store.mongo.store import DAY_S, INBOX_DAYS
from tests.support.cli import NOWHERE, invoke

COMMANDS = [name.split()[1:] for name in command_lines() if name != "saga"]
LEAVES = [words for words in COMMANDS if words not in (["order"], ["stock"], ["dlq"], ["admin"])]


def saga(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "cli", *words], capture_output=True, text=True, timeout=60, env=NOWHERE, check=False
    )


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_every_command_has_help_with_an_example(words: list[str]) -> None:
    result = invoke(*words, "--help")
    assert result.exit_code == 0
    assert f"Example: saga {' '.join(words)}" in result.stdout


@pytest.mark.parametrize("words", [[], *COMMANDS], ids=lambda words: " ".join(words) or "saga")
def test_help_shows_no_value_after_a_flag(words: list[str]) -> None:
    result = invoke(*words, "--help")
    assert "--help" in result.stdout
    assert "<bool>" not in result.stdout


def test_version_is_printed() -> None:
    assert saga("--version").stdout == "saga 0.1.0\n"


def test_demo_runs_every_kind_of_journey_in_both_modes() -> None:
    result = saga("demo", "--json")
    assert result.returncode == 0
    assert result.stderr == ""
    runs = json.loads(result.stdout)["runs"]
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
def test_demo_runs_a_journey_by_name(journey: str) -> None:
    result = invoke("demo", "--journey", journey)
    assert result.exit_code == 0
    assert result.stdout.count("books balance") == 2
    assert "virtual time" in result.stdout


def test_void_of_an_unobserved_payment_is_shown_as_in_doubt() -> None:
    result = invoke("demo", "--journey", "payment-down", "--explain")
    assert result.stdout.count("in doubt: the success of its step was not observed") == 2
    assert [line for line in result.stdout.splitlines() if "VoidPayment" in line and "found nothing to undo" in line] == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["demo", "--journey", "to-the-moon"], "there is no journey"),
        (["order", "place", "sku-001=none"], "is not an order line"),
        (["order", "place", "sku-001=0"], "is not an order line"),
        (["order", "place", "no.dots"], "is not an order line"),
        (["order", "place", "[/x]"], "'[/x]' is not an order line"),
        (["order", "place", "sku-001", "--fail", "payment"], "has no failure"),
        (["order", "place", "sku-001", "--fail", "kitchen:fire"], "there is no service"),
        (
            ["order", "place", "sku-001", "--fail", "payment:late", "--fail", "payment:slow"],
            "only one failure can be injected into each service",
        ),
        (["order", "place", "sku-001", "--country", "Britain"], "is not a country code"),
        (["order", "place"], "Missing argument"),
        (["order", "show", "not-an-id"], "is not an order id"),
        (["order", "withdraw", "not-an-id"], "is not an order id"),
        (["order", "explain", "not-an-id"], "is not an order id"),
        (["watch", "--limit", "0"], "Invalid value"),
        (["stock", "set", "a b", "1"], "is not a SKU"),
        (["stock", "set", "sku-001", "--", "-1"], "Invalid value"),
        (["storm", "--fail", "payment:declined"], "SERVICE:FAILURE=PERCENT"),
        (["storm", "--fail", "payment:declined=130%"], "SERVICE:FAILURE=PERCENT"),
        (["storm", "--orders", "0"], "Invalid value"),
        (["storm", "--mode", "both"], "Invalid value"),
        (["reset"], "--yes"),
        (["dlq", "discard", "--all"], "--yes"),
        (["dlq", "requeue"], "--all"),
        (["dlq", "list", "--worker", "kitchen"], "has no worker"),
        (["order", "redrive", "not-an-id"], "is not an order id"),
        (["simulate", "--trace"], "--seed"),
        (["simulate", "--seeds", "0"], "Invalid value"),
        (["worker", "coordinator", "--mode", "choreography"], "there is no coordinator"),
        (["worker", "kitchen"], "has no worker"),
        (["fly"], "No such command"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_invalid_arguments_are_refused_with_a_reason_and_exit_code_2(words: list[str], why: str) -> None:
    result = invoke(*words)
    assert result.exit_code == 2
    assert why in " ".join(result.stderr.replace("│", " ").split())
    assert isinstance(result.exception, SystemExit)


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
def test_missing_server_is_one_sentence_and_exit_code_4(words: list[str]) -> None:
    result = saga(*words)
    assert result.returncode == 4, result.stderr
    assert "Traceback" not in result.stderr + result.stdout
    assert len([line for line in result.stderr.splitlines() if line.startswith("saga: ")]) == 1
    assert "Topology" not in result.stderr


@pytest.mark.parametrize("words", [["dlq", "list"], ["worker", "inventory"], ["api", "--port", "0"]], ids=" ".join)
def test_invalid_broker_url_is_reported_in_one_sentence(words: list[str]) -> None:
    command, env = [sys.executable, "-m", "cli", *words], NOWHERE | {"SAGA_BROKER_URL": "amqp://host:port/"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, check=False)
    assert result.returncode == 1, result.stderr
    assert "saga: the broker's URL cannot be used" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"SAGA_DEADLINE_S": "1"}, "shorter than the order's deadline"),
        ({"SAGA_DEADLINE_S": str(4 * 24 * 3600)}, "Inbox keys expire after 7 days and must outlive them"),
    ],
)
def test_contradicting_settings_are_refused(settings: dict[str, str], why: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "cli", "audit"],
        capture_output=True,
        text=True,
        timeout=60,
        env=NOWHERE | settings,
        check=False,
    )
    assert result.returncode == 2
    assert why in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("beside", "why"),
    [
        ("choreography=http://other:8080", "http://other:8080 is an API of choreography, as this one is"),
        ("http://other:8080", "SAGA_BESIDE: String should match pattern"),
        ("anarchy=http://other:8080", "SAGA_BESIDE: String should match pattern"),
        ("orchestrator=other", "SAGA_BESIDE: String should match pattern"),
        ("orchestrator=http://other:99999", "SAGA_BESIDE: http://other:99999 is not a URL"),
        ("orchestrator=http://[::1", "SAGA_BESIDE: http://[::1 is not a URL"),
        ("orchestrator=http://:8080", "SAGA_BESIDE: http://:8080 is not a URL"),
    ],
)
def test_invalid_url_of_the_other_api_is_refused_at_the_start(beside: str, why: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "cli", "api", "-m", "choreography", "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        env=NOWHERE | {"SAGA_BESIDE": beside, "SAGA_OBSERVER_URL": "http://127.0.0.1:9"},
        check=False,
    )
    assert result.returncode == 2, result.stderr
    assert why in result.stderr
    assert "Traceback" not in result.stderr


def test_other_api_requires_an_observer_url() -> None:
    with pytest.raises(ValueError, match="needs SAGA_OBSERVER_URL"):
        Settings(beside="orchestrator=http://other:8080").remote_apis_of(Mode.CHOREOGRAPHY)


def test_inbox_outlives_the_default_timeouts_and_retries_by_days() -> None:
    waits_s = Settings().deadline_s + Settings().authorize_timeout_s + RETRY_TOTAL_S
    pauses = [RETRY_LEVELS_S[min(attempt, 3)] for attempt in range(COMPENSATION_ATTEMPTS - 1)]
    assert sum(pauses) == RETRY_TOTAL_S > 30.0
    assert INBOX_DAYS * DAY_S - waits_s > 6 * DAY_S


def test_misspelled_command_is_answered_with_a_suggestion() -> None:
    result = invoke("simulat")
    assert result.exit_code == 2
    assert "Did you mean 'simulate'?" in result.stderr
