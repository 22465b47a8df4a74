"""What remains to be done for an order, as far as can be told from the events that were heard.

The sequence is read off the orchestrator's saga for both modes; that it has to be inferred in choreography,
where nobody knows the sequence, is a finding of the comparison.
"""

from collections.abc import Collection

from orchestrator.fulfilment import FULFILMENT


def remaining_steps(event_types: Collection[str], *, withdrawn: bool, pivot_first: bool) -> list[str]:
    """The commands still to be carried out for an order that has not ended, in order, if nothing else goes wrong.

    `heard`: the events heard of it, by name on the wire. `withdrawn`: a withdrawal was recorded. `pivot_first`: a withdrawal is
    undone from the pivot on (choreography), not from the step that is under way (orchestrator)."""
    steps = FULFILMENT.steps
    done = [step.success.type_name in event_types for step in steps]
    past_the_pivot = any(step.pivot and is_done for step, is_done in zip(steps, done, strict=True))
    refused = any(step.refused and step.refused.type_name in event_types for step in steps)
    if past_the_pivot or not (withdrawn or refused):
        return [step.command.__name__ for step, is_done in zip(steps, done, strict=True) if not is_done]
    under_way = done.index(False)
    requested = done if refused else [is_done or pivot_first or number == under_way for number, is_done in enumerate(done)]
    undone = [
        step.undo.__name__
        for step, is_requested in zip(steps, requested, strict=True)
        if is_requested and step.undo and step.undone and step.undone.type_name not in event_types
    ]
    return [*reversed(undone), FULFILMENT.rejects.__name__]
