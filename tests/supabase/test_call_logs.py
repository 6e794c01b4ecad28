"""call_logs beside the AI handler in every order, one row a person, and the campaign as the app's pages embed it."""

import asyncio
import itertools
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg
import pytest

from tests.supabase.helpers import USER, Connection, Desk, answered, connected, number, outcome, release

HANDLERS: dict[str, list[dict[str, Any]]] = {
    "stays answered": [
        {"status": "answered"},
        {"stage_reached": "offer", "details": "wants a call back"},
        {"duration": 33, "transcript": "AI: hello", "cost": 0.08, "recording_url": "https://example.com/1.wav"},
    ],
    "met a machine": [
        {"status": "no-answer"},
        {"duration": 12, "transcript": "leave a message", "cost": 0.03, "recording_url": "https://example.com/2.wav"},
    ],
    "says voicemail": [{"status": "voicemail"}, {"duration": 7}],
    "replaces metadata": [{"status": "ended", "duration": 31, "metadata": {"pipeline": "azure"}}],
    "overwrites the transcript": [{"transcript": "one"}, {"transcript": "two"}, {"status": "completed"}],
}
"""What the handlers of the app write of one call, in their order (contract, sections 3.1 and 3.3)."""

MACHINES = {"met a machine", "says voicemail"}


def orders(ours: int, theirs: int) -> Iterator[tuple[bool, ...]]:
    """Every way to merge our steps (True) with theirs."""
    for places in itertools.combinations(range(ours + theirs), ours):
        yield tuple(i in places for i in range(ours + theirs))


async def handler_writes(connection: Connection, call: str, columns: dict[str, Any]) -> None:
    """One update, by the call id alone, without a look at what stands there."""
    names = ", ".join(f"{name} = ${i}" for i, name in enumerate(columns, start=2))
    await connection.execute(
        f"update call_logs set {names} where call_id = $1",  # noqa: S608 - names of ours
        call,
        *columns.values(),
    )


def wrote(handler: str) -> dict[str, Any]:
    """What must stand in the row in the end, but for status and metadata."""
    all_of_it = {key: value for write in HANDLERS[handler] for key, value in write.items()}
    return {key: value for key, value in all_of_it.items() if key not in ("status", "metadata")}


def held(log: asyncpg.Record, wanted: dict[str, Any]) -> None:
    """These values are in the row."""
    found = {key: float(log[key]) if key == "cost" else log[key] for key in wanted}
    assert found == wanted


@pytest.mark.parametrize("handler", list(HANDLERS))
async def test_an_answered_call_is_right_whatever_the_order_of_the_writes(app_desk: Desk, handler: str) -> None:
    theirs = HANDLERS[handler]
    for serial, order in enumerate(orders(3, len(theirs))):
        await app_desk.insert(number(serial), metadata={"note": "from the inserter"})
        row = await app_desk.claim_one()
        call = row["call_id"]
        left = list(theirs)
        told = [answered(call), outcome(call, "answered", talk_seconds=35)]
        for ours in order:
            if not ours:
                await handler_writes(app_desk.connection, call, left.pop(0))
            elif told:
                assert (await app_desk.sync([told.pop(0)]))["refused"] == []
            else:
                await app_desk.settle()
        log = await app_desk.the_log(call)
        held(log, wrote(handler))
        assert log["duration"] == wrote(handler).get("duration", 35), order
        # What is written after the hold nobody looks at any more: it stands as the handler wrote it.
        last_of_ours = max(i for i, ours in enumerate(order) if ours)
        statuses = [write.get("status") for write in theirs]
        when = [i for i, ours in enumerate(order) if not ours]
        late = [word for word, at in zip(statuses, when, strict=True) if word and at > last_of_ours]
        in_time = [word for word, at in zip(statuses, when, strict=True) if word and at < last_of_ours]
        machine = handler in MACHINES and bool(in_time)
        final = "voicemail" if machine else "answered"
        assert log["status"] == (late[-1] if late else final), order
        assert (await app_desk.row(row["row_id"]))["outcome"] == final, order
        if not (late and handler == "replaces metadata"):
            assert log["metadata"]["outcome"] == final
            assert all(isinstance(value, str) for value in log["metadata"].values())
            assert ("note" in log["metadata"]) is (handler != "replaces metadata")
        if handler == "replaces metadata":
            assert log["metadata"]["pipeline"] == "azure"


