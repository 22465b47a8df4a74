"""What a check found, and how checks are made together: each within its time, none in the way of another.

A check asks one question and gives a `Finding`. It need not think of servers that are away: it raises, and
whether that is a failure of its own is decided afterwards. A check whose needs have failed was not made; one whose needs are fine
and that got no answer all the same has failed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from bootstrap.backend import GatewayUnreachable
from broker.transport import TransportError
from ops.doctor.targets import Patient
from store.protocol import StoreError

#: Seconds one check may take: longer than a connection to a server that accepts and says nothing (10 s).
PATIENCE_S = 15.0


@dataclass(frozen=True, slots=True)
class Finding:
    """`ok` None: the check could not be made, `why` says the reason. `next`: the next step, for what failed or deserves a look.

    `server_missing`: the failure is that a server is not there."""

    ok: bool | None
    why: str = ""
    next: str = ""
    server_missing: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """A question to ask. `needs`: earlier checks without which it means nothing. `next`: the step when it gets no answer."""

    name: str
    ask: Callable[[Patient], Awaitable[Finding]]
    needs: tuple[str, ...] = ()
    next: str = ""


@dataclass(frozen=True, slots=True)
class _NoAnswer:
    """The check raised, or took too long."""

    why: str


async def examine(patient: Patient, plan: Sequence[Check], patience_s: float = PATIENCE_S) -> dict[str, Finding]:
    """Make every check of the plan, all at once. Gives what each found by name, in the order of the plan."""
    outcomes = await asyncio.gather(*(_ask(check, patient, patience_s) for check in plan))
    found: dict[str, Finding] = {}
    for check, outcome in zip(plan, outcomes, strict=True):
        found[check.name] = _settle(check, outcome, found) if isinstance(outcome, _NoAnswer) else outcome
    return found


async def _ask(check: Check, patient: Patient, patience_s: float) -> Finding | _NoAnswer:
    try:
        async with asyncio.timeout(patience_s):
            return await check.ask(patient)
    except (TransportError, StoreError, GatewayUnreachable) as error:
        return _NoAnswer(str(error))
    except TimeoutError:
        return _NoAnswer(f"no answer within {patience_s:g} s")


def _settle(check: Check, outcome: _NoAnswer, earlier: Mapping[str, Finding]) -> Finding:
    """What it means that a check got no answer: nothing by itself when what it needs has failed."""
    unmet = [name for name in check.needs if not earlier[name].ok]
    if unmet:
        causes = [name for name in unmet if earlier[name].ok is False] or unmet
        return Finding(None, f"see {' and '.join(causes)}")
    return Finding(False, outcome.why, check.next)
