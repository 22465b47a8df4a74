"""Settings: every one has a default, a `SAGA_…` variable, and where it matters a flag (which wins).

Read once, here; the rooms below get plain arguments.
"""

import os
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from yarl import URL

from bootstrap.modes import Mode
from bootstrap.server_backend import ServerBackend
from broker.limits import Limits
from broker.loop.retry import RETRY_TOTAL_S
from cli.output import Code, stop
from services.payment.domain import PaymentTimeouts
from services.registry import Timeouts
from store.mongo.store import DAY_S, INBOX_DAYS

#: Where containers find their secrets. A file there is a setting of its name (`saga_broker_url`); the environment wins.
SECRETS_DIR = "/run/secrets"


#: The business waits unless they are set, as the services' registry has them.
DEFAULT_TIMES = Timeouts()


class Settings(BaseSettings):
    """`SAGA_BROKER_URL` is `broker_url`, and so on. Times in seconds."""

    model_config = SettingsConfigDict(env_prefix="SAGA_", extra="ignore")

    broker_url: str = Field(default="amqp://guest:guest@127.0.0.1:5672/", description="RabbitMQ")
    store_url: str = Field(default="mongodb://127.0.0.1:27017/", description="MongoDB, a replica set (transactions need one)")
    gateway_url: str = Field(default="http://127.0.0.1:8090", description="the payment gateway")
    observer_url: str = Field(
        default="", description="where the observer serves what it hears, for the page at the HTTP door; empty: nowhere"
    )
    beside: str = Field(
        default="",
        pattern=rf"^$|^({'|'.join(Mode)})=https?://[^\s/]+/?$",
        description="MODE=URL: the door of another mode, which the page at this door then shows beside its own; empty: none",
    )
    gateway_books: Path = Field(default=Path(".saga/gateway-books.db"), description="the gateway's own SQLite file")
    faults: bool = Field(default=False, description="honour failures injected with an order (a worker's `saga up` turns it on)")
    ready_file: Path | None = Field(default=None, description="a file to create once a worker consumes (for health checks)")
    log_level: str = Field(default="info", description="debug, info, warning or error; info is one line an event")
    deadline_s: float = Field(
        default=DEFAULT_TIMES.deadline_s, gt=0, description="how long an order may be PENDING before it withdraws itself"
    )
    poll_interval_s: float = Field(
        default=DEFAULT_TIMES.payment.poll_interval_s, gt=0, description="until a waiting payment is looked at again"
    )
    authorize_timeout_s: float = Field(
        default=DEFAULT_TIMES.payment.authorize_timeout_s,
        gt=0,
        description="until an authorization without a final answer is voided",
    )
    gateway_timeout_s: float = Field(default=2.0, gt=0, description="how long one call to the gateway may take")
    settle_after_s: float = Field(default=3.0, gt=0, description="how long the gateway leaves a payment pending")
    batch_max: int = Field(
        default=Limits().batch_max, ge=1, le=1024, description="messages in one commit; 1 is one transaction a message"
    )

    @model_validator(mode="after")
    def _check_waits(self) -> Self:
        self.timeouts()
        waits_s = self.deadline_s + self.authorize_timeout_s + RETRY_TOTAL_S
        if waits_s > INBOX_DAYS * DAY_S / 2:
            msg = (
                f"deadline, patience and retries add up to {waits_s:.0f} s. The inbox forgets after {INBOX_DAYS:g} days and must "
                "outlive them, dead letters that are sent back included: stay below half of that"
            )
            raise ValueError(msg)
        return self

    def timeouts(self) -> Timeouts:
        """The business waits. Raises ValueError when they contradict each other."""
        return Timeouts(self.deadline_s, PaymentTimeouts(self.poll_interval_s, self.authorize_timeout_s))

    def remote_apis_of(self, mode: Mode) -> dict[Mode, str]:
        """The door beside that of `mode`. Raises ValueError when it is of the same mode, or nowhere."""
        other, _, url = self.beside.partition("=")
        try:
            URL(url)
        except ValueError as error:
            msg = f"SAGA_BESIDE: {url} is no URL ({error})"
            raise ValueError(msg) from error
        if other and not self.observer_url:
            msg = "SAGA_BESIDE needs SAGA_OBSERVER_URL, too: without an observer this door has no page"
            raise ValueError(msg)
        if other == mode:
            msg = f"SAGA_BESIDE: {url} is the door of {mode}, as this one is. Name another's (compose: profile both without MODE)"
            raise ValueError(msg)
        return {Mode(other): url} if other else {}

    def limits(self) -> Limits:
        return Limits(batch_max=self.batch_max, prefetch=max(2 * self.batch_max, 2))

    def backend(self, prefix: str) -> ServerBackend:
        """Clients of the servers that these settings name, for the mode (or namespace) `prefix`."""
        return ServerBackend(
            prefix,
            self.broker_url,
            self.store_url,
            self.gateway_url,
            timeouts=self.timeouts(),
            limits=self.limits(),
            gateway_timeout_s=self.gateway_timeout_s,
        )


def load() -> Settings:
    """The settings of this process, or the end of it with one sentence that says which makes no sense."""
    folder = Path(os.environ.get("SAGA_SECRETS_DIR", SECRETS_DIR))
    try:
        return Settings(_secrets_dir=folder if folder.is_dir() else None)  # type: ignore[call-arg] # pydantic-settings takes it
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = "".join(f"SAGA_{str(part).upper()}: " for part in first["loc"])
        stop(Code.USAGE, f"{name}{first['msg'].removeprefix('Value error, ')}.")
