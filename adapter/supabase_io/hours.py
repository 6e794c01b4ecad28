"""Calling hours as `call_hours_v1` tells them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapter.supabase_io import records
from adapter.supabase_io.records import Unfit


@dataclass(frozen=True, slots=True, kw_only=True)
class HoursRow:
    """One window of `call_hours`."""

    scope: str
    scope_id: str | None
    days: tuple[int, ...]
    start: str
    end: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignDates:
    """When a campaign begins and ends, as PostgreSQL writes instants."""

    campaign_id: str
    starts_at: str | None
    ends_at: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """All that applies to what was asked for."""

    windows: tuple[HoursRow, ...]
    dates: tuple[CampaignDates, ...]
    zones: tuple[tuple[str, str], ...]
    """Users, and the zone of each where a number tells none."""


def hours(value: object) -> Hours:
    """Decode the answer of `call_hours_v1` and `call_hours_set_v1`; raises Unfit."""
    reply = records.obj(value, "the reply")
    return Hours(
        windows=tuple(_row(one) for one in _list(reply, "windows")),
        dates=tuple(_dates(one) for one in _list(reply, "dates")),
        zones=tuple(
            (records.text(one, "user_id"), records.printable(records.text(one, "zone")))
            for one in (records.obj(item, "a zone") for item in _list(reply, "zones"))
        ),
    )


def _row(value: object) -> HoursRow:
    found = records.obj(value, "a window")
    days = _list(found, "days")
    if not all(isinstance(day, int) and 1 <= day <= 7 for day in days):
        raise Unfit("days")
    return HoursRow(
        scope=records.text(found, "scope"),
        scope_id=records.text_or_none(found, "scope_id"),
        days=tuple(sorted(days)),
        start=records.text(found, "from"),
        end=records.text(found, "to"),
    )


def _dates(value: object) -> CampaignDates:
    found = records.obj(value, "dates")
    return CampaignDates(
        campaign_id=records.text(found, "campaign_id"),
        starts_at=records.text_or_none(found, "starts_at"),
        ends_at=records.text_or_none(found, "ends_at"),
    )


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    if not isinstance(found, list):
        raise Unfit(key)
    return found
