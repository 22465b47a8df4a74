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

from api.messages import NAME as API
from api.orders import api_topology
from bootstrap.modes import Mode, database_name, roles, topology
from broker.message import Command
from broker.topology import (
    RETRY_LEVELS_S,
    Topology,
    commands_exchange,
    dead_queue,
    delay_queue,
    dropped_queue,
    events_exchange,
    queue_of,
    retry_exchange,
)
from observer.recorder import NAME as OBSERVER
from observer.recorder import with_observer
from orchestrator.coordinator import NAME as COORDINATOR
from services.order.messages import PlaceOrder, WithdrawOrder

#: Whoever places orders without the door, watches, audits, mends and empties: the person at the CLI.
OPERATOR = "operator"

#: What the door may ask the order service; everything else that is a command is the coordinator's.
API_COMMANDS: tuple[type[Command], ...] = (PlaceOrder, WithdrawOrder)


@dataclass(frozen=True, slots=True)
class Account:
    """One user, of the same name on the broker and in the database.

    `configure`, `write`, `read`: RabbitMQ's patterns. `routing_keys`: exchange -> pattern of the routing keys that may be published there
    (one that is not in it takes all). `databases`: those it may read and write, and no other."""

    mode: Mode
    worker: str
    configure: str
    write: str
    read: str
    routing_keys: Mapping[str, str]
    databases: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.mode}.{self.worker}"


def accounts(mode: Mode) -> list[Account]:
    """Every account of a mode: its workers' in their order, the door's, the observer's, the operator's."""
    return [*(_worker_account(mode, worker) for worker in (*roles(mode), API)), _observer_account(mode), _operator_account(mode)]


def topologies(mode: Mode) -> tuple[Topology, ...]:
    """Everything that a mode wants on the broker: its workers' and observer's furniture, and the door's."""
    return with_observer(topology(mode)), api_topology(mode)


def commands_sent_by(mode: Mode, worker: str) -> list[str]:
    """The commands that a worker may send, by name on the wire."""
    if worker == API:
        return [kind.type_name for kind in API_COMMANDS]
    if worker != COORDINATOR:
        return []
    accepted = {kind.type_name for role in roles(mode).values() for kind in role.accepts if issubclass(kind, Command)}
    return sorted(accepted - {kind.type_name for kind in API_COMMANDS})


def _worker_account(mode: Mode, worker: str) -> Account:
    """Consumes its own queue, publishes its own events and what it may send, and puts its own messages aside."""
    queue = queue_of(mode, worker)
    routing_keys = {retry_exchange(mode): _exact_pattern([dead_queue(queue)])}
    routing_keys |= {delay_queue(mode, level): _exact_pattern([queue]) for level in range(len(RETRY_LEVELS_S))}
    if worker in roles(mode) and worker != COORDINATOR:
        routing_keys[events_exchange(mode)] = rf"^{re.escape(worker)}\."
    if commands := commands_sent_by(mode, worker):
        routing_keys[commands_exchange(mode)] = _exact_pattern(commands)
    return Account(
        mode,
        worker,
        _exact_pattern([]),
        _exact_pattern(routing_keys),
        _exact_pattern([queue]),
        routing_keys,
        (database_name(mode, worker),),
    )


def _observer_account(mode: Mode) -> Account:
    """Hears all and says nothing."""
    queue = queue_of(mode, OBSERVER)
    own_queues = _exact_pattern([queue, dropped_queue(queue)])
    return Account(mode, OBSERVER, _exact_pattern([]), _exact_pattern([]), own_queues, {}, (database_name(mode, OBSERVER),))


def _operator_account(mode: Mode) -> Account:
    """Everything of this mode, and nothing of the other. RabbitMQ calls the queue of a subscription `amq.gen-` and something."""
    all_of_mode = rf"^({re.escape(mode)}\.|amq\.gen-)"
    databases = tuple(database_name(mode, worker) for worker in (*roles(mode), API, OBSERVER))
    return Account(mode, OPERATOR, all_of_mode, all_of_mode, all_of_mode, {}, databases)


def _exact_pattern(names: Collection[str]) -> str:
    """A pattern for exactly these names; for none of them, one that RabbitMQ knows as `nothing`."""
    return f"^({'|'.join(re.escape(name) for name in names)})$" if names else "^$"
