"""One seed gives one run, byte for byte, whatever the hash seed of the process."""

import os
import subprocess
import sys

import pytest

from bootstrap.modes import Mode
from tests.support.system import MODES


def trace(mode: Mode, seed: int, hash_seed: int) -> bytes:
    """The trace as another process prints it."""
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    command = [sys.executable, "-m", "tests.support.programs.run_trace", mode, str(seed)]
    done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout


@pytest.mark.parametrize("mode", MODES)
def test_a_run_repeats_byte_for_byte_under_another_hash_seed_and_differs_under_another_seed(mode: Mode) -> None:
    first = trace(mode, seed=1, hash_seed=1)
    assert trace(mode, seed=1, hash_seed=4711) == first
    assert first.count(b"\n") > 300, "hardly anything happened"
    assert trace(mode, seed=2, hash_seed=1) != first
