"""What remains to be done for an order that the door knows, as far as can be told from the events that it heard.

How that is told is orchestrator/remaining_steps.py.
"""

from api.documents import KnownOrder
from orchestrator.remaining_steps import remains as remaining


def remains(order: KnownOrder, *, pivot_first: bool) -> list[str]:
    """The commands still to be carried out, in order, if nothing else goes wrong. Empty for an order that has ended.

    `pivot_first`: a withdrawal is undone from the pivot on (choreography), not from the step that is under way (orchestrator)."""
    if order.state.ended:
        return []
    return remaining({event.type for event in order.events}, withdrawn=order.withdrawn is not None, pivot_first=pivot_first)
