"""How fast calls are begun: turns that no window of a second can overrun, and a rate that follows how late the PBX is.

Two things that need not know of each other:

`Turns`  keeps a gap between any two calls, in all and on each trunk: 1 / rate seconds from the end of one write to the
         beginning of the next. A gap that was missed is not made up for, so a stall is followed by no burst.
`Pace`   is the rate in all. It starts low, grows while the PBX shows first legs in time, and is halved when it shows
         them late. An Asterisk over its limit refuses nothing and loses nothing, it only becomes late: call life grows
         from 1.5 to 7 s, the Response to the Originate stays below a millisecond.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

SECOND = 1.0
"""The window in which a limit counts; also how far ahead is claimed, and how often the rate is looked at."""

LATE_SECONDS = 0.25
"""A PBX is late when nine in ten first legs are not there so soon after the shortest seen on this connection (the way
there and back, and an idle PBX). Below its knee 99 in 100 come within 0.16 s, beyond it the middle one takes 0.25 to
0.7 s."""

WAITING_SECONDS = 1.0
"""A call without any sign for so long counts as late before it comes: a PBX that stands still shows nothing."""

PONG_SECONDS = 15.0
"""So long an answer to a ping tells something: one is asked for every ten seconds."""

LOOK_BACK_SECONDS = 30.0
"""Older calls tell nothing about the PBX of now."""

SAMPLES = 40
"""Calls looked back at, less than a second of them at the knee of a fast PBX."""

ENOUGH = 5
"""Calls that must have told something before the rate is lowered: one late call alone is an accident."""

START_SHARE = 0.25
"""Of the limit after a start of the process, of the PBX or of the link: what has just come up is still loading."""

SLOWED_SHARE = 0.5
"""Of the rate that was too fast. Halving empties whatever queue has built up within the time in which it built up."""

LEAST_SHARE = 0.05
"""Of the limit: never slower, so that there is always a call that can tell that the PBX is in time again."""

LEAST_RATE = 0.1
"""Calls a second: as LEAST_SHARE, where the limit is small. It is the least that CALLS_PER_SECOND may be."""

GROWTH = 0.1
"""Of the limit, each second in which calls were in time: from a quarter to all of it in eight seconds."""

NEAR_SHARE = 0.7
NEAR_GROWTH = 0.01
"""Of the limit a second, from 0.7 of the rate that was too fast on: what was too much a moment ago is probed slowly."""

KNEE_SECONDS = 300.0
"""So long that rate is remembered. What slowed the PBX (a backup, a storm of calls from others) is mostly over then."""


IDLE_SECONDS = 10.0
"""After so long without a call the rate recovers by time alone; at LEAST_RATE there is one in ten seconds."""


class Sign(StrEnum):
    """What the latest calls say about the PBX."""

    LATE = "late"
    IN_TIME = "in time"
    IDLE = "idle"
    """No call for a while: the rate may recover by time alone."""

    UNCLEAR = "unclear"
    """Too few have told, or some are late: wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The first sign of one call: `seconds` after its Originate was written at `at`."""

    at: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the stopwatch at the socket shows."""

    session: int = 0
    """Number of the connection: another one means that link or PBX have just come up."""

    samples: tuple[Sample, ...] = ()
    """The latest ones, in the order in which they came."""

    waiting: tuple[float, ...] = ()
    """When the calls were written that have shown no sign."""

    least: float = 0.0
    """The shortest sample of this connection."""

    pong: Sample | None = None
    """The latest answer to a ping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The rate in all, now."""

    limit: float
    """CALLS_PER_SECOND."""

    rate: float
    stepped_at: float
    slowed_at: float = -math.inf
    late: float | None = None
    """How late the PBX was when it was slowed down for; None: it is not slowed down."""

    knee: float | None = None
    """The rate that was too fast last; of several cuts in a row the first tells it."""

    grown: bool = True
    """The rate has risen since it was cut."""

    session: int = 0

    @classmethod
    def begin(cls, limit: float, now: float) -> "Pace":
        """After a start."""
        return cls(limit=limit, rate=max(least(limit), limit * START_SHARE), stepped_at=now)

    @property
    def words(self) -> str | None:
        """For the operator while it is slowed down."""
        if self.late is None:
            return None
        return (
            f"slowed to {self.rate:.3g} calls a second since the PBX answers late "
            f"(p90 {self.late * 1000:.0f} ms; the limit is {self.limit:g})"
        )

    def after(self, reading: Reading, now: float) -> "Pace":
        """The pace at this moment, looked at once a second."""
        if reading.session != self.session:
            return replace(Pace.begin(self.limit, now), session=reading.session)
        passed = now - self.stepped_at
        if passed < SECOND:
            return self
        sign, late = judge(reading, self.slowed_at, now)
        if sign is Sign.LATE:
            return replace(
                self,
                rate=max(least(self.limit), self.rate * SLOWED_SHARE),
                knee=self.rate if self.grown or self.knee is None else self.knee,
                grown=False,
                late=late,
                slowed_at=now,
                stepped_at=now,
            )
        if sign is Sign.UNCLEAR:
            return replace(self, stepped_at=now)
        rate = min(self.limit, self.rate + self._growth(now) * passed)
        late_still = None if rate >= self.limit else self.late
        return replace(self, rate=rate, grown=True, late=late_still, stepped_at=now)

    def _growth(self, now: float) -> float:
        known = self.knee is not None and now - self.slowed_at < KNEE_SECONDS
        near = known and self.knee is not None and self.rate >= self.knee * NEAR_SHARE
        return self.limit * (NEAR_GROWTH if near else GROWTH)


