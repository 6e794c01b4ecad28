"""What comes in: refused only if it is no row, ended as `blocked` if it cannot be dialed, never twice by a key."""

import asyncio
from typing import Any

import asyncpg
import pytest

from tests.supabase.helpers import OTHER, USER, Desk, answered, connected, number, outcome
from tests.support.db import ROOT

BAD: list[tuple[dict[str, Any], str]] = [
    ({"phone_number": ""}, "the phone number is empty"),
    ({"phone_number": "call me"}, "the phone number contains something that is no digit"),
    ({"phone_number": "999"}, "the phone number is too short (3 digits without the country code)"),
    ({"phone_number": "1" * 65}, "the phone number is too long"),
    ({"customer_name": "x" * 1001}, "customer_name is too long (1000 characters at most)"),
    ({"agent_id": "x" * 201}, "agent_id is too long (200 characters at most)"),
    ({"idsale": "x" * 201}, "idsale is too long (200 characters at most)"),
    ({"caller_id": "60123\r\nVariable: X=1"}, "caller_id is not a number or name of up to 80 characters"),
    ({"trunk": "a/b"}, "trunk is not the id of a provider"),
    ({"idempotency_key": "x" * 3000}, "idempotency_key is too long (200 characters at most)"),
    ({"ring_seconds": 4}, "ring_seconds must be 5 to 120"),
    ({"max_attempts": 0}, "max_attempts must be 1 to 100"),
    ({"retry_seconds": -1}, "retry_seconds must be 0 to 2592000"),
    ({"variables": ["a"]}, "variables is not an object"),
    ({"variables": {"a": "x" * 9000}}, "variables is too long (8000 characters at most)"),
    ({"metadata": "text"}, "metadata is not an object"),
    ({"metadata": {"a": "x" * 100_001}}, "metadata is too long (100000 characters at most)"),
    ({"status": "talking"}, "status talking is set by the adapter only"),
    ({"not_before": "infinity"}, "not_before is no date"),
    ({"expires_at": "infinity"}, "expires_at is no date"),
    ({"not_before": "2099-01-01"}, "not_before is more than 30 days ahead"),
    ({"expires_at": "2020-01-01"}, "expires_at is not later than not_before"),
]


async def insert_text(desk: Desk, **columns: Any) -> int | None:
    """Insert with every value given as JSON, as PostgREST does."""
    values = {"user_id": USER, "phone_number": "012-345 6700", **columns}
    names = ", ".join(values)
    row: int | None = await desk.connection.fetchval(
        f"insert into call_queue ({names}) select {names} from jsonb_populate_record(null::call_queue, $1) "  # noqa: S608
        "returning id",
        values,
    )
    return row


async def test_user_and_number_are_enough(desk: Desk) -> None:
    row = await desk.row(await desk.insert("012-345 6700"))
    assert (row["status"], row["e164"], row["country"], row["zone"]) == (
        *("queued", "+60123456700", "MY"),
        "Asia/Kuala_Lumpur",
    )
    assert (row["priority"], row["max_attempts"], row["retry_seconds"]) == (5, 1, 1800)
    assert (row["variables"], row["metadata"]) == ({}, {})
    assert round((row["expires_at"] - row["not_before"]).total_seconds()) == 24 * 3600


async def test_nulls_mean_the_default(desk: Desk) -> None:
    nulls = ("status", "priority", "not_before", "expires_at", "max_attempts", "retry_seconds", "variables", "metadata")
    row = await desk.row(await insert_text(desk, **dict.fromkeys([*nulls, "cancel_requested"])))
    assert (row["status"], row["priority"], row["variables"]) == ("queued", 5, {})


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"user_id": None}, "call_queue.user_id is missing"),
        ({"phone_number": None}, "call_queue.phone_number is missing"),
        ({"status": "waiting"}, 'call_queue.status cannot be "waiting"'),
        ({"priority": 12}, "call_queue.priority must be 0 to 9, not 12"),
        ({"priority": -1}, "call_queue.priority must be 0 to 9, not -1"),
    ],
)
async def test_what_is_no_row_is_refused_by_the_name_of_its_column(
    desk: Desk, columns: dict[str, Any], words: str
) -> None:
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match=words):
        await insert_text(desk, **columns)


