"""Arguments and options that several commands have, and what they refuse."""

import re
from typing import Annotated

import typer
from yarl import URL

from bootstrap.modes import Mode
from broker.message import UUID_PATTERN
from cli.output import Code, stop


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
