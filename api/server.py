"""The door as a process: uvicorn and the door's worker in one event loop, until SIGTERM or SIGINT.

Room: api/. Called by the CLI's `saga api`.
"""

import asyncio
import signal
import socket
from collections.abc import Callable

import uvicorn

from api.app import DoorApp
from api.desk import Desk
from api.feed import Following
from api.guard import Guard

#: Seconds that requests in progress have to end once a signal came; streams of events are ended at once.
GRACE_S = 3


async def serve(desk: Desk, listener: socket.socket, *, pivot_first: bool, told_to_stop: Callable[[], None]) -> None:
    """Serve on `listener` until told to stop. Raises what ends the worker, for then orders could no longer be taken.

    `told_to_stop` is called when the shutdown begins."""
    following = Following(desk)
    server = _Server(Guard(DoorApp(desk, following, pivot_first=pivot_first).application()), following, told_to_stop)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # uvicorn handles both, and raises them again once it has shut down
    working = asyncio.create_task(desk.worker.run(), name="door")
    working.add_done_callback(lambda _: server.end())
    try:
        await server.serve(sockets=[listener])
    finally:
        desk.worker.stop()
        await working


class _Server(uvicorn.Server):
    """Ends the streams of events before it waits for the other requests."""

    def __init__(self, app: Guard, following: Following, told_to_stop: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                access_log=False,
                lifespan="off",
                log_config=None,  # lines go the way that the process has chosen for all of them
                log_level="warning",
                ws="none",
                server_header=False,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._following = following
        self._told_to_stop = told_to_stop

    def end(self) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._told_to_stop()
        self._following.stop()
        await super().shutdown(sockets)