async def test_bad_rows_are_blocked_one_by_one_and_harm_no_good_one(desk: Desk) -> None:
    rows = [{"user_id": USER, "phone_number": number(1), **columns} for columns, _ in BAD]
    rows += [{"user_id": USER, "phone_number": number(100 + i)} for i in range(1000 - len(BAD))]
    columns = sorted({name for row in rows for name in row})
    names = ", ".join(columns)
    ids = [
        row["id"]
        for row in await desk.connection.fetch(
            f"insert into call_queue ({names}) select {names} from jsonb_populate_recordset(null::call_queue, $1) "  # noqa: S608
            "returning id",
            rows,
        )
    ]
    assert len(ids) == 1000
    for row_id, (given, words) in zip(ids, BAD, strict=False):
        row = await desk.row(row_id)
        assert (row["status"], row["outcome"], row["ended_reason"]) == ("done", "blocked", words), given
        log = await desk.the_log(row["call_id"])
        assert (log["status"], log["duration"]) == ("failed", 0)
        assert log["metadata"]["ended_reason"] == words
        assert log["metadata"]["outcome"] == "blocked"
    assert await desk.connection.fetchval("select count(*) from call_queue where status = 'queued'") == 1000 - len(BAD)
    assert await desk.connection.fetchval("select count(*) from call_logs") == len(BAD)
    assert len(await desk.claim(500, limits={"pbx": 500})) == 500


async def test_bad_rows_on_the_apps_schema_whatever_its_keys_and_rules(app_desk: Desk) -> None:
    await app_desk.connection.execute("alter table call_logs add constraint no_x check (customer_name <> 'x')")
    await insert_text(app_desk, phone_number="1", contact_id=OTHER, prompt_id=OTHER, customer_name="y")
    await insert_text(app_desk, phone_number="1", customer_name="x")
    assert await app_desk.connection.fetchval("select count(*) from call_queue where outcome = 'blocked'") == 2
    log = await app_desk.connection.fetchrow("select * from call_logs")
    assert log is not None
    assert (log["contact_id"], log["prompt_id"], log["phone_number"]) == (None, None, "1")


async def test_what_only_the_adapter_sets_cannot_be_inserted(desk: Desk) -> None:
    row = await desk.row(
        await insert_text(
            desk,
            attempts=5,
            faults={"congestion": 9},
            call_id=OTHER,
            claim_number=7,
            adapter=OTHER,
            e164="+999",
            outcome="answered",
            last_outcome="busy",
            deadline="2020-01-01",
            created_at="2020-01-01",
        )
    )
    assert (row["attempts"], row["faults"], row["call_id"], row["e164"]) == (0, {}, None, "+60123456700")
    assert (row["outcome"], row["last_outcome"], row["adapter"]) == (None, None, None)
    assert row["created_at"].year > 2020


async def test_rows_of_the_past_are_kept_and_never_dialed(desk: Desk) -> None:
    done = await insert_text(desk, status="done", outcome="answered")
    canceled = await insert_text(desk, status="canceled", phone_number="garbage")
    assert await desk.claim() == []
    assert (await desk.row(done))["outcome"] == "answered"
    assert (await desk.row(canceled))["outcome"] == "canceled"


async def test_expiry_is_never_later_than_thirty_days(desk: Desk) -> None:
    row_id = await desk.connection.fetchval(
        "insert into call_queue (user_id, phone_number, expires_at) "
        "values ($1, '0123456700', now() + interval '90 days') returning id",
        USER,
    )
    row = await desk.row(row_id)
    assert (row["expires_at"] - row["created_at"]).days == 30
    assert row["expires_fixed"]


async def test_a_key_adds_one_row_per_user(desk: Desk) -> None:
    first = await desk.insert(number(1), idempotency_key="k")
    assert await desk.insert(number(2), idempotency_key="k") is None
    assert await desk.insert(number(3), idempotency_key="k", user_id=OTHER) is not None
    assert await desk.insert(number(4), idempotency_key="K") is not None
    # It counts whatever became of the row.
    await desk.claim()
    assert await desk.insert(number(5), idempotency_key="k") is None
    assert (await desk.row(first))["e164"] == number(1)


