"""Tests of the container stack."""
