"""Checks of the broker: reachable, open to this user, new enough, with the declared topology, and consumed."""

import re
from contextlib import suppress

from api.messages import NAME as API
from broker.rabbitmq.topology_check import DeclaredObject
from broker.topology import dead_queue, queue_of
from broker.transport import BrokerRefused, QueueMissing, TransportUnavailable, UnsafeTopology, UnusableUrl
from ops.doctor.check import CheckResult
from ops.doctor.port_probe import diagnose_missing
from ops.doctor.targets import Targets

#: The first version whose quorum queues support a message TTL and at-least-once dead lettering.
OLDEST_VERSION = (3, 10)
#: Seconds after which an outbox row is overdue: many times the interval at which the relay retries.
OVERDUE_S = 60.0
#: Overdue outbox rows counted in one database at most.
MAX_COUNTED = 1_000


async def reachable(targets: Targets) -> CheckResult:
    """Reports a broker that refuses this user as reachable; `user` reports the refusal."""
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
    return CheckResult(True, "this user may connect")


async def version(targets: Targets) -> CheckResult:
    return check_version(*await (await targets.broker()).product())


def check_version(product: str, version: str) -> CheckResult:
    """Whether the broker is new enough. `product`, `version`: as the broker reports them."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if not numbers:
        return CheckResult(None, f"the version that {product} reports cannot be parsed: {version!r}")
    if (int(numbers[1]), int(numbers[2])) < OLDEST_VERSION:
        why = f"{product} {version} is older than 3.10: its quorum queues have no message TTL and no at-least-once dead lettering"
        return CheckResult(False, why, "Install RabbitMQ 3.10 or newer.")
    return CheckResult(True, f"{product} {version}")


async def topology(targets: Targets) -> CheckResult:
    pieces = await targets.pieces()
    faults = {name: piece.fault for name, piece in pieces.items() if piece.fault}
    missing_names = [name for name, fault in faults.items() if isinstance(fault, QueueMissing)]
    differing = [name for name in faults if name not in missing_names]
    why, steps = [], []
    if missing_names:
        why.append(f"missing: {', '.join(missing_names)}")
        steps.append(f"Start a worker of the mode (`saga up --mode {targets.mode}`): it declares what is missing.")
    if differing:
        why.append(f"declared differently by another version: {', '.join(differing)} ({_broker_message(faults[differing[0]])})")
        how = "a queue by `rabbitmqctl delete_queue NAME`, an exchange in the management interface"
        manual_steps = f"let the workers drain it, stop them, delete it ({how}) and start them again"
        steps.append(f"To keep every order, {manual_steps}. To delete all orders, run `saga reset --mode {targets.mode} --yes`.")
    if why:
        return CheckResult(False, "; ".join(why), " ".join(steps))
    return CheckResult(True, f"{len(pieces)} exchanges and queues exist as this version declares them{_uncompared_note(pieces)}")


def _broker_message(fault: UnsafeTopology | None) -> str:
    return str(fault).rpartition("RabbitMQ says: ")[2]


def _uncompared_note(pieces: dict[str, DeclaredObject]) -> str:
    count = sum(not piece.compared for piece in pieces.values())
    return f" ({count} of them were not compared: this user may not declare)" if count else ""


async def bindings(targets: Targets) -> CheckResult:
    """Looks for the effect of a missing binding, because AMQP cannot list bindings: a message stays in its outbox."""
    before = targets.backend.environment.now() - OVERDUE_S
    pending_outbox = {
        worker: len(await (await targets.database(worker)).pending_outbox(before, MAX_COUNTED)) for worker in targets.workers
    }
    overdue = {worker: count for worker, count in pending_outbox.items() if count}
    if not overdue:
        return CheckResult(True, f"no message has been in an outbox for more than {OVERDUE_S:g} s (AMQP cannot list bindings)")
    why = f"messages written more than {OVERDUE_S:g} s ago are still in the outbox: {_counts(overdue)}"
    step = f"Restart these workers (`saga worker {next(iter(overdue))} --mode {targets.mode}`): they declare missing bindings."
    return CheckResult(False, f"{why}. Their worker is down, or no queue is bound for them", step)


async def consumers(targets: Targets) -> CheckResult:
    pieces = await targets.pieces()
    queues = {worker: pieces[queue_of(targets.topology.prefix, worker)] for worker in targets.workers}
    existing = {worker: piece for worker, piece in queues.items() if not isinstance(piece.fault, QueueMissing)}
    if not existing:
        return CheckResult(None, "no work queue exists yet: see topology")
    unconsumed = [worker for worker, piece in existing.items() if not piece.consumers]
    if unconsumed:
        why = f"no consumer on {', '.join(existing[worker].name for worker in unconsumed)}"
        step = (
            f"Start all workers (`saga up --mode {targets.mode}`), or one (`saga worker {unconsumed[0]} --mode {targets.mode}`)."
        )
        return CheckResult(False, why, step)
    return CheckResult(True, _counts({worker: piece.consumers for worker, piece in existing.items()}))


async def dead_letters(targets: Targets) -> CheckResult:
    """Reports dead letters as a warning: dead-lettering is intended behaviour, so this is no failure of the set-up."""
    pieces = await targets.pieces()
    queues = {worker: pieces[dead_queue(queue_of(targets.topology.prefix, worker))] for worker in targets.workers}
    if all(isinstance(piece.fault, QueueMissing) for piece in queues.values()):
        return CheckResult(None, "no dead-letter queue exists yet: see topology")
    counts = {worker: piece.messages for worker, piece in queues.items() if piece.messages}
    with suppress(QueueMissing):  # the HTTP API has never run
        if api_letters := await (await targets.broker()).depth(dead_queue(queue_of(targets.topology.prefix, API))):
            counts[API] = api_letters
    if counts:
        step = f"List them with their reasons: `saga dlq list --mode {targets.mode}`."
        return CheckResult(True, f"dead letters: {_counts(counts)}", step)
    return CheckResult(True, "none")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{worker} {count}" for worker, count in counts.items())
