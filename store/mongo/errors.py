"""Translation of the errors of MongoDB and its driver into `StoreError`s, which say what is known about the commit."""

import asyncio
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Final

from bson.errors import BSONError
from pymongo.errors import (
    ConnectionFailure,
    InvalidName,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

from store.protocol import DataRefused, StoreError, StoreUnavailable, UserRefused, WriteConflict

# The server's error codes (mongo/src/mongo/base/error_codes.yml).
DUPLICATE_KEY = 11000
#: WriteConflict, SnapshotUnavailable, NoSuchTransaction: the transaction is aborted; another attempt may succeed.
CONFLICTS: Final = frozenset({112, 246, 251})
#: BadValue, FailedToParse, Overflow, DollarPrefixedFieldName, EmptyFieldName, DottedFieldName, ImmutableField,
#: DocumentValidationFailure, BSONObjectTooLarge, KeyTooLong: the data is at fault, so a retry does not help.
REFUSALS: Final = frozenset({2, 9, 15, 52, 56, 57, 66, 121, 10334, 17280})
#: Interrupted: the session of this call was ended by another client.
INTERRUPTED: Final = 11601
#: Unauthorized, AuthenticationFailed.
ACCESS_DENIED: Final = frozenset({13, 18})
#: Raised by the driver for values that it cannot encode; nesting that is too deep is a RecursionError.
UNENCODABLE: Final = (BSONError, OverflowError, UnicodeEncodeError, RecursionError, InvalidName)


class ConnectionLost(StoreUnavailable):
    """The connection was lost inside a transaction, before its commit was requested."""


class Interrupted(StoreUnavailable):
    """The server interrupted this call: another client has ended its session."""


class DuplicateKey(WriteConflict):
    """A key that must be new exists already. For a document it is a write conflict; inbox and outbox raise their own error."""


class MissingCollections(Exception):  # noqa: N818 - not an error: create them, then repeat
    """The transaction would write to collections that may not exist yet."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(names)
        self.names = names


@contextmanager
def translate_errors(lost: type[StoreError]) -> Iterator[None]:
    """Translate what the driver raises in this context. `lost`: the error for a connection that is lost during a call."""
    try:
        yield
    except UNENCODABLE as error:
        msg = f"{type(error).__name__}: {error!s:.300}"
        raise DataRefused(msg) from error
    except (ServerSelectionTimeoutError, WaitQueueTimeoutError) as error:
        msg = f"no usable server: {_error_text(error)}"
        raise StoreUnavailable(msg) from error
    except ConnectionFailure as error:
        raise lost(_error_text(error)) from error
    except OperationFailure as error:
        raise _translate(error) from error
    except PyMongoError as error:
        raise StoreUnavailable(_error_text(error)) from error
    except asyncio.CancelledError as error:
        if not is_driver_cancellation():
            raise
        raise lost("the driver cancelled this call by itself") from error


def _error_text(error: PyMongoError) -> str:
    """The driver's message without its timeouts and its description of the topology."""
    return re.sub(r" \(configured timeouts:[^)]*\)", "", str(error)).partition(", Timeout: ")[0][:300]


def _translate(error: OperationFailure) -> StoreError:
    """The error for a command that the server refused. StoreUnavailable unless it is known to be permanent."""
    details = error.details or {}
    codes = {error.code, *(write.get("code") for write in details.get("writeErrors", ()))}
    text = f"{error!s:.300}"
    if DUPLICATE_KEY in codes:
        return DuplicateKey(text)
    if codes & CONFLICTS or error.has_error_label("TransientTransactionError"):
        return WriteConflict(text)
    if codes & REFUSALS:
        return DataRefused(text)
    if INTERRUPTED in codes:
        return Interrupted(text)
    if codes & ACCESS_DENIED:
        return UserRefused(f"{details.get('errmsg', text)}. Check the user, its password, its roles and authSource in the URL")
    return StoreUnavailable(text)


def is_driver_cancellation() -> bool:
    """Whether a CancelledError comes from the driver: then this task itself was not cancelled."""
    task = asyncio.current_task()
    return task is None or task.cancelling() == 0
