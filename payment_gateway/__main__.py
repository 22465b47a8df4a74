"""Command line of the payment gateway: `python -m payment_gateway --port 8090 --books gateway.db [--faults]`."""

import argparse
import sqlite3
from pathlib import Path

from payment_gateway.server import serve


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m payment_gateway", description="The payment gateway: a stand-in for an external system."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0 chooses a free one; the URL is the first line printed")
    parser.add_argument("--books", type=Path, help="SQLite file of the books; without it they are lost when the process ends")
    parser.add_argument("--faults", action="store_true", help="let failures named in the header X-Injected-Failure act")
    parser.add_argument("--settle-after", type=float, default=2.0, metavar="SECONDS", help="how long a payment stays pending")
    parser.add_argument("--slow", type=float, default=1.0, metavar="SECONDS", help="delay of a slow answer")
    options = parser.parse_args()
    try:
        serve(
            options.host,
            options.port,
            options.books,
            faults=options.faults,
            settle_after_s=options.settle_after,
            slow_s=options.slow,
            announce=lambda url: print(url, flush=True),  # noqa: T201 - a command prints
        )
    except OSError as error:
        parser.exit(1, f"cannot serve on {options.host}:{options.port}: {error.strerror}. Choose another --port\n")
    except sqlite3.Error as error:
        parser.exit(1, f"cannot keep the books in {options.books}: {error}. Choose another file for --books\n")


if __name__ == "__main__":
    main()
