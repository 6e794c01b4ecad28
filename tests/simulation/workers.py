"""Processes that work through seeds. One that hangs or dies costs its seed and nothing else.

A pool of the standard library waits for ever when one of its processes is killed, and cannot say at which item.
"""

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple, TypeAlias

AHEAD = 4
"""Seeds a worker has in hand: it never waits for the next, and at the end no core idles for long."""

Work: TypeAlias = Callable[[Iterable[int]], Iterator[Any]]
"""Gives one result per seed, in order. It must be importable: workers are spawned."""

_spawn = multiprocessing.get_context("spawn")


class Lost(NamedTuple):
    """A seed without a result."""

    seed: int
    why: str


@dataclass(slots=True, eq=False)
class _Worker:
    process: SpawnProcess
    pipe: "Connection[Any, Any]"
    seeds: deque[int] = field(default_factory=deque)
    heard: float = field(default_factory=time.monotonic)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def spread(work: Work, seeds: Sequence[int], *, jobs: int, nice: int, patience: float) -> Iterator[Any]:
    """The results, as they come, with a `Lost` for each seed that took `patience` seconds or killed its worker.

    However this ends, all workers end with it, at once.
    """
    left = deque(seeds)
    workers: list[_Worker] = []
    try:
        workers.extend(_start(work, nice) for _ in range(min(jobs, len(left))))
        while True:
            for worker in workers:
                _feed(worker, left)
            busy = [worker for worker in workers if worker.seeds]
            if not busy:
                return
            heard = wait([worker.pipe for worker in busy], timeout=1.0)
            for worker in busy:
                if worker.pipe in heard:
                    try:
                        result = worker.pipe.recv()
                    except (EOFError, OSError):
                        worker.process.join(5.0)
                        why = f"its process ended with {worker.process.exitcode}"
                    else:
                        worker.seeds.popleft()
                        worker.heard = time.monotonic()
                        yield result
                        continue
                elif time.monotonic() - worker.heard > patience:
                    why = f"no result after {patience:.0f} real seconds"
                else:
                    continue
                worker.end()
                yield Lost(worker.seeds.popleft(), why)
                left.extendleft(reversed(worker.seeds))
                workers[workers.index(worker)] = _start(work, nice)
    finally:
        for worker in workers:
            worker.end()


def _start(work: Work, nice: int) -> _Worker:
    ours, theirs = _spawn.Pipe()
    process = _spawn.Process(target=_serve, args=(work, nice, theirs), daemon=True)
    process.start()
    theirs.close()  # Else the end of the worker would not be heard.
    return _Worker(process, ours)


def _feed(worker: _Worker, left: deque[int]) -> None:
    with suppress(OSError):  # It has died, which is heard on its pipe.
        while left and len(worker.seeds) < AHEAD:
            worker.pipe.send(left[0])
            if not worker.seeds:
                worker.heard = time.monotonic()
            worker.seeds.append(left.popleft())


def _serve(work: Work, nice: int, pipe: "Connection[Any, Any]") -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches the whole group; whoever started us says so.
    os.nice(nice)
    with suppress(EOFError, BrokenPipeError):
        for result in work(iter(pipe.recv, None)):
            pipe.send(result)
