"""The summary of skipped tests, and the failure in CI of what would be skipped elsewhere."""

import os
import subprocess
import sys

import pytest

from tests.support.prerequisites import BROWSER, ENGINE, summary


def test_tests_skipped_for_one_reason_are_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception) as caught:
        ENGINE.missing("no socket")
    lines = list(summary([str(caught.value), "not as root", str(caught.value)]))
    assert lines == [
        "2 tests skipped: they need a Docker engine with compose",
        "  tried: no socket",
        f"  to run: {ENGINE.remedy}",
        "1 test skipped: not as root",
    ]


def test_where_ci_is_set_a_missing_prerequisite_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"needs chromium.*tried: no browser.*to run it: install"):
        BROWSER.missing("no browser")


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["in one process", "with xdist"])
def test_a_run_without_an_engine_ends_with_one_summary(workers: list[str]) -> None:
    env = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
    env["DOCKER_HOST"] = "unix:///nonexistent/docker.sock"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/stack", *workers]
    said = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.count("nonexistent") == 1, said.stdout
    assert "tests skipped: they need a Docker engine with compose\n  tried: no Docker engine answers at unix://" in said.stdout
    assert f"to run: {ENGINE.remedy}" in said.stdout
