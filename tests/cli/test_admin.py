"""`saga admin` and `saga doctor --security` without servers: the files they create, and their errors.

The test of the container stack runs both with servers.
"""

import json
from pathlib import Path

import pytest

from bootstrap.modes import Mode
from ops.permissions import accounts
from tests.support.cli import invoke

ACCOUNTS = sum(len(accounts(mode)) for mode in Mode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the secrets of all accounts."""
    secrets = tmp_path / "secrets"
    assert invoke("admin", "secrets", str(secrets)).exit_code == 0
    return secrets


def test_secrets_are_created_once_and_kept_on_the_second_run(tmp_path: Path) -> None:
    first, second = (json.loads(invoke("admin", "secrets", str(tmp_path), "--json").stdout) for _ in range(2))
    assert first["folder"] == second["folder"] == str(tmp_path)
    assert len(first["made"]) == 2 * ACCOUNTS + 2
    assert second["made"] == []


def test_unwritable_folder_is_named_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = invoke("admin", "secrets", str(tmp_path / "file"))
    assert result.exit_code == 1
    assert f"{tmp_path / 'file'}" in result.stderr
    assert "Name a folder that this user can write to" in result.stderr


def test_database_step_requires_the_secrets(tmp_path: Path) -> None:
    result = invoke("admin", "database", str(tmp_path), SAGA_STORE_URL="mongodb://127.0.0.1:9/?replicaSet=rs0")
    assert result.exit_code == 1
    assert f"Make the secrets first: saga admin secrets {tmp_path}" in result.stderr.replace("\n", "")


def test_store_url_without_a_replica_set_is_refused(folder: Path) -> None:
    result = invoke("admin", "database", str(folder))
    assert result.exit_code == 2
    assert "Add ?replicaSet=rs0" in result.stderr


def test_permission_probes_require_the_secrets(tmp_path: Path) -> None:
    result = invoke("doctor", "--security", str(tmp_path))
    assert result.exit_code == 1
    assert "Make the secrets first" in result.stderr


def test_permission_probes_without_a_broker_are_exit_code_4(folder: Path) -> None:
    result = invoke("doctor", "--security", str(folder), "--json")
    assert result.exit_code == 4
    assert result.stdout == ""
