"""Weeks, zones and instants for property tests: many of the instants lie near a change of the clock."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from adapter.core.hours import DAY, Week, Window, met, united

ZONES = (
    "Asia/Kuala_Lumpur", "America/New_York", "America/Los_Angeles", "Europe/Berlin", "Australia/Lord_Howe",
    "Pacific/Apia", "Africa/Casablanca", "Asia/Kathmandu", "America/St_Johns", "Pacific/Chatham", "America/Sao_Paulo",
    "Asia/Tehran", "UTC",
)  # fmt: skip

_MINUTES = DAY // 60
_TIMES = st.tuples(st.integers(0, _MINUTES), st.integers(0, _MINUTES)).filter(lambda pair: pair[0] != pair[1])


def _window(days: frozenset[int], pair: tuple[int, int]) -> Window:
    return Window(days=days, start=min(pair) * 60, end=max(pair) * 60)


_NIGHT = st.tuples(st.integers(0, 300), st.integers(0, 300)).filter(lambda pair: pair[0] != pair[1])
"""Clocks are changed at night."""

WINDOWS = st.builds(_window, st.frozensets(st.integers(1, 7), min_size=1), _TIMES | _NIGHT)
SCOPES = st.lists(st.lists(WINDOWS, min_size=1, max_size=3), min_size=1, max_size=3)
WEEKS = SCOPES.map(lambda scopes: met(united(windows) for windows in scopes) or ())

_CHANGES = tuple(
    datetime.fromisoformat(f"{day}Z").timestamp()
    for day in (
        "2026-03-08T07:00", "2026-11-01T06:00", "2025-04-05T15:00", "2025-10-04T15:30", "2011-12-30T10:00",
        "2026-02-15T02:00", "2026-03-22T02:00", "2026-03-29T01:00", "2026-10-25T01:00", "2018-11-04T03:00",
        "2019-02-17T02:00",
        "2021-09-21T19:30",
    )
)  # fmt: skip


def instants() -> st.SearchStrategy[float]:
    """Any instant of twenty years, to the half second; or up to three days before or after a change."""
    any_time = st.integers(2 * 1_100_000_000, 2 * 1_790_000_000)
    near = st.builds(
        lambda change, off: round(2 * change) + off, st.sampled_from(_CHANGES), st.integers(-6 * DAY, 6 * DAY)
    )
    return (any_time | near | near).map(lambda halves: halves / 2)


CHANGED = (
    ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2025, 4, 5, 15, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2025, 10, 4, 15, 30, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
    ("Africa/Casablanca", datetime(2026, 2, 15, 2, tzinfo=UTC)),
    ("Africa/Casablanca", datetime(2026, 3, 22, 2, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("Asia/Kuala_Lumpur", datetime(2026, 3, 29, 1, tzinfo=UTC)),
)
"""Zones, and instants at which their clocks are changed (the last one's are not)."""


def around(zone: str, change: datetime) -> Iterator[tuple[Week, float]]:
    """Short windows with an edge about the time that the clock shows at a change, asked for before and after it."""
    for wall in (change.astimezone(ZoneInfo(zone)), (change - timedelta(seconds=1)).astimezone(ZoneInfo(zone))):
        for start in range(-90, 91, 15):
            begin = wall.hour * 60 + wall.minute + start
            for length in (10, 60):
                if 0 <= begin < begin + length <= _MINUTES:
                    window = Window(days=frozenset(range(1, 8)), start=begin * 60, end=(begin + length) * 60)
                    for before in (-7200.0, -600.0, 1800.0):
                        yield united([window]), change.timestamp() + before
