"""What the payment gateway answers and what it records: pure functions of (what is known of the key, the call, the time).

No storage, no transport, no clock. The rules that make a payment safe to ask for are here: a known key gets its
present answer, and a void is final, for a key never seen as well (the authorization that comes after it is answered "voided").
"""

from dataclasses import dataclass, replace
from enum import Enum, StrEnum


class AuthorizationState(StrEnum):
    """Where a payment stands. Amounts count as held while AUTHORIZED, and may become so while PENDING."""

    AUTHORIZED = "authorized"
    DECLINED = "declined"
    PENDING = "pending"  # not decided yet; becomes AUTHORIZED by itself
    VOIDED = "voided"  # final


class GatewayFault(StrEnum):
    """What a caller may ask to go wrong. The first six act on authorizations only, the last on voids only."""

    DECLINED = "declined"  # the first authorization of a key is declined
    PENDING = "pending"  # the first authorization is pending, and settles later
    HANG = "hang"  # recorded, but no authorization of this key is ever answered
    DROP = "drop"  # recorded, but the connection is dropped before any answer, however often it is asked
    ERROR = "error"  # every authorization fails (5xx), nothing is recorded
    SLOW = "slow"  # the right answer, late
    VOID_ERROR = "void_error"  # every void fails (5xx), nothing is recorded


class ResponseMode(Enum):
    """How the answer is to be given."""

    IMMEDIATE = "at once"
    LATE = "late"
    NEVER = "never"  # keep the caller waiting
    DROPPED = "dropped"  # close the connection without a word
    FAILED = "failed"  # 5xx
    MISMATCH = "mismatch"  # the caller's error: this key belongs to another amount


@dataclass(frozen=True, slots=True)
class PaymentRecord:
    """What is recorded under one key. `settles_at`: when a PENDING one becomes AUTHORIZED, in seconds of the caller's clock.

    A void of a key never seen has no amount."""

    state: AuthorizationState
    amount_cents: int | None = None
    currency: str | None = None
    settles_at: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of one call: an answer and its manner, what to record first (None: nothing), which failure acted."""

    response_mode: ResponseMode
    answer: AuthorizationState | None = None
    record: PaymentRecord | None = None
    acted: GatewayFault | None = None


def current(payment: PaymentRecord, now: float) -> PaymentRecord:
    """The payment as it stands at `now`: a pending one may have settled meanwhile."""
    if payment.settles_at is not None and payment.settles_at <= now:
        return replace(payment, state=AuthorizationState.AUTHORIZED, settles_at=None)
    return payment


def authorize(
    known: PaymentRecord | None,
    amount_cents: int,
    currency: str,
    fault: GatewayFault | None,
    *,
    now: float,
    settle_after_s: float,
) -> Decision:
    """Rule on an authorization: a new key gets its decision, a known one its present answer."""
    if fault is GatewayFault.ERROR:
        return Decision(ResponseMode.FAILED, acted=fault)
    if known is None:
        record = _decision(amount_cents, currency, fault, now + settle_after_s)
        return Decision(
            _response_mode(fault), record.state, record=record, acted=None if fault is GatewayFault.VOID_ERROR else fault
        )
    if known.amount_cents is not None and (known.amount_cents, known.currency) != (amount_cents, currency):
        return Decision(ResponseMode.MISMATCH)
    response_mode = _response_mode(fault)
    return Decision(response_mode, current(known, now).state, acted=None if response_mode is ResponseMode.IMMEDIATE else fault)


def void(known: PaymentRecord | None, fault: GatewayFault | None) -> Decision:
    """Rule on a void: whatever was there, and if nothing was, it is voided for ever."""
    if fault is GatewayFault.VOID_ERROR:
        return Decision(ResponseMode.FAILED, acted=fault)
    if known is None:
        return Decision(ResponseMode.IMMEDIATE, AuthorizationState.VOIDED, record=PaymentRecord(AuthorizationState.VOIDED))
    if known.state is AuthorizationState.VOIDED:
        return Decision(ResponseMode.IMMEDIATE, AuthorizationState.VOIDED)
    return Decision(
        ResponseMode.IMMEDIATE, AuthorizationState.VOIDED, record=replace(known, state=AuthorizationState.VOIDED, settles_at=None)
    )


def _decision(amount_cents: int, currency: str, fault: GatewayFault | None, settles_at: float) -> PaymentRecord:
    """What a key's first authorization becomes: authorized, unless an injected failure says otherwise."""
    if fault is GatewayFault.DECLINED:
        return PaymentRecord(AuthorizationState.DECLINED, amount_cents, currency)
    if fault is GatewayFault.PENDING:
        return PaymentRecord(AuthorizationState.PENDING, amount_cents, currency, settles_at)
    return PaymentRecord(AuthorizationState.AUTHORIZED, amount_cents, currency)


def _response_mode(fault: GatewayFault | None) -> ResponseMode:
    """What a failure does to the answer of every authorization, the first and the repeated."""
    if fault is GatewayFault.HANG:
        return ResponseMode.NEVER
    if fault is GatewayFault.DROP:
        return ResponseMode.DROPPED
    if fault is GatewayFault.SLOW:
        return ResponseMode.LATE
    return ResponseMode.IMMEDIATE
