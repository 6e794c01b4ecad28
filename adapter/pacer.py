"""Keeps the pace: asked before a row is taken out of its queue, and again in the last step before it is written.

Only the second question is the guarantee. Between the two lie a disk, the window of Originates and a loop that may
stand still, and what was spaced when it was planned can be written in one instant. So the time since the last write
counts at the socket: from after it to before the next one, with no await between the question and the bytes.
"""

from collections.abc import Callable, Iterable

from adapter.core.model import Way
from adapter.core.pace import SECOND, Pace, Turns, ahead
from adapter.pbx.stopwatch import Stopwatch

LEAST_WAIT = 0.001
"""A shorter one is not waited for exactly: a clock that is asked again in the same instant would never be there."""


class Pacer:
    """All of one adapter's turns. One adapter dials through a PBX, so they are all turns of that PBX."""

    def __init__(
        self, *, calls_per_second: float, stopwatch: Stopwatch, clock: Callable[[], float], since: float
    ) -> None:
        """`since`: when this process had the lock of its folder, after which no earlier one wrote."""
        self._clock = clock
        self._stopwatch = stopwatch
        self._pace = Pace.begin(calls_per_second, since)
        self._planned = Turns(since=since)
        self._written = Turns(since=since)
        self._writing: str | None = None
        self._limits: dict[str, float | None] = {}

    @property
    def pace(self) -> Pace:
        """The rate in all, as it is now."""
        now = self._clock()
        if now - self._pace.stepped_at >= SECOND or self._stopwatch.session != self._pace.session:
            self._pace = self._pace.after(self._stopwatch.reading(), now)
        return self._pace

    def know(self, ways: Iterable[Way]) -> None:
        """Limits of trunks. The one of the settings has none of its own: CALLS_PER_SECOND is its limit."""
        self._limits.update({way.id: way.calls_per_second for way in ways})

    def until(self, trunk: str) -> float:
        """Seconds until a call through this trunk should be taken in hand."""
        return max(self._wait(self._planned, trunk), self._wait(self._written, trunk))

    def take(self, trunk: str) -> None:
        """One is taken in hand."""
        self._planned = self._planned.after(trunk, self._clock())

    def turn(self, trunk: str) -> float | None:
        """The last question: None, and the bytes must follow without an await; or seconds after which to ask again."""
        self._settle()
        if (wait := self._wait(self._written, trunk)) > 0:
            return wait
        self._written = self._written.after(trunk, self._clock())
        self._writing = trunk
        return None

    def room(self) -> int:
        """Calls that can begin within a second."""
        self._settle()
        now, rate = self._clock(), self.pace.rate
        wait = self._written.wait(now, rate=rate, trunk="", trunk_rate=None)
        return ahead(wait, rate)

    def trunk_room(self, trunk: str) -> int:
        """Calls that can begin through this trunk within a second."""
        self._settle()
        limit = self._limits.get(trunk)
        rate = self.pace.rate if limit is None else min(limit, self.pace.rate)
        return ahead(self._wait(self._written, trunk), rate)

    def _wait(self, turns: Turns, trunk: str) -> float:
        wait = turns.wait(self._clock(), rate=self.pace.rate, trunk=trunk, trunk_rate=self._limits.get(trunk))
        return max(wait, LEAST_WAIT) if wait > 0 else 0.0

    def _settle(self) -> None:
        """The write of the last turn is over by now; the gap begins with its end."""
        if self._writing is not None:
            ended = self._stopwatch.wrote_at
            if self._written.latest is not None and ended > self._written.latest:
                self._written = self._written.after(self._writing, ended)
            self._writing = None
