"""Tests of the container stack. Room: tests/."""
