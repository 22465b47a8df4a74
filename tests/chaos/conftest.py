"""Fixtures of these tests. Room: tests/chaos/."""

from tests.flow import quiet_logs

__all__ = ["quiet_logs"]  # a fixture of another file
