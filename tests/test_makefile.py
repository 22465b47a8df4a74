"""`make test` with a stand-in for Python: what it runs and what it reports, whichever half of the tests fails."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: Writes down how it was called, and fails if it is called for the half that is written in the file `failing`.
PYTHON = """#!/bin/sh
cd "$(dirname "$0")" || exit 9
echo "$*" >>calls
case "$*" in *"not real"*) half=memory ;; *) half=servers ;; esac
! grep -qx "$half" failing
"""


@pytest.mark.parametrize("failing", [[], ["memory"], ["servers"], ["memory", "servers"]], ids=str)
def test_both_halves_run_and_are_reported_whichever_fails(failing: list[str], tmp_path: Path) -> None:
    (tmp_path / "failing").write_text("".join(f"{half}\n" for half in failing))
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    command = ["make", "--old-file", ".venv/.ready", "test", f"BIN={tmp_path}"]
    # A make that runs this test passes its own variables on.
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "REAL", "HALVES")
    }
    said = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert (tmp_path / "calls").read_text().splitlines() == ["-m pytest -m not real -n auto", "-m pytest -m real"]
    outcome = {half: "FAILED (exit code 1)" if half in failing else "passed" for half in ("memory", "servers")}
    assert said.stdout.splitlines() == [
        f"tests in memory: {outcome['memory']}",
        f"tests on real servers: {outcome['servers']}",
    ]
    assert (said.returncode == 0) is (not failing)
