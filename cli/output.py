"""Output and exit codes of the CLI: data on stdout, everything else on stderr, one exit code for each kind of end.

Commands that use a server run inside `exit_on_error`, which turns an expected error into one sentence and an exit code.
"""

import asyncio
import json
import socket
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from api.broker_client import OrderNotConfirmed
from bootstrap.backend import GatewayUnreachable
from broker.transport import BrokerRefused, TransportError, TransportUnavailable
from store.protocol import NoPrimary, StoreError, StoreUnavailable

T = TypeVar("T")

#: Columns of the output where there is no terminal to ask (a pipe, a CI log).
WIDTH_UNKNOWN = 110

#: `console` is for everything but data; `data` writes to stdout.
console = Console(stderr=True)
data = Console(width=None if sys.stdout.isatty() else WIDTH_UNKNOWN)


class Code(IntEnum):
    """Exit codes."""

    OK = 0
    FAILED = 1
    USAGE = 2  # the arguments or settings make no sense, or are not allowed here
    AUDIT_FAILED = 3  # a promise does not hold, or orders did not end
    SERVER_MISSING = 4  # RabbitMQ, MongoDB, the payment gateway or an HTTP API is not there
    INTERRUPTED = 130  # Ctrl-C


def stop(code: Code, message: str) -> NoReturn:
    """Stop the command. `message` says what happened, why, and what to do next; it is printed without markup."""
    console.print(f"[bold red]saga:[/] {escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Turn an expected error into a sentence and an exit code."""
    try:
        yield
    except BrokerRefused as error:
        stop(Code.FAILED, f"{error}. Correct user, password and virtual host in SAGA_BROKER_URL.")
    except NoPrimary as error:
        stop(Code.FAILED, f"{error}.")
    except (TransportUnavailable, StoreUnavailable, GatewayUnreachable) as error:
        stop(
            Code.SERVER_MISSING, f"{error}. Start it (`make up` starts what is installed), or point SAGA_…_URL to where it runs."
        )
    except (TransportError, StoreError, OrderNotConfirmed) as error:
        stop(Code.FAILED, f"{error}.")
    except KeyboardInterrupt:
        stop(Code.INTERRUPTED, "interrupted.")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine inside `exit_on_error`."""
    with exit_on_error():
        return asyncio.run(coroutine)


def listen(host: str, port: int, *, backlog: int, problem: str, remedy: str) -> socket.socket:
    """Open a port to serve on. Stops with exit code 1 when that fails: `problem` on this port, the reason, `remedy`."""
    try:
        return socket.create_server((host, port), backlog=backlog)
    except OSError as error:
        why = str(error.strerror).partition(" (while")[0]  # Python adds the address, which the message has already
        stop(Code.FAILED, f"{problem} on {host}:{port}: {why}. {remedy}")


def print_json(value: object) -> None:
    """Print one JSON document on stdout."""
    typer.echo(json.dumps(value, indent=2))
