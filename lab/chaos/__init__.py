"""Faults on real parts: a storm on processes that were started for it, a schedule of faults beside it, then heal, drain, judge.

The simulator's counterpart: few runs, real time, real servers. Used by `saga chaos`.
"""
