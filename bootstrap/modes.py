"""The two modes by name, and everything that a mode's name decides: its workers, its topology, its databases.

Flag values equal folder names. Both modes get the same services, parts and limits; only the wiring differs.
"""

from enum import StrEnum

import choreography.wiring
import orchestrator.wiring
from broker.role import Role, topology_of
from broker.topology import Topology
from services.registry import Times, all_services


class Mode(StrEnum):
    """How the four services are coordinated."""

    ORCHESTRATOR = orchestrator.__name__  # a central saga sends commands and compensations
    CHOREOGRAPHY = choreography.__name__  # each service reacts to the others' events


_WIRINGS = {Mode.ORCHESTRATOR: orchestrator.wiring.roles, Mode.CHOREOGRAPHY: choreography.wiring.roles}


def roles(mode: Mode, times: Times | None = None) -> dict[str, Role]:
    """The mode's workers by name."""
    wired = _WIRINGS[mode](all_services(times or Times()))
    return {role.worker: role for role in wired}


def topology(mode: Mode, prefix: str | None = None) -> Topology:
    """The mode's furniture on the broker; `prefix` is the mode's name unless a test needs its own."""
    return topology_of(prefix or mode, roles(mode).values())


def database_of(prefix: str, worker: str) -> str:
    """The name of one worker's database."""
    return f"saga_{prefix}_{worker}"
