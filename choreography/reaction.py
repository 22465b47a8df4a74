"""One reaction: an event, the service that hears it, and what that service then does."""

from dataclasses import dataclass

from broker.message import Command, Event


@dataclass(frozen=True, slots=True)
class Reaction:
    """`by` hears `when` and handles `does`, made from the event inside the service: no command goes over the wire.

    Checked when it is built: the command is the service's own, and the event brings everything the command needs."""

    when: type[Event]
    by: str
    does: type[Command]

    def __post_init__(self) -> None:
        if self.does.service != self.by:
            raise ValueError(f"{self.does.__name__} belongs to {self.does.service}: {self.by} cannot react with it")
        if missing := self.does.missing_fields(self.when):
            raise ValueError(f"{self.when.__name__} does not bring {missing}, which {self.does.__name__} needs")
