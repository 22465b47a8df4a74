"""`saga admin` and `saga doctor --security` where no server runs: what they make, and what they say when something is missing.

With servers both are part of the container stack's test.
"""

import json
from pathlib import Path

import pytest

from bootstrap.modes import Mode
from ops.permissions import accounts
from tests.support.cli import typed

ACCOUNTS = sum(len(accounts(mode)) for mode in Mode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with secrets."""
    made = tmp_path / "secrets"
    assert typed("admin", "secrets", str(made)).exit_code == 0
    return made


def test_secrets_are_made_once_and_the_second_time_nothing_is_new(tmp_path: Path) -> None:
    first, second = (json.loads(typed("admin", "secrets", str(tmp_path), "--json").stdout) for _ in range(2))
    assert first["folder"] == second["folder"] == str(tmp_path)
    assert len(first["made"]) == 2 * ACCOUNTS + 2
    assert second["made"] == []


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = typed("admin", "secrets", str(tmp_path / "file"))
    assert said.exit_code == 1
    assert f"{tmp_path / 'file'}" in said.stderr
    assert "Give a folder that may be written to" in said.stderr


def test_users_need_their_secrets_first(tmp_path: Path) -> None:
    said = typed("admin", "database", str(tmp_path), SAGA_STORE_URL="mongodb://127.0.0.1:9/?replicaSet=rs0")
    assert said.exit_code == 1
    assert f"Make the secrets first: saga admin secrets {tmp_path}" in said.stderr.replace("\n", "")


def test_a_database_that_is_to_be_no_replica_set_is_refused(folder: Path) -> None:
    said = typed("admin", "database", str(folder))
    assert said.exit_code == 2
    assert "add ?replicaSet=rs0" in said.stderr


def test_security_is_not_examined_without_everybodys_secrets(tmp_path: Path) -> None:
    said = typed("doctor", "--security", str(tmp_path))
    assert said.exit_code == 1
    assert "Make the secrets first" in said.stderr


def test_security_is_not_examined_where_no_broker_is(folder: Path) -> None:
    said = typed("doctor", "--security", str(folder), "--json")
    assert said.exit_code == 4
    assert said.stdout == ""
