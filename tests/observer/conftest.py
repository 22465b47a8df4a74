"""Fixtures of the observer's tests."""

from tests.flow import quiet_logs

__all__ = ["quiet_logs"]  # a fixture of another file
