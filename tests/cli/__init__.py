"""Tests of the CLI, through its commands."""
