"""From a seed that fails to the few faults that it takes: faults are dropped as long as the same checker still finds something.

Works because chance is drawn by name: a fault that is dropped changes no other.
"""

from collections.abc import Callable

from lab.simulation.plan import Plan
from lab.simulation.run import Outcome

Simulate = Callable[[Plan], Outcome]


def shrink(plan: Plan, simulate: Simulate) -> tuple[Plan, Outcome]:
    """The smallest plan found, with what came of it. `plan` must fail."""
    outcome = simulate(plan)
    wanted = {finding.checker for finding in outcome.findings}
    if not wanted:
        raise ValueError(f"seed {plan.seed} does not fail in the {plan.mode} mode")
    smaller = True
    while smaller:
        smaller = False
        for fault in plan.faults:
            candidate = plan.without(fault)
            tried = simulate(candidate)
            if wanted & {finding.checker for finding in tried.findings}:
                plan, outcome, smaller = candidate, tried, True
    return plan, outcome
