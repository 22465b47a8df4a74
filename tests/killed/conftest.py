"""Fixtures of these tests."""

from tests.flow import mode, prefix, real

__all__ = ["mode", "prefix", "real"]  # fixtures of another file
