"""Documents and records: what a service stores, as the service sees it and as the store sees it.

A service subclasses `Document`, a frozen model with one id. The store sees a `Record`: an opaque body with an id and a version.
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

    `body` holds JSON-like values only. Two of its fields have a meaning outside the service: `due_at` (seconds since the epoch;
    present only while the document waits for its timer, and indexed) and `context` (headers of the message that made the document
    wait; the input that its timer fires gets the same ones).
    """

    collection: str
    document_id: str
    #: 1 at the first write, one more with every write. A writer that read version n writes n + 1.
    version: int
    body: Mapping[str, Any]

    @property
    def key(self) -> Key:
        return (self.collection, self.document_id)


class Document(BaseModel):
    """Base class of everything a service stores: frozen, with a fixed set of fields and one id.

    A subclass sets `collection` and the name of the field that is its id (`id_field`). A subclass that can wait for a timer has a
    field `due_at: float | None`.
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
        """A copy with some fields changed. The new values are not validated: they come from this code base, not from the wire."""
        return self.model_copy(update=changes)

    def to_body(self) -> dict[str, Any]:
        """The JSON-like fields to store. A `due_at` of None is left out, so that the sparse index on it stays small."""
        body = self.model_dump(mode="json")
        if body.get("due_at") is None:
            body.pop("due_at", None)
        return body

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        return cls.model_validate({name: value for name, value in body.items() if name != "context"})
