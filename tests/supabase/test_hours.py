"""Calling hours in the database, held against the same in Python, and as the claim keeps them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapter.core import hours
from adapter.core.hours import Week, Window
from tests.core.weeks import CHANGED, SCOPES, ZONES, around, instants
from tests.supabase.helpers import OTHER, USER, Desk

CAMPAIGN = "00000000-0000-4000-8000-0000000000cc"
_IDS = {"all": None, "user": USER, "campaign": CAMPAIGN}


async def keep(desk: Desk, scope: str, windows: Sequence[Window]) -> None:
    """These windows stand in the table."""
    await desk.connection.executemany(
        "insert into public.call_hours (scope, scope_id, days, from_time, to_time) values ($1, "
        "coalesce($2::text::uuid, '00000000-0000-0000-0000-000000000000'), $3, $4::text::time, $5::text::time)",
        [(scope, _IDS[scope], sorted(w.days), _time(w.start), _time(w.end)) for w in windows],
    )


def _time(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}"


def _seconds(found: datetime | None) -> float | None:
    return None if found is None else found.timestamp()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    scopes=SCOPES, zones=st.lists(st.sampled_from(ZONES), min_size=1, max_size=3), now=instants(), opening=st.booleans()
)
async def test_the_database_and_python_agree(
    desk: Desk, scopes: list[list[Window]], zones: list[str], now: float, opening: bool
) -> None:
    connection = desk.connection
    await connection.execute("delete from public.call_hours")
    for scope, windows in zip(_IDS, scopes, strict=False):
        await keep(desk, scope, windows)
    week = hours.met(hours.united(windows) for windows in scopes)
    assert week is not None
    found = await connection.fetchval(
        "select array(select array[lower(r), upper(r)] from unnest(public.call_hours_week($1, $2)) r)", USER, CAMPAIGN
    )
    assert _merged(found) == week
    answer = await connection.fetchval(
        "select public.call_hours_turn(public.call_hours_week($1, $2), $3, $4, $5)",
        USER, CAMPAIGN, zones, datetime.fromtimestamp(now, UTC), opening,
    )  # fmt: skip
    assert _seconds(answer) == hours.next_turn(week, zones, now, opening=opening)


@pytest.mark.parametrize(("zone", "change"), CHANGED)
async def test_they_agree_about_a_change_of_the_clock(desk: Desk, zone: str, change: datetime) -> None:
    ask = await desk.connection.prepare(
        "select public.call_hours_turn(int4multirange(int4range($1, $2)), array[$3], $4, $5)"
    )
    for week, now in around(zone, change):
        # Only the day of the change: it is a window of every day, and the others are no news.
        local = datetime.fromtimestamp(now, ZoneInfo(zone))
        start, end = week[local.weekday()]
        for opening in (True, False):
            answer = await ask.fetchval(start, end, zone, datetime.fromtimestamp(now, UTC), opening)
            assert _seconds(answer) == hours.next_turn(((start, end),), [zone], now, opening=opening)


def _merged(found: list[list[int]]) -> Week:
    """As `united`; PostgreSQL's multiranges never touch either."""
    return tuple((start, end) for start, end in found)


async def test_without_rows_there_are_no_hours(desk: Desk) -> None:
    await keep(desk, "user", [Window(days=frozenset({1}), start=0, end=3600)])
    week = "select public.call_hours_week($1, null)"
    assert await desk.connection.fetchval(week, OTHER) is None
    assert await desk.connection.fetchval(week, USER) is not None


@pytest.mark.parametrize(
    ("zone", "known"),
    [
        ("Asia/Kuala_Lumpur", True), ("America/Port-au-Prince", True), ("America/Argentina/Buenos_Aires", True),
        ("UTC", True), ("Etc/GMT+8", True), ("UTC+8", False), ("MYT", False), ("EST5EDT", False), ("Foo/Bar+8", False),
        ("Mars/Olympus", False), ("", False), (None, False), ("<a/b>-3", False), ("Asia/Kuala_Lumpur\n", False),
    ],
)  # fmt: skip
async def test_zones_by_name(desk: Desk, zone: str | None, known: bool) -> None:
    assert await desk.connection.fetchval("select public.call_zone_fits($1)", zone) is known


@pytest.mark.parametrize(
    ("phone_number", "zones"),
    [
        ("+60 12-345 6700", "Asia/Kuala_Lumpur"),
        ("+1 212-555-0100", "America/New_York"),
        ("+1 208-226-0100", "America/Denver"),
        ("+61 8 9000 1234", "Australia/Adelaide Australia/Perth"),
    ],
)
async def test_zones_of_numbers(desk: Desk, phone_number: str, zones: str) -> None:
    found = await desk.connection.fetchval(
        "select public.call_number_zones(n.e164, n.country, n.zone) from public.call_number_v1($1) n", phone_number
    )
    assert found == zones


async def test_a_number_that_tells_only_its_country_has_all_its_zones(desk: Desk) -> None:
    found = await desk.connection.fetchval(
        "select public.call_number_zones(n.e164, n.country, n.zone) from public.call_number_v1('+61 412 345 678') n"
    )
    assert {"Australia/Perth", "Australia/Brisbane", "Australia/Lord_Howe"} <= set(found.split())
