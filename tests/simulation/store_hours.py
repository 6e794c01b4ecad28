"""Calling hours in memory: supabase/migrations/…1900, function by function.

The week itself is read by `adapter.core.hours`; tests/supabase/test_hours.py holds the database's reading against that.
"""

import math
from datetime import UTC, datetime
from typing import NamedTuple

from adapter.core import hours
from tests.simulation.store_tables import DAY, MONTH, NO_LANE, Row, Tables, hours_zones

PUT_OFF = 50
"""Rows that one claim puts off at most."""


class Said(NamedTuple):
    """As the out columns of `call_rule_hours`."""

    why: str | None = None
    until: float | None = None


class Lane(NamedTuple):
    """As those of `call_hours_lane`."""

    zones: list[str] | None
    until: float | None
    most: int


def week_of(tables: Tables, user: str, lane: str) -> hours.Week | None:
    """As `call_hours_week`."""
    found = (tables.hours.get(at) for at in (("all", NO_LANE), ("user", user), ("campaign", lane)))
    return hours.met(hours.united(windows) for windows in found if windows)


def opening(tables: Tables, row: Row, at: float) -> float | None:
    """As `call_hours_opening`."""
    week, (starts_at, ends_at) = week_of(tables, row.user_id, row.lane), _dates(tables, row.lane)
    found: float | None = max(at, starts_at)
    if week is not None:
        zones = hours_zones(tables, row.user_id, row.zones)
        if zones is None or found is None:
            return None
        found = hours.next_turn(week, zones, found, opening=True)
    return None if found is None or found >= ends_at else found


def after(tables: Tables, row: Row, at: float) -> float:
    """As `call_hours_after`."""
    found = opening(tables, row, at)
    return at if found is None else found


def rule(tables: Tables, row: Row, now: float) -> Said:
    """As `call_rule_hours`."""
    week, (starts_at, ends_at) = week_of(tables, row.user_id, row.lane), _dates(tables, row.lane)
    if ends_at <= now:
        return Said(f"its campaign ended on {_minute(ends_at)}")
    at: float | None = max(now, starts_at)
    zones: list[str] | None = []
    if week is not None and at is not None:
        zones = hours_zones(tables, row.user_id, row.zones)
        if zones is None:
            return Said(
                "its time zone is not known, so its calling hours cannot be kept: give the row a callee_zone, or its "
                "user a zone in call_user_zones"
            )
        at = hours.next_turn(week, zones, at, opening=True)
    where = " and ".join(zones or ())
    if at is None:
        return Said(f"its calling hours do not open within a month in {where}")
    return Said() if at == now else _later(row, at, where, starts_at if starts_at > now else None, ends_at)


def _later(row: Row, at: float, where: str, starts_at: float | None, ends_at: float) -> Said:
    if at >= ends_at:
        return Said("its campaign ends before its calling hours open again")
    if at >= row.created_at + MONTH:
        return Said("its calling hours open later than 30 days after it was inserted")
    if starts_at is not None:
        return Said(f"its campaign begins on {_minute(starts_at)}", at)
    return Said(f"outside its calling hours in {where}", at)


def shut(tables: Tables, row: Row, start: float, end: float) -> list[tuple[float, float]]:
    """As `call_hours_shut`."""
    week, (starts_at, _) = week_of(tables, row.user_id, row.lane), _dates(tables, row.lane)
    zones = hours_zones(tables, row.user_id, row.zones)
    found = []
    if start < starts_at:
        found.append((start, starts_at))
        start = starts_at
    if week is None or zones is None:
        return found
    return found + hours.shut_stretches(week, zones, start, end)


def lane(tables: Tables, user: str, name: str, most: int, now: float) -> Lane:
    """As `call_hours_lane`."""
    told = any(at[1] in {NO_LANE, user, name} for at, windows in tables.hours.items() if windows)
    if not told and name not in tables.dates:
        return Lane(None, None, most)
    waiting = [
        row for row in tables.open.values() if row.status == "queued" and row.user_id == user and row.lane == name
    ]
    zones: list[str] = []
    until: float | None = None
    for zone in sorted({row.zones for row in waiting}):
        mine = [row for row in waiting if row.zones == zone]
        said = rule(tables, _aged(mine[0], now), now)
        if said.until is None:
            zones.append(zone)
            continue
        until = said.until if until is None else min(until, said.until)
        due = [row for row in mine if row.not_before <= now]
        due.sort(key=lambda row: (-row.priority, row.not_before, row.id))
        for row in due[: max(most, 0)]:
            _put_off(tables, row, said, now)
        most -= min(len(due), max(most, 0))
    return Lane(zones, until, most)


def due(tables: Tables, user: str, name: str, found: Lane) -> float | None:
    """As `call_hours_due`."""
    waiting = [
        row.not_before
        for row in tables.open.values()
        if row.status == "queued" and row.user_id == user and row.lane == name
        if found.zones is None or row.zones in found.zones
    ]
    return min((*waiting, *(() if found.until is None else (found.until,))), default=None)


def _put_off(tables: Tables, row: Row, said: Said, now: float) -> None:
    assert said.until is not None
    changes: dict[str, object] = {
        "not_before": said.until, "wait_reason": said.why, "handed_to": None, "updated_at": now,
    }  # fmt: skip
    paused = any(user == row.user_id and (ended is None or ended > now - DAY) for user, _, ended in tables.pauses)
    paused = paused or any(stop.ended is None or stop.ended > now - DAY for stop in tables.stops.values())
    if not row.expires_fixed and row.expires_at > now and not paused:
        since = max(row.expires_at - DAY, -math.inf if row.clock_at is None else row.clock_at)
        stood = shut(tables, row, now - DAY, said.until)
        expires_at = row.expires_at + sum(max(ended - max(began, since), 0.0) for began, ended in stood)
        clock_at = max(said.until, -math.inf if row.clock_at is None else row.clock_at)
        changes |= {"expires_at": min(expires_at, row.created_at + MONTH), "clock_at": clock_at}
    tables.update(row, now, changes, at_work=True)


def _aged(row: Row, now: float) -> Row:
    new = object.__new__(Row)
    new.__dict__.update(row.__dict__)
    new.created_at = now
    return new


def _dates(tables: Tables, name: str) -> tuple[float, float]:
    starts_at, ends_at = tables.dates.get(name, (None, None))
    return -math.inf if starts_at is None else starts_at, math.inf if ends_at is None else ends_at


def _minute(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
