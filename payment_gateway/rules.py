"""The decisions of the payment gateway, as pure functions of (what is stored under the key, the call, the time).

No storage, no transport, no clock. Two rules make it safe to repeat a call: a known key gets its present answer, and a void is
final, also for a key that was never seen (an authorization that arrives later is answered "voided").
"""

from dataclasses import dataclass, replace
from enum import Enum, StrEnum


class AuthorizationState(StrEnum):
    """The state of a payment. Its amount is held while it is AUTHORIZED; a PENDING one may still become so."""

    AUTHORIZED = "authorized"
    DECLINED = "declined"
    PENDING = "pending"  # not decided yet; becomes AUTHORIZED by itself after a while
    VOIDED = "voided"  # final


class GatewayFault(StrEnum):
    """The failures that a caller may inject. The first six act on authorizations only, the last on voids only."""

    DECLINED = "declined"  # the first authorization of a key is declined
    PENDING = "pending"  # the first authorization is pending, and settles later
    HANG = "hang"  # recorded, but authorizations of this key are not answered
    DROP = "drop"  # recorded, but the connection is dropped before each answer
    ERROR = "error"  # every authorization fails (5xx), nothing is recorded
    SLOW = "slow"  # the right answer, after a delay
    VOID_ERROR = "void_error"  # every void fails (5xx), nothing is recorded


class ResponseMode(Enum):
    """How a call is answered."""

    IMMEDIATE = "at once"
    LATE = "late"
    NEVER = "never"  # keep the connection open without an answer
    DROPPED = "dropped"  # close the connection without an answer
    FAILED = "failed"  # 5xx
    MISMATCH = "mismatch"  # the caller's error: this key belongs to another amount


@dataclass(frozen=True, slots=True)
class PaymentRecord:
    """The payment stored under one key. `settles_at`: when a PENDING one becomes AUTHORIZED, in seconds of the clock of `Books`.

    A void of a key that was never seen has no amount."""

    state: AuthorizationState
    amount_cents: int | None = None
    currency: str | None = None
    settles_at: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of one call: how to answer and what, the record to store first (None: none), the failure that acted."""

    response_mode: ResponseMode
    answer: AuthorizationState | None = None
    record: PaymentRecord | None = None
    acted: GatewayFault | None = None


def current(payment: PaymentRecord, now: float) -> PaymentRecord:
    """The payment as it is at `now`: a pending one may have settled."""
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
    """Decide on an authorization: a new key is decided, a known one gets its present answer."""
    if fault is GatewayFault.ERROR:
        return Decision(ResponseMode.FAILED, acted=fault)
    if known is None:
        record = _decided_payment(amount_cents, currency, fault, now + settle_after_s)
        return Decision(
            _response_mode(fault), record.state, record=record, acted=None if fault is GatewayFault.VOID_ERROR else fault
        )
    if known.amount_cents is not None and (known.amount_cents, known.currency) != (amount_cents, currency):
        return Decision(ResponseMode.MISMATCH)
    response_mode = _response_mode(fault)
    return Decision(response_mode, current(known, now).state, acted=None if response_mode is ResponseMode.IMMEDIATE else fault)


def void(known: PaymentRecord | None, fault: GatewayFault | None) -> Decision:
    """Decide on a void: the key is voided for good, whatever is stored under it."""
    if fault is GatewayFault.VOID_ERROR:
        return Decision(ResponseMode.FAILED, acted=fault)
    if known is None:
        return Decision(ResponseMode.IMMEDIATE, AuthorizationState.VOIDED, record=PaymentRecord(AuthorizationState.VOIDED))
    if known.state is AuthorizationState.VOIDED:
        return Decision(ResponseMode.IMMEDIATE, AuthorizationState.VOIDED)
    return Decision(
        ResponseMode.IMMEDIATE, AuthorizationState.VOIDED, record=replace(known, state=AuthorizationState.VOIDED, settles_at=None)
    )


def _decided_payment(amount_cents: int, currency: str, fault: GatewayFault | None, settles_at: float) -> PaymentRecord:
    """The record of a key's first authorization: authorized, unless an injected failure changes that."""
    if fault is GatewayFault.DECLINED:
        return PaymentRecord(AuthorizationState.DECLINED, amount_cents, currency)
    if fault is GatewayFault.PENDING:
        return PaymentRecord(AuthorizationState.PENDING, amount_cents, currency, settles_at)
    return PaymentRecord(AuthorizationState.AUTHORIZED, amount_cents, currency)


def _response_mode(fault: GatewayFault | None) -> ResponseMode:
    """How authorizations are answered under an injected failure, first and repeated ones alike."""
    if fault is GatewayFault.HANG:
        return ResponseMode.NEVER
    if fault is GatewayFault.DROP:
        return ResponseMode.DROPPED
    if fault is GatewayFault.SLOW:
        return ResponseMode.LATE
    return ResponseMode.IMMEDIATE
