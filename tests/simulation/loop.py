"""An event loop on virtual time, and the processes that live on it.

Everything that runs belongs to one `Process` or to the world itself (no process). Which one is told by a context
variable that each task and callback inherits, and looked at right before every step: a step of a process that is dead
never runs, so no `finally` of a dead process acts; a step of a process that is stopped waits until it goes on. A
process can die before any step (so at every await) and, through `Process.write`, around any write to the world.

Nothing real is waited for: time jumps to the next timer, the only executor is the outbox's, and it is simulated too.
The order of steps depends on nothing but the program: ties go by age, and tasks and futures hash by their number, so a
set of them is walked in the same order in every run.
"""

import asyncio
import contextlib
import contextvars
import gc
import heapq
import math
import sys
import warnings
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Never

PROCESS: contextvars.ContextVar["Process"] = contextvars.ContextVar("process")


class Died(BaseException):
    """Unwinds the step in which its process died. No ordinary handler catches it, and nothing it unwinds can act."""


class Stuck(KeyboardInterrupt):
    """Ends a world that does not end by itself. Of its kind because asyncio lets only such through its tasks."""


STILL_STEPS = 200_000
"""A whole world takes some ten thousand steps; so many at one instant are a loop without an end."""


class Process:
    """One run of a program on one machine: alive, stopped or dead, with clocks of its own."""

    def __init__(self, loop: "VirtualLoop", name: str) -> None:
        self.loop = loop
        self.name = name
        self.alive = True
        self.stopped_at: float | None = None
        self.pauses: list[tuple[float, float]] = []
        """From when to when it stood still."""

        self.steps = 0
        self.crash_in: int | None = None
        """Dies before its so-manieth step or write from now."""

        self.slept = 0.0
        """Seconds that its monotonic clock does not count: the machine was asleep."""

        self.wall_offset = 0.0
        self.on_death: Callable[[], None] | None = None
        self.context = contextvars.copy_context()
        self.context.run(PROCESS.set, self)
        self.held: list[Handle] = []
        self.signals: dict[int, Handle] = {}
        self._kept: list[object] = []
        loop.processes.append(self)

    def __repr__(self) -> str:
        return f"<{self.name}>"

    # Clocks

    def monotonic(self) -> float:
        """CLOCK_MONOTONIC: stands still while the machine sleeps, goes on while the process is stopped."""
        return self.loop.now - self.slept

    def boot(self) -> float:
        """CLOCK_BOOTTIME: never stands still."""
        return self.loop.now

    def wall(self) -> float:
        """Seconds since the epoch as this machine believes them."""
        return self.loop.epoch + self.loop.now + self.wall_offset

    # Life and death

    def run(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> "asyncio.Task[Any]":
        """Start a task of this process."""
        return self.context.run(lambda: self.loop.create_task(make()))

    def check(self) -> None:
        """Raise `Died` if this process is dead: called by everything through which it could act."""
        if not self.alive:
            raise Died

    def write(self) -> None:
        """A write to the world is about to be made, or was just made: the process may die here."""
        self.check()
        self._count()
        self.check()

    def step(self) -> bool:
        """Before each step: may it run?"""
        if self.alive:
            self.steps += 1
            if self.crash_in is not None:
                self._count()
        return self.alive

    def _count(self) -> None:
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in < 0:
                self.die()

    def die(self) -> None:
        """SIGKILL. What it had begun stays where it is; nothing of it runs again."""
        if not self.alive:
            return
        self.alive = False
        self.crash_in = None
        self.held.clear()
        # Kept until the world is over: a coroutine that is collected would run its `finally`.
        self._kept += [
            task for task in asyncio.all_tasks(self.loop) if isinstance(task, SimTask) and task.process is self
        ]
        if self.on_death is not None:
            self.on_death()

    def stop(self) -> None:
        """SIGSTOP, or the machine falls asleep: no step until `go_on`."""
        if self.alive and self.stopped_at is None:
            self.stopped_at = self.loop.now

    def stood_still(self, since: float, until: float) -> bool:
        """At any moment between the two."""
        stops = self.pauses if self.stopped_at is None else [*self.pauses, (self.stopped_at, math.inf)]
        return any(begun <= until and ended >= since for begun, ended in stops)

    def go_on(self, *, slept: bool) -> None:
        """SIGCONT, or the machine wakes up: then its monotonic clock and all its timers have stood still."""
        since, self.stopped_at = self.stopped_at, None
        if since is None or not self.alive:
            return
        self.pauses.append((since, self.loop.now))
        held, self.held = self.held, []
        if slept:
            self.slept += self.loop.now - since
            held = self.loop.shift(self, self.loop.now - since, held)
        self.loop.ready.extend(held)

    def signal(self, number: int) -> None:
        """Deliver a signal to its handler."""
        if self.alive and number in self.signals:
            self.loop.ready.append(self.signals[number])

    def forget(self) -> None:
        """The world is over."""
        self._kept.clear()
        self.held.clear()
        self.signals.clear()


class Handle:
    """What `asyncio.Handle` is for, without what only a debugger reads; it knows its process."""

    __slots__ = ("_args", "_callback", "_cancelled", "_context", "process")

    def __init__(
        self,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        context: contextvars.Context,
        process: "Process | None",
    ) -> None:
        self._callback: Any = callback
        self._args = args
        self._context = context
        self._cancelled = False
        self.process = process

    def cancel(self) -> None:
        """It is dropped when its turn comes; what it holds is dropped now."""
        self._cancelled = True
        self._callback = None
        self._args = ()

    def cancelled(self) -> bool:
        """Will it not run?"""
        return self._cancelled


class TimerHandle(Handle):
    """A handle whose turn is at some time of its process's monotonic clock."""

    __slots__ = ("_when",)

    def __init__(
        self,
        when: float,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        context: contextvars.Context,
        process: "Process | None",
    ) -> None:
        self._callback = callback
        self._args = args
        self._context = context
        self._cancelled = False
        self.process = process
        self._when = when

    def when(self) -> float:
        """On the clock of its process."""
        return self._when


class _Numbered:
    """Hashes by its number, so that sets of tasks and futures are walked in the same order in every run."""

    number: int

    def __hash__(self) -> int:
        return self.number


class SimFuture(_Numbered, asyncio.Future):  # type: ignore[type-arg]
    """A future with a number."""


class SimTask(_Numbered, asyncio.Task):  # type: ignore[type-arg]
    """A task with a number."""

    def __init__(self, coro: Any, *, loop: "VirtualLoop", name: Any = None, context: Any = None) -> None:
        loop.serial += 1
        self.number = loop.serial
        self.process = context.get(PROCESS) if context is not None else PROCESS.get(None)
        super().__init__(coro, loop=loop, name=name or f"t{self.number}", context=context)
        self._log_destroy_pending = False


@contextlib.contextmanager
def quiet_death() -> Iterator[None]:
    """Coroutines of processes that were killed may be collected inside."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # "… was never awaited".
            yield
            gc.collect()
    finally:
        sys.unraisablehook = hook


_Base: Any = asyncio.AbstractEventLoop
"""As an untyped name: of its many methods asyncio's tasks need the few below."""


class VirtualLoop(_Base):  # type: ignore[misc]
    """Runs `ready` first come, first served; then time jumps to the next timer."""

    def __init__(self, epoch: float = 1_800_000_000.0) -> None:
        self.now = 0.0
        self.epoch = epoch
        """Wall clock of a machine without fault at virtual time 0."""

        self.serial = 0
        self.steps = 0
        self.stuck_at = STILL_STEPS
        """So many steps without virtual time moving on, and the world is ended."""

        self.ready: deque[Handle] = deque()
        self.timers: list[tuple[float, int, TimerHandle]] = []
        self.errors: list[tuple[str, BaseException | None]] = []
        """What nobody caught in a living process, or in the world itself."""

        self.disk: Callable[[Callable[..., Any], tuple[Any, ...]], Any] = lambda func, args: func(*args)
        self.disk_seconds: Callable[[], float] = lambda: 0.001
        """How long a commit of the outbox takes."""

        self.processes: list[Process] = []
        self.over = False

    # What asyncio asks for

    get_debug = staticmethod(bool)
    """Never. Each future asks for it; `bool()` is the quickest no."""

    def is_running(self) -> bool:
        """For tasks that end themselves."""
        return not self.over

    def is_closed(self) -> bool:
        """Over is closed."""
        return self.over

    def time(self) -> float:
        """Monotonic clock of whoever asks."""
        process = PROCESS.get(None)
        return self.now - process.slept if process is not None else self.now

    def create_future(self) -> "asyncio.Future[Any]":
        """A future with a number."""
        future: asyncio.Future[Any] = SimFuture(loop=self)
        self.serial += 1
        future.number = self.serial  # type: ignore[attr-defined]
        return future

    def create_task(
        self, coro: Any, *, name: str | None = None, context: contextvars.Context | None = None
    ) -> "asyncio.Task[Any]":
        """A task with a number."""
        return SimTask(coro, loop=self, name=name, context=context)

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None) -> Handle:
        """At the end of the queue."""
        if context is None:
            handle = Handle(callback, args, contextvars.copy_context(), PROCESS.get(None))
        else:
            handle = Handle(callback, args, context, context.get(PROCESS))
        self.ready.append(handle)
        return handle

    def call_soon_threadsafe(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> Never:
        """There are no threads."""
        raise AssertionError("the simulation has no threads")

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> TimerHandle:
        """After so many seconds."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> TimerHandle:
        """At this time of the asker's monotonic clock."""
        if context is None:
            context, process = contextvars.copy_context(), PROCESS.get(None)
        else:
            process = context.get(PROCESS)
        at = when + process.slept if process is not None else when
        handle = TimerHandle(when, callback, args, context, process)
        self.serial += 1
        heapq.heappush(self.timers, (at if at > self.now else self.now, self.serial, handle))
        return handle

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":
        """The outbox's thread: the commit happens after a while, if the process lives to see it."""
        if not getattr(executor, "simulated", False):
            raise AssertionError(f"{func} would run in a real thread")
        future = self.create_future()

        def job() -> None:
            try:
                result = self.disk(func, args)
            except Exception as error:  # noqa: BLE001  # As an executor does.
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        self.call_later(self.disk_seconds(), job)
        return future

    async def getaddrinfo(self, host: str, port: int, **_: object) -> list[tuple[Any, ...]]:
        """Every host is its own address."""
        return [(None, None, None, "", (host, port))]

    def add_signal_handler(self, sig: int, callback: Callable[..., Any], *args: Any) -> None:
        """Of the process that asks."""
        PROCESS.get().signals[sig] = Handle(callback, args, contextvars.copy_context(), PROCESS.get())

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What nobody caught."""
        if not self.over:
            self.errors.append((str(context.get("message")), context.get("exception")))

    # Running

    def run(self, until: float) -> None:
        """Run everything that is due up to this time."""
        asyncio._set_running_loop(self)
        try:
            self._run(until)
        finally:
            asyncio._set_running_loop(None)

    def _run(self, until: float) -> None:  # noqa: C901, PLR0912  # One piece: it runs ten thousand times per world.
        ready, timers, pop = self.ready, self.timers, heapq.heappop
        while True:
            while ready:
                handle = ready.popleft()
                if handle._cancelled:
                    continue
                process = handle.process
                if process is not None:
                    if process.stopped_at is not None:
                        process.held.append(handle)
                        continue
                    if not process.step():
                        continue
                self.steps += 1
                if self.steps > self.stuck_at:
                    raise Stuck(f"{STILL_STEPS} steps at one instant, t={self.now:.3f}: {handle._callback}")
                try:
                    handle._context.run(handle._callback, *handle._args)
                except Died:
                    pass
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # noqa: BLE001  # Told by the checks.
                    self.errors.append((f"in {handle._callback}", error))
            if not timers or timers[0][0] > until:
                self.now = max(self.now, until)
                return
            at, _, timer = pop(timers)
            if not timer._cancelled:
                if at > self.now:
                    self.now = at
                    self.stuck_at = self.steps + STILL_STEPS
                ready.append(timer)

    def finish(self) -> None:
        """The world is over: everything that waits is dropped, and its `finally` blocks find nobody to act for.

        Use inside `quiet_death`: Python tells of each coroutine that does not end as it should.
        """
        self.over = True
        for process in self.processes:
            process.die()
        self.ready.clear()
        self.timers.clear()
        for process in self.processes:
            process.forget()
        self.processes.clear()
        gc.collect()

    def shift(self, process: Process, by: float, held: list[Handle]) -> list[Handle]:
        """The timers of this process have stood still for so long; returns what of `held` is no timer."""
        moved: list[tuple[float, int, TimerHandle]] = []
        for at, serial, handle in self.timers:
            late = by if handle.process is process else 0.0
            moved.append((at + late, serial, handle))
        rest: list[Handle] = []
        for one in held:
            if isinstance(one, TimerHandle):
                self.serial += 1
                moved.append((max(self.now, one.when() + process.slept), self.serial, one))
            else:
                rest.append(one)
        heapq.heapify(moved)
        self.timers[:] = moved
        return rest
