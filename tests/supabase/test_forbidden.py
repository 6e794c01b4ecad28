"""Whom nobody may call: the list, countries, premium numbers, repeats, caps of a day; asked in the claim."""

import asyncio
import random
import uuid
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from adapter.sandbox.postgres import Postgres
from tests.supabase.helpers import OTHER, RINGING_AT, USER, Connection, Desk, connected, number, outcome, release

LIST = "insert into public.do_not_call (e164, user_id, source, reason, expires_at) values ($1, $2, $3, $4, $5)"


async def forbid(
    connection: Connection, phone: str, user: str | None = None, expires_at: datetime | None = None
) -> None:
    """List a number."""
    await connection.execute(LIST, phone, user, "voice", "asked by the callee", expires_at)


async def one(desk: Desk, query: str, *values: Any) -> asyncpg.Record:
    """The row that is there."""
    found = await desk.connection.fetchrow(query, *values)
    assert found is not None
    return found


async def why(desk: Desk, row: int | None) -> tuple[str, str | None, str | None]:
    """Status of a row, and the words for it."""
    found = await desk.row(row)
    return found["status"], found["ended_reason"], found["wait_reason"]


# The list


@pytest.mark.parametrize("written", ["+60 12-340 0001", "012-3400001", "0060123400001", "60123400001"])
async def test_a_listed_number_ends_at_its_turn_however_it_was_written(desk: Desk, written: str) -> None:
    row = await desk.insert(number(1))
    await forbid(desk.connection, written)
    assert await desk.claim() == []
    words = "the number is on the do-not-call list (voice: asked by the callee)"
    assert await why(desk, row) == ("done", words, None)
    assert (await desk.row(row))["outcome"] == "blocked"


async def test_a_list_of_one_user_is_not_that_of_another(desk: Desk) -> None:
    mine, theirs = await desk.insert(number(1)), await desk.insert(number(1), user_id=OTHER)
    await forbid(desk.connection, number(1), USER)
    assert [row["row_id"] for row in await desk.claim()] == [theirs]
    assert (await desk.row(mine))["ended_reason"].startswith("the number is on the do-not-call list of this user")


async def test_an_entry_counts_until_it_expires(desk: Desk) -> None:
    over, lasting = await desk.insert(number(1)), await desk.insert(number(2))
    await forbid(desk.connection, number(1), expires_at=datetime.now(UTC) - timedelta(seconds=1))
    await forbid(desk.connection, number(2), expires_at=datetime.now(UTC) + timedelta(hours=1))
    assert [row["row_id"] for row in await desk.claim()] == [over]
    assert (await desk.row(lasting))["outcome"] == "blocked"


async def test_the_entry_for_all_counts_beside_one_that_is_over(desk: Desk) -> None:
    row = await desk.insert(number(1))
    await forbid(desk.connection, number(1), USER, datetime.now(UTC) - timedelta(seconds=1))
    await forbid(desk.connection, number(1))
    assert await desk.claim() == []
    assert (await desk.row(row))["outcome"] == "blocked"


@pytest.mark.parametrize(
    ("bad", "words"), [("call me", "something that is no digit"), ("", "empty"), ("999", "too short")]
)
async def test_what_is_no_number_cannot_be_listed(desk: Desk, bad: str, words: str) -> None:
    with pytest.raises(asyncpg.PostgresError, match=f"this number cannot be listed: .*{words}") as caught:
        await forbid(desk.connection, bad)
    assert caught.value.sqlstate == "PT400"


async def test_a_second_entry_of_one_number_and_user_is_refused(desk: Desk) -> None:
    await forbid(desk.connection, number(1))
    with pytest.raises(asyncpg.UniqueViolationError):
        await forbid(desk.connection, "012-340 0001")


async def test_a_retry_of_a_listed_number_ends_as_its_last_call_did(desk: Desk) -> None:
    row = await desk.insert(number(1), max_attempts=3, retry_seconds=0)
    call = await desk.claim_one()
    await desk.sync([outcome(call["call_id"], "busy")])
    await forbid(desk.connection, number(1))
    await desk.due()
    assert await desk.claim() == []
    found = await desk.row(row)
    assert (found["status"], found["outcome"]) == ("done", "busy")
    assert "not tried again: the number is on the do-not-call list" in found["ended_reason"]


