"""An event loop on virtual time: when nothing is ready, the clock jumps to the next timer. An hour of waiting takes no time.

Only timers and callbacks exist here. Whatever would need the real world (sockets, threads, signals from another
thread) fails loudly instead of hanging. Built on asyncio's own `_run_once`, whose only contact with the world is its selector.
"""

import asyncio
import itertools
from asyncio.base_events import BaseEventLoop
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

#: Where virtual clocks begin, in seconds since the epoch: 2026-01-01 UTC. Any fixed moment would do.
EPOCH_S = 1_767_225_600.0


class DeadlockError(RuntimeError):
    """Everything waits and no timer is set, so nothing can ever happen again: a deadlock, found at once."""


class _OrderedTask(asyncio.Task[Any]):
    """A task whose hash is its number. asyncio keeps tasks in sets; ordered by memory address, a run would not repeat."""

    _numbers = itertools.count()

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - asyncio.Task's own signature
        self._number = next(self._numbers)
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number

    __eq__ = object.__eq__


class _ClockSelector:
    """Stands where the selector is: instead of waiting for sockets it moves the clock."""

    def __init__(self, loop: "VirtualTimeLoop") -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise DeadlockError("everything waits for something that can no longer happen")
        self._loop.now += max(timeout, 0.0)
        return []

    def close(self) -> None:
        """Nothing to close."""


class VirtualTimeLoop(BaseEventLoop):
    """`asyncio.Runner(loop_factory=VirtualTimeLoop)` runs a program on it. `now` is its clock, in seconds since the epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.now = EPOCH_S
        self._selector = _ClockSelector(self)
        self._clock_resolution = (
            1e-6  # a float of seconds since 1970 resolves no finer: without it, a timer could stay just ahead
        )
        self.set_task_factory(lambda loop, coro, **kwargs: _OrderedTask(coro, loop=loop, **kwargs))

    def time(self) -> float:
        return self.now

    def _process_events(self, event_list: list[Any]) -> None:
        """There are no events but timers and callbacks."""

    def _write_to_self(self) -> None:
        """Nobody sleeps in a selector, so nobody needs waking (asyncio calls this for Ctrl-C)."""

    def run_in_executor(self, _executor: object, func: object, *_args: object) -> NoReturn:
        raise RuntimeError(f"{func!r} wants a thread, which knows nothing of virtual time")

    async def _no_socket(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise RuntimeError("a socket knows nothing of virtual time")

    create_connection = create_server = create_datagram_endpoint = _no_socket


def run_on_virtual_time(program: Coroutine[Any, Any, T]) -> T:
    """Run `program` to its end on virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(program)
