"""The event loop on virtual time: timers take no time, deadlocks are found, threads and sockets are refused."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lab.virtual_time import EPOCH_S, DeadlockError, run_on_virtual_time


def test_an_hour_takes_no_time() -> None:
    async def hour() -> float:
        started = asyncio.get_running_loop().time()
        await asyncio.sleep(3600.0)
        return asyncio.get_running_loop().time() - started

    started = time.monotonic()
    assert run_on_virtual_time(hour()) == pytest.approx(3600.0, abs=1e-3)
    assert time.monotonic() - started < 1.0


def test_the_clock_starts_at_the_same_time_in_every_run() -> None:
    async def now() -> float:
        return asyncio.get_running_loop().time()

    assert run_on_virtual_time(now()) == run_on_virtual_time(now()) == EPOCH_S


def test_tasks_wake_in_the_order_of_their_timers() -> None:
    async def sleepers() -> list[float]:
        woken = []

        async def sleeper(after_s: float) -> None:
            await asyncio.sleep(after_s)
            woken.append(round(asyncio.get_running_loop().time() - EPOCH_S, 3))

        await asyncio.gather(*(sleeper(after_s) for after_s in (3.0, 0.001, 86_400.0, 1.5, 0.0)))
        return woken

    assert run_on_virtual_time(sleepers()) == [0.0, 0.001, 1.5, 3.0, 86_400.0]


def test_time_stands_still_while_a_callback_is_ready() -> None:
    async def busy() -> float:
        timer = asyncio.ensure_future(asyncio.sleep(1.0))
        for _ in range(10_000):
            await asyncio.sleep(0)
        assert not timer.done()
        await timer
        return asyncio.get_running_loop().time() - EPOCH_S

    assert run_on_virtual_time(busy()) == pytest.approx(1.0, abs=1e-3)


def test_a_timeout_ends_a_task_that_takes_too_long() -> None:
    async def too_long() -> None:
        async with asyncio.timeout(5.0):
            await asyncio.sleep(6.0)

    with pytest.raises(TimeoutError):
        run_on_virtual_time(too_long())


def test_a_deadlock_is_found_at_once() -> None:
    async def deadlock() -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError):
        run_on_virtual_time(deadlock())


def test_two_tasks_that_wait_for_each_other_are_a_deadlock() -> None:
    async def deadlock() -> None:
        one, other = asyncio.Lock(), asyncio.Lock()

        async def takes(first: asyncio.Lock, second: asyncio.Lock) -> None:
            async with first:
                await asyncio.sleep(1.0)
                async with second:
                    pass

        await asyncio.gather(takes(one, other), takes(other, one))

    with pytest.raises(DeadlockError):
        run_on_virtual_time(deadlock())


async def in_a_thread() -> None:
    await asyncio.to_thread(time.sleep, 0.0)


async def in_an_executor() -> None:
    await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.0)


async def connects() -> None:
    await asyncio.open_connection("127.0.0.1", 5672)


async def connects_by_name() -> None:
    await asyncio.open_connection("localhost", 5672)


async def looks_up() -> None:
    await asyncio.get_running_loop().getaddrinfo("localhost", 80)


async def listens() -> None:
    await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)


async def sends_datagrams() -> None:
    await asyncio.get_running_loop().create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=("127.0.0.1", 9))


async def starts_a_process() -> None:
    await asyncio.create_subprocess_exec("true")


async def watches_a_file() -> None:
    asyncio.get_running_loop().add_reader(0, lambda: None)


@pytest.mark.parametrize(
    "program",
    [
        *(in_a_thread, in_an_executor, connects, connects_by_name, looks_up, sends_datagrams),
        *(starts_a_process, watches_a_file),
    ],
)
def test_threads_sockets_and_processes_raise_an_error(program: Callable[[], Awaitable[None]]) -> None:
    async def run() -> Any:
        async with asyncio.timeout(5.0):
            await program()

    with pytest.raises((RuntimeError, NotImplementedError)):
        run_on_virtual_time(run())


def test_a_wait_for_another_thread_is_a_deadlock() -> None:
    """A thread cannot wake this loop, so it must not hang."""

    async def waits() -> None:
        loop, event, released = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
        thread = threading.Thread(target=lambda: (released.wait(5.0), loop.call_soon_threadsafe(event.set)))
        thread.start()
        try:
            await event.wait()
        finally:
            released.set()
            thread.join()

    with pytest.raises(DeadlockError):
        run_on_virtual_time(waits())


def test_tasks_in_a_set_are_ordered_by_their_creation() -> None:
    """Asyncio keeps tasks in sets; in the order of memory addresses, no run would repeat."""

    async def many() -> list[str]:
        tasks = [asyncio.ensure_future(asyncio.sleep(1.0)) for _ in range(50)]
        for number, task in enumerate(tasks):
            task.set_name(str(number))
        done, _ = await asyncio.wait(tasks)
        return [task.get_name() for task in sorted(done, key=hash)]

    assert run_on_virtual_time(many()) == [str(number) for number in range(50)]
