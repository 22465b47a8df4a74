"""`saga worker observer`: runs the observer of a mode, and serves its records to the dashboard of the HTTP API.

The observer is not a worker: it records messages and handles none.
"""

import socket
from contextlib import AsyncExitStack

import structlog
from yarl import URL

from bootstrap.modes import Mode, topology
from cli.output import listen
from cli.process import maintain_ready_file, remove_ready_file, stop_on_signal
from cli.settings import Settings
from dashboard.lanes.observer import ObserverLane
from observer.recorder import NAME as OBSERVER
from observer.recorder import Observer

log = structlog.get_logger()


async def observe(mode: Mode, settings: Settings, host: str, *, tied_to_parent: bool) -> None:
    """Run the observer until SIGTERM or Ctrl-C, and serve its lane when `observer_url` is set.

    It does not abort transactions that a killed observer left open: that would abort those of others, and it can wait."""
    remove_ready_file(settings.ready_file)
    backend = settings.backend(mode)
    transport, store = backend.transport(OBSERVER), backend.store(OBSERVER)
    lane = ObserverLane(mode, transport, store, backend.environment.now)
    observer = Observer(topology(mode), transport, store, backend.environment, on_recorded=lane.history_feed.mark_changed)
    stop_on_signal(observer.stop, tied_to_parent=tied_to_parent)
    try:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(maintain_ready_file(observer.ready, settings.ready_file))
            if settings.observer_url:
                from dashboard.observer_mount import serve_observer_lane  # noqa: PLC0415 - an HTTP server, which most observers do not need

                await stack.enter_async_context(serve_observer_lane(lane, _listen_for_api(settings, host)))
            await observer.run()
    finally:
        await transport.close()
        await store.close()
    log.info("stopped")


def _listen_for_api(settings: Settings, host: str) -> socket.socket:
    port = URL(settings.observer_url).port or 80
    remedy = "Set SAGA_OBSERVER_URL to another address."
    return listen(host, port, backlog=128, problem="the observer cannot serve", remedy=remedy)
