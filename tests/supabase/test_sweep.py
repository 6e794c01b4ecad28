"""The sweep: rows that expired, calls that nobody reports, flags that were lost; and canceling in each state."""

import asyncpg
import pytest

from tests.supabase.helpers import OTHER, RINGING_AT, USER, Desk, answered, number, outcome


async def overdue(desk: Desk) -> None:
    """Let the deadline of all live calls pass."""
    await desk.connection.execute(
        "update call_queue set deadline = now() - interval '1 second' where deadline is not null"
    )


async def steady(desk: Desk) -> None:
    """This adapter's heartbeats have come for a whole lease without a gap."""
    await desk.connection.execute("update call_adapters set steady_since = now() - interval '61 seconds'")


async def expire(desk: Desk) -> None:
    """Let all queued rows expire."""
    await desk.connection.execute(
        "update call_queue set expires_at = now() - interval '1 second' where status = 'queued'"
    )


async def test_an_expired_row_ends_as_blocked_with_a_log_row(desk: Desk) -> None:
    row_id = await desk.insert()
    await expire(desk)
    await desk.sync()
    row = await desk.row(row_id)
    assert (row["status"], row["outcome"]) == ("done", "blocked")
    assert row["ended_reason"] == "expired before it could be dialed"
    log = await desk.the_log(row["call_id"])
    assert (log["status"], log["duration"], log["phone_number"]) == ("failed", 0, "0123456700")
    assert log["metadata"]["ended_reason"] == "expired before it could be dialed"


async def test_a_claim_never_gives_an_expired_row(desk: Desk) -> None:
    await desk.fill(300)
    await expire(desk)
    await desk.fill(1, start=1000)
    assert len(await desk.claim(50)) <= 1
    assert len(await desk.claim(50)) <= 1
    for _ in range(3):
        await desk.claim(50)
    assert await desk.connection.fetchval("select count(*) from call_queue where outcome = 'blocked'") == 300
    assert await desk.connection.fetchval("select count(*) from call_queue where status = 'dialing'") == 1


async def test_a_row_with_calls_ends_as_its_last_call_did(desk: Desk) -> None:
    row_id = await desk.insert(max_attempts=3)
    call = await desk.claim_one()
    await desk.sync([outcome(call["call_id"], "busy")])
    await expire(desk)
    await desk.sync()
    row = await desk.row(row_id)
    assert (row["status"], row["outcome"], str(row["call_id"])) == ("done", "busy", call["call_id"])
    assert row["ended_reason"] == "it ended: busy; not tried again: expired before it could be dialed"
    assert await desk.connection.fetchval("select count(*) from call_logs") == 1


async def test_a_row_whose_calls_left_no_log_row_gets_one_when_it_expires(desk: Desk) -> None:
    row_id = await desk.insert()
    call = await desk.claim_one()
    await desk.sync([outcome(call["call_id"], "congestion")])
    await expire(desk)
    await desk.sync()
    row = await desk.row(row_id)
    assert (row["status"], row["outcome"]) == ("done", "congestion")
    log = await desk.the_log(row["call_id"])
    assert log["metadata"]["outcome"] == "congestion"
    assert str(row["call_id"]) != call["call_id"]


async def test_an_orphan_is_ended_as_unknown_by_any_adapter(desk: Desk) -> None:
    await desk.insert()
    call = await desk.claim_one()
    other = Desk(desk.connection, pbx="pbx-2")
    await other.register()
    await overdue(desk)
    await other.sync()
    assert (await desk.row(call["row_id"]))["status"] == "dialing"
    await steady(desk)
    await other.sync()
    row = await desk.row(call["row_id"])
    assert (row["status"], row["outcome"], row["attempts"]) == ("done", "unknown", 1)
    log = await desk.the_log(call["call_id"])
    assert (log["status"], log["duration"], log["metadata"]["outcome"]) == ("failed", 0, "unknown")
    # Its adapter comes back with what it saw.
    await desk.sync([outcome(call["call_id"], "no_answer")])
    assert (await desk.row(call["row_id"]))["outcome"] == "no_answer"


