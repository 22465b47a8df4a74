"""The steps that an order still has to go through, inferred from the events that were published for it.

Both modes' sequences are derived from the orchestrator's saga. In choreography they have to be inferred like this, because no
service knows the whole sequence: a finding of the comparison.
"""

from collections.abc import Collection

from orchestrator.fulfilment import FULFILMENT
from orchestrator.saga import Step


def remaining_steps(event_types: Collection[str], *, withdrawn: bool, pivot_first: bool) -> list[str]:
    """The commands still to be handled for an order that has not ended, in order, if nothing else goes wrong.

    `event_types`: the events of the order so far, by name on the wire. `withdrawn`: a withdrawal was recorded. `pivot_first`: a
    withdrawal is undone from the pivot on (choreography), not from the step that is under way (orchestrator). Empty when every
    step is done."""
    open_steps = [step for step in FULFILMENT.steps if step.success.type_name not in event_types]
    pivot_passed = not any(step.pivot for step in open_steps)
    refused = any(step.refused and step.refused.type_name in event_types for step in FULFILMENT.steps)
    if pivot_passed or not (withdrawn or refused):
        return [step.command.__name__ for step in open_steps]
    under_way = open_steps[0]  # the pivot at least is open

    def took_effect(step: Step) -> bool:
        """Whether the step holds something to undo, or may hold it."""
        return step not in open_steps or (not refused and (pivot_first or step is under_way))

    undone = [
        step.undo.__name__
        for step in FULFILMENT.steps
        if took_effect(step) and step.undo and step.undone and step.undone.type_name not in event_types
    ]
    return [*reversed(undone), FULFILMENT.rejects.__name__]
