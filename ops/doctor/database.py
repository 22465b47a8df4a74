"""Checks of the database: reachable, open to this user, transactional, durable, and with a clock that agrees.

They are the checks that a worker makes at its start (a probe is written to outbox and inbox and removed again), and the clock
differences that the workers recorded then.
"""

from contextlib import suppress

from ops.doctor.check import CheckResult
from ops.doctor.port_probe import diagnose_missing
from ops.doctor.targets import Targets
from services.payment.domain import PaymentTimeouts
from store.mongo.preflight import check_durable, check_inbox_key, check_transactions, check_user, clock_ahead_s
from store.protocol import NoPrimary, NoReplicaSet, StoreUnavailable, UnsafeStore, UserRefused

#: Seconds two clocks may differ: half of the shortest business wait, the interval at which payment polls the gateway.
MAX_CLOCK_SKEW_S = PaymentTimeouts().poll_interval_s / 2


async def reachable(targets: Targets) -> CheckResult:
    """Reports a server that refuses this user or accepts no writes as reachable; `user` and `replica_set` report the rest."""
    try:
        connection = targets.store().connection
    except UnsafeStore as error:
        return CheckResult(False, str(error), "Correct SAGA_STORE_URL.")
    try:
        await targets.database()
    except (NoPrimary, NoReplicaSet, UserRefused):
        return CheckResult(True, "it answers")
    except StoreUnavailable as error:
        step = "Start MongoDB (`make up` starts a server that speaks its protocol), or set SAGA_STORE_URL."
        message = str(error).partition(" (configured")[0].partition(", Timeout:")[0]  # the driver appends a long topology dump
        return await diagnose_missing(
            "database", f"no database answers at {connection.host}: {message}", targets.backend.store_url, step
        )
    return CheckResult(True, "it answers")


async def user(targets: Targets) -> CheckResult:
    try:
        with suppress(NoReplicaSet):
            await targets.database()
        await check_user(targets.store().connection)
    except NoPrimary:
        return CheckResult(None, "there is no primary to ask")
    except UserRefused as error:
        return CheckResult(False, str(error), "Correct user, password and authSource in SAGA_STORE_URL.")
    return CheckResult(True, "this user may read")


async def replica_set(targets: Targets) -> CheckResult:
    try:
        await targets.database()
    except (NoPrimary, NoReplicaSet) as error:
        message, _, step = str(error).partition(". ")
        return CheckResult(False, message, f"{step}.")
    return CheckResult(True, "it has a primary")


async def transactions(targets: Targets) -> CheckResult:
    await check_transactions((await targets.database()).connection)
    return CheckResult(True, "an aborted transaction left nothing")


async def durable_commits(targets: Targets) -> CheckResult:
    """Checks what the URL requests. Whether the server really syncs to disk cannot be seen by a client."""
    try:
        connection = targets.store().connection
    except UnsafeStore:
        return CheckResult(None, "the database's URL cannot be used")
    try:
        check_durable(connection)
    except UnsafeStore as error:
        return CheckResult(False, str(error), "Remove that option from SAGA_STORE_URL: the default is the safe value.")
    return CheckResult(True, "the URL requests majority and journal")


async def inbox_key(targets: Targets) -> CheckResult:
    for worker in targets.workers:
        await check_inbox_key((await targets.database(worker)).connection)
    return CheckResult(True, "unique in the database of each worker")


async def clock(targets: Targets) -> CheckResult:
    ahead_s = await clock_ahead_s((await targets.database()).connection, targets.backend.environment.now)
    if ahead_s is None:
        return CheckResult(None, "the database does not report its time")
    if abs(ahead_s) > MAX_CLOCK_SKEW_S:
        where = "ahead of" if ahead_s > 0 else "behind"
        why = f"this machine's clock is {abs(ahead_s):.1f} s {where} the database's"
        return CheckResult(False, why, "Synchronise the clocks of both machines, for example by NTP.")
    return CheckResult(True, f"{abs(ahead_s):.3f} s apart")


async def worker_clocks(targets: Targets) -> CheckResult:
    """Compares the skews that the workers measured against the database's clock when they started."""
    announcements = await targets.announcements()
    measured = {name: record.body.get("clock_ahead_s") for name, record in announcements.items()}
    ahead_s = {name: skew_s for name, skew_s in measured.items() if skew_s is not None}
    if not ahead_s:
        return CheckResult(None, "no worker has reported its clock: none has started yet")
    slow, fast = min(ahead_s, key=ahead_s.__getitem__), max(ahead_s, key=ahead_s.__getitem__)
    apart_s = ahead_s[fast] - ahead_s[slow]
    if apart_s > MAX_CLOCK_SKEW_S:
        why = f"the clock of {fast} was {apart_s:.1f} s ahead of {slow}'s when they started"
        return CheckResult(False, why, "Synchronise the clocks of their machines, for example by NTP, and restart the workers.")
    return CheckResult(True, f"{len(ahead_s)} workers, at most {apart_s:.3f} s apart when they started")
