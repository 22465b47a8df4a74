"""The accounts of a mode and the least permissions that each needs: its workers, the HTTP API, the observer and the operator.

One definition for broker and database: `ops.rabbitmq_definitions` writes it for RabbitMQ, `saga admin` applies it to the
database, and `saga doctor --security` tries what is not granted. It is derived from the roles, so the broker enforces the style:
in choreography only the HTTP API and the operator may publish commands. A worker's queue receives only what the worker accepts;
the observer receives every message and may publish none.

RabbitMQ checks a name against three patterns (configure, write, read) and, at a topic exchange, the routing key against a fourth.
An exchange without a fourth pattern allows every key, so each exchange that a worker may write to has one.
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
from services.message_types import API_COMMANDS

#: The account of the CLI: places orders without the HTTP API, watches, audits, redrives and resets.
OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Account:
    """One user, with the same name on the broker and in the database.

    `configure`, `write`, `read`: RabbitMQ's patterns. `routing_keys`: exchange -> pattern of the routing keys that it may publish
    there (an exchange without one allows all). `databases`: the only ones that it may read and write."""

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
    """Every account of a mode: the workers in their order, the HTTP API, the observer, the operator."""
    return [*(_worker_account(mode, worker) for worker in (*roles(mode), API)), _observer_account(mode), _operator_account(mode)]


def topologies(mode: Mode) -> tuple[Topology, ...]:
    """Everything that a mode declares on the broker: the topology of its workers and observer, and that of the HTTP API."""
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
    """Consumes its own queue, publishes its own events and allowed commands, and retries or dead-letters its own messages."""
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
    """Consumes the observer's queue, which receives every message, and publishes nothing."""
    queue = queue_of(mode, OBSERVER)
    own_queues = _exact_pattern([queue, dropped_queue(queue)])
    return Account(mode, OBSERVER, _exact_pattern([]), _exact_pattern([]), own_queues, {}, (database_name(mode, OBSERVER),))


def _operator_account(mode: Mode) -> Account:
    """Everything of this mode and nothing of the other. RabbitMQ names a subscription's queue `amq.gen-` and a suffix."""
    all_of_mode = rf"^({re.escape(mode)}\.|amq\.gen-)"
    databases = tuple(database_name(mode, worker) for worker in (*roles(mode), API, OBSERVER))
    return Account(mode, OPERATOR, all_of_mode, all_of_mode, all_of_mode, {}, databases)


def _exact_pattern(names: Collection[str]) -> str:
    """A pattern that matches exactly these names. Without names `^$`, which matches no object."""
    return f"^({'|'.join(re.escape(name) for name in names)})$" if names else "^$"
