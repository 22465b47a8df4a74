"""Fixtures of the door's tests. Room: tests/api/."""

from tests.flow import quiet_logs

__all__ = ["quiet_logs"]  # a fixture of another file
