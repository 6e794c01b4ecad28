"""Campaigns of the app: counters, `completed`, a pause, a deletion, on the app's own schema."""

import asyncio
import uuid
from typing import Any

import pytest

from tests.supabase.helpers import OTHER, USER, Connection, Desk, answered, connected, number, outcome, release
from tests.supabase.test_plans import touched


async def campaign(connection: Connection, status: str = "in_progress", **columns: Any) -> str:
    """A campaign as the app makes it."""
    names = "".join(f", {name}" for name in columns)
    marks = "".join(f", ${place}" for place in range(4, 4 + len(columns)))
    made = await connection.fetchval(
        f"insert into campaigns (user_id, campaign_name, status{names}) values ($1, $2, $3{marks}) returning id",  # noqa: S608
        USER,
        f"campaign {uuid.uuid4()}",
        status,
        *columns.values(),
    )
    return str(made)


async def shown(connection: Connection, made: str) -> tuple[str, int, int, int]:
    """What the app's pages read of it, once what was done by hand is committed."""
    await connection.execute("set constraints all immediate; set constraints all deferred")
    row = await connection.fetchrow(
        "select status, successful_calls, failed_calls, current_retry_count from campaigns where id = $1", made
    )
    assert row is not None
    return row[0], row[1], row[2], row[3]


async def counted(connection: Connection, made: str) -> tuple[int, int]:
    """What the counters must be: rows answered, rows ended without."""
    row = await connection.fetchrow(
        "select count(*) filter (where outcome in ('answered', 'ai_failed')), "
        "count(*) filter (where outcome not in ('answered', 'ai_failed')) "
        "from call_queue where campaign_id = $1 and status in ('done', 'canceled')",
        made,
    )
    assert row is not None
    return row[0], row[1]


async def status(desk: Desk, made: str, word: str) -> None:
    """The app pauses or resumes."""
    await desk.connection.execute("update campaigns set status = $2 where id = $1", made, word)


async def test_each_ending_is_counted_in_its_own_request(app_desk: Desk) -> None:
    desk, db = app_desk, app_desk.connection
    made = await campaign(db, total_numbers=5)
    for serial in range(5):
        await desk.insert(number(serial), campaign_id=made)
    first, second, third, fourth, fifth = await desk.claim()
    assert await shown(db, made) == ("in_progress", 0, 0, 0)

    await desk.sync([answered(first["call_id"])])
    await desk.sync([outcome(first["call_id"], "answered"), outcome(second["call_id"], "busy")])
    assert await shown(db, made) == ("in_progress", 0, 1, 0)  # The first is held for the AI handler's word.
    await desk.settle()
    assert await shown(db, made) == ("in_progress", 1, 1, 0)

    await desk.sync([outcome(third["call_id"], "answered")])
    await db.execute("update call_logs set status = 'voicemail' where call_id = $1", third["call_id"])
    await desk.settle()
    assert await shown(db, made) == ("in_progress", 1, 2, 0)

    await desk.sync([outcome(fourth["call_id"], "ai_failed"), outcome(fifth["call_id"], "unknown")])
    assert await shown(db, made) == ("in_progress", 1, 3, 0)
    await desk.settle()
    assert await shown(db, made) == ("completed", 2, 3, 0)

    # Evidence replaces what was not known, and moves the person from one counter to the other.
    await desk.sync([outcome(fifth["call_id"], "answered")])
    assert await shown(db, made) == ("completed", 3, 2, 0)
    assert await counted(db, made) == (3, 2)


async def test_the_same_record_twice_counts_once(app_desk: Desk) -> None:
    desk = app_desk
    made = await campaign(desk.connection)
    await desk.insert(campaign_id=made)
    row = await desk.claim_one()
    for _ in range(2):
        await desk.sync([outcome(row["call_id"], "busy")] * 2)
    assert await shown(desk.connection, made) == ("completed", 0, 1, 0)


