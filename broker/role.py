"""Services, roles, and the topology derived from the roles of a mode.

A `Service` is independent of the mode. A mode's wiring.py turns each one into a `Role`, which maps incoming messages to commands.
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
    """A document of `kind` whose `due_at` has passed produces `fires(order_id)`, a local input that is never published."""

    kind: type[Document]
    fires: type[Message]


@dataclass(frozen=True, slots=True)
class Service:
    """The handlers and timers of one service, the same in both modes.

    `single_active`: only one replica consumes at a time, because they share hot documents. `on_exhausted`: given a command that
    must not fail (a compensation, a step after the pivot) and its last error, returns the event to publish when the command is
    dead-lettered, or None."""

    name: str
    handlers: Mapping[type[Message], Handler]
    timers: tuple[Timer, ...] = ()
    single_active: bool = False
    #: Business faults that can be injected with an order, in addition to `broker.faults.MessageFault`.
    faults: frozenset[str] = frozenset()
    #: Whether the external system that the service calls applies `faults`, and records them itself.
    external_faults: bool = False
    on_exhausted: Callable[[Message, str], Event | None] | None = None


@dataclass(frozen=True, slots=True)
class Role:
    """One worker of one mode.

    `accepts`: message type -> function that returns the command to handle, which is the message itself for a command and the
    triggered command for an event. A message of any other type is dead-lettered."""

    service: Service
    accepts: Mapping[type[Message], Callable[[Any], Message]]
    #: Name on the wire -> message type; derived from `accepts`.
    types: Mapping[str, type[Message]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "types", {kind.type_name: kind for kind in self.accepts})

    @property
    def worker(self) -> str:
        return self.service.name


def identity(message: Message) -> Message:
    """Return the message unchanged: the entry in `Role.accepts` for a command."""
    return message


def topology_of(prefix: str, roles: Iterable[Role]) -> Topology:
    """Return a topology with one queue for each role, bound to exactly the types that the role accepts."""
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
    """Return the wire names of the accepted types that derive from `base`, sorted."""
    return tuple(sorted(kind.type_name for kind in role.accepts if issubclass(kind, base)))
