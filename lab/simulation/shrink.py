"""Reduction of a failing plan to the faults that it needs: faults are removed as long as the same checker finds something.

This works because random draws are named: removing a fault changes no other draw.
"""

from collections.abc import Callable

from lab.simulation.plan import SimulationPlan
from lab.simulation.run import RunOutcome

Simulate = Callable[[SimulationPlan], RunOutcome]


def shrink(plan: SimulationPlan, simulate: Simulate) -> tuple[SimulationPlan, RunOutcome]:
    """The smallest failing plan found, and its outcome. Raises ValueError if `plan` does not fail."""
    outcome = simulate(plan)
    wanted = {finding.checker for finding in outcome.violations}
    if not wanted:
        raise ValueError(f"seed {plan.seed} does not fail in the {plan.mode} mode")
    smaller = True
    while smaller:
        smaller = False
        for fault in plan.faults:
            candidate = plan.without_fault(fault)
            tried = simulate(candidate)
            if wanted & {finding.checker for finding in tried.violations}:
                plan, outcome, smaller = candidate, tried, True
    return plan, outcome
