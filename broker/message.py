"""What travels between services: commands ask one recipient, events state a fact to whoever listens.

A message is a frozen pydantic model that knows its service and its schema version; its type on the wire is
`inventory.ReserveStock`. Nothing here knows how it travels (codec, transport) or what it means (services).
"""

from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, StringConstraints

#: UUIDs in their canonical lower-case form; new ones are version 7, so they sort by the time they were made.
UUID_PATTERN = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
Uuid = Annotated[str, StringConstraints(pattern=f"^{UUID_PATTERN}$", max_length=36)]


class Message(BaseModel):
    """Base of commands and events. `order_id` is the correlation id of everything that happens for one order."""

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
        """The message filled by field name from something that knows them all: an event, or a saga.

        This is how an event becomes a reaction's command and a saga's state becomes its next command."""
        return cls(**{name: getattr(source, name) for name in cls.model_fields})

    @classmethod
    def missing_fields(cls, source: type[BaseModel]) -> set[str]:
        """The required fields of this message that `source` cannot fill: empty when `from_source` will always work."""
        return {name for name, field in cls.model_fields.items() if field.is_required()} - set(source.model_fields)


class Command(Message):
    """Asks one service to do something; named in the imperative; lives in its recipient's messages.py."""


class Event(Message):
    """Something that happened, refusals included; named in the past tense; lives in its sender's messages.py."""
