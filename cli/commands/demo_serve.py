"""`saga demo --serve`: both modes at work on a page in the browser, with no server, until Ctrl-C.

The run and its page are dashboard/; this opens the port and says where it is.
"""

import asyncio

from cli.output import data, ending, listen
from dashboard.api_mount import serve_embedded

#: Not the door's (8080) and not the payment gateway's (8090), which may be running too.
PORT = 8070


def serve(host: str, port: int, *, seed: int, pace_s: float) -> None:
    """Serve the page. Ends with a sentence when the port is taken."""
    instead = "Choose another --port, or 0 for a free one."
    listener = listen(host, port, backlog=128, failing="the page cannot be served", instead=instead)
    address, taken = listener.getsockname()[:2]

    def say_where() -> None:
        data.print(f"The page is at http://{address}:{taken}/  (Ctrl-C ends it)", highlight=False, soft_wrap=True)

    with ending(), listener:
        asyncio.run(serve_embedded(listener, seed=seed, pace_s=pace_s, ready=say_where))
