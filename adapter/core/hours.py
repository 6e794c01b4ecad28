"""When a person may be called: windows of the week by the clock of the place where the person is.

The database decides (call_hours in supabase/migrations); this is the same in Python, for the simulation, for commands,
and as a second opinion: both are asked the same by tests/supabase/test_hours.py. Instants are seconds since the epoch.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAY = 86400
WEEK_SECONDS = 7 * DAY

HORIZON_DAYS = 31
"""So far ahead an opening is looked for: a row ends 30 days after its insert in any case."""

_STEP = 8 * DAY
"""No place changes its clock twice within eight days, so looking so often finds every change."""

Week: TypeAlias = tuple[tuple[int, int], ...]
"""Open stretches in seconds since Monday 00:00 by the local clock, half open, in order, none touching the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Days of the week (1 is Monday), and seconds of the day from and to which calls may begin."""

    days: frozenset[int]
    start: int
    end: int

    def __post_init__(self) -> None:
        """Refuse what the table refuses. Over midnight are two windows, as it is not clear whose day the night is."""
        if not self.days or not self.days <= set(range(1, 8)):
            raise ValueError("the days of a window are 1 (Monday) to 7 (Sunday), at least one of them")
        if not 0 <= self.start < self.end <= DAY:
            raise ValueError("a window ends later on the same day; over midnight make two: 22:00-24:00 and 00:00-06:00")


def united(windows: Iterable[Window]) -> Week:
    """The windows of one scope: open in any of them."""
    spans = sorted(((day - 1) * DAY + w.start, (day - 1) * DAY + w.end) for w in windows for day in w.days)
    week: list[tuple[int, int]] = []
    for start, end in spans:
        if week and start <= week[-1][1]:
            week[-1] = week[-1][0], max(week[-1][1], end)
        else:
            week.append((start, end))
    return tuple(week)


def met(weeks: Iterable[Week]) -> Week | None:
    """Several scopes: open in all of them. None without any: always open."""
    result: Week | None = None
    for week in weeks:
        if result is None:
            result = week
        else:
            both = ((max(a, c), min(b, d)) for a, b in result for c, d in week)
            result = tuple(sorted(span for span in both if span[0] < span[1]))
    return result


def zone_known(name: str) -> bool:
    """Is there such a time zone?"""
    try:
        _zone(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def is_open(week: Week, zones: Sequence[str], at: float) -> bool:
    """May a call begin at this instant? In every one of the zones: it is not known in which the person is."""
    return all(_within(week, _local_second(zone, at)) for zone in zones)


def next_turn(week: Week, zones: Sequence[str], at: float, *, opening: bool) -> float | None:
    """The first instant from `at` on at which it is open (or shut), `at` included; None: not within a month."""
    if is_open(week, zones, at) is opening:
        return at
    edges = sorted({edge for zone in zones for edge in _edges(week, zone, at)})
    return next((edge for edge in edges if is_open(week, zones, edge) is opening), None)


def shut_stretches(week: Week, zones: Sequence[str], start: float, end: float) -> list[tuple[float, float]]:
    """When between these two it is shut; the last stretch goes on to its opening, or to `end` if there is none."""
    found = []
    at: float | None = start
    while at is not None and at < end:
        if is_open(week, zones, at):
            at = next_turn(week, zones, at, opening=False)
            continue
        until = next_turn(week, zones, at, opening=True)
        found.append((at, max(end, at) if until is None else until))
        at = until
    return found


def _within(week: Week, second: int) -> bool:
    return any(start <= second < end for start, end in week)


def _local_second(zone: str, at: float) -> int:
    local = datetime.fromtimestamp(math.floor(at), _zone(zone))
    return local.weekday() * DAY + local.hour * 3600 + local.minute * 60 + local.second


def _edges(week: Week, zone: str, at: float) -> Iterator[float]:
    """Instants within the horizon at which it may open or shut here: edges of windows, changes of the clock."""
    local = datetime.fromtimestamp(at, _zone(zone))
    monday = datetime(local.year, local.month, local.day, tzinfo=UTC) - timedelta(days=local.weekday())
    latest = at + HORIZON_DAYS * DAY
    for weeks in range(HORIZON_DAYS // 7 + 2):
        for edge in {edge for span in week for edge in span}:
            wall = monday.timestamp() + weeks * WEEK_SECONDS + edge
            # An hour that comes twice has both; in one that does not come the change itself is the edge.
            for offset in {_offset(zone, wall - DAY), _offset(zone, wall + DAY)}:
                if at < wall - offset <= latest:
                    yield wall - offset
    for step in range(4):
        before, after = at + step * _STEP, at + (step + 1) * _STEP
        if _offset(zone, before) != _offset(zone, after):
            change = _change(zone, before, after)
            if change <= latest:
                yield change


def _change(zone: str, before: float, after: float) -> float:
    """The instant between these two at which the clock changes."""
    first, last = math.floor(before), math.ceil(after)
    while last - first > 1:
        middle = (first + last) // 2
        if _offset(zone, middle) == _offset(zone, first):
            first = middle
        else:
            last = middle
    return float(last)


def _offset(zone: str, at: float) -> int:
    local = datetime.fromtimestamp(math.floor(at), _zone(zone))
    return int(local.replace(tzinfo=UTC).timestamp()) - math.floor(at)


@lru_cache(maxsize=512)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
