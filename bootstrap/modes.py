"""The two modes, and what depends on a mode's name: its workers, topology and databases.

Flag values equal folder names. Both modes use the same services, back ends and limits; only the wiring differs.
"""

from enum import StrEnum

import choreography.wiring
import orchestrator.wiring
from broker.role import Role, topology_of
from broker.topology import Topology
from services.registry import all_services
from services.timeouts import Timeouts


class Mode(StrEnum):
    """How the four services are coordinated."""

    ORCHESTRATOR = orchestrator.__name__  # a central saga sends commands and compensations
    CHOREOGRAPHY = choreography.__name__  # each service reacts to the others' events


_WIRINGS = {Mode.ORCHESTRATOR: orchestrator.wiring.roles, Mode.CHOREOGRAPHY: choreography.wiring.roles}


def roles(mode: Mode, timeouts: Timeouts | None = None) -> dict[str, Role]:
    """The mode's workers by name."""
    mode_roles = _WIRINGS[mode](all_services(timeouts or Timeouts()))
    return {role.worker: role for role in mode_roles}


def topology(mode: Mode, prefix: str | None = None) -> Topology:
    """The mode's topology on the broker. `prefix` is the mode's name unless a test needs its own."""
    return topology_of(prefix or mode, roles(mode).values())


def database_name(prefix: str, worker: str) -> str:
    """The name of one worker's database."""
    return f"saga_{prefix}_{worker}"
