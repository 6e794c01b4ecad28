"""Calling hours in words, as they are typed."""

from itertools import groupby

from adapter.supabase_io.hours import CampaignDates, Hours, HoursRow

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
NONE = "There are no calling hours here: people are called at any time"


def told(hours: Hours) -> str:
    """One line for each scope, campaign and user."""
    lines = [
        f"{_scope(scope, of)}: {'; '.join(_window(row) for row in rows)}"
        for (scope, of), rows in groupby(hours.windows, key=lambda row: (row.scope, row.scope_id))
    ]
    if not lines:
        lines = [NONE]
    lines += [_dates(dates) for dates in hours.dates]
    lines += [f"Where a number tells no time zone, user {user}: {zone}" for user, zone in hours.zones]
    return "\n".join(lines)


def _scope(scope: str, of: str | None) -> str:
    return "All" if of is None else f"{scope.capitalize()} {of}"


def _window(row: HoursRow) -> str:
    return f"{_days(row.days)} {row.start}-{row.end}".strip()


def _days(days: tuple[int, ...]) -> str:
    """Days in a row as a span; nothing for all seven."""
    if len(days) == len(DAYS):
        return ""
    spans = []
    for _, span in groupby(enumerate(days), key=lambda pair: pair[1] - pair[0]):
        first, *rest = [DAYS[day - 1] for _, day in span]
        spans.append(f"{first}-{rest[-1]}" if len(rest) > 1 else ",".join((first, *rest)))
    return ",".join(spans)


def _dates(dates: CampaignDates) -> str:
    told = [f"begins {dates.starts_at}"] if dates.starts_at else []
    told += [f"ends {dates.ends_at}"] if dates.ends_at else []
    return f"Campaign {dates.campaign_id} {' and '.join(told)}"
