"""Checks of the broker: there, open to this user, new enough, furnished as this version declares, and consumed."""

import re
from contextlib import suppress

from api.messages import NAME as DOOR
from broker.rabbitmq.topology_check import Piece
from broker.topology import dead_queue, queue_of
from broker.transport import BrokerRefused, FurnitureMissing, TransportUnavailable, UnsafeTopology, UnusableUrl
from ops.doctor.check import Finding
from ops.doctor.port_probe import missing
from ops.doctor.targets import Patient

#: The first version whose quorum queues know a time to live and dead letters at least once.
OLDEST = (3, 10)
#: Seconds after which a message that a commit owes should be long at the broker: many times the relay's look.
OWED_S = 60.0
#: Owed messages that are counted.
COUNTED = 1_000


async def reachable(patient: Patient) -> Finding:
    """A broker that sends this user away is there."""
    try:
        await patient.broker()
    except BrokerRefused:
        return Finding(True, "it answers")
    except TransportUnavailable as error:
        step = "Start RabbitMQ (`make up` starts one that is installed), or set SAGA_BROKER_URL."
        return await missing("broker", str(error), patient.parts.broker_url, step)
    except UnusableUrl as error:
        return Finding(False, str(error), "Correct SAGA_BROKER_URL.")
    return Finding(True, "it answers")


async def user(patient: Patient) -> Finding:
    try:
        await patient.broker()
    except BrokerRefused as error:
        return Finding(False, str(error), "Correct user, password and virtual host in SAGA_BROKER_URL.")
    return Finding(True, "it may connect")


async def version(patient: Patient) -> Finding:
    return judge_version(*await (await patient.broker()).product())


def judge_version(product: str, version: str) -> Finding:
    """Whether this broker is new enough, by what it says of itself."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if not numbers:
        return Finding(None, f"{product} says no version that can be read: {version!r}")
    if (int(numbers[1]), int(numbers[2])) < OLDEST:
        why = f"{product} {version} is older than 3.10: its quorum queues know no time to live and no dead letters at least once"
        return Finding(False, why, "Install RabbitMQ 3.10 or newer.")
    return Finding(True, f"{product} {version}")


async def topology(patient: Patient) -> Finding:
    pieces = await patient.pieces()
    faults = {name: piece.fault for name, piece in pieces.items() if piece.fault}
    absent = [name for name, fault in faults.items() if isinstance(fault, FurnitureMissing)]
    differing = [name for name in faults if name not in absent]
    why, steps = [], []
    if absent:
        why.append(f"not there: {', '.join(absent)}")
        steps.append(f"Start a worker of the mode (`saga up --mode {patient.mode}`): it declares what is missing.")
    if differing:
        why.append(
            f"declared differently by another version: {', '.join(differing)} ({_in_the_brokers_words(faults[differing[0]])})"
        )
        how = "`rabbitmqctl delete_queue NAME`; an exchange in the management's pages"
        by_hand = f"let the workers drain it, stop them, delete it ({how}) and start them"
        steps.append(f"To keep every order, {by_hand}; else `saga reset --mode {patient.mode} --yes`, which empties the mode.")
    if why:
        return Finding(False, "; ".join(why), " ".join(steps))
    return Finding(True, f"{len(pieces)} exchanges and queues, as this version declares them{_unseen(pieces)}")


def _in_the_brokers_words(fault: UnsafeTopology | None) -> str:
    return str(fault).rpartition("RabbitMQ says: ")[2]


def _unseen(pieces: dict[str, Piece]) -> str:
    count = sum(not piece.compared for piece in pieces.values())
    return f" ({count} of them only seen to be there: this user may not declare)" if count else ""


async def bindings(patient: Patient) -> Finding:
    """AMQP cannot list them. What shows is what comes of a missing one: a message that must arrive stays in its outbox."""
    before = patient.parts.sources.now() - OWED_S
    owed = {worker: len(await (await patient.database(worker)).owed(before, COUNTED)) for worker in patient.workers}
    late = {worker: count for worker, count in owed.items() if count}
    if not late:
        return Finding(True, f"no message waits in an outbox for more than {OWED_S:g} s (AMQP cannot list bindings)")
    why = f"messages that should have been sent more than {OWED_S:g} s ago are still in the outbox: {_counts(late)}"
    step = f"Restart these workers (`saga worker {next(iter(late))} --mode {patient.mode}`): they declare missing bindings."
    return Finding(False, f"{why}. Their worker is down, or the broker finds no queue for them", step)


async def consumers(patient: Patient) -> Finding:
    pieces = await patient.pieces()
    queues = {worker: pieces[queue_of(patient.topology.prefix, worker)] for worker in patient.workers}
    there = {worker: piece for worker, piece in queues.items() if not isinstance(piece.fault, FurnitureMissing)}
    if not there:
        return Finding(None, "there is no work queue yet: see topology")
    idle = [worker for worker, piece in there.items() if not piece.consumers]
    if idle:
        why = f"nobody consumes {', '.join(there[worker].name for worker in idle)}"
        step = f"Start all workers (`saga up --mode {patient.mode}`), or one (`saga worker {idle[0]} --mode {patient.mode}`)."
        return Finding(False, why, step)
    return Finding(True, _counts({worker: piece.consumers for worker, piece in there.items()}))


async def dead_letters(patient: Patient) -> Finding:
    """Waiting ones are worth a look, and no failure: giving up is what the broker was told to do."""
    pieces = await patient.pieces()
    queues = {worker: pieces[dead_queue(queue_of(patient.topology.prefix, worker))] for worker in patient.workers}
    if all(isinstance(piece.fault, FurnitureMissing) for piece in queues.values()):
        return Finding(None, "there is no queue of dead letters yet: see topology")
    counts = {worker: piece.messages for worker, piece in queues.items() if piece.messages}
    with suppress(FurnitureMissing):  # a door that was never opened
        if at_door := await (await patient.broker()).depth(dead_queue(queue_of(patient.topology.prefix, DOOR))):
            counts[DOOR] = at_door
    if counts:
        return Finding(True, f"dead letters wait: {_counts(counts)}", f"See them: `saga dlq list --mode {patient.mode}`.")
    return Finding(True, "none")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{worker} {count}" for worker, count in counts.items())
