"""Message handlers: pure functions of (message, documents, context) that return an outcome. The loop does everything else.

This module is all that a service needs to write handlers: no broker, no database, no clock of its own. Because a handler is pure,
the loop may run it again after a write conflict, and a test may call it directly.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from broker.message import Message
from store.document import Document, Key, Record

D = TypeVar("D", bound=Document)


class ProtocolViolation(Exception):  # noqa: N818 - it names what happened
    """A message that the protocol cannot produce in this state: forged, or a bug. Dead-lettered at once, never retried."""


class Documents:
    """The documents that a batch has read and changed so far, one object for each key (an identity map).

    A document that exists under a key named in `required_keys` can be read; one that does not exist is None. Reading under any
    other key is a bug of the handler and raises LookupError."""

    def __init__(self) -> None:
        self._records: dict[Key, Record | None] = {}
        self._documents: dict[Key, Document] = {}
        self._versions: dict[Key, int] = {}

    def not_loaded(self, keys: Iterable[Key]) -> set[Key]:
        return {key for key in keys if key not in self._records}

    def add(self, keys: Iterable[Key], found: Mapping[Key, Record]) -> None:
        """Record the result of a query for `keys`; keys that are not in `found` do not exist."""
        for key in keys:
            self._records[key] = found.get(key)

    def get(self, kind: type[D], document_id: str) -> D | None:
        """Return the current document, or None. Raises LookupError if the handler's `required_keys` did not name its key."""
        key = kind.key_of(document_id)
        document = self._documents.get(key)
        if document is None:
            if key not in self._records:
                msg = f"{kind.__name__} {document_id} was not loaded: name its key in the handler's required_keys"
                raise LookupError(msg)
            record = self._records[key]
            if record is None:
                return None
            document = self._documents[key] = kind.from_body(record.body)
        assert isinstance(document, kind)  # noqa: S101 - one collection holds one kind of document
        return document

    def get_if_loaded(self, kind: type[D], document_id: str) -> D | None:
        """Like `get`, for use in `required_keys`: None also while the document is not loaded yet."""
        return self.get(kind, document_id) if kind.key_of(document_id) in self._records else None

    def put(self, document: Document) -> None:
        self._documents[document.key] = document

    def loaded_version(self, key: Key) -> int:
        """Return the stored version that this batch read; 0 for a document that did not exist."""
        record = self._records.get(key)
        return record.version if record else 0


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler knows besides its message and documents. `now` is in seconds since the epoch.

    `injected` is the fault requested at this service for this order (such as `out_of_stock`), or None. A handler that can refuse
    treats it as one more reason to do so."""

    now: float
    injected: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a handler: documents to write, and messages to publish and external calls to make after the commit."""

    documents: tuple[Document, ...] = ()
    messages: tuple[Message, ...] = ()
    calls: tuple["Call", ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """An external call, made after the commit and outside the loop; its answer becomes an input for the same order.

    A service subclasses it with the fields that its client needs."""

    order_id: str


NOTHING = Outcome()

RequiredKeys = Callable[[Any, Documents], Iterable[Key]]
Handle = Callable[[Any, Documents, Context], Outcome]


@dataclass(frozen=True, slots=True)
class Handler:
    """Handling of one message type.

    `required_keys` returns the keys of the documents needed. It is called again after they were read, until it names no new key,
    because one document may name others (a reservation names its stock lines). `must_not_fail` gives the message the longer retry
    budget; set it for compensations and other steps that must not fail."""

    required_keys: RequiredKeys
    handle: Handle
    must_not_fail: bool = False