@pytest.mark.parametrize("handler", list(HANDLERS))
@pytest.mark.parametrize(("word", "status"), [("busy", "no_answered"), ("congestion", "failed"), ("unknown", "failed")])
async def test_a_call_that_nobody_answered_is_right_whatever_the_order(
    app_desk: Desk, handler: str, word: str, status: str
) -> None:
    """A handler that was started by early media, or by a stream that opened before the answer."""
    await app_desk.connection.execute("update call_outcomes set bound = 1 where bound is not null")
    theirs = HANDLERS[handler]
    for serial, before in enumerate(range(len(theirs) + 1)):
        await app_desk.insert(number(serial))
        row = await app_desk.claim_one()
        call = row["call_id"]
        for write in theirs[:before]:
            await handler_writes(app_desk.connection, call, write)
        await app_desk.sync([outcome(call, word)])
        log = await app_desk.the_log(call)
        noted = any("status" in write for write in theirs[:before])
        # Of an unknown one the handler's word "answered" is all the knowledge there is.
        known = word == "unknown" and handler == "stays answered" and before > 0
        assert log["status"] == ("answered" if known else status)
        assert log["duration"] is not None, "null would sort first"
        assert ("handler_status" in log["metadata"]) is (noted and not known)
        for write in theirs[before:]:
            await handler_writes(app_desk.connection, call, write)
        held(await app_desk.the_log(call), wrote(handler))
        assert (await app_desk.row(row["row_id"]))["outcome"] == word


@pytest.mark.parametrize("step", ["mark", "outcome", "end of the hold"])
@pytest.mark.parametrize("first", ["handler", "adapter"])
async def test_two_open_transactions_at_the_same_row(app_db: str, step: str, first: str) -> None:
    """Whoever comes second: the adapter passes on and comes again, the handler waits and writes over the new row."""
    async with connected(app_db) as ours, connected(app_db) as theirs:
        desk = Desk(ours)
        await desk.register()
        await desk.insert()
        row = await desk.claim_one()
        call = row["call_id"]
        steps = {
            "mark": [answered(call)],
            "outcome": [outcome(call, "answered", talk_seconds=35)],
            "end of the hold": [],
        }
        for earlier in itertools.takewhile(lambda name: name != step, steps):
            await desk.sync(steps[earlier])
        write = {"status": "voicemail", "duration": 9, "transcript": "beep"}
        settles = "update call_queue set settle_at = now() - interval '1 second' where settle_at is not null"

        async def tell() -> dict[str, Any]:
            await ours.execute(settles)
            return await desk.sync(steps[step])

        if first == "handler":
            transaction = theirs.transaction()
            await transaction.start()
            await handler_writes(theirs, call, write)
            reply = await asyncio.wait_for(tell(), 5)
            assert reply["recorded"] == []
            assert reply["refused"] == []
            assert len(reply["notes"]) == len(steps[step])
            await transaction.commit()
            await tell()
        else:
            transaction = ours.transaction()
            await transaction.start()
            await tell()
            waiting = asyncio.create_task(handler_writes(theirs, call, write))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            await transaction.commit()
            await waiting
        for later in list(steps)[list(steps).index(step) + 1 :]:
            await ours.execute(settles)
            await desk.sync(steps[later])
        log = await desk.the_log(call)
        held(log, {"duration": 9, "transcript": "beep", "status": "voicemail"})
        late = step == "end of the hold" and first == "adapter"
        assert log["metadata"]["outcome"] == ("answered" if late else "voicemail")


async def test_retries_are_counted_in_the_apps_columns(app_desk: Desk) -> None:
    await app_desk.insert(max_attempts=3, retry_seconds=0)
    for attempt in range(3):
        await app_desk.due()
        call = (await app_desk.claim_one())["call_id"]
        log = await app_desk.the_log(call)
        assert (log["retry_count"], log["is_retry"]) == (attempt, attempt > 0)
        assert log["original_campaign_id"] is None, "it would block the deletion of the campaign"
        await app_desk.sync([outcome(call, "busy")])
    await app_desk.insert("1")
    blocked = await app_desk.connection.fetchrow("select * from call_logs where status = 'failed'")
    assert blocked is not None
    assert (blocked["retry_count"], blocked["is_retry"], blocked["duration"]) == (0, False, 0)


