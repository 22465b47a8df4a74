"""Builds one worker from a mode, a name and its parts.

Used by `saga worker`, `saga api`, the whole mode in one process (lab/system.py), the simulator and tests.
"""

from collections.abc import Callable, Mapping
from typing import Any

from bootstrap.backend import gateway_caller
from bootstrap.modes import Mode, roles
from broker.environment import Environment
from broker.limits import Limits
from broker.loop.fault_injection import crash
from broker.role import Role, topology_of
from broker.topology import Topology
from broker.transport import Transport
from broker.worker import Worker, no_calls
from services.payment.gateway import PaymentGateway
from services.timeouts import Timeouts
from store.protocol import Store

#: Returns the roles of a mode by worker name, for given timeouts.
RolesOf = Callable[[Mode, Timeouts], Mapping[str, Role]]


def build_worker(
    mode: Mode,
    name: str,
    transport: Transport,
    store: Store,
    *,
    prefix: str | None = None,
    timeouts: Timeouts,
    roles_of: RolesOf = roles,
    **options: Any,  # noqa: ANN401 - those of `assemble`
) -> Worker:
    """Build the worker `name` of a mode, not yet started.

    `prefix` is that of its queues: the mode, unless a test has its own. `roles_of` lets tests change what a mode's workers do.
    Raises KeyError if the mode has no such worker."""
    mode_roles = roles_of(mode, timeouts)
    return assemble(mode_roles[name], topology_of(prefix or mode, mode_roles.values()), transport, store, **options)


def assemble(
    role: Role,
    topology: Topology,
    transport: Transport,
    store: Store,
    *,
    environment: Environment,
    limits: Limits,
    gateway: PaymentGateway | None = None,
    faults: bool = False,
    crash: Callable[[], None] = crash,
    make: Callable[..., Worker] = Worker,
) -> Worker:
    """Build a worker for any role, not yet started.

    `gateway`: the payment gateway that it calls after a commit; None for a role without external calls. `faults`: honour injected
    failures. `crash`: what an injected crash does. `make`: a class other than Worker, for tests."""
    caller = gateway_caller(gateway) if gateway else no_calls
    return make(
        role, topology, transport, store, environment=environment, caller=caller, limits=limits, faults=faults, crash=crash
    )
