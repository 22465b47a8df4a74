"""Fixtures of the page's tests. Room: tests/page/."""

from tests.flow import quiet_logs

__all__ = ["quiet_logs"]  # a fixture of another file
