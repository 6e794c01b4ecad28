"""The views of the dashboard: what they say, who may read them, and that they stay fast."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from adapter.sandbox.postgres import Postgres
from tests.supabase.helpers import OTHER, USER, Connection, Desk, answered, connected, number, outcome
from tests.support.db import ROOT, fresh_database, installation, make_template

VIEWS = ("calls_live", "calls_today", "queue_overview", "queue_problems")
CAMPAIGN = "00000000-0000-4000-8000-0000000000c1"


async def lines(desk: Desk, view: str) -> dict[int, asyncpg.Record]:
    """The lines of a view by row."""
    return {row["id"]: row for row in await desk.connection.fetch(f"select * from {view}")}  # noqa: S608


async def reason(desk: Desk, row_id: int | None) -> tuple[str, str]:
    """What queue_problems says of a row."""
    row = await desk.connection.fetchrow("select kind, reason from queue_problems where id = $1", row_id)
    assert row is not None
    return row["kind"], row["reason"]


async def campaign(desk: Desk, status: str = "in_progress") -> None:
    """A campaign of the app."""
    await desk.connection.execute(
        "insert into campaigns (id, user_id, campaign_name, status) values ($1, $2, 'Spring', $3)",
        CAMPAIGN,
        USER,
        status,
    )


async def test_a_call_is_followed_from_the_claim_to_its_end(desk: Desk) -> None:
    await campaign(desk)
    row_id = await desk.insert(campaign_id=CAMPAIGN, customer_name="Aminah")
    assert row_id is not None
    assert await lines(desk, "calls_live") == {}
    claimed = await desk.claim_one()
    line = (await lines(desk, "calls_live"))[row_id]
    assert [line[k] for k in ("state", "customer_name", "campaign_name", "attempt", "overdue")] == [
        "about to be dialed", "Aminah", "Spring", 1, False,
    ]  # fmt: skip
    assert (await lines(desk, "calls_today"))[row_id]["result"] == "live"
    await desk.sync([answered(claimed["call_id"])])
    assert (await lines(desk, "calls_live"))[row_id]["state"] == "talking"
    await desk.connection.execute("update call_queue set cancel_requested = true where id = $1", row_id)
    assert (await lines(desk, "calls_live"))[row_id]["state"] == "being hung up"
    await desk.sync([outcome(claimed["call_id"], "answered")])
    assert (await lines(desk, "calls_live"))[row_id]["state"] == "ended, waiting for the last word of the AI"
    await desk.settle()
    assert await lines(desk, "calls_live") == {}
    # The outcome of the helper ended at a fixed instant; today is another matter.
    await desk.connection.execute("update call_queue set ended_at = now() where id = $1", row_id)
    line = (await lines(desk, "calls_today"))[row_id]
    assert (line["result"], line["talk_seconds"], line["attempts"]) == ("answered", 35, 1)
    await desk.connection.execute(
        "update call_queue set ended_at = call_today_v1() - interval '1 second' where id = $1", row_id
    )
    assert await lines(desk, "calls_today") == {}


async def test_a_row_that_is_tried_again_is_of_today(desk: Desk) -> None:
    row_id = await desk.insert(max_attempts=2)
    assert row_id is not None
    claimed = await desk.claim_one()
    await desk.sync([outcome(claimed["call_id"], "busy")])
    await desk.connection.execute("update call_queue set ended_at = now() where id = $1", row_id)
    line = (await lines(desk, "calls_today"))[row_id]
    assert (line["result"], line["reason"]) == ("busy, will be tried again", "it ended: busy")
    assert await reason(desk, row_id) == ("waits", "tried before: it ended: busy; its next try is not due yet")


async def test_today_begins_at_midnight_of_the_default_region(desk: Desk) -> None:
    await desk.connection.execute("set local timezone = 'UTC'; update call_settings set default_region = 'SG'")
    assert await desk.connection.fetchval(
        "select call_today_v1() = date_trunc('day', now() at time zone 'Asia/Singapore') at time zone 'Asia/Singapore'"
    )
    # A region of several zones: the session's.
    await desk.connection.execute("update call_settings set default_region = 'US'")
    assert await desk.connection.fetchval("select call_today_v1() = date_trunc('day', now())")


async def test_why_a_row_waits(desk: Desk) -> None:
    await campaign(desk)
    row_id = await desk.insert(campaign_id=CAMPAIGN)
    run = desk.connection.execute
    await run("update call_adapters set seen_at = now() - interval '2 minutes'")
    assert (await reason(desk, row_id))[1] == "no adapter is running: none was heard of for a minute"
    await desk.sync(ready=False, problem="the PBX does not answer")
    assert (await reason(desk, row_id))[1] == "the adapter does not dial at the moment: the PBX does not answer"
    await desk.sync()
    assert await reason(desk, row_id) == ("waits", "waits for its turn")
    await run("update call_queue set trunk = 'SIP-9' where id = $1", row_id)
    assert (await reason(desk, row_id))[1] == "the trunk SIP-9 is not known"
    await run("update call_queue set not_before = now() + interval '1 hour' where id = $1", row_id)
    assert (await reason(desk, row_id))[1] == "it is not due yet (not_before)"
    await run("update campaigns set status = 'paused'")
    assert (await reason(desk, row_id))[1] == "its campaign is paused"
    await run("insert into call_tenants (user_id, paused) values ($1, true)", USER)
    assert (await reason(desk, row_id))[1] == "this user is paused (call_tenants.paused)"
    await run("update call_queue set expires_at = now() where id = $1", row_id)
    assert (await reason(desk, row_id))[1] == "its time ran out: it ends as soon as an adapter looks"


async def test_one_person_one_call(desk: Desk) -> None:
    await desk.insert("012-345 6700")
    await desk.claim_one()
    second = await desk.insert("+60 12 345 6700", user_id=OTHER)
    assert (await reason(desk, second))[1] == "another call to this number is going on"
    await desk.claim()
    assert (await reason(desk, second))[1] == "another call to this number is going on"


async def test_why_a_row_was_not_dialed(desk: Desk) -> None:
    blocked = await desk.insert("12")
    kind, words = await reason(desk, blocked)
    assert kind == "blocked"
    assert words == (await desk.row(blocked))["ended_reason"]
    canceled = await desk.insert(cancel_requested=True)
    assert set(await lines(desk, "queue_problems")) == {blocked}
    assert (await lines(desk, "calls_today"))[canceled or 0]["result"] == "canceled"
    await desk.connection.execute("update call_queue set ended_at = now() - interval '8 days' where id = $1", blocked)
    assert await lines(desk, "queue_problems") == {}


async def test_the_overview_counts_each_campaign(desk: Desk) -> None:
    await campaign(desk)
    await desk.fill(1200, campaign=CAMPAIGN)
    await desk.fill(2, user=OTHER, start=5000)
    await desk.insert(
        number(1), user_id=OTHER, not_before=await desk.connection.fetchval("select now() + interval '1 h'")
    )

    async def seen() -> list[tuple[object, ...]]:
        found = await desk.connection.fetch(
            "select user_id::text, campaign_name, state, waiting, due, live from queue_overview order by user_id"
        )
        return [tuple(row) for row in found]

    assert await seen() == [
        (USER, "Spring", "waiting for its turn", 1000, 1000, 0),
        (OTHER, None, "waiting for its turn", 3, 2, 0),
    ]
    await desk.claim(4)
    assert await seen() == [
        (USER, "Spring", "waiting for its turn", 1000, 1000, 2),
        (OTHER, None, "calling", 1, 0, 2),
    ]
    await desk.connection.execute("update campaigns set status = 'paused'")
    assert (await seen())[0][2] == "paused"


@pytest.fixture(params=["db", "app_db"])
def project(request: pytest.FixtureRequest) -> str:
    """Both kinds of project."""
    dsn: str = request.getfixturevalue(request.param)
    return dsn


@pytest.mark.parametrize("view", VIEWS)
async def test_only_the_secret_key_may_look_and_nobody_writes(project: str, view: str) -> None:
    async with connected(project) as connection:
        for role in ("anon", "authenticated"):
            await connection.execute(f"set role {role}")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"select from {view}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("select call_today_v1()")
        await connection.execute("set role service_role")
        await connection.fetch(f"select * from {view}")  # noqa: S608
        with pytest.raises(asyncpg.PostgresError):
            await connection.execute(f"delete from {view}")  # noqa: S608


async def test_a_view_lends_no_rights_of_its_owner(db: str) -> None:
    async with connected(db) as connection:
        await connection.execute("insert into call_queue (user_id, phone_number) values ($1, '12')", USER)
        for view in VIEWS:
            options = await connection.fetchval("select reloptions from pg_class where oid = $1::regclass", view)
            assert options == ["security_invoker=true"]
            await connection.execute(f"grant select on {view} to anon")
            await connection.execute("set role anon")
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for"):
                await connection.execute(f"select from {view}")
            await connection.execute("reset role")


async def test_every_column_is_explained(project: str) -> None:
    async with connected(project) as connection:
        bare = await connection.fetch(
            "select attrelid::regclass::text, attname from pg_attribute where attnum > 0 and not attisdropped "
            "and attrelid = 'call_queue'::regclass and col_description(attrelid, attnum) is null"
        )
        assert bare == []
        for column in ("status", "duration", "call_id", "metadata", "caller_number", "start_time"):
            assert await connection.fetchval(
                "select col_description(attrelid, attnum) from pg_attribute "
                "where attrelid = 'call_logs'::regclass and attname = $1",
                column,
            ), column


async def test_words_of_the_app_about_its_table_stay(app_db: str) -> None:
    path = ROOT / "supabase" / "migrations" / "20261125001600_call_views.sql"
    async with connected(app_db) as connection:
        await connection.execute("comment on column call_logs.status is 'ours'")
        await connection.execute(path.read_text(encoding="utf-8"))
        assert (
            await connection.fetchval(
                "select col_description(attrelid, attnum) from pg_attribute "
                "where attrelid = 'call_logs'::regclass and attname = 'status'"
            )
            == "ours"
        )


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node of a plan."""
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