async def test_a_call_that_lives_is_not_hung_up_by_a_listing(desk: Desk) -> None:
    await desk.insert(number(1))
    await desk.claim_one()
    await forbid(desk.connection, number(1))
    assert (await desk.sync())["commands"] == []


CLAIMERS = 16
ROWS = 1500


async def test_no_row_that_waits_at_the_commit_of_a_listing_is_ever_dialed(lasting_desk: Desk, db: str) -> None:
    """Sixteen claim as fast as they can; each number is listed by another session, which looks right after its commit
    whether the row still waits. A claim that had looked before and commits later would be seen at the end."""
    await lasting_desk.fill(ROWS)
    ids = await lasting_desk.connection.fetch("select id, e164 from call_queue order by id")
    at = [0]
    over = asyncio.Event()

    async def claimer(place: int) -> None:
        async with connected(db) as connection:
            me = Desk(connection, pbx=f"pbx-{place}", adapter=uuid.UUID(int=place + 1))
            await me.register()
            while not over.is_set():
                try:
                    reply = await me.sync(room=10)
                except asyncpg.LockNotAvailableError:
                    continue
                assert reply["notes"] == []
                at[0] = max([at[0], *(row["row_id"] for row in reply["rows"])])
                if not reply["rows"]:
                    await asyncio.sleep(0.01)

    async def lister(dice: random.Random) -> set[int]:
        waited: set[int] = set()
        async with connected(db) as connection:
            while at[0] < ROWS - 350:
                # Before the place to which the claims have come: a little, as those rows are just being looked at, or
                # as many as are claimed while a listing waits for its lock.
                row = ids[at[0] + dice.randrange(dice.choice((15, 300)))]
                # A listing that waits for too long, as on a busy machine, has not been.
                with suppress(asyncpg.LockNotAvailableError):
                    await connection.execute(f"{LIST} on conflict do nothing", row["e164"], None, "race", None, None)
                    status = await connection.fetchval("select status from call_queue where id = $1", row["id"])
                    waited |= {row["id"]} if status == "queued" else set()
        return waited

    claimers = [asyncio.create_task(claimer(place)) for place in range(CLAIMERS)]
    waited: set[int] = set().union(*await asyncio.gather(*(lister(random.Random(place)) for place in range(6))))
    over.set()
    await asyncio.gather(*claimers)
    dialed = await lasting_desk.connection.fetch(
        "select row_id from call_dials where row_id = any($1::bigint[])", waited
    )
    assert [row["row_id"] for row in dialed] == []
    assert len(waited) > 10


# From a file, and from a call


async def test_an_import_tells_each_line_and_changes_nothing_the_second_time(desk: Desk) -> None:
    ask = "select public.call_do_not_call_import_v1($1, p_source => 'a register')"
    lines = ["012-340 0001", "+60123400001", "nobody", "+44 7911 123456", ""]
    assert await desk.connection.fetchval(ask, lines) == {
        "added": 2, "known": 0,
        "bad": [
            {"place": 2, "problem": "the phone number contains something that is no digit"},
            {"place": 4, "problem": "the phone number is empty"},
        ],
    }  # fmt: skip
    before = await desk.connection.fetch("select * from public.do_not_call order by id")
    assert [row["e164"] for row in before] == ["+447911123456", "+60123400001"]
    again = await desk.connection.fetchval(ask, lines)
    assert (again["added"], again["known"]) == (0, 2)
    assert await desk.connection.fetch("select * from public.do_not_call order by id") == before


async def test_an_import_prolongs_and_never_shortens(desk: Desk) -> None:
    ask = "select public.call_do_not_call_import_v1(array[$1], p_expires_at => $2)"
    soon, late = (datetime.now(UTC) + timedelta(days=days) for days in (1, 2))
    for given, left in ((soon, soon), (late, late), (soon, late), (None, None), (late, None)):
        await desk.connection.fetchval(ask, number(1), given)
        assert await desk.connection.fetchval("select expires_at from public.do_not_call") == left


