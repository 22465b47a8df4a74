"""Tests of lab/chaos."""