def least(limit: float) -> float:
    """The slowest rate under this limit."""
    return min(limit, max(LEAST_RATE, limit * LEAST_SHARE))


def judge(reading: Reading, since: float, now: float) -> tuple[Sign, float]:
    """What the calls written after `since` say, and how long nine in ten of them took. What was written before, at a
    rate that is no more, would lower the rate twice for one jam."""
    fresh = max(since, now - LOOK_BACK_SECONDS)
    waits = [now - at for at in reading.waiting if at > fresh]
    took = [sample.seconds for sample in reading.samples if sample.at > fresh][-SAMPLES:]
    overdue = [wait for wait in waits if wait > WAITING_SECONDS]
    pong = reading.pong
    slow_pong = pong is not None and pong.at > max(since, now - PONG_SECONDS) and pong.seconds > LATE_SECONDS
    told = sorted([*took, *overdue])
    bound = reading.least + LATE_SECONDS
    p90 = told[math.ceil(0.9 * len(told)) - 1] if told else 0.0
    if slow_pong and pong is not None and (told or waits):
        return Sign.LATE, max(p90, pong.seconds)
    if len(told) >= ENOUGH and p90 > bound:
        return Sign.LATE, p90
    if not reading.waiting and all(sample.at < now - IDLE_SECONDS for sample in reading.samples):
        return Sign.IDLE, 0.0
    return (Sign.IN_TIME if took and p90 <= bound else Sign.UNCLEAR), p90


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """When calls were begun, in all and on each trunk. `since`: nothing is known of the time before it."""

    since: float
    latest: float | None = None
    of: Mapping[str, float] = field(default_factory=dict)

    def wait(self, now: float, *, rate: float, trunk: str, trunk_rate: float | None) -> float:
        """Seconds until a call through this trunk may begin; 0: now.

        Whoever dialed before this was made (this very adapter, killed a moment ago) may have begun calls up to then at
        full speed. So the first one comes a whole window later, and no window holds calls of both.
        """
        free = self._free(self.latest, rate)
        if trunk_rate is not None:
            free = max(free, self._free(self.of.get(trunk), trunk_rate))
        return max(0.0, free - now)

    def after(self, trunk: str, now: float) -> "Turns":
        """One more has begun."""
        return replace(self, latest=now, of={**self.of, trunk: now})

    def _free(self, last: float | None, rate: float) -> float:
        return self.since + max(SECOND, 1 / rate) if last is None else last + 1 / rate


def ahead(wait: float, rate: float) -> int:
    """How many calls can begin within a second when the first one may after `wait`."""
    # A hair less: a turn that comes exactly at the end of the second is one of the next.
    return 0 if wait >= SECOND else 1 + math.floor((SECOND - wait) * rate - 1e-9)
