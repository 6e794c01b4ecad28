"""Workers: a seed that hangs or kills its process is told, and every other one has its result."""

import os
import signal
import time
from collections.abc import Iterable, Iterator

import pytest

from tests.simulation.loop import Stuck, VirtualLoop
from tests.simulation.workers import Lost, spread


def odd_ones_fail(seeds: Iterable[int]) -> Iterator[int]:
    """As worlds do: 3 kills its process, 5 hangs in it."""
    for seed in seeds:
        if seed == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if seed == 5:
            time.sleep(600)
        yield seed


def test_a_seed_that_hangs_or_dies_costs_nothing_else() -> None:
    results = list(spread(odd_ones_fail, range(1, 20), jobs=2, nice=1, patience=4.0))
    lost = {result.seed: result.why for result in results if isinstance(result, Lost)}
    assert lost == {3: "its process ended with -9", 5: "no result after 4 real seconds"}
    assert sorted(result for result in results if isinstance(result, int)) == [
        seed for seed in range(1, 20) if seed not in lost
    ]


def test_whoever_stops_listening_ends_the_workers_at_once() -> None:
    results = spread(odd_ones_fail, [1, 5], jobs=1, nice=0, patience=600.0)
    assert next(results) == 1
    begun = time.monotonic()
    results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - begun < 2.0


def test_a_world_whose_time_stands_still_is_ended() -> None:
    loop = VirtualLoop()

    def again() -> None:
        loop.call_soon(again)

    loop.call_soon(again)
    with pytest.raises(Stuck, match="steps at one instant"):
        loop.run(1.0)
    loop.finish()