async def test_rows_that_end_without_a_call_are_counted_at_once(app_desk: Desk) -> None:
    desk, db = app_desk, app_desk.connection
    made = await campaign(db)
    await desk.insert("1", campaign_id=made)  # No number: blocked at the insert.
    assert await shown(db, made) == ("completed", 0, 1, 0)
    ids = [await desk.insert(number(serial), campaign_id=made) for serial in range(4)]
    await desk.sync()
    assert await shown(db, made) == ("in_progress", 0, 1, 0)
    await db.fetchval("select call_cancel_v1($1)", ids[0])
    assert await shown(db, made) == ("in_progress", 0, 2, 0)
    await db.execute("update call_queue set expires_at = now() - interval '1 second' where id = $1", ids[1])
    await desk.sync()
    assert await shown(db, made) == ("in_progress", 0, 3, 0)
    await db.execute("delete from call_queue where id = $1", ids[2])
    assert await shown(db, made) == ("in_progress", 0, 3, 0)
    await db.execute("delete from call_queue where id = $1", ids[3])  # Nothing is left to wait for.
    assert await shown(db, made) == ("completed", 0, 3, 0)


async def test_ended_rows_that_are_tidied_away_stay_counted(app_desk: Desk) -> None:
    desk, db = app_desk, app_desk.connection
    made = await campaign(db)
    await desk.insert(campaign_id=made)
    await desk.sync([outcome((await desk.claim_one())["call_id"], "answered")])
    await desk.settle()
    await db.execute("delete from call_queue")
    assert await shown(db, made) == ("completed", 1, 0, 0)


async def test_a_row_moved_by_hand_is_counted_where_it_is(app_desk: Desk) -> None:
    desk, db = app_desk, app_desk.connection
    one, other = await campaign(db), await campaign(db)
    row = await desk.insert("1", campaign_id=one)
    await db.execute("update call_queue set campaign_id = $2 where id = $1", row, other)
    assert await shown(db, one) == ("completed", 0, 0, 0)
    assert await shown(db, other) == ("completed", 0, 1, 0)
    await db.execute("update call_queue set campaign_id = null where id = $1", row)
    assert await shown(db, other) == ("completed", 0, 0, 0)


async def test_it_is_completed_when_the_last_retry_is_over(app_desk: Desk) -> None:
    desk, db = app_desk, app_desk.connection
    made = await campaign(db)
    await desk.insert(campaign_id=made, max_attempts=3)
    for attempt in range(1, 4):
        row = await desk.claim_one()
        assert (await shown(db, made))[:3] == ("in_progress", 0, 0)
        await desk.sync([outcome(row["call_id"], "no_answer")])
        assert (await shown(db, made))[3] == attempt - 1
        await desk.due()
    assert await shown(db, made) == ("completed", 0, 1, 2)


@pytest.mark.parametrize(
    ("before", "after"), [("pending", "in_progress"), ("completed", "in_progress"), ("failed", "in_progress"),
                          ("paused", "paused"), ("in_progress", "in_progress")]
)  # fmt: skip
async def test_rows_that_come_in_open_it_again(app_desk: Desk, before: str, after: str) -> None:
    made = await campaign(app_desk.connection, before)
    await app_desk.insert(campaign_id=made)
    await app_desk.sync()
    assert await shown(app_desk.connection, made) == (after, 0, 0, 0)


async def test_a_campaign_without_rows_of_ours_is_left_alone(app_desk: Desk) -> None:
    db = app_desk.connection
    made = await campaign(db, "paused", successful_calls=7)
    await status(app_desk, made, "in_progress")
    await app_desk.sync()
    assert await shown(db, made) == ("in_progress", 7, 0, 0)


async def test_rows_of_a_campaign_that_nobody_knows_are_dialed_as_ever(app_desk: Desk) -> None:
    await app_desk.insert(campaign_id=str(uuid.uuid4()))
    row = await app_desk.claim_one()
    await app_desk.sync([outcome(row["call_id"], "busy")])
    assert await app_desk.connection.fetchval("select count(*) from call_campaign_news") == 0


async def test_what_the_app_took_off_stays_off(app_desk: Desk) -> None:
    """Deleting a call, the app lowers the counter itself; ours go up and down by one, never back to a sum."""
    desk, db = app_desk, app_desk.connection
    made = await campaign(db)
    for serial in range(2):
        await desk.insert(number(serial), campaign_id=made)
    first, second = await desk.claim()
    await desk.sync([outcome(first["call_id"], "busy")])
    await db.execute("update campaigns set failed_calls = failed_calls - 1 where id = $1", made)
    await desk.sync([outcome(second["call_id"], "busy")])
    assert await shown(db, made) == ("completed", 0, 1, 0)


