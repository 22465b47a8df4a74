"""Tests of the CLI, as a user types it."""
