"""What the payment gateway answers and what it records: pure functions of (what is known of the key, the call, the time).

No storage, no transport, no clock. The rules that make a payment safe to ask for are here: a known key gets its
present answer, and a void is final, for a key never seen as well (the authorization that comes after it is answered "voided").
"""

from dataclasses import dataclass, replace
from enum import Enum, StrEnum


class State(StrEnum):
    """Where a payment stands. Amounts count as held while AUTHORIZED, and may become so while PENDING."""

    AUTHORIZED = "authorized"
    DECLINED = "declined"
    PENDING = "pending"  # not decided yet; becomes AUTHORIZED by itself
    VOIDED = "voided"  # final


class Failure(StrEnum):
    """What a caller may ask to go wrong. The first six act on authorizations only, the last on voids only."""

    DECLINED = "declined"  # the first authorization of a key is declined
    PENDING = "pending"  # the first authorization is pending, and settles later
    HANG = "hang"  # recorded, but no authorization of this key is ever answered
    DROP = "drop"  # recorded, but the connection is dropped before any answer, however often it is asked
    ERROR = "error"  # every authorization fails (5xx), nothing is recorded
    SLOW = "slow"  # the right answer, late
    VOID_ERROR = "void_error"  # every void fails (5xx), nothing is recorded


class Manner(Enum):
    """How the answer is to be given."""

    AT_ONCE = "at once"
    LATE = "late"
    NEVER = "never"  # keep the caller waiting
    DROPPED = "dropped"  # close the connection without a word
    FAILED = "failed"  # 5xx
    MISMATCH = "mismatch"  # the caller's error: this key belongs to another amount


@dataclass(frozen=True, slots=True)
class Payment:
    """What is recorded under one key. `settles_at`: when a PENDING one becomes AUTHORIZED, in seconds of the caller's clock.

    A void of a key never seen has no amount."""

    state: State
    amount_cents: int | None = None
    currency: str | None = None
    settles_at: float | None = None


@dataclass(frozen=True, slots=True)
class Ruling:
    """The outcome of one call: an answer and its manner, what to record first (None: nothing), which failure acted."""

    manner: Manner
    answer: State | None = None
    record: Payment | None = None
    acted: Failure | None = None


def present(payment: Payment, now: float) -> Payment:
    """The payment as it stands at `now`: a pending one may have settled meanwhile."""
    if payment.settles_at is not None and payment.settles_at <= now:
        return replace(payment, state=State.AUTHORIZED, settles_at=None)
    return payment


def authorize(
    known: Payment | None, amount_cents: int, currency: str, failure: Failure | None, *, now: float, settle_after_s: float
) -> Ruling:
    """Rule on an authorization: a new key gets its decision, a known one its present answer."""
    if failure is Failure.ERROR:
        return Ruling(Manner.FAILED, acted=failure)
    if known is None:
        decided = _decision(amount_cents, currency, failure, now + settle_after_s)
        return Ruling(_manner(failure), decided.state, record=decided, acted=None if failure is Failure.VOID_ERROR else failure)
    if known.amount_cents is not None and (known.amount_cents, known.currency) != (amount_cents, currency):
        return Ruling(Manner.MISMATCH)
    manner = _manner(failure)
    return Ruling(manner, present(known, now).state, acted=None if manner is Manner.AT_ONCE else failure)


def void(known: Payment | None, failure: Failure | None) -> Ruling:
    """Rule on a void: whatever was there, and if nothing was, it is voided for ever."""
    if failure is Failure.VOID_ERROR:
        return Ruling(Manner.FAILED, acted=failure)
    if known is None:
        return Ruling(Manner.AT_ONCE, State.VOIDED, record=Payment(State.VOIDED))
    if known.state is State.VOIDED:
        return Ruling(Manner.AT_ONCE, State.VOIDED)
    return Ruling(Manner.AT_ONCE, State.VOIDED, record=replace(known, state=State.VOIDED, settles_at=None))


def _decision(amount_cents: int, currency: str, failure: Failure | None, settles_at: float) -> Payment:
    """What a key's first authorization becomes: authorized, unless an injected failure says otherwise."""
    if failure is Failure.DECLINED:
        return Payment(State.DECLINED, amount_cents, currency)
    if failure is Failure.PENDING:
        return Payment(State.PENDING, amount_cents, currency, settles_at)
    return Payment(State.AUTHORIZED, amount_cents, currency)


def _manner(failure: Failure | None) -> Manner:
    """What a failure does to the answer of every authorization, the first and the repeated."""
    if failure is Failure.HANG:
        return Manner.NEVER
    if failure is Failure.DROP:
        return Manner.DROPPED
    if failure is Failure.SLOW:
        return Manner.LATE
    return Manner.AT_ONCE
