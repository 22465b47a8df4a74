"""Who may do what: an account for each worker, the door, the observer and the operator of a mode, with the least that it needs.

One definition for broker and database: `ops.rabbitmq_definitions` writes it for RabbitMQ, `saga admin` tells the database,
`saga doctor --security` tries what is not granted. It is derived from the roles, so the style is enforced: in choreography
nobody but the door may publish a command, and nobody but the observer, who can say nothing, hears what is not for him.

RabbitMQ checks a name against three patterns (configure, write, read) and, at a topic exchange, the routing key against one more.
Where there is none for an exchange every key is allowed, so each exchange that an account may write to has one.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from api.messages import NAME as DOOR
from api.orders import door_topology
from bootstrap.modes import Mode, database_of, roles, topology
from broker.message import Command
from broker.topology import (
    RETRY_LEVELS_S,
    Topology,
    aside_exchange,
    commands_exchange,
    dead_queue,
    dropped_queue,
    events_exchange,
    later_queue,
    queue_of,
)
from observer.recorder import NAME as OBSERVER
from observer.recorder import with_observer
from orchestrator.coordinator import NAME as COORDINATOR
from services.order.messages import PlaceOrder, WithdrawOrder

#: Whoever places orders without the door, watches, audits, mends and empties: the person at the CLI.
OPERATOR = "operator"

#: What the door may ask the order service; everything else that is a command is the coordinator's.
DOOR_COMMANDS: tuple[type[Command], ...] = (PlaceOrder, WithdrawOrder)


@dataclass(frozen=True, slots=True)
class Account:
    """One user, of the same name on the broker and in the database.

    `configure`, `write`, `read`: RabbitMQ's patterns. `keys`: exchange -> pattern of the routing keys that may be published there
    (one that is not in it takes all). `databases`: those it may read and write, and no other."""

    mode: Mode
    worker: str
    configure: str
    write: str
    read: str
    keys: Mapping[str, str]
    databases: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.mode}.{self.worker}"


def accounts(mode: Mode) -> list[Account]:
    """Every account of a mode: its workers' in their order, the door's, the observer's, the operator's."""
    return [*(_worker(mode, worker) for worker in (*roles(mode), DOOR)), _observer(mode), _operator(mode)]


def topologies(mode: Mode) -> tuple[Topology, ...]:
    """Everything that a mode wants on the broker: its workers' and observer's furniture, and the door's."""
    return with_observer(topology(mode)), door_topology(mode)


def commands_of(mode: Mode, worker: str) -> list[str]:
    """The commands that a worker may send, by name on the wire."""
    if worker == DOOR:
        return [kind.type_name for kind in DOOR_COMMANDS]
    if worker != COORDINATOR:
        return []
    accepted = {kind.type_name for role in roles(mode).values() for kind in role.accepts if issubclass(kind, Command)}
    return sorted(accepted - {kind.type_name for kind in DOOR_COMMANDS})


def _worker(mode: Mode, worker: str) -> Account:
    """Consumes its own queue, publishes its own events and what it may send, and puts its own messages aside."""
    queue = queue_of(mode, worker)
    keys = {aside_exchange(mode): _only([dead_queue(queue)])}
    keys |= {later_queue(mode, level): _only([queue]) for level in range(len(RETRY_LEVELS_S))}
    if worker in roles(mode) and worker != COORDINATOR:
        keys[events_exchange(mode)] = rf"^{re.escape(worker)}\."
    if commands := commands_of(mode, worker):
        keys[commands_exchange(mode)] = _only(commands)
    return Account(mode, worker, _only([]), _only(keys), _only([queue]), keys, (database_of(mode, worker),))


def _observer(mode: Mode) -> Account:
    """Hears all and says nothing."""
    queue = queue_of(mode, OBSERVER)
    own = _only([queue, dropped_queue(queue)])
    return Account(mode, OBSERVER, _only([]), _only([]), own, {}, (database_of(mode, OBSERVER),))


def _operator(mode: Mode) -> Account:
    """Everything of this mode, and nothing of the other. RabbitMQ calls the queue of a subscription `amq.gen-` and something."""
    everything = rf"^({re.escape(mode)}\.|amq\.gen-)"
    databases = tuple(database_of(mode, worker) for worker in (*roles(mode), DOOR, OBSERVER))
    return Account(mode, OPERATOR, everything, everything, everything, {}, databases)


def _only(names: Collection[str]) -> str:
    """A pattern for exactly these names; for none of them, one that RabbitMQ knows as `nothing`."""
    return f"^({'|'.join(re.escape(name) for name in names)})$" if names else "^$"