async def test_a_pause_holds_from_the_next_claim_until_it_ends(app_desk: Desk) -> None:
    desk, db = app_desk, app_desk.connection
    made = await campaign(db)
    other = await campaign(db)
    for serial in range(4):
        await desk.insert(number(serial), campaign_id=made)
    live = await desk.claim_one()
    await status(desk, made, "paused")
    await desk.insert(number(9), campaign_id=other)
    assert [row["campaign_id"] for row in await desk.claim()] == [other]
    assert await desk.claim() == []
    await desk.sync([answered(live["call_id"])])
    assert (await desk.row(live["row_id"]))["status"] == "talking"
    await desk.sync([outcome(live["call_id"], "answered")])
    await desk.settle()
    assert await shown(db, made) == ("paused", 1, 0, 0)

    await status(desk, made, "in_progress")
    assert len(await desk.claim()) == 3
    assert await db.fetchval("select count(*) from call_lanes where paused or halted") == 0


async def test_a_pause_holds_rows_that_came_later_and_lanes_that_were_forgotten(app_desk: Desk) -> None:
    desk, db = app_desk, app_desk.connection
    made = await campaign(db, "paused")
    await desk.insert(campaign_id=made)
    seen = await db.fetchval("select call_follow_v1(id) from call_queue")
    assert seen["wait"]["lane_paused"]
    assert await desk.claim() == []
    await db.execute("delete from call_lanes")
    await db.execute("delete from call_tenants")
    await db.execute("update call_settings set repaired_at = '-infinity'")
    for _ in range(3):
        assert await desk.claim() == []


async def test_a_lost_resumption_is_found_by_the_sweep(app_desk: Desk) -> None:
    desk, db = app_desk, app_desk.connection
    made = await campaign(db, "paused")
    await desk.insert(campaign_id=made)
    assert await desk.claim() == []
    await status(desk, made, "in_progress")
    await db.execute("delete from call_arrivals")
    await db.execute("update call_tenants set wake_at = now() - interval '1 second' where wake_at is not null")
    assert len(await desk.claim()) == 1


async def test_a_lane_paused_by_hand_is_not_freed_with_the_campaign(app_desk: Desk) -> None:
    desk, db = app_desk, app_desk.connection
    made = await campaign(db)
    await desk.insert(campaign_id=made)
    await desk.sync(room=1, ready=False)
    await db.execute("insert into call_lanes (user_id, lane, paused) values ($1, $2, true)", USER, made)
    await status(desk, made, "paused")
    await status(desk, made, "in_progress")
    assert await desk.claim() == []


async def test_a_paused_campaign_whose_last_call_ends_is_completed(app_desk: Desk) -> None:
    desk = app_desk
    made = await campaign(desk.connection)
    await desk.insert(campaign_id=made)
    row = await desk.claim_one()
    await status(desk, made, "paused")
    await desk.sync([outcome(row["call_id"], "busy")])
    assert await shown(desk.connection, made) == ("completed", 0, 1, 0)
    assert await desk.connection.fetchval("select count(*) from call_pauses where ended is null") == 0


async def paused(desk: Desk, made: str, began: str, ended: str | None) -> None:
    """A pause of the past, by hours ago."""
    await desk.connection.execute(
        "insert into call_pauses (campaign_id, began, ended) "
        "values ($1, now() - $2::text::interval, now() - $3::text::interval)",
        made,
        began,
        ended,
    )


@pytest.mark.parametrize(
    ("pauses", "left"),
    [
        ([], None),
        ([("20 hours", "15 hours")], "4 hours"),
        ([("20 hours", "15 hours"), ("10 hours", "9 hours")], "5 hours"),
        ([("20 hours", None)], "19 hours"),  # Five hours had passed when it began.
        ([("30 minutes", None)], None),  # It had ended before.
        ([("62 minutes", None)], "1 hour"),
        ([("40 hours", "30 hours")], None),  # Before it was there.
        ([("26 hours", "24 hours")], None),  # One hour back, and it ended one hour ago.
    ],
)
async def test_the_clock_of_a_queued_row_stands_while_its_campaign_is_paused(
    app_desk: Desk, pauses: list[tuple[str, str | None]], left: str | None
) -> None:
    """The row would have ended one hour ago."""
    desk, db = app_desk, app_desk.connection
    made = await campaign(db)
    row = await desk.insert(campaign_id=made)
    for began, ended in pauses:
        await paused(desk, made, began, ended)
    if any(ended is None for _, ended in pauses):
        await db.execute("alter table campaigns disable trigger call_campaign_paused")
        await status(desk, made, "paused")
        await db.execute("alter table campaigns enable trigger call_campaign_paused")
    await db.execute(
        "update call_queue set created_at = now() - interval '25 hours', not_before = now() - interval '25 hours', "
        "expires_at = now() - interval '1 hour' where id = $1",
        row,
    )
    reply = await desk.sync()
    assert reply["notes"] == []
    found = await desk.row(row)
    if left is None:
        assert (found["status"], found["outcome"]) == ("done", "blocked")
    else:
        assert found["status"] == "queued"
        apart = await db.fetchval(
            "select abs(extract(epoch from expires_at - now() - $2::text::interval)) from call_queue where id = $1",
            row,
            left,
        )
        assert apart < 5


