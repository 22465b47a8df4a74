"""The simulator finds no violation in the product, repeats runs byte for byte, and reduces failing plans.

That it finds bugs is tested in test_planted_bugs.py.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bootstrap.modes import Mode
from lab.simulation.campaign import SEEDS_FOR_EVERY_KIND, CampaignSummary, as_dict, compare_modes, run_campaign, silence_logs
from lab.simulation.plan import CrashPoint, Fault, FaultKind, SimulationPlan, draw_plan
from lab.simulation.run import RunOutcome, simulate
from lab.simulation.shrink import shrink
from tests.support.cli import alive, eventually
from tests.support.simulation.bugs import PLANTED

MODES = tuple(Mode)
BY_NAME = {bug.name: bug for bug in PLANTED}


@pytest.fixture(autouse=True)
def quiet() -> None:
    silence_logs()


def test_a_campaign_covers_every_fault_and_finds_no_violation() -> None:
    run_counts: list[int] = []
    summary = run_campaign(1, SEEDS_FOR_EVERY_KIND, MODES, lambda so_far: run_counts.append(so_far.runs))
    assert summary.failures == []
    assert set(summary.faults) == {str(kind) for kind in FaultKind}
    assert summary.completed > 0
    assert summary.compensations > 0
    assert summary.attention > 0
    assert summary.duplicates > 0
    assert run_counts == sorted(run_counts)
    assert run_counts[-1] == 3 * SEEDS_FOR_EVERY_KIND, "each seed in each mode, and once to compare the modes"


def test_a_campaign_without_coverage_fails() -> None:
    idle = CampaignSummary(seeds=SEEDS_FOR_EVERY_KIND)
    assert "no order completed" in idle.missing_coverage()
    assert "no kill was injected" in idle.missing_coverage()
    assert "no compensation took effect" in idle.missing_coverage()


@pytest.mark.parametrize("mode", MODES)
def test_a_seed_repeats_its_trace(mode: Mode) -> None:
    for seed in (3, 11, 42):
        assert simulate(draw_plan(seed, mode)).trace == simulate(draw_plan(seed, mode)).trace


@pytest.mark.parametrize("mode", MODES)
def test_a_seed_repeats_its_trace_with_another_hash_seed(mode: Mode) -> None:
    def trace(hash_seed: str) -> str:
        command = [sys.executable, "-m", "cli", "simulate", "--seed", "11", "--mode", mode, "--trace"]
        env = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True, timeout=60).stdout

    assert trace("0") == trace("4711")


def test_the_orders_of_a_seed_are_the_same_in_both_modes() -> None:
    for seed in range(1, 50):
        first, second = (draw_plan(seed, mode) for mode in MODES)
        assert (first.orders, first.stock) == (second.orders, second.stock)
        assert first.faults_of(FaultKind.BUSINESS, FaultKind.WITHDRAWAL) == second.faults_of(
            FaultKind.BUSINESS, FaultKind.WITHDRAWAL
        )


def test_without_races_both_modes_end_every_order_alike() -> None:
    ends = set()
    for seed in range(1, 60):
        outcome = compare_modes(seed)
        assert outcome.violations == (), seed
        ends |= set(outcome.ends.values())
    assert {"COMPLETED", "REJECTED payment_declined", "REJECTED undeliverable", "REJECTED out_of_stock"} <= ends


def test_a_failing_plan_is_reduced_to_the_faults_that_it_needs() -> None:
    bug = BY_NAME["a timer in memory"]

    def with_bug(plan: SimulationPlan) -> RunOutcome:
        return simulate(plan, make_cluster=bug.make_cluster)

    plans = (draw_plan(seed, Mode.CHOREOGRAPHY) for seed in range(1, 300))
    failing = next(plan for plan in plans if len(plan.faults) > 4 and with_bug(plan).failed)
    plan, outcome = shrink(failing, with_bug)
    assert outcome.failed
    assert 0 < len(plan.faults) < len(failing.faults)
    assert all(not with_bug(plan.without_fault(fault)).failed for fault in plan.faults), "each remaining fault is needed"


def test_a_plan_that_does_not_fail_cannot_be_reduced() -> None:
    plan = replace(draw_plan(1, Mode.CHOREOGRAPHY), faults=())
    with pytest.raises(ValueError, match="does not fail"):
        shrink(plan, simulate)


def test_a_fault_describes_itself() -> None:
    text = str(Fault(FaultKind.KILL_AT, "payment", 2, point=CrashPoint.BEFORE_ACK, handling="VoidPayment"))
    assert text == "kill at a point at between commit and acknowledge of payment with VoidPayment #2"


def test_the_json_summary_has_the_documented_fields() -> None:
    summary = as_dict(run_campaign(1, 2, [Mode.CHOREOGRAPHY], lambda _: None))
    fields = "seeds orders seconds seeds_per_s faults completed rejected needs_attention duplicates_dropped failures"
    assert list(summary) == fields.split()
    json.dumps(summary)


def test_a_killed_campaign_leaves_no_process_behind() -> None:
    command = [sys.executable, "-m", "cli", "simulate", "--seeds", "100000", "--json"]
    campaign = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    listed = Path(f"/proc/{campaign.pid}/task/{campaign.pid}/children")
    eventually(lambda: listed.read_text().strip() != "", "the pool to start")
    pool = [int(pid) for pid in listed.read_text().split()]
    campaign.kill()
    campaign.wait()
    eventually(lambda: not any(alive(pid) for pid in pool), "the pool to end")
