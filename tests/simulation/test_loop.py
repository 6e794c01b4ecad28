"""The virtual loop and its processes: time jumps, nothing of a dead process acts, order is the same in every run."""

import asyncio
import itertools
from collections.abc import Callable

import pytest

from tests.simulation.loop import PROCESS, Process, VirtualLoop, quiet_death


async def _work(said: list[str]) -> None:
    """Awaits of every kind, each with a `finally` that would tell."""
    process = PROCESS.get()

    def say(word: str) -> None:
        process.write()
        said.append(word)
        process.write()

    def last(word: str) -> None:
        process.check()
        said.append(word)

    async def inner() -> None:
        try:
            await asyncio.sleep(0.5)
            say("inner")
        finally:
            last("inner's finally")

    try:
        say("begin")
        await asyncio.sleep(0)
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            group.create_task(inner())
            group.create_task(inner())
        say("joined")
        await asyncio.wait({asyncio.create_task(asyncio.sleep(1)) for _ in range(3)})
        say("end")
    finally:
        last("finally")


def _run(change: Callable[[Process], None] = lambda _: None, until: float = 100.0) -> tuple[list[str], bool]:
    loop, said = VirtualLoop(), list[str]()
    process = Process(loop, "one")
    process.run(lambda: _work(said))
    change(process)
    loop.run(until)
    alive, errors = process.alive, list(loop.errors)
    loop.finish()
    assert not errors
    return said, alive


def test_time_jumps() -> None:
    loop = VirtualLoop()
    process, said = Process(loop, "one"), list[str]()
    process.run(lambda: _work(said))
    loop.run(3600.0)
    assert said[-2:] == ["end", "finally"]
    assert loop.now == 3600.0
    assert loop.steps < 60
    loop.finish()


def test_a_process_dies_at_any_step_and_any_write_and_nothing_of_it_acts_afterwards() -> None:
    whole, _ = _run()
    seen = set()
    for at in itertools.count():
        died = list[int]()

        def crash(process: Process, at: int = at, died: list[int] = died) -> None:
            process.crash_in = at
            process.on_death = lambda: died.append(1)

        with quiet_death():
            said, alive = _run(crash)
        if said == whole and alive:
            break
        # What was said is a beginning of what is said in a whole life: no `finally` came after the death.
        assert died
        assert said == whole[: len(said)]
        seen.add(len(said))
    assert at > 20
    assert seen >= set(range(len(whole)))


def test_a_stopped_process_goes_on_where_it_stood() -> None:
    loop, times = VirtualLoop(), list[tuple[float, float]]()
    process = Process(loop, "one")

    async def tick() -> None:
        for _ in range(4):
            await asyncio.sleep(10)
            times.append((process.boot(), process.monotonic()))

    process.run(tick)
    loop.run(15)
    process.stop()
    loop.run(100)
    assert [boot for boot, _ in times] == [10]
    process.go_on(slept=False)
    loop.run(105)
    # Its clocks went on: the timer of second 20 was due long ago.
    assert times[1] == (100.0, 100.0)
    process.stop()
    loop.run(300)
    process.go_on(slept=True)
    loop.run(400)
    # Its machine slept from 105 to 300: five of the ten seconds until the next tick had passed.
    assert times[2] == (305.0, 110.0)
    assert times[3] == (315.0, 120.0)


def test_clocks_are_those_of_the_process() -> None:
    loop = VirtualLoop(epoch=1000.0)
    one, two = Process(loop, "one"), Process(loop, "two")
    two.wall_offset = 3600.0
    loop.run(5)
    assert (one.wall(), two.wall()) == (1005.0, 4605.0)


def test_what_nobody_caught_is_kept() -> None:
    loop = VirtualLoop()
    process = Process(loop, "one")

    def broken() -> None:
        raise LookupError("a bug")

    process.context.run(loop.call_soon, broken)
    loop.run(1)
    assert isinstance(loop.errors[0][1], LookupError)


async def _real() -> None:
    await asyncio.get_running_loop().run_in_executor(None, print)


def test_nothing_real_can_be_waited_for() -> None:
    loop = VirtualLoop()
    task = Process(loop, "one").run(_real)
    loop.run(1)
    with pytest.raises(AssertionError, match="real thread"):
        task.result()


def test_sets_of_tasks_are_walked_in_order() -> None:
    loop, order = VirtualLoop(), list[int]()

    async def wait(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            order.append(number)

    async def main() -> None:
        tasks = {asyncio.create_task(wait(number)) for number in range(50)}
        await asyncio.sleep(1)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    Process(loop, "one").run(main)
    loop.run(5)
    assert order == sorted(order)
    assert len(order) == 50
