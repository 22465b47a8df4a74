"""What an error of MongoDB or its driver means: which `StoreError`, and so what is known of what was written.

Every call of the driver is made within `translate_errors`, so that nothing of its own is raised by the store.
"""

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
#: WriteConflict, SnapshotUnavailable, NoSuchTransaction: the transaction is aborted, another may succeed.
CONFLICTS: Final = frozenset({112, 246, 251})
#: BadValue, FailedToParse, Overflow, DollarPrefixedFieldName, EmptyFieldName, DottedFieldName, ImmutableField,
#: DocumentValidationFailure, BSONObjectTooLarge, KeyTooLong: the data is at fault and always will be.
REFUSALS: Final = frozenset({2, 9, 15, 52, 56, 57, 66, 121, 10334, 17280})
#: Interrupted: somebody ended the session that this was in.
INTERRUPTED: Final = 11601
#: Unauthorized, AuthenticationFailed.
ACCESS_DENIED: Final = frozenset({13, 18})
#: What the driver raises for values that have no encoding; too deep a nesting is a RecursionError.
UNENCODABLE: Final = (BSONError, OverflowError, UnicodeEncodeError, RecursionError, InvalidName)


class ConnectionLost(StoreUnavailable):
    """The connection was lost inside a transaction, before its commit was asked for."""


class Interrupted(StoreUnavailable):
    """Somebody ended this call at the server."""


class DuplicateKey(WriteConflict):
    """A key that must be new was there. For a document it is a write conflict; inbox and outbox give it their own meaning."""


class MissingCollections(Exception):  # noqa: N818 - not an error: do this first
    """The transaction would write to collections that do not exist yet."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(names)
        self.names = names


@contextmanager
def translate_errors(lost: type[StoreError]) -> Iterator[None]:
    """Turn what the driver raises into what is known. `lost` is what a connection lost in the middle of a call means here."""
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
        raise lost("the driver gave up although nobody cancelled this call") from error


def _error_text(error: PyMongoError) -> str:
    """What the driver says, without its timeouts and its picture of the servers."""
    return re.sub(r" \(configured timeouts:[^)]*\)", "", str(error)).partition(", Timeout: ")[0][:300]


def _translate(error: OperationFailure) -> StoreError:
    """What it means that the server said no. Anything that is not known to be for ever is worth another try later."""
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
    """Whether a cancellation came from inside the driver: nobody asked this task to stop."""
    task = asyncio.current_task()
    return task is None or task.cancelling() == 0
