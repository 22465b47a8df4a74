"""`saga worker`: what it says when it cannot start. Nothing listens where these look; the rest is in test_up.py."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import NOWHERE


def worker(name: str, **settings: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "cli", "worker", name]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, env=NOWHERE | settings, check=False)


@pytest.mark.parametrize("name", ["gateway", "inventory"])
def test_a_log_level_that_does_not_exist_is_a_usage_error(name: str) -> None:
    said = worker(name, SAGA_LOG_LEVEL="shout")
    assert said.returncode == 2
    assert "debug, info, warning, error" in said.stderr
    assert "Traceback" not in said.stderr


def test_a_gateway_that_cannot_keep_its_books_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for books in (tmp_path / "file" / "books.db", tmp_path):  # no folder can be made there; not a file
        said = worker("gateway", SAGA_GATEWAY_BOOKS=str(books), SAGA_GATEWAY_URL="http://127.0.0.1:0")
        assert said.returncode == 1
        assert f"cannot keep its books in {books}" in said.stderr
        assert "Traceback" not in said.stderr


def test_a_worker_that_starts_again_is_not_ready_because_it_once_was(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ready.touch()
    assert worker("inventory", SAGA_READY_FILE=str(ready)).returncode == 4
    assert not ready.exists()