async def test_a_key_twice_in_one_statement_adds_one_row(desk: Desk) -> None:
    status = await desk.connection.execute(
        "insert into call_queue (user_id, phone_number, idempotency_key) "
        "select $1::uuid, '01234567' || (10 + i), 'k' || (i % 3) from generate_series(1, 9) i",
        USER,
    )
    assert status == "INSERT 0 3"


async def test_a_key_from_many_sessions_at_once_adds_one_row(lasting_desk: Desk, db: str) -> None:
    async def session(serial: int) -> int:
        async with connected(db) as connection:
            async with connection.transaction():
                status = await connection.execute(
                    "insert into call_queue (user_id, phone_number, idempotency_key) "
                    "select $1::uuid, $2, 'k' || i from generate_series(1, 50) i",
                    USER,
                    number(serial),
                )
                await asyncio.sleep(0.02)
            return int(status.split()[-1])

    added = await asyncio.gather(*(session(serial) for serial in range(8)))
    assert sum(added) == 50
    assert await lasting_desk.connection.fetchval("select count(*) from call_queue") == 50


async def test_edits_by_hand_are_understood(desk: Desk) -> None:
    row_id = await desk.insert("0123456700")
    await desk.connection.execute("update call_queue set phone_number = '+65 9123 4567' where id = $1", row_id)
    row = await desk.row(row_id)
    assert (row["e164"], row["country"], row["status"]) == ("+6591234567", "SG", "queued")
    await desk.connection.execute("update call_queue set phone_number = 'none' where id = $1", row_id)
    row = await desk.row(row_id)
    assert (row["status"], row["outcome"]) == ("done", "blocked")
    assert (await desk.the_log(row["call_id"]))["status"] == "failed"
    # Put back by hand, it is dialed again.
    await desk.connection.execute(
        "update call_queue set status = 'queued', outcome = null, phone_number = '0123456701' where id = $1", row_id
    )
    await desk.connection.execute("update call_queue set phone_number = '0123456702' where id = $1", row_id)
    assert (await desk.claim_one())["e164"] == "+60123456702"


@pytest.mark.parametrize("status", ["queued", "done"])
async def test_the_status_of_a_live_call_is_not_set_by_hand(lasting_desk: Desk, status: str) -> None:
    """Queued by hand it would be dialed beside its own call, done by hand its person would be free for another one."""
    desk = lasting_desk
    row_id = await desk.insert()
    row = await desk.claim_one()
    with pytest.raises(asyncpg.CheckViolationError, match="cancel_requested"):
        await desk.connection.execute("update call_queue set status = $2 where id = $1", row_id, status)
    assert (await desk.row(row_id))["status"] == "dialing"
    await desk.sync([answered(row["call_id"])])
    with pytest.raises(asyncpg.CheckViolationError, match="cancel_requested"):
        await desk.connection.execute("update call_queue set status = $2 where id = $1", row_id, status)
    await desk.sync([outcome(row["call_id"], "answered")])
    await desk.settle()
    assert (await desk.row(row_id))["outcome"] == "answered"


async def test_a_live_call_set_to_canceled_by_hand_is_hung_up(desk: Desk) -> None:
    row_id = await desk.insert()
    row = await desk.claim_one()
    await desk.connection.execute("update call_queue set status = 'canceled' where id = $1", row_id)
    assert (await desk.row(row_id))["status"] == "dialing"
    assert (await desk.sync())["commands"] == [{"kind": "hangup", "call_id": row["call_id"]}]
    await desk.sync([outcome(row["call_id"], "canceled")])
    assert (await desk.row(row_id))["outcome"] == "canceled"


async def test_a_number_edited_while_it_is_dialed_counts_for_the_next_call(desk: Desk) -> None:
    row_id = await desk.insert("0123456700", max_attempts=3, retry_seconds=0)
    row = await desk.claim_one()
    await desk.connection.execute("update call_queue set phone_number = '0123456701' where id = $1", row_id)
    assert (await desk.row(row_id))["e164"] == "+60123456700", "the person who is being called"
    await desk.sync([outcome(row["call_id"], "busy")])
    await desk.due()
    row = await desk.claim_one()
    assert (row["phone_number"], row["e164"]) == ("0123456701", "+60123456701")
    await desk.connection.execute("update call_queue set phone_number = 'nobody' where id = $1", row_id)
    await desk.sync([outcome(row["call_id"], "busy")])
    await desk.due()
    assert await desk.claim() == []
    ended = await desk.row(row_id)
    assert (ended["status"], ended["outcome"]) == ("done", "busy")
    assert "not tried again: the phone number" in ended["ended_reason"]


