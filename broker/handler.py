"""What a handler is: a pure function of (message, documents, context) that returns an outcome. The loop does everything else.

Services write handlers against this page only: no broker, no database, no clock of their own. Because a handler
is pure, the loop may run it again after a write conflict, and a test may run it without anything around it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from broker.message import Message
from store.document import Document, Key, Record

D = TypeVar("D", bound=Document)


class ProtocolViolation(Exception):  # noqa: N818 - it names what happened
    """A message that no run of the protocol can produce in this state: forged, or a bug. A dead letter at once, never retried."""


class Documents:
    """The documents a batch has read and changed so far, one object for each key (an identity map).

    Asking for a document that was never declared in `required_keys` is a bug of the handler and says so; a declared one that does not
    exist is None."""

    def __init__(self) -> None:
        self._records: dict[Key, Record | None] = {}
        self._documents: dict[Key, Document] = {}
        self._versions: dict[Key, int] = {}

    def not_loaded(self, keys: Iterable[Key]) -> set[Key]:
        return {key for key in keys if key not in self._records}

    def add(self, keys: Iterable[Key], found: Mapping[Key, Record]) -> None:
        """Remember what a query for `keys` found, and that the others do not exist."""
        for key in keys:
            self._records[key] = found.get(key)

    def get(self, kind: type[D], document_id: str) -> D | None:
        """The document as it stands now, None if there is none. Raises LookupError if the handler's `required_keys` did not name it."""
        key = kind.key_of(document_id)
        document = self._documents.get(key)
        if document is None:
            if key not in self._records:
                msg = f"{kind.__name__} {document_id} was not declared in the handler's reads"
                raise LookupError(msg)
            record = self._records[key]
            if record is None:
                return None
            document = self._documents[key] = kind.from_body(record.body)
        assert isinstance(document, kind)  # noqa: S101 - one collection holds one kind of document
        return document

    def get_if_loaded(self, kind: type[D], document_id: str) -> D | None:
        """Like `get`, for use in `required_keys`: None also while the document has not been read yet."""
        return self.get(kind, document_id) if kind.key_of(document_id) in self._records else None

    def put(self, document: Document) -> None:
        self._documents[document.key] = document

    def loaded_version(self, key: Key) -> int:
        """The stored version that this batch read; 0 for a document that did not exist."""
        record = self._records.get(key)
        return record.version if record else 0


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler may know besides its message and documents. `now` is in seconds since the epoch.

    `injected` is the failure that somebody asked for at this service for this order (`out_of_stock`, say), or None: a handler
    that can refuse treats it as one more reason to."""

    now: float
    injected: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a handler wants: documents written, messages published after the commit, calls made to the outside after it."""

    documents: tuple[Document, ...] = ()
    messages: tuple[Message, ...] = ()
    calls: tuple["Call", ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """A call to the outside, made after the commit and outside the loop; its answer comes back as an input for the same order.

    `order_id` names the order it is for. A service subclasses it with what its client needs."""

    order_id: str


NOTHING = Outcome()

RequiredKeys = Callable[[Any, Documents], Iterable[Key]]
Handle = Callable[[Any, Documents, Context], Outcome]


@dataclass(frozen=True, slots=True)
class Handler:
    """How one message type is handled.

    `required_keys` names the documents needed. It is asked again after they were read, because one document may name others (a
    reservation its stock lines), until it names nothing new. `compensates` says that giving up is worse than waiting: such a
    message has the longer retry budget."""

    required_keys: RequiredKeys
    handle: Handle
    compensates: bool = False
