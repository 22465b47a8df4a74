"""The secrets of a stack: made once, kept, private, and RabbitMQ's definitions beside them."""

import base64
import hashlib
import json
import stat
from itertools import chain
from pathlib import Path

import pytest
from yarl import URL

from bootstrap.modes import Mode
from broker import declarations as furniture
from ops.credentials import BROKER_URL, STORE_URL, Keyring, Owners
from ops.permissions import accounts, topologies

BROKER, STORE = URL("amqp://rabbitmq:5672/"), URL("mongodb://mongo:27017/?replicaSet=rs0")


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    made = Keyring(tmp_path / "secrets", BROKER, STORE)
    made.fill(Owners())
    return made


def definitions(keyring: Keyring) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = json.loads((keyring.folder / "rabbitmq" / "definitions.json").read_text())
    return found


def texts(keyring: Keyring) -> dict[str, str]:
    """Every secret by its path, but for the definitions, whose hashes are made anew each time."""
    files = (file for file in keyring.folder.rglob("*") if file.is_file() and file.name != "definitions.json")
    return {str(file.relative_to(keyring.folder)): file.read_text() for file in files}


def test_every_account_has_a_password_of_its_own_the_same_on_broker_and_database(keyring: Keyring) -> None:
    everybody = keyring.accounts()
    passwords = {keyring.password_of(account) for account in everybody}
    assert len(passwords) == len(everybody) == sum(len(accounts(mode)) for mode in Mode)
    for account in everybody:
        broker, store = URL(keyring.url_of(account, BROKER_URL)), URL(keyring.url_of(account, STORE_URL))
        assert (broker.user, broker.password) == (store.user, store.password) == (account.name, keyring.password_of(account))
        assert (broker.host, store.host) == ("rabbitmq", "mongo")
        assert store.query == {"replicaSet": "rs0", "authSource": "admin"}


def test_what_is_there_is_kept_and_what_is_missing_is_made(keyring: Keyring) -> None:
    before = texts(keyring)
    assert keyring.fill(Owners()) == []
    assert texts(keyring) == before
    (keyring.folder / "choreography" / "payment" / STORE_URL).unlink()
    assert keyring.fill(Owners()) == [f"choreography/payment/{name}" for name in (BROKER_URL, STORE_URL)]
    after = texts(keyring)
    assert after.keys() == before.keys()
    assert {name for name in before if after[name] != before[name]} == {
        f"choreography/payment/{name}" for name in (BROKER_URL, STORE_URL)
    }


def test_a_secret_is_readable_by_its_owner_only_and_the_definitions_hold_none(keyring: Keyring) -> None:
    for name in texts(keyring):
        assert stat.S_IMODE((keyring.folder / name).stat().st_mode) == 0o400, name
    public = (keyring.folder / "rabbitmq" / "definitions.json").read_text()
    assert not [account.name for account in keyring.accounts() if keyring.password_of(account) in public]


def test_mongos_key_file_is_what_mongod_takes(keyring: Keyring) -> None:
    """6 to 1,024 characters of base64: https://www.mongodb.com/docs/manual/core/security-internal-authentication/"""
    text = (keyring.folder / "mongo" / "keyfile").read_text()
    assert 6 <= len(text) <= 1024
    assert base64.b64decode(text, validate=True)


def test_the_definitions_have_each_user_once_with_the_hash_of_its_password(keyring: Keyring) -> None:
    users = {str(user["name"]): user for user in definitions(keyring)["users"]}
    assert users.keys() == {account.name for account in keyring.accounts()}
    for account in keyring.accounts():
        stored = base64.b64decode(str(users[account.name]["password_hash"]))
        assert stored[4:] == hashlib.sha256(stored[:4] + keyring.password_of(account).encode()).digest()
        assert users[account.name]["tags"] == []


def test_the_definitions_have_all_furniture_of_both_modes_and_their_doors(keyring: Keyring) -> None:
    found = definitions(keyring)
    wanted = [topology for mode in Mode for topology in topologies(mode)]
    specs = list(chain.from_iterable(furniture.queues(topology) for topology in wanted))
    assert {str(queue["name"]): queue["arguments"] for queue in found["queues"]} == {spec.name: spec.arguments for spec in specs}
    assert {(binding["source"], binding["routing_key"], binding["destination"]) for binding in found["bindings"]} == {
        (exchange, key, spec.name) for spec in specs for exchange, key in spec.bindings
    }
    assert {str(exchange["name"]): exchange["type"] for exchange in found["exchanges"]} == {
        name: kind for topology in wanted for name, kind in furniture.exchanges(topology).items()
    }
    assert all(piece["durable"] is True for piece in chain(found["queues"], found["exchanges"]))


def test_the_folders_can_be_made_before_anything_is_in_them(tmp_path: Path) -> None:
    Keyring(tmp_path, BROKER, STORE).lay_out()
    folders = {str(folder.relative_to(tmp_path)) for folder in tmp_path.rglob("*") if not any(folder.iterdir())}
    assert folders == {f"{account.mode}/{account.worker}" for mode in Mode for account in accounts(mode)} | {"rabbitmq", "mongo"}
