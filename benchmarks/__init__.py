"""Benchmarks: the speed table, measured by `make bench`.

Compares the product's workers with bare chains, the simplest code for the same flow. Imports the product; the product does not
import it.
"""
