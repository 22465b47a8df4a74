"""Settings: each has a default and a `SAGA_…` variable.

Commands read them here; the rooms below take plain arguments.
"""

import os
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from yarl import URL

from bootstrap.backend import GATEWAY_TIMEOUT_S, SETTLE_AFTER_S
from bootstrap.modes import Mode
from bootstrap.server_backend import ServerBackend
from broker.limits import Limits
from broker.loop.retry import RETRY_TOTAL_S
from cli.output import Code, stop
from services.payment.domain import PaymentTimeouts
from services.timeouts import Timeouts
from store.mongo.store import DAY_S, INBOX_DAYS

#: The folder of a container's secrets. A file in it is a setting of its name (`saga_broker_url`); the environment wins.
SECRETS_DIR = "/run/secrets"

#: Defaults of the business timeouts.
DEFAULT_TIMES = Timeouts()


class Settings(BaseSettings):
    """Every setting. `SAGA_BROKER_URL` is `broker_url`, and so on; times are in seconds."""

    model_config = SettingsConfigDict(env_prefix="SAGA_", extra="ignore")

    broker_url: str = Field(default="amqp://guest:guest@127.0.0.1:5672/", description="RabbitMQ")
    store_url: str = Field(default="mongodb://127.0.0.1:27017/", description="MongoDB, a replica set (transactions need one)")
    gateway_url: str = Field(default="http://127.0.0.1:8090", description="the payment gateway")
    observer_url: str = Field(
        default="", description="where the observer serves its records to the dashboard of the HTTP API; empty: nowhere"
    )
    beside: str = Field(
        default="",
        pattern=rf"^$|^({'|'.join(Mode)})=https?://[^\s/]+/?$",
        description="MODE=URL: the HTTP API of the other mode, whose lane the dashboard of this API shows as well; empty: none",
    )
    gateway_books: Path = Field(default=Path(".saga/gateway-books.db"), description="the payment gateway's own SQLite file")
    faults: bool = Field(
        default=False, description="honour failures injected with an order (`saga up` turns it on for its workers)"
    )
    ready_file: Path | None = Field(default=None, description="a file that exists while a worker consumes (for health checks)")
    log_level: str = Field(default="info", description="the lowest level that is logged: debug, info, warning or error")
    deadline_s: float = Field(
        default=DEFAULT_TIMES.deadline_s, gt=0, description="how long an order may be PENDING before it is withdrawn"
    )
    poll_interval_s: float = Field(
        default=DEFAULT_TIMES.payment.poll_interval_s,
        gt=0,
        description="time between two polls of a payment without a final answer",
    )
    authorize_timeout_s: float = Field(
        default=DEFAULT_TIMES.payment.authorize_timeout_s,
        gt=0,
        description="time until an authorization without a final answer is voided",
    )
    gateway_timeout_s: float = Field(
        default=GATEWAY_TIMEOUT_S, gt=0, description="how long one call to the payment gateway may take"
    )
    settle_after_s: float = Field(
        default=SETTLE_AFTER_S, gt=0, description="how long the payment gateway leaves an injected pending payment pending"
    )
    batch_max: int = Field(
        default=Limits().batch_max,
        ge=1,
        le=1024,
        description="the most messages in one transaction; 1 is one transaction a message",
    )

    @model_validator(mode="after")
    def _check_waits(self) -> Self:
        self.timeouts()
        waits_s = self.deadline_s + self.authorize_timeout_s + RETRY_TOTAL_S
        if waits_s > INBOX_DAYS * DAY_S / 2:
            msg = (
                f"deadline, authorization timeout and retries add up to {waits_s:.0f} s. Inbox keys expire after {INBOX_DAYS:g} "
                "days and must outlive them, requeued dead letters included: stay below half of that"
            )
            raise ValueError(msg)
        return self

    def timeouts(self) -> Timeouts:
        """The business timeouts. Raises ValueError when they contradict each other."""
        return Timeouts(self.deadline_s, PaymentTimeouts(self.poll_interval_s, self.authorize_timeout_s))

    def remote_apis_of(self, mode: Mode) -> dict[Mode, str]:
        """The HTTP API of the other mode, as {mode: URL}, or {}. Raises ValueError when the URL is wrong or of the same mode."""
        other, _, url = self.beside.partition("=")
        try:
            URL(url)
        except ValueError as error:
            msg = f"SAGA_BESIDE: {url} is not a URL ({error})"
            raise ValueError(msg) from error
        if other and not self.observer_url:
            msg = "SAGA_BESIDE needs SAGA_OBSERVER_URL, too: without an observer this API has no dashboard"
            raise ValueError(msg)
        if other == mode:
            msg = f"SAGA_BESIDE: {url} is an API of {mode}, as this one is. Name the other's (compose: profile both, no MODE)"
            raise ValueError(msg)
        return {Mode(other): url} if other else {}

    def limits(self) -> Limits:
        return Limits(batch_max=self.batch_max, prefetch=max(2 * self.batch_max, 2))

    def backend(self, prefix: str) -> ServerBackend:
        """The servers of these settings, for the mode (or namespace) `prefix`."""
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
    """Read the settings of this process. Stops with exit code 2 when one is invalid, and names it."""
    folder = Path(os.environ.get("SAGA_SECRETS_DIR", SECRETS_DIR))
    try:
        return Settings(_secrets_dir=folder if folder.is_dir() else None)  # type: ignore[call-arg] # an argument of pydantic-settings
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = "".join(f"SAGA_{str(part).upper()}: " for part in first["loc"])
        stop(Code.USAGE, f"{name}{first['msg'].removeprefix('Value error, ')}.")
