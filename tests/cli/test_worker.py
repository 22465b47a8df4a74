"""`saga worker`: its errors at the start, without servers. test_up.py has the rest."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import NOWHERE


def worker(name: str, **settings: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "cli", "worker", name]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, env=NOWHERE | settings, check=False)


@pytest.mark.parametrize("name", ["gateway", "inventory"])
def test_unknown_log_level_is_a_usage_error(name: str) -> None:
    result = worker(name, SAGA_LOG_LEVEL="shout")
    assert result.returncode == 2
    assert "debug, info, warning, error" in result.stderr
    assert "Traceback" not in result.stderr


def test_gateway_names_books_that_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for books in (tmp_path / "file" / "books.db", tmp_path):  # no folder can be created there; not a file
        result = worker("gateway", SAGA_GATEWAY_BOOKS=str(books), SAGA_GATEWAY_URL="http://127.0.0.1:0")
        assert result.returncode == 1
        assert f"cannot keep its books in {books}" in result.stderr
        assert "Traceback" not in result.stderr


def test_restarted_worker_removes_the_ready_file_of_its_predecessor(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ready.touch()
    assert worker("inventory", SAGA_READY_FILE=str(ready)).returncode == 4
    assert not ready.exists()
