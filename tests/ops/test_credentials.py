"""The secrets of a stack are generated once, kept and private, with RabbitMQ's definitions beside them."""

import base64
import hashlib
import json
import stat
from itertools import chain
from pathlib import Path

import pytest
from yarl import URL

from bootstrap.modes import Mode
from broker import declarations
from ops.credentials import BROKER_URL, STORE_URL, Credentials, FileOwners
from ops.permissions import accounts, topologies

BROKER, STORE = URL("amqp://rabbitmq:5672/"), URL("mongodb://mongo:27017/?replicaSet=rs0")


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    credentials = Credentials(tmp_path / "secrets", BROKER, STORE)
    credentials.generate(FileOwners())
    return credentials


def definitions(credentials: Credentials) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = json.loads((credentials.folder / "rabbitmq" / "definitions.json").read_text())
    return found


def texts(credentials: Credentials) -> dict[str, str]:
    """Every secret by its path, without the definitions, whose hashes change each time."""
    files = (file for file in credentials.folder.rglob("*") if file.is_file() and file.name != "definitions.json")
    return {str(file.relative_to(credentials.folder)): file.read_text() for file in files}


def test_each_account_has_its_own_password_for_broker_and_database(credentials: Credentials) -> None:
    all_accounts = credentials.accounts()
    passwords = {credentials.password_for(account) for account in all_accounts}
    assert len(passwords) == len(all_accounts) == sum(len(accounts(mode)) for mode in Mode)
    for account in all_accounts:
        broker, store = URL(credentials.url_for(account, BROKER_URL)), URL(credentials.url_for(account, STORE_URL))
        assert (broker.user, broker.password) == (store.user, store.password) == (account.name, credentials.password_for(account))
        assert (broker.host, store.host) == ("rabbitmq", "mongo")
        assert store.query == {"replicaSet": "rs0", "authSource": "admin"}


def test_existing_secrets_are_kept_and_missing_ones_are_generated(credentials: Credentials) -> None:
    before = texts(credentials)
    assert credentials.generate(FileOwners()) == []
    assert texts(credentials) == before
    (credentials.folder / "choreography" / "payment" / STORE_URL).unlink()
    assert credentials.generate(FileOwners()) == [f"choreography/payment/{name}" for name in (BROKER_URL, STORE_URL)]
    after = texts(credentials)
    assert after.keys() == before.keys()
    assert {name for name in before if after[name] != before[name]} == {
        f"choreography/payment/{name}" for name in (BROKER_URL, STORE_URL)
    }


def test_only_the_owner_reads_a_secret_and_the_definitions_have_none(credentials: Credentials) -> None:
    for name in texts(credentials):
        assert stat.S_IMODE((credentials.folder / name).stat().st_mode) == 0o400, name
    public = (credentials.folder / "rabbitmq" / "definitions.json").read_text()
    assert not [account.name for account in credentials.accounts() if credentials.password_for(account) in public]


def test_the_key_file_has_the_format_that_mongod_requires(credentials: Credentials) -> None:
    """6 to 1,024 characters of base64: https://www.mongodb.com/docs/manual/core/security-internal-authentication/"""
    text = (credentials.folder / "mongo" / "keyfile").read_text()
    assert 6 <= len(text) <= 1024
    assert base64.b64decode(text, validate=True)


def test_the_definitions_have_each_user_with_its_password_hash(credentials: Credentials) -> None:
    users = {str(user["name"]): user for user in definitions(credentials)["users"]}
    assert users.keys() == {account.name for account in credentials.accounts()}
    for account in credentials.accounts():
        stored = base64.b64decode(str(users[account.name]["password_hash"]))
        assert stored[4:] == hashlib.sha256(stored[:4] + credentials.password_for(account).encode()).digest()
        assert users[account.name]["tags"] == []


def test_the_definitions_have_the_topologies_of_both_modes_and_apis(credentials: Credentials) -> None:
    found = definitions(credentials)
    wanted = [topology for mode in Mode for topology in topologies(mode)]
    specs = list(chain.from_iterable(declarations.queues(topology) for topology in wanted))
    assert {str(queue["name"]): queue["arguments"] for queue in found["queues"]} == {spec.name: spec.arguments for spec in specs}
    assert {(binding["source"], binding["routing_key"], binding["destination"]) for binding in found["bindings"]} == {
        (exchange, key, spec.name) for spec in specs for exchange, key in spec.bindings
    }
    assert {str(exchange["name"]): exchange["type"] for exchange in found["exchanges"]} == {
        name: kind for topology in wanted for name, kind in declarations.exchanges(topology).items()
    }
    assert all(piece["durable"] is True for piece in chain(found["queues"], found["exchanges"]))


def test_the_folders_can_be_created_empty(tmp_path: Path) -> None:
    Credentials(tmp_path, BROKER, STORE).create_folders()
    folders = {str(folder.relative_to(tmp_path)) for folder in tmp_path.rglob("*") if not any(folder.iterdir())}
    assert folders == {f"{account.mode}/{account.worker}" for mode in Mode for account in accounts(mode)} | {"rabbitmq", "mongo"}
