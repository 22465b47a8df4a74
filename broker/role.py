"""What a service offers, what a worker is, and the topology that a mode's workers add up to.

A `Service` knows no mode. A mode's wiring.py turns each into a `Role` by saying what arrives and what it means.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.handler import Handler
from broker.message import Command, Event, Message
from broker.topology import Topology, WorkQueue
from store.document import Document


@dataclass(frozen=True, slots=True)
class Timer:
    """A wait: documents of `kind` whose `due_at` has passed get `fires(order_id)` as a local input, never on the wire."""

    kind: type[Document]
    fires: type[Message]


@dataclass(frozen=True, slots=True)
class Service:
    """What one service can do, whatever the mode. `single_active`: its replicas take turns (they share hot documents).

    `on_exhausted`: what the service tells the others when a command that must not fail (a compensation, a step after the pivot) has
    failed for good, from the command and the last error; None when there is nobody to tell."""

    name: str
    handlers: Mapping[type[Message], Handler]
    timers: tuple[Timer, ...] = ()
    single_active: bool = False
    #: The business faults that can be injected with an order, besides `broker.faults.MessageFault`.
    faults: frozenset[str] = frozenset()
    #: Whether `faults` act in the external system that the service calls, which then counts them itself.
    external_faults: bool = False
    on_exhausted: Callable[[Message, str], Event | None] | None = None


@dataclass(frozen=True, slots=True)
class Role:
    """One worker of one mode. `accepts` turns what may arrive into what it means here: for a command the command itself, for an
    event the command it triggers. Anything else on the queue is a dead letter."""

    service: Service
    accepts: Mapping[type[Message], Callable[[Any], Message]]
    #: The same by name on the wire; derived.
    types: Mapping[str, type[Message]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "types", {kind.type_name: kind for kind in self.accepts})

    @property
    def worker(self) -> str:
        return self.service.name


def identity(message: Message) -> Message:
    """What a command means to the service it was sent to."""
    return message


def topology_of(prefix: str, roles: Iterable[Role]) -> Topology:
    """One queue a worker, bound to what the worker accepts and to nothing else."""
    return Topology(
        prefix,
        tuple(
            WorkQueue(
                worker=role.worker,
                takes_commands=_names(role, Command),
                listens_to=_names(role, Event),
                single_active=role.service.single_active,
            )
            for role in roles
        ),
    )


def _names(role: Role, base: type[Message]) -> tuple[str, ...]:
    """What the role accepts of one sort, by name on the wire, sorted."""
    return tuple(sorted(kind.type_name for kind in role.accepts if issubclass(kind, base)))
