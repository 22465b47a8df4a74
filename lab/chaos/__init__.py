"""Chaos runs: load on real servers and workers while faults are injected, then heal, drain and judge.

The counterpart of the simulator: few runs, in real time, on processes started for the run. Used by `saga chaos`.
"""
