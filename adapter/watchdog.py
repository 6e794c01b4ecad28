"""The last guard: a process that no longer moves ends itself, so that the restart policy can help.

Two ways of hanging are watched. A task that stops turning (its `beat` grows old) and an event loop that stops turning
(the watchdog's own beat grows old, seen from a thread). Both end the process with code 70 after saying which one it
was. Nothing is lost by that: outcomes are in the outbox, live calls go on at the PBX and are found again.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from adapter.exits import EXIT_WEDGED
from adapter.log import say

log = logging.getLogger(__name__)

LIMIT_SECONDS = 120.0
"""Oldest beat that is still alive: the longest legitimate wait is a request of about 20 s plus its back-off."""

LOOK_SECONDS = 5.0
"""How often the beats are looked at: small against the limit."""


class Wedged(RuntimeError):
    """A task has not turned for `LIMIT_SECONDS`."""


@dataclass(slots=True)
class Watchdog:
    """Collects beats by name; `run` raises `Wedged` when one is too old."""

    limit: float = LIMIT_SECONDS
    look: float = LOOK_SECONDS
    clock: Callable[[], float] = time.monotonic
    leave: Callable[[int], None] = os._exit
    _beats: dict[str, float] = field(default_factory=dict)

    def beat(self, name: str) -> None:
        """The task `name` turned just now."""
        self._beats[name] = self.clock()

    def forget(self, name: str) -> None:
        """The task `name` has ended as it should."""
        self._beats.pop(name, None)

    async def run(self) -> None:
        """Watch until canceled, from inside the loop and from a thread; raises `Wedged`."""
        stopped = threading.Event()
        self.beat("loop")
        thread = threading.Thread(target=self._watch_loop, args=(stopped,), name="watchdog", daemon=True)
        thread.start()
        try:
            await self.watch_tasks()
        finally:
            stopped.set()

    async def watch_tasks(self) -> None:
        """The half that turns in the loop itself; raises `Wedged`."""
        while True:
            await asyncio.sleep(self.look)
            self.beat("loop")
            now = self.clock()
            late = [name for name, at in self._beats.items() if now - at > self.limit]
            if late:
                raise Wedged(f"no sign of life from {', '.join(sorted(late))} for {self.limit:.0f} s")

    def _watch_loop(self, stopped: threading.Event) -> None:
        while not stopped.wait(self.look):
            if self.clock() - self._beats.get("loop", self.clock()) > self.limit:
                say(log, logging.CRITICAL, "loop.wedged", "The event loop hangs; leaving so that a restart can help")
                self.leave(EXIT_WEDGED)
                return