async def logs(desk: Desk) -> Sequence[asyncpg.Record]:
    """All rows, the newest call last."""
    return await desk.connection.fetch("select * from call_logs order by start_time, retry_count")


async def attempt(desk: Desk, word: str, **fields: Any) -> str:
    """The next call of the one row there is."""
    await desk.due()
    call: str = (await desk.claim_one())["call_id"]
    await desk.sync([*([answered(call)] if word == "answered" else []), outcome(call, word, **fields)])
    return call


@pytest.mark.parametrize(("setting", "rows"), [({"log_rows": "person"}, 1), ({"log_rows": "attempt"}, 3), ({}, 3)])
async def test_one_row_a_person_or_one_a_call(app_desk: Desk, setting: dict[str, str], rows: int) -> None:
    app_desk.status = dict(setting)
    await app_desk.insert(max_attempts=3, retry_seconds=0)
    first = await attempt(app_desk, "busy")
    assert len(await logs(app_desk)) == 1
    await handler_writes(app_desk.connection, first, {"stage_reached": "none", "transcript": "early"})
    second = await attempt(app_desk, "no_answer")
    third = await attempt(app_desk, "answered")
    await app_desk.settle()
    found = await logs(app_desk)
    assert len(found) == rows
    last = found[-1]
    assert (last["call_id"], last["status"], last["retry_count"], last["duration"]) == (third, "answered", 2, 35)
    if rows == 1:
        earlier = last["metadata"]["earlier_calls"]
        assert [(call["call_id"], call["outcome"]) for call in earlier] == [(first, "busy"), (second, "no_answer")]
        assert (earlier[0]["transcript"], earlier[0]["stage_reached"]) == ("early", "none")
    else:
        assert all("earlier_calls" not in row["metadata"] for row in found)


async def test_one_row_a_person_while_faults_and_releases_come_between(app_desk: Desk) -> None:
    app_desk.status = {"log_rows": "person"}
    await app_desk.insert(max_attempts=3, retry_seconds=0)
    first = await attempt(app_desk, "busy")
    await attempt(app_desk, "congestion")
    assert [row["call_id"] for row in await logs(app_desk)] == [first]
    await app_desk.due()
    released = (await app_desk.claim_one())["call_id"]
    await app_desk.sync([release(released)])
    assert [row["call_id"] for row in await logs(app_desk)] == [first]
    await attempt(app_desk, "congestion")
    last = await attempt(app_desk, "congestion")
    (row,) = await logs(app_desk)
    assert (row["call_id"], row["status"]) == (last, "failed"), "the bound is reached, and the last one stays"
    assert [call["call_id"] for call in row["metadata"]["earlier_calls"]] == [first]


async def test_a_call_whose_end_is_not_known_keeps_a_row_of_its_own(app_desk: Desk) -> None:
    """It may still be told how it ended."""
    app_desk.status = {"log_rows": "person"}
    await app_desk.connection.execute("update call_outcomes set retried = 'policy' where outcome = 'unknown'")
    await app_desk.insert(max_attempts=2, retry_seconds=0)
    first = await attempt(app_desk, "unknown")
    await attempt(app_desk, "busy")
    assert len(await logs(app_desk)) == 2
    await app_desk.sync([outcome(first, "answered")])
    assert (await app_desk.the_log(first))["status"] == "answered"


async def test_a_row_that_others_refer_to_or_hold_stays(app_db: str) -> None:
    async with connected(app_db) as connection, connected(app_db) as other:
        desk = Desk(connection, status={"log_rows": "person"})
        await desk.register()
        await desk.insert(max_attempts=3, retry_seconds=0)
        first = await attempt(desk, "busy")
        transaction = other.transaction()
        await transaction.start()
        await other.execute("select from call_logs where call_id = $1 for update", first)
        second = await asyncio.wait_for(attempt(desk, "busy"), 5)
        await transaction.rollback()
        assert {row["call_id"] for row in await logs(desk)} == {first, second}
        await connection.execute("create table notes (log uuid references call_logs (id))")
        await connection.execute("insert into notes select id from call_logs where call_id = $1", second)
        third = await attempt(desk, "busy")
        assert {row["call_id"] for row in await logs(desk)} == {first, second, third}


