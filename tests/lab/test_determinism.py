"""A seed gives the same run byte for byte, independent of the hash seed of the process."""

import os
import subprocess
import sys

import pytest

from bootstrap.modes import Mode
from tests.support.system import MODES


def trace(mode: Mode, seed: int, hash_seed: int) -> bytes:
    """The trace that another process prints."""
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    command = [sys.executable, "-m", "tests.support.programs.run_trace", mode, str(seed)]
    done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout


@pytest.mark.parametrize("mode", MODES)
def test_a_run_depends_on_its_seed_and_not_on_the_hash_seed(mode: Mode) -> None:
    first = trace(mode, seed=1, hash_seed=1)
    assert trace(mode, seed=1, hash_seed=4711) == first
    assert first.count(b"\n") > 300, "the run is too short to show anything"
    assert trace(mode, seed=2, hash_seed=1) != first
