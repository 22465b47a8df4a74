"""From a seed that fails to the few faults that it takes: faults are dropped as long as the same checker still finds something.

Works because chance is drawn by name: a fault that is dropped changes no other.
"""

from collections.abc import Callable

from lab.simulation.plan import SimulationPlan
from lab.simulation.run import RunOutcome

Simulate = Callable[[SimulationPlan], RunOutcome]


def shrink(plan: SimulationPlan, simulate: Simulate) -> tuple[SimulationPlan, RunOutcome]:
    """The smallest plan found, with what came of it. `plan` must fail."""
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
