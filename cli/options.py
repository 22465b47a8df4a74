"""Arguments and options that several commands share, with their checks."""

import re
from typing import Annotated

import typer
from yarl import URL

from bootstrap.connections import OpenStores
from bootstrap.modes import Mode
from broker.message import UUID_PATTERN
from cli.output import Code, stop
from services.faults import InvalidFault, check_faults


def check_order_id(text: str) -> str:
    """Return the id unchanged if it is a UUID; otherwise stop with exit code 2."""
    if not re.fullmatch(UUID_PATTERN, text):
        stop(Code.USAGE, f"{text!r} is not an order id. List the ids: saga order list.")
    return text


def check_url(text: str | None) -> str | None:
    """Return the URL unchanged if it is one of HTTP; otherwise stop with exit code 2."""
    if text is not None and (URL(text).scheme not in ("http", "https") or not URL(text).host):
        stop(
            Code.USAGE, f"{text!r} is not the URL of an HTTP API. Write it as `saga api` logs it, such as http://127.0.0.1:8080."
        )
    return text


#: The payment gateway's name among those that `saga worker` runs.
GATEWAY = "gateway"

ModeFlag = Annotated[
    Mode, typer.Option("--mode", "-m", envvar="SAGA_MODE", help="The mode whose workers, queues and databases are used.")
]
JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
OrderId = Annotated[str, typer.Argument(help="The order's id, as `place` printed it.", callback=check_order_id)]
ViaFlag = Annotated[
    str | None,
    typer.Option("--via", envvar="SAGA_VIA", help="The URL of an HTTP API (`saga api`), whose mode applies.", callback=check_url),
]


def parse_failures(texts: list[str]) -> list[str]:
    """Return the texts unchanged if each is a known `service:failure`; otherwise stop with exit code 2."""
    try:
        check_faults(texts)
    except InvalidFault as error:
        stop(Code.USAGE, str(error))
    return texts


async def refuse_unless_faults(seen: OpenStores, failures: list[str]) -> None:
    """Stop with exit code 2 when a worker that should fail has faults disabled: the failure would silently not happen."""
    for service in sorted({failure.partition(":")[0] for failure in failures}):
        announced = await seen.stores[service].find("workers")
        if not announced:
            stop(Code.USAGE, f"no {service} worker has started in this mode. Start the mode: saga up --mode {seen.mode}")
        if not any(record.body.get("faults") for record in announced):
            stop(
                Code.USAGE,
                f"the {service} worker runs with faults disabled, so --fail would do nothing. "
                "Start it with SAGA_FAULTS=1, or use `saga up` without --no-faults.",
            )
