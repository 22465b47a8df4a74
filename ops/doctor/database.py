"""Checks of the database, made with the store's own: there, open to this user, transactional, durable, and on time.

They write a probe into the outbox and the inbox and remove it again, as a worker does when it starts.
"""

from contextlib import suppress

from ops.doctor.check import Finding
from ops.doctor.port_probe import missing
from ops.doctor.targets import Patient
from store.mongo.preflight import check_durable, check_inbox_key, check_transactions, check_user, clock_ahead_s
from store.protocol import NoPrimary, NoReplicaSet, StoreUnavailable, UnsafeStore, UserRefused

#: Seconds two clocks may differ: half of the shortest business wait (a payment is looked at again after 2 s).
CLOCKS_MAY_DIFFER_S = 1.0


async def reachable(patient: Patient) -> Finding:
    """A server that refuses this user, or takes no writes, is there."""
    try:
        connection = patient.store().connection
    except UnsafeStore as error:
        return Finding(False, str(error), "Correct SAGA_STORE_URL.")
    try:
        await patient.database()
    except (NoPrimary, NoReplicaSet, UserRefused):
        return Finding(True, "it answers")
    except StoreUnavailable as error:
        step = "Start MongoDB (`make up` starts a server that speaks its protocol), or set SAGA_STORE_URL."
        said = str(error).partition(" (configured")[0].partition(", Timeout:")[0]  # the driver goes on for long
        return await missing("database", f"no database answers at {connection.host}: {said}", patient.parts.store_url, step)
    return Finding(True, "it answers")


async def user(patient: Patient) -> Finding:
    try:
        with suppress(NoReplicaSet):
            await patient.database()
        await check_user(patient.store().connection)
    except NoPrimary:
        return Finding(None, "no primary can be asked")
    except UserRefused as error:
        return Finding(False, str(error), "Correct user, password and authSource in SAGA_STORE_URL.")
    return Finding(True, "it may read")


async def replica_set(patient: Patient) -> Finding:
    try:
        await patient.database()
    except (NoPrimary, NoReplicaSet) as error:
        said, _, step = str(error).partition(". ")
        return Finding(False, said, f"{step}.")
    return Finding(True, "with a primary")


async def transactions(patient: Patient) -> Finding:
    await check_transactions((await patient.database()).connection)
    return Finding(True, "an aborted one left nothing")


async def durable_commits(patient: Patient) -> Finding:
    """By what the URL asks for; how well a server keeps its word cannot be seen from here."""
    try:
        connection = patient.store().connection
    except UnsafeStore:
        return Finding(None, "the database's URL cannot be used")
    try:
        check_durable(connection)
    except UnsafeStore as error:
        return Finding(False, str(error), "Take that option out of SAGA_STORE_URL: silence means the safe value.")
    return Finding(True, "majority and journal are asked for")


async def inbox_key(patient: Patient) -> Finding:
    for worker in patient.workers:
        await check_inbox_key((await patient.database(worker)).connection)
    return Finding(True, "a key is taken once, in the database of each worker")


async def clock(patient: Patient) -> Finding:
    ahead_s = await clock_ahead_s((await patient.database()).connection, patient.parts.sources.now)
    if ahead_s is None:
        return Finding(None, "the database does not say what time it is")
    if abs(ahead_s) > CLOCKS_MAY_DIFFER_S:
        where = "ahead of" if ahead_s > 0 else "behind"
        why = f"this machine's clock is {abs(ahead_s):.1f} s {where} the database's"
        return Finding(False, why, "Synchronise the clocks of both machines (NTP).")
    return Finding(True, f"{abs(ahead_s):.3f} s apart")


async def workers_clocks(patient: Patient) -> Finding:
    """By what each worker measured against the database's clock when it started."""
    announced = await patient.announced()
    told = {name: record.body.get("clock_ahead_s") for name, record in announced.items()}
    ahead_s = {name: off_s for name, off_s in told.items() if off_s is not None}
    if not ahead_s:
        return Finding(None, "no worker has said how its clock goes: none has started yet")
    slow, fast = min(ahead_s, key=ahead_s.__getitem__), max(ahead_s, key=ahead_s.__getitem__)
    apart_s = ahead_s[fast] - ahead_s[slow]
    if apart_s > CLOCKS_MAY_DIFFER_S:
        why = f"the clock of {fast} was {apart_s:.1f} s ahead of {slow}'s when they started"
        return Finding(False, why, "Synchronise the clocks of their machines (NTP) and restart them.")
    return Finding(True, f"{len(ahead_s)} workers, at most {apart_s:.3f} s apart when they started")
