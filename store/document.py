"""A document: what a service remembers about one thing, frozen, and known by one id.

where an effect is written. Services subclass `Document`; the store itself sees only `Record`, an opaque body
with an id and a version, so it never needs to know what an order is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

#: A collection and a document id in it.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Record:
    """One stored document as the store sees it.

    `body` holds JSON-like values only. Two of its fields mean something to the store and its watchers: `due_at` (seconds since
    the epoch; present only while the document waits for something, and indexed) and `context` (what travelled in the headers
    of the message that made it wait, so that whatever wakes it can go on in the same name).
    """

    collection: str
    document_id: str
    #: 1 when first written, one more with every write. A writer that read version n writes n + 1.
    version: int
    body: Mapping[str, Any]

    @property
    def key(self) -> Key:
        return (self.collection, self.document_id)


class Document(BaseModel):
    """Base of everything a service stores: frozen, strict about its fields, with one id.

    A subclass names its `collection` and the field that is its id (`id_field`). A subclass that can wait has a field
    `due_at: float | None`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    collection: ClassVar[str]
    id_field: ClassVar[str] = "order_id"

    @classmethod
    def key_of(cls, document_id: str) -> Key:
        return (cls.collection, document_id)

    @property
    def key(self) -> Key:
        return (self.collection, getattr(self, self.id_field))

    def copy_with(self, **changes: Any) -> Self:  # noqa: ANN401 - any field may change; pydantic knows their types
        """A copy with some fields changed. The new values are trusted: they come from our own code, not from the wire."""
        return self.model_copy(update=changes)

    def to_body(self) -> dict[str, Any]:
        """The JSON-like fields to store. A `due_at` of None is left out, so that an index on it stays small."""
        body = self.model_dump(mode="json")
        if body.get("due_at") is None:
            body.pop("due_at", None)
        return body

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        return cls.model_validate({name: value for name, value in body.items() if name != "context"})