async def test_an_answered_orphan_keeps_its_word(desk: Desk) -> None:
    await desk.insert()
    call = await desk.claim_one()
    await desk.sync([answered(call["call_id"])])
    await overdue(desk)
    await steady(desk)
    await desk.sync()
    assert (await desk.row(call["row_id"]))["outcome"] == "unknown"
    log = await desk.the_log(call["call_id"])
    assert (log["status"], log["duration"]) == ("answered", 0)


async def test_the_sweep_is_bounded(desk: Desk) -> None:
    await desk.fill(250)
    await expire(desk)
    counts = []
    for _ in range(3):
        await desk.sync()
        counts.append(await desk.connection.fetchval("select count(*) from call_queue where status = 'done'"))
    assert counts == [100, 200, 250]


async def test_a_row_whose_log_row_cannot_be_written_ends_all_the_same(desk: Desk) -> None:
    row_id = await desk.insert(number(1))
    await expire(desk)
    await desk.connection.execute("alter table call_logs add constraint no_end check (status <> 'failed')")
    await desk.sync()
    assert (await desk.row(row_id))["outcome"] == "blocked"
    canceled = await desk.insert(number(2))
    assert await cancel(desk, canceled) == "canceled"


async def test_a_row_that_cannot_be_swept_is_said_and_harms_no_other(desk: Desk) -> None:
    await desk.insert(number(1))
    call = await desk.claim_one()
    await overdue(desk)
    await steady(desk)
    expired = await desk.insert(number(2))
    await expire(desk)
    await desk.insert(number(3))
    await desk.connection.execute("alter table call_queue add constraint odd check (outcome <> 'unknown')")
    reply = await desk.sync(room=5)
    assert f"row {call['row_id']} could not be ended" in reply["notes"][0]
    assert (await desk.row(expired))["status"] == "done"
    assert [row["e164"] for row in reply["rows"]] == [number(3)]
    await desk.connection.execute("alter table call_queue drop constraint odd")
    await desk.sync()
    assert (await desk.row(call["row_id"]))["outcome"] == "unknown"


@pytest.mark.parametrize(
    "damage",
    [
        "delete from call_lanes; delete from call_tenants; delete from call_arrivals",
        "update call_lanes set ready = false, wake_at = null; update call_tenants set ready = false, wake_at = null",
        "update call_tenants set ready = false, wake_at = now() + interval '1 day'",
        "update call_lanes set ready = false, wake_at = now() + interval '1 day'",
    ],
)
async def test_lost_turns_are_found_again(desk: Desk, damage: str) -> None:
    await desk.fill(10, campaign=OTHER)
    await desk.fill(10, user=OTHER, start=100)
    await desk.claim(1)
    for statement in damage.split(";"):
        await desk.connection.execute(statement)
    await desk.connection.execute("update call_settings set repaired_at = '-infinity'")
    assert len([row for _ in range(3) for row in await desk.claim(50)]) == 19


async def test_the_repair_walks_on_where_it_stopped(desk: Desk) -> None:
    await desk.connection.execute(
        "insert into call_queue (user_id, phone_number) "
        "select gen_random_uuid(), '+601' || (100000000 + i) from generate_series(1, 250) i"
    )
    await desk.connection.execute("delete from call_arrivals")
    claimed = 0
    for _ in range(5):
        await desk.connection.execute("update call_settings set repaired_at = '-infinity'")
        claimed += len(await desk.claim(200))
    assert claimed == 250


async def test_scheduled_rows_wake_their_lane(desk: Desk) -> None:
    await desk.connection.execute(
        "insert into call_queue (user_id, phone_number, not_before) "
        "values ($1, '0123456700', now() + interval '1 hour')",
        USER,
    )
    assert await desk.claim() == []
    row = await desk.connection.fetchrow("select not_before from call_queue")
    assert row is not None
    for table in ("call_lanes", "call_tenants"):
        turn = await desk.connection.fetchrow(f"select ready, wake_at from {table}")  # noqa: S608 - names of ours
        assert turn is not None
        assert (turn["ready"], turn["wake_at"]) == (False, row["not_before"])
    # The hour passes: nothing but the clock tells them.
    await desk.due()
    await desk.connection.execute("delete from call_arrivals")
    for table in ("call_lanes", "call_tenants"):
        await desk.connection.execute(f"update {table} set wake_at = wake_at - interval '2 hours'")  # noqa: S608
    assert len(await desk.claim()) == 1