@pytest.mark.parametrize(
    "call",
    [
        "call_do_not_call_import_v1(null)",
        "call_do_not_call_import_v1(array_fill('x'::text, array[5001]))",
        "call_do_not_call_import_v1('{}', p_source => '')",
        "call_do_not_call_import_v1('{}', p_expires_at => now())",
        "call_do_not_call_remove_v1('nobody')",
        "call_do_not_call_v1(p_limit => 0)",
        "call_do_not_call_v1('999')",
        "call_opt_out_v1(null)",
        "call_opt_out_v1(gen_random_uuid(), '')",
        "call_opt_out_v1(gen_random_uuid(), p_reason => repeat('x', 501))",
    ],
)
async def test_wrong_arguments_are_refused_in_words(desk: Desk, call: str) -> None:
    with pytest.raises(asyncpg.PostgresError) as caught:
        await desk.connection.execute(f"select public.{call}")
    assert caught.value.sqlstate == "PT400"


async def test_an_opt_out_lists_the_number_for_the_user_of_the_call_and_ends_what_waits(desk: Desk) -> None:
    await desk.insert(number(1))
    call = await desk.claim_one()
    await desk.sync([{"kind": "answered", "call_id": call["call_id"]}])
    waiting = [await desk.insert(number(1), campaign_id=str(uuid.uuid4())) for _ in range(2)]
    theirs = await desk.insert(number(1), user_id=OTHER)
    ask = "select public.call_opt_out_v1($1, 'dtmf', 'pressed 9')"
    assert await desk.connection.fetchval(ask, call["call_id"]) == (
        "the number of this call is now listed and is not called again for this user; 2 more that wait end at their "
        "turn, not called; the call itself goes on"
    )
    assert "was listed before" in await desk.connection.fetchval(ask, call["call_id"])
    assert (await desk.sync())["commands"] == []
    await desk.sync([outcome(call["call_id"], "answered")])
    await desk.settle()
    assert [row["row_id"] for row in await desk.claim()] == [theirs]
    for row in waiting:
        assert (await desk.row(row))["ended_reason"] == (
            "the number is on the do-not-call list of this user (dtmf: pressed 9)"
        )


async def test_an_opt_out_for_everybody_and_of_a_call_whose_row_is_gone(desk: Desk) -> None:
    row = await desk.insert(number(1))
    call = await desk.claim_one()
    await desk.sync([outcome(call["call_id"], "no_answer")])
    await desk.connection.execute("delete from call_queue where id = $1", row)
    await desk.connection.execute("delete from call_dials")
    words = await desk.connection.fetchval("select public.call_opt_out_v1($1, p_everyone => true)", call["call_id"])
    assert "not called again by anybody; no other call to it waits" in words
    assert tuple(await one(desk, "select e164, user_id, source from public.do_not_call")) == (
        number(1), None, "voice",
    )  # fmt: skip
    with pytest.raises(asyncpg.PostgresError, match="no call has the id") as caught:
        await desk.connection.execute("select public.call_opt_out_v1(gen_random_uuid())")
    assert caught.value.sqlstate == "PT404"


# Countries and premium numbers


@pytest.mark.parametrize(
    ("told", "claimed"),
    [
        ({}, ["+60"]),
        ({"countries": None}, ["+60"]),
        ({"countries": "*"}, ["+60"]),
        ({"countries": ["US"]}, ["+12"]),
        ({"countries": ["MY", "US"]}, ["+12", "+60"]),
        ({"countries": []}, []),
        ({"countries": ["*"]}, ["+12", "+60", "+80"]),
    ],
)
async def test_only_countries_that_are_allowed(desk: Desk, told: dict[str, Any], claimed: list[str]) -> None:
    desk.status = {}
    home = await desk.insert(number(1))
    rows = [home, await desk.insert("+1 202-555-0143"), await desk.insert("+800 1234 5678")]
    got = await desk.claim(**told)
    assert sorted(row["e164"][:3] for row in got) == claimed
    for row in set(rows) - {one["row_id"] for one in got}:
        assert "are not allowed: ALLOWED_COUNTRIES is " in (await desk.row(row))["ended_reason"]


async def test_a_number_that_became_premium_after_its_insert_is_not_dialed(desk: Desk) -> None:
    row = await desk.insert("+60 16-001 2345")
    await desk.connection.execute("update call_regions set premium_pattern = '1600\\d{5,6}' where region = 'MY'")
    assert await desk.claim() == []
    assert (await desk.row(row))["ended_reason"].startswith("the phone number is a premium number")


async def test_a_premium_number_that_no_region_of_its_code_owns_is_one_all_the_same(desk: Desk) -> None:
    row = await desk.insert("+44 7911 123456")
    await desk.connection.execute("alter table call_queue disable trigger user")
    await desk.connection.execute("update call_queue set e164 = '+449098790000', country = null")
    await desk.connection.execute("alter table call_queue enable trigger user")
    assert await desk.claim() == []
    assert (await desk.row(row))["ended_reason"].startswith("the phone number is a premium number")


