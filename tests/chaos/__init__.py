"""Tests of the chaos on real parts."""