async def test_a_canceled_row_put_back_with_its_flag_still_on_is_not_dialed(desk: Desk) -> None:
    row_id = await desk.insert()
    await desk.connection.execute("update call_queue set cancel_requested = true where id = $1", row_id)
    await desk.connection.execute("update call_queue set status = 'queued' where id = $1", row_id)
    assert await desk.claim() == []
    assert (await desk.row(row_id))["status"] == "canceled"
    await desk.connection.execute(
        "update call_queue set status = 'queued', cancel_requested = false where id = $1", row_id
    )
    assert len(await desk.claim()) == 1


@pytest.mark.parametrize("column", ["status = 'canceled'", "cancel_requested = true"])
async def test_a_queued_row_can_be_canceled_by_hand(desk: Desk, column: str) -> None:
    row_id = await desk.insert()
    await desk.connection.execute(f"update call_queue set {column} where id = $1", row_id)  # noqa: S608
    row = await desk.row(row_id)
    assert (row["status"], row["outcome"]) == ("canceled", "canceled")
    log = await desk.the_log(row["call_id"])
    assert (log["status"], log["metadata"]["ended_reason"]) == ("failed", "canceled before it was dialed")


async def test_the_seed_is_harmless_and_applied_twice_adds_nothing(desk: Desk) -> None:
    seed = (ROOT / "supabase" / "seed.sql").read_text(encoding="utf-8")
    for _ in range(2):
        await desk.connection.execute(seed)
    assert await desk.connection.fetchval("select count(*) from call_queue") == 2
    assert await desk.claim() == []


# -- the doorbell

DEAF = (
    "create or replace function realtime.send(payload jsonb, event text, topic text, private boolean default true) "
    "returns void language plpgsql as $$ begin raise exception 'deaf'; end $$"
)


async def rings(desk: Desk) -> int:
    """Broadcasts sent so far."""
    count: int = await desk.connection.fetchval(
        "select count(*) from realtime.messages where topic = 'call_queue' and event = 'rows' and private"
    )
    return count


async def test_the_bell_rings_once_for_a_statement_and_at_most_every_100_ms(desk: Desk) -> None:
    await desk.fill(200)
    assert await rings(desk) == 1
    for serial in range(20):
        await desk.insert(number(serial))
    assert await rings(desk) <= 3
    await desk.connection.execute("update call_bell set rung_at = now() - interval '1 second'")
    before = await rings(desk)
    await desk.insert(number(99))
    assert await rings(desk) == before + 1


async def test_the_bell_is_silent_for_rows_that_are_not_due(desk: Desk) -> None:
    await insert_text(desk, phone_number="none")
    await desk.connection.execute(
        "insert into call_queue (user_id, phone_number, not_before) values ($1, '0123456700', now() + interval '1 h')",
        USER,
    )
    assert await rings(desk) == 0


async def test_the_bell_rings_for_the_cancel_of_a_live_call(desk: Desk) -> None:
    row_id = await desk.insert()
    await desk.claim()
    await desk.connection.execute("update call_bell set rung_at = '-infinity'")
    before = await rings(desk)
    await desk.connection.fetchval("select call_cancel_v1($1)", row_id)
    assert await rings(desk) == before + 1


async def test_nobody_waits_for_the_bell(lasting_desk: Desk, db: str) -> None:
    async with connected(db) as slow:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("select from call_bell for update")
        await asyncio.wait_for(lasting_desk.insert(), 2)
        await transaction.rollback()
    assert await rings(lasting_desk) == 0


@pytest.mark.parametrize(
    "damage",
    [
        "drop function realtime.send",
        "drop schema realtime cascade",
        DEAF,
    ],
)
async def test_a_broken_bell_harms_no_insert(lasting_desk: Desk, pg_server: Any, db: str, damage: str) -> None:
    admin = await asyncpg.connect(pg_server.admin_dsn(db.rsplit("/", 1)[1]))
    try:
        await admin.execute(damage)
    finally:
        await admin.close()
    assert await lasting_desk.insert() is not None
    assert len(await lasting_desk.claim()) == 1