async def test_the_clock_counts_each_pause_once_and_goes_on_after_it(app_desk: Desk) -> None:
    desk, db = app_desk, app_desk.connection
    made = await campaign(db)
    row = await desk.insert(campaign_id=made, not_before=None)
    await db.execute(
        "update call_queue set created_at = now() - interval '25 hours', expires_at = now() - interval '1 hour'"
    )
    await paused(desk, made, "20 hours", "18 hours")
    await desk.sync()
    assert (await desk.row(row))["status"] == "queued"
    await db.execute("update call_queue set expires_at = now() - interval '1 second', clock_at = now()")
    await desk.sync()
    assert (await desk.row(row))["outcome"] == "blocked"


async def test_an_end_that_was_given_and_the_thirty_days_stand(app_desk: Desk) -> None:
    desk, db = app_desk, app_desk.connection
    made = await campaign(db)
    given = await desk.insert(number(1), campaign_id=made)
    old = await desk.insert(number(2), campaign_id=made)
    await status(desk, made, "paused")
    await db.execute("update call_pauses set began = now() - interval '40 days'")
    await db.execute(
        "update call_queue set created_at = now() - interval '25 hours', expires_at = now() - interval '1 hour', "
        "expires_fixed = true where id = $1",
        given,
    )
    await db.execute(
        "update call_queue set created_at = now() - interval '30 days 1 hour', expires_at = now() - interval '1 hour' "
        "where id = $1",
        old,
    )
    await desk.sync()
    assert [(await desk.row(row))["outcome"] for row in (given, old)] == ["blocked", "blocked"]


async def test_a_deleted_campaign_cancels_what_is_queued_and_nothing_comes_back_to_the_pages(app_desk: Desk) -> None:
    desk, db = app_desk, app_desk.connection
    made = await campaign(db)
    for serial in range(3):
        await desk.insert(number(serial), campaign_id=made, max_attempts=3)
    ringing, talking = await desk.claim(2)
    await desk.sync([answered(talking["call_id"])])
    # As the Campaigns page does it: its calls first.
    await db.execute("delete from call_logs where campaign_id = $1", made)
    await db.execute("delete from campaigns where id = $1", made)
    assert await desk.claim() == []
    (left,) = await db.fetch("select * from call_queue where status <> 'talking' and status <> 'dialing'")
    assert (left["status"], left["outcome"], left["ended_reason"]) == (
        "canceled", "canceled", "its campaign was deleted",
    )  # fmt: skip

    reply = await desk.sync([outcome(ringing["call_id"], "no_answer"), outcome(talking["call_id"], "answered")])
    assert (reply["recorded"], reply["refused"]) == ([1, 2], [])
    await desk.settle()
    rows = await db.fetch("select status, outcome from call_queue order by id")
    # The one that nobody answered is not tried again.
    assert sorted(map(tuple, rows)) == [("canceled", "canceled"), ("done", "answered"), ("done", "no_answer")]
    assert await db.fetchval("select count(*) from call_logs") == 0
    assert await db.fetchval("select count(*) from call_campaign_news") == 0


async def test_rows_that_come_for_a_deleted_campaign_are_canceled_too(app_desk: Desk) -> None:
    desk, db = app_desk, app_desk.connection
    made = await campaign(db)
    await desk.insert(number(1), campaign_id=made)
    row = await desk.claim_one()
    await db.execute("delete from campaigns where id = $1", made)
    await desk.insert(number(2), campaign_id=made)
    assert await desk.claim() == []
    await desk.sync([release(row["call_id"])])  # It was never dialed, and is queued again.
    assert await desk.claim() == []
    await desk.sync()
    assert await db.fetch("select from call_queue where status <> 'canceled'") == []
    assert await db.fetchval("select count(*) from call_logs where status <> 'initiated'") == 0


