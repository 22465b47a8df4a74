"""Base classes of messages: a command requests something of one recipient, an event states a fact to every subscriber.

A message is a frozen pydantic model that knows its service and its schema version; its type on the wire is a name such as
`inventory.ReserveStock`. Encoding (`broker.codec`), transport and meaning (the services) are defined elsewhere.
"""

from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, StringConstraints

#: UUIDs in canonical lower-case form; new ones are version 7, so they sort by creation time.
UUID_PATTERN = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
Uuid = Annotated[str, StringConstraints(pattern=f"^{UUID_PATTERN}$", max_length=36)]


class Message(BaseModel):
    """Base of commands and events. `order_id` is the correlation id of all messages of one order."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    service: ClassVar[str] = ""
    version: ClassVar[int] = 1
    #: The name on the wire, such as `inventory.ReserveStock`.
    type_name: ClassVar[str] = ""

    order_id: Uuid

    def __init_subclass__(cls, *, service: str = "", **kwargs: Any) -> None:  # noqa: ANN401 - pydantic's signature
        super().__init_subclass__(**kwargs)
        cls.service = service or cls.service
        cls.type_name = f"{cls.service}.{cls.__name__}"

    @classmethod
    def from_source(cls, source: BaseModel) -> Self:
        """Create the message from the fields of the same names of `source`, which has them all.

        Used to turn an event into a reaction's command, and a saga's state into its next command."""
        return cls(**{name: getattr(source, name) for name in cls.model_fields})

    @classmethod
    def missing_fields(cls, source: type[BaseModel]) -> set[str]:
        """Return the required fields that `source` lacks; empty if `from_source` always succeeds."""
        return {name for name, field in cls.model_fields.items() if field.is_required()} - set(source.model_fields)


class Command(Message):
    """A request to one service; named in the imperative; defined in the recipient's messages.py."""


class Event(Message):
    """Something that happened, refusals included; named in the past tense; defined in the sender's messages.py."""
