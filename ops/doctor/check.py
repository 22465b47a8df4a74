"""What a check found, and how checks are made together: each within its time, none in the way of another.

A check asks one question and gives a `CheckResult`. It need not think of servers that are away: it raises, and
whether that is a failure of its own is decided afterwards. A check whose needs have failed was not made; one whose needs are fine
and that got no answer all the same has failed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from bootstrap.backend import GatewayUnreachable
from broker.transport import TransportError
from ops.doctor.targets import Targets
from store.protocol import StoreError

#: Seconds one check may take: longer than a connection to a server that accepts and says nothing (10 s).
CHECK_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`ok` None: the check could not be made, `why` says the reason. `next_step`: the next step, for what failed or deserves a look.

    `server_missing`: the failure is that a server is not there."""

    ok: bool | None
    why: str = ""
    next_step: str = ""
    server_missing: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """A question to ask. `requires`: earlier checks without which it means nothing. `next_step`: the step when it gets no answer."""

    name: str
    run: Callable[[Targets], Awaitable[CheckResult]]
    requires: tuple[str, ...] = ()
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class _NoAnswer:
    """The check raised, or took too long."""

    why: str


async def run_checks(targets: Targets, checks: Sequence[Check], timeout_s: float = CHECK_TIMEOUT_S) -> dict[str, CheckResult]:
    """Make every check of the plan, all at once. Gives what each found by name, in the order of the plan."""
    outcomes = await asyncio.gather(*(_run_check(check, targets, timeout_s) for check in checks))
    results: dict[str, CheckResult] = {}
    for check, outcome in zip(checks, outcomes, strict=True):
        results[check.name] = _interpret(check, outcome, results) if isinstance(outcome, _NoAnswer) else outcome
    return results


async def _run_check(check: Check, targets: Targets, timeout_s: float) -> CheckResult | _NoAnswer:
    try:
        async with asyncio.timeout(timeout_s):
            return await check.run(targets)
    except (TransportError, StoreError, GatewayUnreachable) as error:
        return _NoAnswer(str(error))
    except TimeoutError:
        return _NoAnswer(f"no answer within {timeout_s:g} s")


def _interpret(check: Check, outcome: _NoAnswer, earlier: Mapping[str, CheckResult]) -> CheckResult:
    """What it means that a check got no answer: nothing by itself when what it needs has failed."""
    unmet = [name for name in check.requires if not earlier[name].ok]
    if unmet:
        causes = [name for name in unmet if earlier[name].ok is False] or unmet
        return CheckResult(None, f"see {' and '.join(causes)}")
    return CheckResult(False, outcome.why, check.next_step)