# Repeats


async def called(desk: Desk, word: str = "busy", **status: Any) -> bool:
    """One call to the number of all these tests, to its end; False if it may not be called."""
    await desk.insert(number(1), user_id=str(uuid.uuid4()))
    rows = await desk.claim(1, **status)
    if rows:
        await desk.sync([outcome(rows[0]["call_id"], word)])
    return bool(rows)


async def test_one_number_is_called_so_often_at_most_whoever_calls(desk: Desk) -> None:
    caps: dict[str, Any] = {"caps": {"repeat": 2, "repeat_hours": 10}}
    assert [await called(desk, **caps) for _ in range(3)] == [True, True, False]
    row = await one(desk, "select * from call_queue where status = 'queued'")
    assert row["wait_reason"] == (
        "this number was called 2 times within 10 hours, and more is not allowed (REPEAT_CALLS, REPEAT_HOURS)"
    )
    oldest = await desk.connection.fetchval("select min(claimed_at) from call_dials")
    assert row["not_before"] == oldest + timedelta(hours=10)
    await desk.connection.execute(
        "update call_dials set claimed_at = claimed_at - interval '10 hours' where claimed_at = $1", oldest
    )
    await desk.due()
    assert len(await desk.claim(1, **caps)) == 1


async def test_an_adapter_that_tells_no_caps_has_six_in_a_day(desk: Desk) -> None:
    assert [await called(desk) for _ in range(7)] == [True] * 6 + [False]


async def test_what_the_phone_cannot_have_heard_does_not_count(desk: Desk) -> None:
    caps: dict[str, Any] = {"caps": {"repeat": 1, "repeat_hours": 10}}
    for word in ("congestion", "rejected", "pbx_error"):
        assert await called(desk, word, **caps)
        await desk.connection.execute("delete from call_queue")
    await desk.insert(number(1))
    call = await desk.claim_one(**caps)
    await desk.sync([release(call["call_id"])])
    call = await desk.claim_one(**caps)
    # Refused after it rang: that counts.
    await desk.sync([outcome(call["call_id"], "rejected", ringing_at=RINGING_AT)])
    assert not await called(desk, **caps)


# Caps of a day


async def days(desk: Desk) -> list[tuple[Any, ...]]:
    """User, calls and seconds of each day."""
    found = await desk.connection.fetch("select user_id::text, calls, seconds from call_days order by user_id")
    return [tuple(row) for row in found]


async def test_a_user_has_so_many_calls_a_day_and_others_go_on(desk: Desk) -> None:
    caps: dict[str, Any] = {"caps": {"calls_per_day": 3}}
    await desk.fill(10)
    await desk.fill(2, user=OTHER, start=1000)
    got = await desk.claim(**caps)
    assert sorted(row["user_id"] for row in got) == [USER] * 3 + [OTHER] * 2
    assert await days(desk) == [(USER, 3, 0), (OTHER, 2, 0)]
    tenant = await one(desk, "select * from call_tenants where user_id = $1", uuid.UUID(USER))
    assert not tenant["ready"]
    assert timedelta(0) < tenant["wake_at"] - datetime.now(UTC) <= timedelta(minutes=5)
    waiting = await desk.connection.fetch("select * from call_queue where status = 'queued'")
    assert all(row["not_before"] <= datetime.now(UTC) for row in waiting)
    await desk.sync(**caps)
    reason = await desk.connection.fetchval("select reason from queue_problems where id = $1", waiting[0]["id"])
    assert reason == "the 3 calls of this user for the day are used up (MAX_CALLS_PER_USER_DAY)"


async def test_a_sleeping_user_is_left_alone_and_a_raised_cap_is_heard_within_five_minutes(desk: Desk) -> None:
    await desk.fill(5)
    assert len(await desk.claim(caps={"calls_per_day": 1})) == 1
    asleep = await desk.connection.fetchval("select wake_at from call_tenants")
    for _ in range(3):
        await desk.connection.execute("update call_settings set repaired_at = '-infinity'")
        assert await desk.claim(caps={"calls_per_day": 1}) == []
    assert await desk.connection.fetchval("select wake_at from call_tenants") == asleep
    assert await desk.connection.fetchval("select count(*) from call_arrivals") == 0
    await desk.connection.execute("update call_tenants set wake_at = now() - interval '1 second'")
    assert len(await desk.claim(caps={"calls_per_day": 3})) == 2