@pytest.fixture
async def long_queue(pg_server: Postgres) -> AsyncIterator[Connection]:
    """1,000,000 rows: 500,000 wait in 1,000 lanes, 500,000 ended before today."""
    template = await make_template(pg_server, "template_ours", installation())
    async with fresh_database(pg_server, template) as dsn, connected(dsn) as connection:
        await connection.execute("alter table call_queue disable trigger user")
        await connection.execute(
            "insert into call_queue (user_id, campaign_id, phone_number, e164, expires_at, max_attempts, "
            "retry_seconds, status, outcome, ended_at) "
            "select md5('u' || i % 100)::uuid, md5('c' || i % 1000)::uuid, '+601' || (100000000 + i), "
            "'+601' || (100000000 + i), now() + interval '1 day', 1, 600, "
            "case when i % 2 = 0 then 'queued' else 'done' end, case when i % 2 = 1 then 'answered' end, "
            "case when i % 2 = 1 then now() - interval '3 days' - i * interval '1 second' end "
            "from generate_series(1, 1000000) i"
        )
        await connection.execute("analyze call_queue")
        yield connection


@pytest.mark.timeout(300)  # Writing the rows takes most of it.
async def test_they_read_few_rows_of_a_million(long_queue: Connection) -> None:
    connection = long_queue
    looks = {
        "select * from calls_live": 100,
        "select * from calls_today": 100,
        # A page of the dashboard's table editor: 1000 rows of each of 100 lanes, as if nothing had been vacuumed yet.
        "select * from queue_overview limit 100": 120_000,
        "select * from queue_problems limit 100": 2_000,
        "select * from queue_problems where id = 1000000": 100,
    }
    await connection.execute("set role service_role")
    for query, most in looks.items():
        line = await connection.fetchval(f"explain (analyze, buffers, timing off, format json) {query}")
        plan = json.loads(line)[0]["Plan"]
        pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        assert pages <= most, (query, pages, plan)
        whole = [n for n in nodes(plan) if n["Node Type"] == "Seq Scan" and n["Relation Name"] == "call_queue"]
        assert whole == [], query
