"""Calling hours as rows of the queue meet them: at the insert, in the claim, after a call, by the clock of their end.

The day of these tests is where it is about noon now, so that none of them meets a midnight.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from tests.supabase.helpers import OTHER, USER, Desk, number, outcome

CAMPAIGN = "00000000-0000-4000-8000-0000000000cc"
HOUR = timedelta(hours=1)
NO_ZONE = "+800 1234 5678"
"""A number of no country."""


def noon(hour: int = 12) -> str:
    """A zone where it is between 12:00 and 13:00."""
    return f"Etc/GMT{datetime.now(UTC).hour - hour:+d}"


def away() -> str:
    """One where it is between 6:00 and 7:00, or between 18:00 and 19:00."""
    return noon(18 if datetime.now(UTC).hour >= 6 else 6)


def at(hour: int) -> datetime:
    """The instant at which it is this full hour of today there."""
    now = datetime.now(UTC)
    return now.replace(minute=0, second=0, microsecond=0) + (hour - 12) * HOUR


async def hours(desk: Desk, text: str | None, scope: str = "all", of: str | None = None) -> dict[str, Any]:
    """Set them."""
    found: dict[str, Any] = await desk.connection.fetchval(
        "select public.call_hours_set_v1($1, $2, $3)", scope, of, text
    )
    return found


async def dates(desk: Desk, starts_at: datetime | None, ends_at: datetime | None) -> None:
    told = {"starts_at": starts_at and starts_at.isoformat(), "ends_at": ends_at and ends_at.isoformat()}
    await desk.connection.fetchval("select public.call_hours_dates_v1($1, $2)", CAMPAIGN, told)


async def test_dates_and_zones_are_set_one_by_one_and_taken_away(desk: Desk) -> None:
    async def set_dates(**told: str | None) -> list[dict[str, Any]]:
        found = await desk.connection.fetchval("select public.call_hours_dates_v1($1, $2)", CAMPAIGN, told)
        return [{name: one[name] for name in ("starts_at", "ends_at")} for one in found["dates"]]

    assert await set_dates(ends_at="2026-12-20 18:00+08") == [
        {"starts_at": None, "ends_at": "2026-12-20T10:00:00+00:00"}
    ]
    both = {"starts_at": "2026-12-01T01:00:00+00:00", "ends_at": "2026-12-20T10:00:00+00:00"}
    assert await set_dates(starts_at="2026-12-01T09:00:00+08:00") == [both]
    wrong: tuple[tuple[str | None, object, str], ...] = (
        (CAMPAIGN, {"starts_at": "2026-12-31Z"}, "cannot end"),
        (CAMPAIGN, {"starts_at": "soon"}, "are instants"),
        (CAMPAIGN, {"ends_at": "infinity"}, "never comes"),
        (CAMPAIGN, {"end": "2026-12-31Z"}, "starts_at, ends_at or both"),
        (CAMPAIGN, [], "an object"),
        (None, {"ends_at": None}, "give its id"),
    )
    for campaign, told, words in wrong:
        with pytest.raises(asyncpg.PostgresError, match=words) as caught:
            async with desk.connection.transaction():
                await desk.connection.fetchval("select public.call_hours_dates_v1($1, $2)", campaign, told)
        assert caught.value.sqlstate == "PT400"
    assert await set_dates(starts_at=None) == [{**both, "starts_at": None}]
    assert await set_dates(ends_at=None) == []

    async def set_zone(zone: str | None) -> list[dict[str, Any]]:
        found: dict[str, Any] = await desk.connection.fetchval("select public.call_hours_zone_v1($1, $2)", USER, zone)
        return list(found["zones"])

    assert await set_zone("Asia/Tokyo") == [{"user_id": USER, "zone": "Asia/Tokyo"}]
    assert await set_zone("Asia/Kuala_Lumpur") == [{"user_id": USER, "zone": "Asia/Kuala_Lumpur"}]
    with pytest.raises(asyncpg.PostgresError, match='"MYT" is no time zone'):
        async with desk.connection.transaction():
            await set_zone("MYT")
    assert await set_zone(None) == []


async def due(desk: Desk, row: int | None, since: timedelta = HOUR) -> None:
    """As if the row had come in while it was open."""
    await desk.connection.execute(
        "update public.call_queue set not_before = now() - $2::interval, created_at = created_at - $2::interval, "
        "expires_at = case when expires_fixed then expires_at else now() - $2::interval + interval '24 hours' end "
        "where id = $1",
        row,
        since,
    )


async def test_what_comes_in_while_it_is_shut_waits_for_the_opening(desk: Desk) -> None:
    await hours(desk, "15:00-18:00; 09:00-10:00")
    row = await desk.row(await desk.insert(number(1), callee_zone=noon()))
    assert row["not_before"] == at(15)
    assert row["expires_at"] == at(15) + 24 * HOUR
    assert row["zones"] == noon()
    assert row["wait_reason"] == f"outside its calling hours in {noon()}"
    fixed = await desk.row(await desk.insert(number(2), callee_zone=noon(), expires_at=at(20)))
    assert (fixed["not_before"], fixed["expires_at"]) == (at(15), at(20))
    later = await desk.row(await desk.insert(number(3), callee_zone=noon(), not_before=at(17)))
    assert later["not_before"] == at(17)
    evening = await desk.row(await desk.insert(number(4), callee_zone=noon(), not_before=at(19)))
    assert evening["not_before"] == at(9) + 24 * HOUR
    assert await desk.claim() == []


async def test_many_rows_of_one_statement_wait_each_for_their_opening(desk: Desk) -> None:
    await hours(desk, "15:00-18:00", "user", OTHER)
    await desk.connection.execute(
        "insert into public.call_queue (user_id, phone_number, callee_zone, not_before) "
        "select u, '+601234' || 10000 + i, $3, n from unnest($1::uuid[]) with ordinality x (u, i), "
        "lateral unnest($2::timestamptz[]) n order by i",
        [OTHER, USER, OTHER], [at(12), at(16), at(19)], noon(),
    )  # fmt: skip
    found = await desk.connection.fetch("select user_id::text, not_before from public.call_queue order by id")
    mine = [row["not_before"] for row in found if row["user_id"] == OTHER]
    assert sorted(mine) == sorted([at(15), at(16), at(15) + 24 * HOUR] * 2)
    assert sorted(row["not_before"] for row in found if row["user_id"] == USER) == [at(12), at(16), at(19)]


async def test_inside_the_hours_a_row_is_dialed_and_the_call_remembers_why(desk: Desk) -> None:
    await hours(desk, "11:00-14:00")
    await desk.insert(number(1), callee_zone=noon())
    await desk.claim_one()
    facts = await desk.connection.fetchval("select facts from public.call_dials")
    assert facts["hours"].startswith("open: ")
    assert facts["hours"].endswith(f" in {noon()}")


async def test_all_scopes_must_be_open(desk: Desk) -> None:
    await hours(desk, "11:00-14:00")
    await hours(desk, "11:00-12:00; 16:00-18:00", "user", OTHER)
    await hours(desk, "11:00-14:00; 17:00-19:00", "campaign", CAMPAIGN)
    theirs = await desk.row(await desk.insert(number(1), callee_zone=noon(), user_id=OTHER))
    assert theirs["not_before"] == at(11) + 24 * HOUR
    await desk.insert(number(2), callee_zone=noon(), campaign_id=CAMPAIGN)
    assert len(await desk.claim()) == 1
    await hours(desk, None)
    both = await desk.row(await desk.insert(number(3), callee_zone=noon(), user_id=OTHER, campaign_id=CAMPAIGN))
    assert both["not_before"] == at(17)


async def test_hours_that_never_open_end_the_row_in_words(desk: Desk) -> None:
    await hours(desk, "11:00-14:00")
    await hours(desk, "15:00-18:00", "user", USER)
    row_id = await desk.insert(number(1), callee_zone=noon())
    assert await desk.claim() == []
    row = await desk.row(row_id)
    assert (row["status"], row["outcome"]) == ("done", "blocked")
    assert row["ended_reason"] == f"its calling hours do not open within a month in {noon()}"


async def test_an_unknown_zone_is_blocked_only_where_hours_count(desk: Desk) -> None:
    await desk.insert(NO_ZONE)
    assert len(await desk.claim()) == 1
    await hours(desk, "11:00-14:00")
    other = NO_ZONE[:-1] + "9"
    row_id = await desk.insert(other)
    assert await desk.claim() == []
    row = await desk.row(row_id)
    assert row["outcome"] == "blocked"
    assert row["ended_reason"].startswith("its time zone is not known")
    await desk.connection.execute("insert into public.call_user_zones values ($1, $2)", USER, noon())
    await desk.insert(other)
    assert len(await desk.claim()) == 1


async def test_a_bad_zone_is_blocked_and_said(desk: Desk) -> None:
    row = await desk.row(await desk.insert(number(1), callee_zone="Kuala Lumpur"))
    assert (row["status"], row["outcome"]) == ("done", "blocked")
    assert row["ended_reason"] == 'callee_zone "Kuala Lumpur" is no time zone: write it as Asia/Kuala_Lumpur'
    log = await desk.the_log(row["call_id"])
    assert (log["status"], log["metadata"]["ended_reason"]) == ("failed", row["ended_reason"])
    good = await desk.insert(number(2), callee_zone=noon())
    with pytest.raises(asyncpg.CheckViolationError, match="is no time zone"):
        await desk.connection.execute("update public.call_queue set callee_zone = 'UTC+8' where id = $1", good)


async def test_a_user_cannot_have_a_bad_zone(desk: Desk) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="is no time zone"):
        await desk.connection.execute("insert into public.call_user_zones values ($1, 'MYT')", USER)


async def test_zones_follow_an_edited_number(desk: Desk) -> None:
    row_id = await desk.insert(number(1))
    assert (await desk.row(row_id))["zones"] == "Asia/Kuala_Lumpur"
    await desk.connection.execute("update public.call_queue set phone_number = '+1 212 555 0100' where id = $1", row_id)
    assert (await desk.row(row_id))["zones"] == "America/New_York"
    await desk.connection.execute("update public.call_queue set callee_zone = 'Europe/Berlin' where id = $1", row_id)
    assert (await desk.row(row_id))["zones"] == "Europe/Berlin"


async def test_when_it_shuts_over_a_backlog_other_zones_are_dialed_at_once(desk: Desk) -> None:
    """A thousand rows of a shut zone stand before ten of an open one, in one lane."""
    connection = desk.connection
    for first, count, zone in ((0, 1000, noon()), (1000, 10, away())):
        await connection.execute(
            "insert into public.call_queue (user_id, phone_number, callee_zone, expires_at) "
            "select $1, '+6012345' || 1000 + $2 + i, $3, now() + interval '2 days' from generate_series(1, $4) i",
            USER, first, zone, count,
        )  # fmt: skip
    await hours(desk, "06:00-07:00; 18:00-19:00")
    claimed = await desk.claim()
    assert len(claimed) == 10
    waits = await connection.fetchval("select count(*) from public.call_queue where not_before > now()")
    assert waits == 50  # As many as one claim puts off.
    lane = await connection.fetchrow("select ready, wake_at from public.call_lanes")
    assert lane is not None
    # It sleeps until the opening, though most rows have not been put off: nothing of it can be dialed before.
    assert (lane["ready"], lane["wake_at"]) == (
        False,
        await connection.fetchval("select max(not_before) from call_queue"),
    )
    await connection.execute("update public.call_lanes set ready = true")
    await connection.execute("update public.call_tenants set ready = true")
    assert await desk.claim() == []
    assert await connection.fetchval("select count(*) from public.call_queue where not_before > now()") == 100


async def test_rows_that_wait_keep_the_clock_of_their_end(desk: Desk) -> None:
    rows = {}
    wishes: tuple[dict[str, Any], ...] = ({}, {"expires_at": at(24)}, {"priority": 9})
    for serial, columns in enumerate(wishes):
        rows[serial] = await desk.insert(number(serial), **{"callee_zone": noon(), **columns})
        await due(desk, rows[serial])
    before = {serial: (await desk.row(row))["expires_at"] for serial, row in rows.items()}
    await hours(desk, "11:00-12:00; 15:00-18:00")
    assert await desk.claim() == []
    found = [await desk.row(row) for row in rows.values()]
    assert [row["not_before"] for row in found] == [at(15)] * 3
    assert found[0]["wait_reason"] == f"outside its calling hours in {noon()}"
    # It was due for an hour, and shut since 12:00 of it.
    assert found[0]["expires_at"] - before[0] == at(15) - at(12)
    assert found[1]["expires_at"] == before[1]
    assert found[0]["clock_at"] == at(15)
    # Counted once: when it comes to its end, nothing of that time is given again.
    await desk.connection.execute("select public.call_hours_set_v1('all', null, null)")
    stood = await desk.connection.fetchval(
        "select public.call_clock_stood(q, q.expires_at + interval '1 second') from public.call_queue q where id = $1",
        rows[0],
    )
    assert stood is False


async def test_a_row_that_comes_to_its_end_while_it_is_shut_gets_that_time_back(desk: Desk) -> None:
    row_id = await desk.insert(number(1), callee_zone=noon())
    await due(desk, row_id, 25 * HOUR)
    await hours(desk, "15:00-18:00; 09:00-12:00")
    await desk.sync()
    row = await desk.row(row_id)
    assert row["status"] == "queued"
    now = datetime.now(UTC)
    # Shut from 12:00 and from 18:00 of the day before, as far as its last 24 hours and a half reach.
    assert row["expires_at"] > now + 15 * HOUR
    assert row["clock_at"] == at(15)


async def test_no_row_lives_longer_than_thirty_days(desk: Desk) -> None:
    row_id = await desk.insert(number(1), callee_zone=noon())
    await due(desk, row_id)
    await desk.connection.execute(
        "update public.call_queue set created_at = now() - interval '29 days 23 hours' where id = $1", row_id
    )
    await hours(desk, "15:00-18:00")
    await desk.claim()
    row = await desk.row(row_id)
    assert row["expires_at"] == row["created_at"] + timedelta(days=30)
    await hours(desk, None)
    why = "select (public.call_rule_hours(q, '{}', now())).why from public.call_queue q where id = $1"
    await dates(desk, datetime.now(UTC) + timedelta(days=2), None)
    await desk.connection.execute("update public.call_queue set campaign_id = $2 where id = $1", row_id, CAMPAIGN)
    assert (
        await desk.connection.fetchval(why, row_id) == "its calling hours open later than 30 days after it was inserted"
    )


async def test_a_retry_waits_for_the_opening(desk: Desk) -> None:
    await hours(desk, "11:00-13:00; 16:00-18:00")
    policy = await desk.insert(number(1), callee_zone=noon(), max_attempts=2, retry_seconds=7200)
    own = await desk.insert(number(2), callee_zone=noon(), max_attempts=2, retry_seconds=7200)
    calls = {row["row_id"]: row["call_id"] for row in await desk.claim()}
    await desk.connection.execute("delete from public.call_hours where from_time < '14:00'")
    before = (await desk.row(own))["expires_at"]
    await desk.sync([outcome(calls[policy], "busy"), outcome(calls[own], "rejected")])
    retry, fault = await desk.row(policy), await desk.row(own)
    assert (retry["not_before"], retry["expires_at"]) == (at(16), at(16) + 24 * HOUR)
    assert (fault["status"], fault["not_before"]) == ("queued", at(16))
    assert timedelta(0) < at(16) - datetime.now(UTC) - (fault["expires_at"] - before) < timedelta(seconds=90)


async def test_campaigns_begin_and_end(desk: Desk) -> None:
    wish = {"campaign_id": CAMPAIGN, "callee_zone": noon()}
    await dates(desk, at(14), at(40))
    early = await desk.row(await desk.insert(number(1), **wish))
    assert early["not_before"] == at(14)
    await due(desk, early["id"])
    assert await desk.claim() == []
    row = await desk.row(early["id"])
    assert row["not_before"] == at(14)
    assert row["wait_reason"].startswith("its campaign begins on ")
    await dates(desk, at(10), at(40))
    await desk.due()
    assert len(await desk.claim()) == 1
    await hours(desk, "23:00-23:30", "campaign", CAMPAIGN)
    await dates(desk, None, at(22))
    late = await desk.insert(number(2), **wish)
    await desk.claim()
    assert (await desk.row(late))["ended_reason"] == "its campaign ends before its calling hours open again"
    await hours(desk, None, "campaign", CAMPAIGN)
    await dates(desk, None, at(11))
    over = await desk.insert(number(3), **wish)
    await desk.claim()
    assert (await desk.row(over))["ended_reason"].startswith("its campaign ended on ")


async def test_who_asks_why_hears_of_the_hours(desk: Desk) -> None:
    row_id = await desk.insert(number(1), callee_zone=noon())
    await hours(desk, "15:00-18:00")
    await desk.sync()
    words = await desk.connection.fetchval("select public.call_why_waits_v1($1)", row_id)
    assert words == f"outside its calling hours in {noon()}"


async def test_hours_are_set_shown_and_taken_away(desk: Desk) -> None:
    made = await hours(desk, "Mon-Fri 09:00-18:00; Sat,Sun 10:00-24:00", "user", USER)
    assert made["windows"] == [
        {"scope": "user", "scope_id": USER, "days": [1, 2, 3, 4, 5], "from": "09:00", "to": "18:00"},
        {"scope": "user", "scope_id": USER, "days": [6, 7], "from": "10:00", "to": "24:00"},
    ]
    assert (await hours(desk, "fri-mon 22:00-24:00", "user", USER))["windows"][0]["days"] == [1, 5, 6, 7]
    assert (await hours(desk, None, "user", USER))["windows"] == []


@pytest.mark.parametrize(
    ("scope", "of", "text", "words"),
    [
        ("all", None, "22:00-06:00", "goes over midnight"),
        ("all", None, "09:00-09:00", "goes over midnight or is empty"),
        ("all", None, "9-18", "is no window"),
        ("all", None, "09:00-25:00", "is no window"),
        ("all", None, "", "is no window"),
        ("all", None, "Mon-Fri", "is no window"),
        ("all", None, "Mon-Xyz 09:00-18:00", "is no day of the week"),
        ("all", None, "Mon-Tue-Fri 09:00-18:00", "is no day of the week"),
        ("all", USER, "09:00-18:00", "take none"),
        ("user", None, "09:00-18:00", "need its id"),
        ("lane", USER, "09:00-18:00", "for a user or for a campaign"),
    ],
)  # fmt: skip
async def test_hours_that_cannot_be_are_refused_with_the_reason(
    desk: Desk, scope: str, of: str | None, text: str, words: str
) -> None:
    with pytest.raises(asyncpg.PostgresError, match=words) as refused:
        await hours(desk, text, scope, of)
    assert refused.value.sqlstate == "PT400"
