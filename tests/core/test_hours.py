"""Hours: against a look at every minute, and by hand where the clock is changed."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter.core.hours import Week, Window, is_open, met, next_turn, shut_stretches, united, zone_known
from tests.core.weeks import CHANGED, WEEKS, ZONES, around, instants

ALL = frozenset(range(1, 8))
HOUR = 3600


def at(zone: str, text: str, fold: int = 0) -> float:
    """The instant at which the clock of this zone shows this; `fold` 1: the second time."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def window(start: float, end: float, days: frozenset[int] = ALL) -> Week:
    """One window, in hours of the day."""
    return united([Window(days=days, start=round(start * HOUR), end=round(end * HOUR))])


def opening(week: Week, zone: str, now: float) -> float | None:
    return next_turn(week, [zone], now, opening=True)


@settings(max_examples=150, deadline=None)
@given(week=WEEKS, zones=st.lists(st.sampled_from(ZONES), min_size=1, max_size=3), now=instants())
def test_the_next_turn_is_the_first_minute_that_is_so(week: Week, zones: list[str], now: float) -> None:
    for wanted in (True, False):
        found = next_turn(week, zones, now, opening=wanted)
        assert found is None or is_open(week, zones, found) is wanted
        # Edges and changes of the clock lie on whole minutes in these years. A week is looked at.
        last = now + 7 * 86400 if found is None else min(found, now + 7 * 86400)
        first = now - now % 60 + 60
        minutes = range(int(first), int(last), 60)
        assert not [minute for minute in minutes if minute < last and is_open(week, zones, minute) is wanted]


@pytest.mark.parametrize(("zone", "change"), CHANGED)
def test_about_a_change_of_the_clock_too(zone: str, change: datetime) -> None:
    for week, now in around(zone, change):
        for wanted in (True, False):
            found = next_turn(week, [zone], now, opening=wanted)
            minutes = (now + 60 * minute for minute in range(3 * 1440))
            assert found == next((minute for minute in minutes if is_open(week, [zone], minute) is wanted), None)


@settings(max_examples=100, deadline=None)
@given(week=WEEKS, zones=st.lists(st.sampled_from(ZONES), min_size=1, max_size=2), now=instants())
def test_shut_stretches_are_shut_and_the_rest_is_open(week: Week, zones: list[str], now: float) -> None:
    stretches = shut_stretches(week, zones, now, now + 86400)
    for minute in range(int(now - now % 60 + 60), int(now + 86400), 600):
        assert is_open(week, zones, minute) is not any(start <= minute < end for start, end in stretches)


def test_spring_a_window_that_begins_in_the_hour_that_does_not_come_opens_when_the_clock_jumps() -> None:
    zone = "America/New_York"  # 2026-03-08: 02:00 becomes 03:00.
    assert opening(window(2.5, 5), zone, at(zone, "2026-03-08T00:00")) == at(zone, "2026-03-08T03:00")
    assert opening(window(2.25, 2.75), zone, at(zone, "2026-03-08T00:00")) == at(zone, "2026-03-09T02:15")


def test_autumn_an_hour_that_comes_twice_is_open_twice() -> None:
    zone, week = "America/New_York", window(1.25, 1.5)  # 2026-11-01: 02:00 becomes 01:00.
    first, second = at(zone, "2026-11-01T01:15"), at(zone, "2026-11-01T01:15", fold=1)
    assert second - first == HOUR
    assert opening(week, zone, first - 1) == first
    assert opening(week, zone, first + 900) == second
    late = window(1.25, 3)
    assert next_turn(late, [zone], first, opening=False) == at(zone, "2026-11-01T02:00", fold=1) - HOUR
    assert opening(late, zone, at(zone, "2026-11-01T01:00", fold=1)) == second


@pytest.mark.parametrize(
    ("zone", "now", "expected"),
    [
        ("Australia/Lord_Howe", "2026-10-04T00:00", "2026-10-04T02:30"),  # 02:00 becomes 02:30.
        ("Pacific/Apia", "2011-12-29T23:00", "2011-12-31T02:10"),  # There was no 30th.
        ("Africa/Casablanca", "2026-02-15T00:00", "2026-02-15T02:10"),  # 03:00 becomes 02:00 for Ramadan.
        ("Asia/Kuala_Lumpur", "2026-10-04T00:00", "2026-10-04T02:10"),
    ],
)
def test_other_places(zone: str, now: str, expected: str) -> None:
    assert opening(window(2 + 1 / 6, 4), zone, at(zone, now)) == at(zone, expected)


def test_several_zones_are_open_only_together() -> None:
    zones = ["America/New_York", "America/Los_Angeles"]
    now = at("America/New_York", "2026-06-01T09:00")
    assert next_turn(window(9, 18), zones, now, opening=True) == at("America/Los_Angeles", "2026-06-01T09:00")
    assert next_turn(window(9, 11), zones, now, opening=True) is None


def test_scopes_must_all_be_open() -> None:
    assert met([]) is None
    assert met([window(9, 18), window(12, 20)]) == window(12, 18)
    assert met([window(9, 10), window(12, 20)]) == ()
    assert met([window(8, 20, frozenset({6, 7})), window(9, 18)]) == window(9, 18, frozenset({6, 7}))
    assert united([Window(days=ALL, start=0, end=86400)]) == ((0, 7 * 86400),)


@pytest.mark.parametrize(("days", "start", "end"), [({0}, 0, 60), ({8}, 0, 60), (set(), 0, 60), ({1}, 60, 60),
                                                    ({1}, 79200, 21600), ({1}, -60, 60), ({1}, 0, 86401)])  # fmt: skip
def test_a_window_that_cannot_be_is_refused(days: set[int], start: int, end: int) -> None:
    with pytest.raises(ValueError, match=r"window"):
        Window(days=frozenset(days), start=start, end=end)


def test_zones_by_name() -> None:
    assert zone_known("Asia/Kuala_Lumpur")
    assert not any(zone_known(name) for name in ("Mars/Olympus", "", "../etc/passwd", "Asia"))
