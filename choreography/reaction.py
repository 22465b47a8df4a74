"""One reaction: an event, the service that receives it, and the command that the service then handles."""

from dataclasses import dataclass

from broker.message import Command, Event


@dataclass(frozen=True, slots=True)
class Reaction:
    """When the event `when` arrives, the service `by` handles the command `does`, made from the event; it never travels.

    The constructor checks that the command is the service's own and that the event carries every field that it needs."""

    when: type[Event]
    by: str
    does: type[Command]

    def __post_init__(self) -> None:
        if self.does.service != self.by:
            raise ValueError(f"{self.does.__name__} belongs to {self.does.service}: {self.by} can only handle its own commands")
        if missing := self.does.missing_fields(self.when):
            raise ValueError(f"{self.when.__name__} does not carry {missing}, which {self.does.__name__} needs")