async def test_minutes_count_when_a_call_has_ended_and_are_corrected(desk: Desk) -> None:
    caps: dict[str, Any] = {"caps": {"minutes_per_day": 1}}
    await desk.fill(3)
    (first, second) = await desk.claim(2, **caps)
    await desk.sync([outcome(first["call_id"], "unknown")])
    assert await days(desk) == [(USER, 2, 0)]
    await desk.sync([outcome(first["call_id"], "answered", talk_seconds=35)])
    await desk.sync([outcome(second["call_id"], "answered", talk_seconds=25)])
    assert await days(desk) == [(USER, 2, 60)]
    await desk.settle()
    assert await desk.claim(**caps) == []
    row = await desk.connection.fetchval("select id from call_queue where status = 'queued'")
    await desk.sync(**caps)
    words = await desk.connection.fetchval("select public.call_why_waits_v1($1)", row)
    assert words == "the 1 minutes of this user for the day are used up (MAX_MINUTES_PER_USER_DAY)"


async def test_a_released_call_gives_its_place_back(desk: Desk) -> None:
    caps: dict[str, Any] = {"caps": {"calls_per_day": 1}}
    await desk.fill(1)
    for _ in range(3):
        call = await desk.claim_one(**caps)
        assert await days(desk) == [(USER, 1, 0)]
        await desk.sync([release(call["call_id"])])
        assert await days(desk) == [(USER, 0, 0)]


async def test_a_user_of_his_own_caps(desk: Desk) -> None:
    await desk.connection.execute("insert into call_user_caps values ($1, null, null), ($2, 0, null)", USER, OTHER)
    await desk.fill(3)
    await desk.fill(1, user=OTHER, start=1000)
    assert [row["user_id"] for row in await desk.claim(caps={"calls_per_day": 1})] == [USER] * 3


async def test_the_day_is_that_of_the_default_region(desk: Desk) -> None:
    ask = "select public.call_day($1), public.call_day_after($1)"
    at = datetime(2026, 3, 1, 15, 59, 59, tzinfo=UTC)
    midnight = at + timedelta(seconds=1)

    async def days_of(instant: datetime) -> tuple[date, datetime]:
        (row,) = await desk.connection.fetch(ask, instant)
        return row[0], row[1]

    assert await days_of(at) == (date(2026, 3, 1), midnight)
    assert (await days_of(midnight))[0] == date(2026, 3, 2)
    await desk.connection.execute("update call_settings set default_region = 'US'")
    assert (await days_of(at))[1] == datetime(2026, 3, 2, tzinfo=UTC)


async def test_a_row_that_expires_for_a_cap_says_so(desk: Desk) -> None:
    await desk.fill(2)
    assert len(await desk.claim(caps={"calls_per_day": 1})) == 1
    row = await desk.connection.fetchval("select id from call_queue where status = 'queued'")
    await desk.connection.execute("update call_queue set expires_at = now() where id = $1", row)
    await desk.sync()
    words = "expired before it could be dialed: the calls of its user for a day were used up"
    assert (await desk.row(row))["ended_reason"] == words