async def test_a_large_campaign_is_deleted_in_a_moment_and_canceled_in_pieces(app_desk: Desk) -> None:
    desk, db = app_desk, app_desk.connection
    made = await campaign(db)
    await desk.fill(1200, campaign=made)
    await desk.claim(1)
    await db.execute("delete from campaigns where id = $1", made)
    left = [await db.fetchval("select count(*) from call_queue where status = 'queued'")]
    while left[-1]:
        assert await desk.claim() == []
        left.append(await db.fetchval("select count(*) from call_queue where status = 'queued'"))
    assert left == [1199, 699, 199, 0]


async def test_calls_deleted_in_the_app_while_they_live_hurt_nothing(app_desk: Desk) -> None:
    desk, db = app_desk, app_desk.connection
    made = await campaign(db)
    for serial in range(3):
        await desk.insert(number(serial), campaign_id=made)
    ringing, talking, held = await desk.claim()
    await desk.sync([answered(talking["call_id"]), answered(held["call_id"]), outcome(held["call_id"], "answered")])
    await db.execute("delete from call_logs")
    reply = await desk.sync([outcome(ringing["call_id"], "busy"), outcome(talking["call_id"], "answered")])
    assert (reply["recorded"], reply["refused"], reply["notes"]) == ([1, 2], [], [])
    await desk.settle()
    assert await shown(db, made) == ("completed", 2, 1, 0)
    assert await db.fetchval("select count(*) from call_logs") == 0


async def test_a_campaign_that_somebody_holds_keeps_nobody_waiting(app_db: str) -> None:
    async with connected(app_db) as connection, connected(app_db) as person:
        desk = Desk(connection)
        await desk.register()
        made = await campaign(connection)
        for serial in range(3):
            await desk.insert(number(serial), campaign_id=made)
        first, second, _ = await desk.claim()
        change = person.transaction()
        await change.start()
        await person.execute("update campaigns set campaign_name = 'being edited' where id = $1", made)
        for call in (first, second):
            reply = await asyncio.wait_for(desk.sync([outcome(call["call_id"], "busy")]), 2)
            assert reply["recorded"] == [1]
        await asyncio.wait_for(desk.insert("1", campaign_id=made), 2)
        # Those of the two requests in one note, and that of the insert.
        assert await connection.fetchval("select count(*) from call_campaign_news") == 2
        await change.commit()
        assert await shown(connection, made) == ("in_progress", 0, 0, 0)
        await desk.sync()
        assert await shown(connection, made) == ("in_progress", 0, 3, 0)


async def test_whoever_edits_rows_by_hand_and_an_adapter_never_wait_for_each_other(app_db: str) -> None:
    async with connected(app_db) as connection, connected(app_db) as person:
        desk = Desk(connection)
        await desk.register()
        made = await campaign(connection)
        await desk.fill(20, campaign=made)
        (row, *_) = await desk.claim(5)
        change = person.transaction()
        await change.start()
        await person.execute("update call_queue set cancel_requested = true where status = 'queued'")
        await asyncio.wait_for(desk.sync([outcome(row["call_id"], "busy")], room=5), 2)
        await change.commit()
        await desk.sync()
        assert (await shown(connection, made))[1:3] == await counted(connection, made) == (0, 16)


async def test_a_campaign_that_cannot_be_written_harms_no_record_and_no_claim(app_desk: Desk) -> None:
    desk, db = app_desk, app_desk.connection
    made = await campaign(db)
    await db.execute("alter table campaigns add constraint odd check (failed_calls = 0) not valid")
    await desk.fill(2, campaign=made)
    (row,) = await desk.claim(1)
    reply = await desk.sync([outcome(row["call_id"], "busy")], room=1)
    assert (reply["recorded"], len(reply["rows"])) == ([1], 1)
    await db.execute("alter table campaigns drop constraint odd")
    await desk.sync()
    assert await shown(db, made) == ("in_progress", 0, 1, 0)


async def test_the_app_is_never_refused_because_of_us(app_desk: Desk) -> None:
    db = app_desk.connection
    made = await campaign(db)
    await db.execute("alter table call_pauses add constraint odd check (campaign_id is null) not valid")
    await status(app_desk, made, "paused")
    await app_desk.insert(campaign_id=made)
    assert await app_desk.claim() == []
    await db.execute("set role anon")
    await db.execute("update campaigns set status = 'in_progress' where id = $1", made)
    await db.execute("delete from campaigns where id = $1", made)
    await db.execute("reset role")


