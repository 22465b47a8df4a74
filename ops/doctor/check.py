"""Runs the checks concurrently, each with a timeout, and collects their results.

A check answers one question with a `CheckResult`. When a server does not answer, the check raises, and the outcome depends on the
checks that it requires: if one of them failed, this check counts as not made; if they passed, it has failed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from bootstrap.backend import GatewayUnreachable
from broker.transport import TransportError
from ops.doctor.targets import Targets
from store.protocol import StoreError

#: Seconds one check may take: longer than `broker.rabbitmq.connection.REQUEST_TIMEOUT_S`, whose error says more.
CHECK_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of a check. `ok` is None when it could not be made; `why` then gives the reason.

    `next_step`: what to do about a failure or a warning. `server_missing`: the failure is that a server does not answer."""

    ok: bool | None
    why: str = ""
    next_step: str = ""
    server_missing: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `requires`: earlier checks that must pass for it to mean anything. `next_step`: what to do without an answer."""

    name: str
    run: Callable[[Targets], Awaitable[CheckResult]]
    requires: tuple[str, ...] = ()
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class _NoAnswer:
    """The check raised or timed out."""

    why: str


async def run_checks(targets: Targets, checks: Sequence[Check], timeout_s: float = CHECK_TIMEOUT_S) -> dict[str, CheckResult]:
    """Run `checks` concurrently. Returns their results by name, in the order of `checks`."""
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
    """The result of a check without an answer: not made if a check that it requires did not pass, otherwise failed."""
    unmet = [name for name in check.requires if not earlier[name].ok]
    if unmet:
        causes = [name for name in unmet if earlier[name].ok is False] or unmet
        return CheckResult(None, f"see {' and '.join(causes)}")
    return CheckResult(False, outcome.why, check.next_step)
