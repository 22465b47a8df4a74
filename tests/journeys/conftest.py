"""Fixtures of the journeys' tests."""

from tests.flow import mode, prefix, quiet_logs, real

__all__ = ["mode", "prefix", "quiet_logs", "real"]  # fixtures of another file
