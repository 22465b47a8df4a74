"""`saga worker observer`: the observer of a mode, and what the page at the door is shown of it.

The composition of the observer, which is no worker: it handles nothing.
"""

import socket
from contextlib import AsyncExitStack

import structlog
from yarl import URL

from bootstrap.modes import Mode, topology
from cli.output import listen
from cli.process import marked, stop_on_signal, unmark
from cli.settings import Settings
from dashboard.lanes.observer import ObservedLane
from observer.recorder import NAME as OBSERVER
from observer.recorder import Observer

log = structlog.get_logger()


async def observe(mode: Mode, settings: Settings, host: str, *, tied: bool) -> None:
    """The observer, and what the page at the door is shown of it.

    It does not free what a dead one held: that would end the transactions of the others, and it can wait."""
    unmark(settings.ready_file)
    parts = settings.parts(mode)
    transport, store = parts.transport(OBSERVER), parts.store(OBSERVER)
    lane = ObservedLane(mode, transport, store, parts.sources.now)
    running = Observer(topology(mode), transport, store, parts.sources, written=lane.heard.note)
    stop_on_signal(running.stop, tied=tied)
    try:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(marked(running.ready, settings.ready_file))
            if settings.observer_url:
                from dashboard.observer_mount import served_to_door  # noqa: PLC0415 - an HTTP server, which most observers do without

                await stack.enter_async_context(served_to_door(lane, _observers_port(settings, host)))
            await running.run()
    finally:
        await transport.close()
        await store.close()
    log.info("stopped")


def _observers_port(settings: Settings, host: str) -> socket.socket:
    port = URL(settings.observer_url).port or 80
    instead = "Set SAGA_OBSERVER_URL to another."
    return listen(host, port, backlog=128, failing="the observer cannot serve", instead=instead)