async def campaign(connection: Connection, name: str) -> str:
    """A campaign of the app."""
    made = await connection.fetchval(
        "insert into campaigns (user_id, campaign_name, status) values ($1, $2, 'in_progress') returning id",
        uuid.UUID(USER),
        name,
    )
    return str(made)


EMBEDDED = """
  select l.call_id, row_to_json(c)::jsonb as campaigns
  from public.call_logs l
  left join lateral (select x.campaign_name from public.campaigns(l) as x) c on true
  where l.user_id = $1
  order by l.created_at desc
"""
"""The SQL of `select=*,campaigns(campaign_name)` for a computed relationship to one row, as PostgREST makes it."""


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
async def test_the_campaign_column_is_filled_without_a_foreign_key(app_desk: Desk, role: str) -> None:
    connection = app_desk.connection
    name = await campaign(connection, "November")
    await app_desk.insert(number(1), campaign_id=name)
    await app_desk.insert(number(2))
    calls = {row["campaign_id"]: row["call_id"] for row in await app_desk.claim()}
    await connection.execute(f"set local role {role}")
    found = {row["call_id"]: row["campaigns"] for row in await connection.fetch(EMBEDDED, uuid.UUID(USER))}
    assert found == {calls[name]: {"campaign_name": "November"}, calls[None]: None}
    await connection.execute("reset role")
    assert (
        await connection.fetchval(
            "select count(*) from pg_constraint where conrelid = 'call_logs'::regclass and contype = 'f' "
            "and conkey = (select array_agg(attnum) from pg_attribute where attrelid = 'call_logs'::regclass "
            "and attname = 'campaign_id')"
        )
        == 0
    )
    await connection.execute("delete from campaigns")
    assert {row["campaigns"] for row in await connection.fetch(EMBEDDED, uuid.UUID(USER))} == {None}


async def test_the_embed_shows_nobody_a_campaign_that_he_may_not_see(desk: Desk) -> None:
    """In a project whose tables we made, browsers see nothing; the function gives them nothing either."""
    connection = desk.connection
    name = await campaign(connection, "Closed")
    await desk.insert(campaign_id=name)
    await desk.claim_one()
    await connection.execute("grant select on call_logs, campaigns to anon")
    await connection.execute("create policy look on call_logs for select to anon using (true)")
    await connection.execute("set local role anon")
    (row,) = await connection.fetch(EMBEDDED, uuid.UUID(USER))
    assert row["campaigns"] is None


async def test_a_thousand_rows_with_their_campaign_are_read_at_once(app_desk: Desk) -> None:
    """A page reads all its rows: one look by primary key for each, no scan of campaigns."""
    connection = app_desk.connection
    await connection.execute(
        "insert into campaigns (user_id, campaign_name, status) "
        "select $1, 'c' || i, 'x' from generate_series(1, 2000) i",
        uuid.UUID(USER),
    )
    await connection.execute(
        "insert into call_logs (user_id, call_id, agent_id, caller_number, start_time, status, campaign_id) "
        "select user_id, campaign_name, 'a', '0', now(), 'answered', id from campaigns limit 1000"
    )
    await connection.execute("analyze campaigns, call_logs")
    scans = "select seq_scan, seq_tup_read from pg_stat_xact_user_tables where relname = 'campaigns'"
    before = await connection.fetchrow(scans)
    assert len(await connection.fetch(EMBEDDED, uuid.UUID(USER))) == 1000
    assert await connection.fetchrow(scans) == before


async def test_postgrest_finds_this_relationship_and_no_other_of_ours(app_desk: Desk) -> None:
    """It takes each function of one argument, a row of a table, that returns rows of a table; to one row, not to a
    list, if the function is said to return one (its page "Computed Relationships")."""
    found = await app_desk.connection.fetch(
        "select p.proname::text, a.typname::text, r.typname::text, p.prorows = 1 from pg_proc p "
        "join pg_type a on a.oid = p.proargtypes[0] join pg_type r on r.oid = p.prorettype "
        "where p.pronamespace = 'public'::regnamespace and p.pronargs = 1 and a.typtype = 'c' and r.typtype = 'c'"
    )
    assert [tuple(row) for row in found] == [("campaigns", "call_logs", "campaigns", True)]
