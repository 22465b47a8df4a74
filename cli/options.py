"""Arguments and options that several commands have, and what they refuse."""

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
    """The id as it is, if it can be one. Ends with a sentence otherwise."""
    if not re.fullmatch(UUID_PATTERN, text):
        stop(Code.USAGE, f"{text!r} is no order id. `saga order list` shows them.")
    return text


def check_url(text: str | None) -> str | None:
    """The URL as it is, if a door can be there. Ends with a sentence otherwise."""
    if text is not None and (URL(text).scheme not in ("http", "https") or not URL(text).host):
        stop(Code.USAGE, f"{text!r} is no URL of a door. Write it as `saga api` says it, such as http://127.0.0.1:8080.")
    return text


ModeFlag = Annotated[Mode, typer.Option("--mode", "-m", envvar="SAGA_MODE", help="Which mode's order service.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
OrderId = Annotated[str, typer.Argument(help="The order's id, as `place` gave it.", callback=check_order_id)]
ViaFlag = Annotated[
    str | None,
    typer.Option("--via", envvar="SAGA_VIA", help="The URL of an HTTP door (`saga api`); its mode counts.", callback=check_url),
]


def parse_failures(texts: list[str]) -> list[str]:
    """`service:failure` for each. Ends with a sentence when there is no such failure."""
    try:
        check_faults(texts)
    except InvalidFault as error:
        stop(Code.USAGE, str(error))
    return texts


async def refuse_unless_faults(seen: OpenStores, failures: list[str]) -> None:
    """End with a sentence when a worker that should fail has faults disabled: the failure would silently not happen."""
    for service in sorted({failure.partition(":")[0] for failure in failures}):
        announced = await seen.stores[service].find("workers")
        if not announced:
            stop(Code.USAGE, f"no {service} worker has announced itself. Start the mode: saga up --mode {seen.mode}")
        if not any(record.body.get("faults") for record in announced):
            stop(
                Code.USAGE,
                f"the {service} worker runs with faults disabled, so --fail would do nothing. "
                "Start it with SAGA_FAULTS=1, or use `saga up` without --no-faults.",
            )


GATEWAY = "gateway"
