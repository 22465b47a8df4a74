"""Fixtures of the journeys' tests. Room: tests/journeys/."""

from tests.flow import quiet_logs

__all__ = ["quiet_logs"]  # a fixture of another file
