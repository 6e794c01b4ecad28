"""The watchdog: a hung task or loop ends the process."""

import asyncio
import threading
import time

import pytest

from adapter.exits import EXIT_WEDGED
from adapter.watchdog import Watchdog, Wedged


async def test_a_silent_task_raises() -> None:
    dog = Watchdog(limit=0.05, look=0.01)
    dog.beat("tick")
    with pytest.raises(Wedged, match="tick"):
        await asyncio.wait_for(dog.run(), 5)


async def test_a_task_that_turns_is_left_alone() -> None:
    dog = Watchdog(limit=0.2, look=0.01)
    task = asyncio.create_task(dog.run())
    for _ in range(30):
        dog.beat("tick")
        await asyncio.sleep(0.01)
    assert not task.done()
    dog.forget("tick")
    await asyncio.sleep(0.3)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_blocked_loop_leaves_from_the_thread() -> None:
    left = threading.Event()
    codes: list[int] = []

    def leave(code: int) -> None:
        codes.append(code)
        left.set()

    dog = Watchdog(limit=0.1, look=0.01, leave=leave)
    task = asyncio.create_task(dog.run())
    await asyncio.sleep(0.03)
    end = time.monotonic() + 5
    while not left.is_set() and time.monotonic() < end:
        time.sleep(0.01)  # noqa: ASYNC251  blocking the loop is the point
    task.cancel()
    assert codes == [EXIT_WEDGED]