async def test_caps_are_kept_by_sixteen_claimers(lasting_desk: Desk, db: str) -> None:
    users = [f"00000000-0000-4000-8000-{user:012d}" for user in range(8)]
    for place, user in enumerate(users):
        await lasting_desk.fill(60, user=user, start=place * 1000)

    async def claimer(place: int) -> None:
        async with connected(db) as connection:
            me = Desk(connection, pbx=f"pbx-{place}", adapter=uuid.UUID(int=place + 1))
            await me.register()
            for _ in range(6):
                rows = (await me.sync(room=7, caps={"calls_per_day": 20}))["rows"]
                back = rows[: len(rows) // 3]
                await me.sync([release(row["call_id"]) for row in back])

    await asyncio.gather(*(claimer(place) for place in range(CLAIMERS)))
    counted = await lasting_desk.connection.fetch(
        "select d.calls, (select count(*) from call_dials c where c.user_id = d.user_id) as dials, (select count(*) "
        "from call_queue q where q.user_id = d.user_id and q.status = 'dialing') as live from call_days d"
    )
    assert len(counted) == len(users)
    assert all(row["calls"] == row["dials"] == row["live"] <= 20 for row in counted)
    assert sum(row["calls"] for row in counted) > 100


async def test_repeats_are_kept_by_sixteen_claimers(lasting_desk: Desk, db: str) -> None:
    users = [f"00000000-0000-4000-8000-{user:012d}" for user in range(8)]
    for user in users:
        await lasting_desk.fill(12, user=user)  # The same twelve people, wanted by everybody.
    caps = {"repeat": 3, "repeat_hours": 24}
    over = asyncio.Event()

    async def claimer(place: int) -> None:
        async with connected(db) as connection:
            me = Desk(connection, pbx=f"pbx-{place}", adapter=uuid.UUID(int=place + 1))
            await me.register()
            for _ in range(4):
                rows = (await me.sync(room=4, caps=caps))["rows"]
                await me.sync([outcome(row["call_id"], "no_answer") for row in rows])

    async def clock() -> None:
        """Nobody waits for the quarter of a minute after which a person is looked at again."""
        while not over.is_set():
            await lasting_desk.connection.execute(
                "update call_queue set not_before = now() where id in (select id from call_queue "
                "where status = 'queued' and not_before > now() for update skip locked)"
            )
            await asyncio.sleep(0.02)

    waiting = asyncio.create_task(clock())
    await asyncio.gather(*(claimer(place) for place in range(CLAIMERS)))
    over.set()
    await waiting
    dials = await lasting_desk.connection.fetch("select e164, count(*) as n from call_dials group by e164")
    assert len(dials) == 12
    assert {row["n"] for row in dials} == {3}
    left = await lasting_desk.connection.fetchval("select count(*) from call_queue where status = 'queued'")
    assert left == 8 * 12 - 3 * 12


# What it costs


@pytest.mark.parametrize("statistics", ["fresh", "stale"])
async def test_a_long_list_costs_the_claim_nothing(
    lasting_desk: Desk, db: str, pg_server: Postgres, statistics: str
) -> None:
    await lasting_desk.fill(100)
    assert len(await lasting_desk.claim(10)) == 10  # With plans that are made while all is empty.
    async with connected(pg_server.admin_dsn(db.rsplit("/", 1)[1])) as connection:
        await connection.execute("set session_replication_role = replica")
        await connection.execute(
            "insert into do_not_call (e164) select '+601' || (300000000 + i) from generate_series(1, 100000) i"
        )
        await connection.execute(
            "insert into call_dials (call_id, row_id, user_id, e164, claimed_at) select gen_random_uuid(), i, $1, "
            "'+601' || (300000000 + i), now() from generate_series(1, 100000) i",
            USER,
        )
        await connection.execute(
            "insert into call_days (user_id, day) select gen_random_uuid(), current_date from generate_series(1, 20000)"
        )
        if statistics == "fresh":
            await connection.execute("analyze")
    connection = lasting_desk.connection
    read = (
        "select relname::text, seq_scan, idx_tup_fetch from pg_stat_xact_user_tables "
        "where relname in ('do_not_call', 'call_dials', 'call_days', 'call_user_caps')"
    )
    async with connection.transaction():
        assert len(await lasting_desk.claim(50, caps={"calls_per_day": 1000, "minutes_per_day": 1000})) == 50
        for name, scans, fetched in await connection.fetch(read):
            assert (name, scans) == (name, 0)
            assert (fetched or 0) <= 200, name


async def test_the_index_of_the_list_is_the_one_that_is_asked(lasting_desk: Desk) -> None:
    connection = lasting_desk.connection
    await connection.execute("alter table do_not_call disable trigger user")
    await connection.execute(
        "insert into do_not_call (e164) select '+601' || (300000000 + i) from generate_series(1, 100000) i"
    )
    await connection.execute("analyze do_not_call")
    plan = await connection.fetch(
        "explain select * from do_not_call d where d.e164 = '+60312345678' and (d.user_id is null or d.user_id = $1) "
        "and (d.expires_at is null or d.expires_at > now()) order by d.e164 desc, d.user_id desc limit 1",
        USER,
    )
    text = "\n".join(row[0] for row in plan)
    assert "do_not_call_number_key" in text
    assert "Seq Scan" not in text
    assert "Sort" not in text