# -- canceling


async def cancel(desk: Desk, row_id: int | None, reason: str | None = None) -> str:
    """The status after canceling."""
    status: str = await desk.connection.fetchval("select call_cancel_v1($1, $2)", row_id, reason)
    return status


async def test_cancel_of_a_queued_row(desk: Desk) -> None:
    row_id = await desk.insert()
    assert await cancel(desk, row_id, "the customer asked") == "canceled"
    row = await desk.row(row_id)
    assert (row["outcome"], row["ended_reason"]) == ("canceled", "the customer asked")
    log = await desk.the_log(row["call_id"])
    assert (log["status"], log["metadata"]["ended_reason"]) == ("failed", "the customer asked")
    assert await cancel(desk, row_id) == "canceled"
    assert await desk.claim() == []


async def test_cancel_of_a_queued_retry_leaves_the_log_rows_there_are(desk: Desk) -> None:
    row_id = await desk.insert(max_attempts=2)
    call = await desk.claim_one()
    await desk.sync([outcome(call["call_id"], "busy")])
    assert await cancel(desk, row_id) == "canceled"
    assert await desk.connection.fetchval("select count(*) from call_logs") == 1
    assert (await desk.row(row_id))["last_outcome"] == "busy"


@pytest.mark.parametrize("state", ["dialing", "talking"])
async def test_cancel_of_a_live_call_tells_its_adapter_until_it_ended(desk: Desk, state: str) -> None:
    row_id = await desk.insert(max_attempts=3)
    call = await desk.claim_one()
    if state == "talking":
        await desk.sync([answered(call["call_id"])])
    assert await cancel(desk, row_id) == state
    command = {"kind": "hangup", "call_id": call["call_id"]}
    assert (await desk.sync())["commands"] == [command]
    assert (await desk.sync())["commands"] == [command]
    other = Desk(desk.connection)
    await other.register()
    assert (await other.sync())["commands"] == []
    reply = await desk.sync([outcome(call["call_id"], "canceled", ringing_at=RINGING_AT)])
    assert reply["commands"] == []
    row = await desk.row(row_id)
    if state == "talking":
        # It was answered: the AI handler may still have its say.
        assert (row["status"], row["outcome"]) == ("talking", "canceled")
        await desk.settle()
        row = await desk.row(row_id)
    assert (row["status"], row["outcome"]) == ("done", "canceled")


async def test_a_canceled_call_that_ends_by_itself_keeps_its_outcome_and_is_not_retried(desk: Desk) -> None:
    row_id = await desk.insert(max_attempts=3)
    call = await desk.claim_one()
    await cancel(desk, row_id)
    await desk.sync([outcome(call["call_id"], "busy")])
    row = await desk.row(row_id)
    assert (row["status"], row["outcome"]) == ("done", "busy")


async def test_a_canceled_row_that_is_released_ends(desk: Desk) -> None:
    row_id = await desk.insert()
    call = await desk.claim_one()
    await cancel(desk, row_id, "no longer needed")
    await desk.sync([{"kind": "release", "call_id": call["call_id"], "cause": "not_sent"}])
    row = await desk.row(row_id)
    assert (row["status"], row["ended_reason"]) == ("canceled", "no longer needed")
    assert await desk.claim() == []


async def test_cancel_of_an_ended_or_missing_row(desk: Desk) -> None:
    row_id = await desk.insert()
    call = await desk.claim_one()
    await desk.sync([outcome(call["call_id"], "busy")])
    assert await cancel(desk, row_id) == "done"
    assert (await desk.row(row_id))["outcome"] == "busy"
    with pytest.raises(asyncpg.PostgresError, match="has no row 99") as error:
        await cancel(desk, 99)
    assert error.value.sqlstate == "PT404"
