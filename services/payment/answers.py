"""The payment gateway's verbs and answers. A leaf that its messages and its client share."""

from enum import StrEnum


class Verb(StrEnum):
    """What the payment service asks the payment gateway."""

    AUTHORIZE = "authorize"
    VOID = "void"


class Answer(StrEnum):
    """What came back. Everything that is not a clear word of the gateway is IN_DOUBT: it may or may not have been done."""

    AUTHORIZED = "authorized"
    DECLINED = "declined"
    VOIDED = "voided"
    PENDING = "pending"  # the gateway has not decided yet: ask again
    IN_DOUBT = "in_doubt"  # time-out, 5xx, dropped connection: ask again