async def test_the_endings_of_one_request_write_their_campaign_once(app_db: str) -> None:
    """A row for all calls of a campaign, yet no version of it for each: what a request ends is added up first."""
    async with connected(app_db) as connection:
        desk = Desk(connection)
        await desk.register()
        made = await campaign(connection)
        await desk.fill(400, campaign=made)
        rows = await desk.claim(400)
        async with connection.transaction():
            written = "select n_tup_upd from pg_stat_xact_user_tables where relname = 'campaigns'"
            before = await connection.fetchval(written)
            await desk.sync([outcome(row["call_id"], "busy") for row in rows])
            assert await connection.fetchval(written) - before == 1
        assert await shown(connection, made) == ("completed", 0, 400, 0)


@pytest.mark.parametrize("why", ["paused", "deleted"])
async def test_a_large_campaign_that_stands_costs_a_claim_nothing(app_db: str, why: str) -> None:
    async with connected(app_db) as connection:
        desk = Desk(connection)
        await desk.register()
        made, other = await campaign(connection), await campaign(connection)
        await desk.fill(3000, campaign=made)
        await desk.fill(50, user=OTHER, campaign=other, start=5000)
        if why == "paused":
            await status(desk, made, "paused")
        else:
            await connection.execute("delete from campaigns where id = $1", made)
            while await connection.fetchval(
                "select count(*) from call_queue where campaign_id = $1 and status = 'queued'", made
            ):
                assert await desk.sync()
        await desk.claim(1)

        async def work() -> None:
            assert {row["campaign_id"] for row in await desk.claim(20)} == {other}

        cost = await touched(connection, work)
        assert cost["call_queue"][0] == 0
        assert cost["call_queue"][1] < 600, cost


async def test_what_is_told_to_a_campaign_does_not_grow_with_its_rows(app_db: str) -> None:
    async with connected(app_db) as connection:
        desk = Desk(connection)
        await desk.register()
        made = await campaign(connection)
        await desk.fill(3000, campaign=made)
        rows = await desk.claim(10)

        async def work() -> None:
            reply = await desk.sync([outcome(row["call_id"], "busy") for row in rows])
            assert len(reply["recorded"]) == 10

        cost = await touched(connection, work)
        assert await shown(connection, made) == ("in_progress", 0, 10, 0)
        assert cost["call_queue"][0] == 0
        assert cost["call_queue"][1] < 100, cost


async def test_the_clock_stands_while_a_user_is_paused_and_counts_no_time_twice(app_desk: Desk) -> None:
    """Five hours by the user, six by the campaign, four of them at once: seven hours."""
    desk, db = app_desk, app_desk.connection
    made = await campaign(db)
    alone = await desk.insert(number(1))
    both = await desk.insert(number(2), campaign_id=made)
    other = await desk.insert(number(3), user_id=OTHER)
    await db.execute("insert into call_tenants (user_id, paused) values ($1, true)", USER)
    await db.execute("update call_pauses set began = now() - interval '20 hours'")
    await db.execute("update call_tenants set paused = false")
    await db.execute("update call_pauses set ended = now() - interval '15 hours'")
    await paused(desk, made, "19 hours", "13 hours")
    await db.execute(
        "update call_queue set created_at = now() - interval '25 hours', expires_at = now() - interval '1 hour'"
    )
    await desk.sync()
    assert (await desk.row(other))["outcome"] == "blocked"
    for row, left in ((alone, 4), (both, 6)):
        hours = await db.fetchval(
            "select extract(epoch from expires_at - now()) / 3600 from call_queue where id = $1", row
        )
        assert round(hours, 3) == left


async def test_a_user_who_is_forgotten_is_paused_no_more(desk: Desk) -> None:
    db = desk.connection
    for _ in range(2):
        await db.execute("insert into call_tenants (user_id, paused) values ($1, true)", USER)
        await db.execute("delete from call_tenants")
    await db.execute("insert into call_tenants (user_id) values ($1)", USER)
    for word in ("true", "true", "false", "false", "true"):
        await db.execute(f"update call_tenants set paused = {word}")  # noqa: S608 - of ours
    found = await db.fetch("select ended is null from call_pauses order by id")
    assert [row[0] for row in found] == [False, False, False, True]
