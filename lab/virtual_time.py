"""An event loop on virtual time: when no callback is ready, the clock jumps to the next timer. An hour of waiting takes no time.

It supports timers and callbacks only. Sockets, threads and subprocesses raise an error instead of hanging. It is built on
asyncio's `BaseEventLoop`, with a selector that advances the clock instead of waiting.
"""

import asyncio
import itertools
from asyncio.base_events import BaseEventLoop
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

#: The start of every virtual clock, in seconds since the epoch: 2026-01-01 UTC. Any fixed time would do.
EPOCH_S = 1_767_225_600.0


class DeadlockError(RuntimeError):
    """Every task waits and no timer is set, so no task can continue."""


class _OrderedTask(asyncio.Task[Any]):
    """A task whose hash is its number. asyncio keeps tasks in sets; in the order of memory addresses, a run would not repeat."""

    _numbers = itertools.count()

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - asyncio.Task's own signature
        self._number = next(self._numbers)
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number

    __eq__ = object.__eq__


class _ClockSelector:
    """A selector that advances the clock instead of waiting for sockets."""

    def __init__(self, loop: "VirtualTimeLoop") -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise DeadlockError(
                "every task waits and no timer is set: look for a wait on another thread, or for tasks that wait for each other"
            )
        self._loop.now += max(timeout, 0.0)
        return []

    def close(self) -> None:
        """Nothing to close."""


class VirtualTimeLoop(BaseEventLoop):
    """An event loop for `asyncio.Runner(loop_factory=VirtualTimeLoop)`. `now`: its clock, in seconds since the epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.now = EPOCH_S
        self._selector = _ClockSelector(self)
        # A float of seconds since 1970 has no finer resolution; with a smaller value a timer could stay just ahead of the clock.
        self._clock_resolution = 1e-6
        self.set_task_factory(lambda loop, coro, **kwargs: _OrderedTask(coro, loop=loop, **kwargs))

    def time(self) -> float:
        return self.now

    def _process_events(self, event_list: list[Any]) -> None:
        """Do nothing: the selector returns no events."""

    def _write_to_self(self) -> None:
        """Do nothing: the selector never blocks (asyncio calls this for Ctrl-C)."""

    def run_in_executor(self, _executor: object, func: object, *_args: object) -> NoReturn:
        raise RuntimeError(f"{func!r} needs a thread, which virtual time does not support: use a coroutine")

    async def _no_socket(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise RuntimeError("virtual time does not support sockets: use the in-memory back ends")

    create_connection = create_server = create_datagram_endpoint = _no_socket


def run_on_virtual_time(program: Coroutine[Any, Any, T]) -> T:
    """Run `program` to its end on virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(program)
