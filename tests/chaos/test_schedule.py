"""The schedule of faults is repeatable and complete, and has pauses in which work gets done."""

from collections import Counter
from itertools import pairwise

import pytest

from bootstrap.modes import Mode, roles
from lab.chaos.schedule import BROKER, DATABASE, GATEWAY, LONG_DURATION_S, ChaosFault, ChaosFaultKind, draw_faults, fault_names

CI_S, RELEASE_S = 40.0, 600.0
SEEDS = range(200)
BOTH = pytest.mark.parametrize("mode", list(Mode))


def faults_of(mode: Mode, seed: int, seconds: float) -> list[ChaosFault]:
    return draw_faults(seed, seconds, list(roles(mode)))


@BOTH
def test_the_seed_determines_the_faults(mode: Mode) -> None:
    assert faults_of(mode, 7, CI_S) == faults_of(mode, 7, CI_S)
    assert faults_of(mode, 7, CI_S) != faults_of(mode, 8, CI_S)


@BOTH
def test_a_short_run_has_every_fault_of_every_target(mode: Mode) -> None:
    for seed in SEEDS:
        assert {fault.name for fault in faults_of(mode, seed, CI_S)} == fault_names(list(roles(mode))), seed


@BOTH
def test_ten_minutes_have_over_twenty_kills_of_broker_and_database(mode: Mode) -> None:
    for seed in SEEDS:
        counts = Counter(fault.name for fault in faults_of(mode, seed, RELEASE_S))
        assert min(counts["kill broker"], counts["kill database"]) > 20, seed


@pytest.mark.parametrize("seconds", [5.0, CI_S, RELEASE_S])
def test_faults_are_ordered_and_over_before_the_end(seconds: float) -> None:
    for seed in SEEDS:
        faults = faults_of(Mode.ORCHESTRATOR, seed, seconds)
        assert faults
        assert all(0 < fault.at_s <= fault.until_s < seconds for fault in faults)
        assert all(before.at_s <= after.at_s for before, after in pairwise(faults))


def test_in_a_short_run_broker_and_database_fail_one_at_a_time() -> None:
    for seed in SEEDS:
        shared = [fault for fault in faults_of(Mode.CHOREOGRAPHY, seed, CI_S) if fault.target in (BROKER, DATABASE)]
        assert all(before.until_s < after.at_s for before, after in pairwise(shared))


@BOTH
def test_faults_of_one_target_do_not_overlap(mode: Mode) -> None:
    """The end of one freeze would end the other too."""
    for seed in SEEDS:
        last: dict[str, ChaosFault] = {}
        for fault in faults_of(mode, seed, RELEASE_S):
            if before := last.get(fault.target):
                assert before.until_s < fault.at_s, (seed, before, fault)
            last[fault.target] = fault


def test_only_a_long_run_has_faults_longer_than_a_heartbeat() -> None:
    longest = {s: max(fault.for_s for fault in faults_of(Mode.ORCHESTRATOR, 1, s)) for s in (CI_S, RELEASE_S)}
    assert longest[CI_S] < LONG_DURATION_S[0] < 20 < longest[RELEASE_S] <= LONG_DURATION_S[1]


def test_only_a_small_disk_is_filled() -> None:
    with_disk = draw_faults(1, CI_S * 2, list(roles(Mode.ORCHESTRATOR)), [GATEWAY])
    assert ChaosFault(0, ChaosFaultKind.FULL_DISK, GATEWAY).name in {fault.name for fault in with_disk}
    assert all(fault.kind is not ChaosFaultKind.FULL_DISK for fault in faults_of(Mode.ORCHESTRATOR, 1, CI_S * 2))
