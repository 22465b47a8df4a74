"""Checks of the broker: there, open to this user, new enough, furnished as this version declares, and consumed."""

import re
from contextlib import suppress

from api.messages import NAME as API
from broker.rabbitmq.topology_check import DeclaredObject
from broker.topology import dead_queue, queue_of
from broker.transport import BrokerRefused, QueueMissing, TransportUnavailable, UnsafeTopology, UnusableUrl
from ops.doctor.check import CheckResult
from ops.doctor.port_probe import diagnose_missing
from ops.doctor.targets import Targets

#: The first version whose quorum queues know a time to live and dead letters at least once.
OLDEST_VERSION = (3, 10)
#: Seconds after which a message that a commit owes should be long at the broker: many times the relay's look.
OVERDUE_S = 60.0
#: Owed messages that are counted.
MAX_COUNTED = 1_000


async def reachable(targets: Targets) -> CheckResult:
    """A broker that sends this user away is there."""
    try:
        await targets.broker()
    except BrokerRefused:
        return CheckResult(True, "it answers")
    except TransportUnavailable as error:
        step = "Start RabbitMQ (`make up` starts one that is installed), or set SAGA_BROKER_URL."
        return await diagnose_missing("broker", str(error), targets.backend.broker_url, step)
    except UnusableUrl as error:
        return CheckResult(False, str(error), "Correct SAGA_BROKER_URL.")
    return CheckResult(True, "it answers")


async def user(targets: Targets) -> CheckResult:
    try:
        await targets.broker()
    except BrokerRefused as error:
        return CheckResult(False, str(error), "Correct user, password and virtual host in SAGA_BROKER_URL.")
    return CheckResult(True, "it may connect")


async def version(targets: Targets) -> CheckResult:
    return check_version(*await (await targets.broker()).product())


def check_version(product: str, version: str) -> CheckResult:
    """Whether this broker is new enough, by what it says of itself."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if not numbers:
        return CheckResult(None, f"{product} says no version that can be read: {version!r}")
    if (int(numbers[1]), int(numbers[2])) < OLDEST_VERSION:
        why = f"{product} {version} is older than 3.10: its quorum queues know no time to live and no dead letters at least once"
        return CheckResult(False, why, "Install RabbitMQ 3.10 or newer.")
    return CheckResult(True, f"{product} {version}")


async def topology(targets: Targets) -> CheckResult:
    pieces = await targets.pieces()
    faults = {name: piece.fault for name, piece in pieces.items() if piece.fault}
    missing_names = [name for name, fault in faults.items() if isinstance(fault, QueueMissing)]
    differing = [name for name in faults if name not in missing_names]
    why, steps = [], []
    if missing_names:
        why.append(f"not there: {', '.join(missing_names)}")
        steps.append(f"Start a worker of the mode (`saga up --mode {targets.mode}`): it declares what is missing.")
    if differing:
        why.append(f"declared differently by another version: {', '.join(differing)} ({_broker_message(faults[differing[0]])})")
        how = "`rabbitmqctl delete_queue NAME`; an exchange in the management's pages"
        manual_steps = f"let the workers drain it, stop them, delete it ({how}) and start them"
        steps.append(
            f"To keep every order, {manual_steps}; else `saga reset --mode {targets.mode} --yes`, which empties the mode."
        )
    if why:
        return CheckResult(False, "; ".join(why), " ".join(steps))
    return CheckResult(True, f"{len(pieces)} exchanges and queues, as this version declares them{_uncompared_note(pieces)}")


def _broker_message(fault: UnsafeTopology | None) -> str:
    return str(fault).rpartition("RabbitMQ says: ")[2]


def _uncompared_note(pieces: dict[str, DeclaredObject]) -> str:
    count = sum(not piece.compared for piece in pieces.values())
    return f" ({count} of them only seen to be there: this user may not declare)" if count else ""


async def bindings(targets: Targets) -> CheckResult:
    """AMQP cannot list them. What shows is what comes of a missing one: a message that must arrive stays in its outbox."""
    before = targets.backend.environment.now() - OVERDUE_S
    pending_outbox = {
        worker: len(await (await targets.database(worker)).pending_outbox(before, MAX_COUNTED)) for worker in targets.workers
    }
    overdue = {worker: count for worker, count in pending_outbox.items() if count}
    if not overdue:
        return CheckResult(True, f"no message waits in an outbox for more than {OVERDUE_S:g} s (AMQP cannot list bindings)")
    why = f"messages that should have been sent more than {OVERDUE_S:g} s ago are still in the outbox: {_counts(overdue)}"
    step = f"Restart these workers (`saga worker {next(iter(overdue))} --mode {targets.mode}`): they declare missing bindings."
    return CheckResult(False, f"{why}. Their worker is down, or the broker finds no queue for them", step)


async def consumers(targets: Targets) -> CheckResult:
    pieces = await targets.pieces()
    queues = {worker: pieces[queue_of(targets.topology.prefix, worker)] for worker in targets.workers}
    existing = {worker: piece for worker, piece in queues.items() if not isinstance(piece.fault, QueueMissing)}
    if not existing:
        return CheckResult(None, "there is no work queue yet: see topology")
    unconsumed = [worker for worker, piece in existing.items() if not piece.consumers]
    if unconsumed:
        why = f"nobody consumes {', '.join(existing[worker].name for worker in unconsumed)}"
        step = (
            f"Start all workers (`saga up --mode {targets.mode}`), or one (`saga worker {unconsumed[0]} --mode {targets.mode}`)."
        )
        return CheckResult(False, why, step)
    return CheckResult(True, _counts({worker: piece.consumers for worker, piece in existing.items()}))


async def dead_letters(targets: Targets) -> CheckResult:
    """Waiting ones are worth a look, and no failure: giving up is what the broker was told to do."""
    pieces = await targets.pieces()
    queues = {worker: pieces[dead_queue(queue_of(targets.topology.prefix, worker))] for worker in targets.workers}
    if all(isinstance(piece.fault, QueueMissing) for piece in queues.values()):
        return CheckResult(None, "there is no queue of dead letters yet: see topology")
    counts = {worker: piece.messages for worker, piece in queues.items() if piece.messages}
    with suppress(QueueMissing):  # a door that was never opened
        if api_letters := await (await targets.broker()).depth(dead_queue(queue_of(targets.topology.prefix, API))):
            counts[API] = api_letters
    if counts:
        return CheckResult(True, f"dead letters wait: {_counts(counts)}", f"See them: `saga dlq list --mode {targets.mode}`.")
    return CheckResult(True, "none")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{worker} {count}" for worker, count in counts.items())
