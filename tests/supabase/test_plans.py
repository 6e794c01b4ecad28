"""The cost of a request does not grow with the queue: looked up through indexes, whatever the statistics say.

Mainly the functions are watched at work: PostgreSQL counts how often a table was read whole and how many of its rows
were fetched through indexes.
"""

import uuid
from collections.abc import Awaitable, Callable

import pytest

from adapter.sandbox.postgres import Postgres
from tests.supabase import claim_cost
from tests.supabase.helpers import Connection, Desk, connected, number, outcome

ROWS = 100_000
USERS = 100
CAMPAIGNS = 1000

FILL = """
insert into call_queue (user_id, campaign_id, phone_number)
select ('00000000-0000-4000-8000-' || lpad((i % {users})::text, 12, '0'))::uuid,
  ('00000000-0000-4000-8000-' || lpad((i % {campaigns})::text, 12, '0'))::uuid,
  '+601' || (100000000 + i)
from generate_series(1, {rows}) i
"""

VARIABLES = {"p_user": "uuid", "p_room": "integer", "p_lane": "uuid", "p_now": "timestamptz"}
"""Names in the function's text, the longer ones first, and their types."""

WATCHED = ("call_queue", "call_logs", "call_lanes", "call_tenants")


Fill = Callable[[], Awaitable[None]]


@pytest.fixture
def fill(db: str, pg_server: Postgres) -> Fill:
    """Adds a backlog of 100,000 rows, most of them without triggers, as the number function is not what is measured.

    By a session of its own and without any change of the table, so that plans of other sessions stay as they are.
    """

    async def work() -> None:
        async with connected(pg_server.admin_dsn(db.rsplit("/", 1)[1])) as connection:
            await connection.execute(FILL.format(users=USERS, campaigns=CAMPAIGNS, rows=CAMPAIGNS))
            await connection.execute("set session_replication_role = replica")
            await connection.execute(
                "insert into call_queue (user_id, campaign_id, phone_number, e164, country, expires_at, max_attempts, "
                "retry_seconds) select q.user_id, q.campaign_id, n, n, 'MY', now() + interval '1 day', 1, 1800 "
                "from call_queue q, "
                "lateral (select '+601' || (200000000 + q.id * 1000 + i) as n from generate_series(1, $1) i) f "
                "where q.status = 'queued'",
                ROWS // CAMPAIGNS - 1,
            )

    return work


async def counters(connection: Connection) -> dict[str, tuple[int, int]]:
    """For each table how often it was read whole and how many rows were fetched through indexes by this session."""
    rows = await connection.fetch(
        "select relname::text, seq_scan, idx_tup_fetch from pg_stat_xact_user_tables where schemaname = 'public'"
    )
    return {row["relname"]: (row["seq_scan"], row["idx_tup_fetch"] or 0) for row in rows}


async def touched_tables(connection: Connection, work: Callable[[], Awaitable[None]]) -> dict[str, tuple[int, int]]:
    """The same, by `work` alone."""
    async with connection.transaction():
        before = await counters(connection)
        await work()
        after = await counters(connection)
    return {name: (after[name][0] - before[name][0], after[name][1] - before[name][1]) for name in after}


async def touched(connection: Connection, work: Callable[[], Awaitable[None]]) -> dict[str, tuple[int, int]]:
    """The same, of the tables that always matter."""
    tables = await touched_tables(connection, work)
    return {name: tables[name] for name in WATCHED}


@pytest.mark.parametrize("statistics", ["fresh", "stale", "plans made while it was empty"])
async def test_a_request_touches_only_what_it_is_about(lasting_desk: Desk, fill: Fill, statistics: str) -> None:
    connection = lasting_desk.connection
    await connection.execute("alter table call_queue set (autovacuum_enabled = off)")
    await lasting_desk.insert(status="canceled")
    await connection.execute("vacuum analyze call_queue")  # One row in one page: reading it whole is cheapest.
    if statistics == "plans made while it was empty":
        for serial in range(7):  # PostgreSQL settles for a general plan after five.
            await lasting_desk.insert(number(serial), idempotency_key=f"early {serial}")
            row = await lasting_desk.claim_one()
            await lasting_desk.sync([outcome(row["call_id"], "answered")], room=1)
            await lasting_desk.settle()
    await fill()
    if statistics == "fresh":
        await connection.execute("analyze")
    assert await connection.fetchval("select count(*) from call_queue where status = 'queued'") >= ROWS
    await lasting_desk.claim(1)  # Takes in the arrivals.

    rows: list[dict[str, object]] = []

    async def claim() -> None:
        reply = await lasting_desk.sync(room=50, limits={"pbx": 200, "user": 20, "campaign": 5})
        assert reply["notes"] == []
        rows.extend(reply["rows"])

    cost = await touched(connection, claim)
    assert len(rows) == 50
    assert all(whole == 0 for whole, _ in cost.values()), cost
    assert cost["call_queue"][1] < 1500, cost

    async def record() -> None:
        reply = await lasting_desk.sync([outcome(str(row["call_id"]), "busy") for row in rows])
        assert len(reply["recorded"]) == 50

    cost = await touched(connection, record)
    assert all(whole == 0 for whole, _ in cost.values()), cost
    # The repair looks at a hundred lanes in that time.
    assert cost["call_queue"][1] < 1500, cost

    async def insert() -> None:
        for serial in range(10):
            await lasting_desk.insert(f"+6011{serial:08d}", idempotency_key=f"k{serial}")

    cost = await touched(connection, insert)
    assert cost["call_queue"][0] == 0, cost


async def test_the_rows_of_a_lane_come_through_the_index_of_turns(lasting_desk: Desk, fill: Fill) -> None:
    """EXPLAIN of the statement that stands in the function, with a plan that knows no value, and no help."""
    connection = lasting_desk.connection
    await fill()
    source = await connection.fetchval("select prosrc from pg_proc where proname = 'call_lane_rows'")
    statement = source[source.index("select q.*") :]
    statement = statement[: statement.index(";")]
    for place, name in enumerate(VARIABLES, start=1):
        statement = statement.replace(name, f"${place}")
    await connection.execute(f"prepare candidates ({', '.join(VARIABLES.values())}) as {statement}")
    await connection.execute("set plan_cache_mode = force_generic_plan")
    for _ in range(2):
        plan = "\n".join(row[0] for row in await connection.fetch(
            "explain execute candidates (gen_random_uuid(), 5, gen_random_uuid(), now())"
        ))  # fmt: skip
        assert "Index Scan using call_queue_turn_idx" in plan
        assert "Seq Scan" not in plan
        assert "Sort" not in plan
        await connection.execute("analyze")


FORCED = ("call_sync_v1", "call_shadow_v1", "call_batch_v1", "call_queue_before_insert", "call_dry_run_v1")
"""Whatever asks the same questions of row after row."""

SQL = {"call_batch_items", "call_batch_reply", "call_links", "call_open", "call_print", "call_today_v1", "campaigns"}
"""Functions of one query: called once in a request, or written into the query that names them."""


async def test_no_question_is_planned_anew_for_each_row(lasting_desk: Desk) -> None:
    """PostgreSQL plans a function in SQL at each call of it once it has settings of its own (docs/traps.md)."""
    connection = lasting_desk.connection
    rows = await connection.fetch(
        "select p.proname::text from pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname = any ($1) "
        "and 'plan_cache_mode=force_generic_plan' = any (p.proconfig)",
        list(FORCED),
    )
    assert {row["proname"] for row in rows} == set(FORCED)
    rows = await connection.fetch(
        "select p.proname::text from pg_proc p join pg_language l on l.oid = p.prolang where l.lanname = 'sql' "
        "and p.pronamespace = 'public'::regnamespace and (p.proname like 'call\\_%' or p.proname = 'campaigns')"
    )
    assert {row["proname"] for row in rows} == SQL


SMALL = {"call_settings", "call_pbx", "call_trunk_health"}
"""Tables with a row for each project, PBX or trunk: an index would not be read faster."""


async def test_every_rule_is_answered_through_an_index(pg_server: Postgres) -> None:
    """With every rule written for a thousand users, no table is read whole and none gives many rows for one call."""
    dsn = await claim_cost.prepare(pg_server, f"plans_{uuid.uuid4().hex[:12]}", ROWS)
    async with connected(dsn) as connection:
        desk = Desk(connection)
        await desk.register()
        rows: list[dict[str, object]] = []

        async def claim() -> None:
            reply = await desk.sync(room=claim_cost.ROOM, claim_id=uuid.uuid4(), **claim_cost.status())
            assert reply["notes"] == []
            rows.extend(reply["rows"])

        async def record() -> None:
            reply = await desk.sync([outcome(str(row["call_id"]), "busy") for row in rows])
            assert len(reply["recorded"]) == claim_cost.ROOM

        for _ in range(6):  # All 10,000 lanes are told of first, 2,000 at a time.
            await claim()
        rows.clear()
        for work in (claim, record):
            tables = await touched_tables(connection, work)
            assert {name for name, (whole, _) in tables.items() if whole} <= SMALL, tables
            # Of a table of thousands a call asks a few rows; trunks are looked at several times, and there are 23.
            assert all(fetched < 60 * claim_cost.ROOM for _, fetched in tables.values()), tables
        assert len(rows) == claim_cost.ROOM


async def test_many_lanes_without_due_rows_cost_nothing(lasting_desk: Desk) -> None:
    connection = lasting_desk.connection
    await connection.execute(
        "insert into call_queue (user_id, campaign_id, phone_number, not_before) "
        "select gen_random_uuid(), gen_random_uuid(), '+601' || (100000000 + i), now() + interval '1 hour' "
        "from generate_series(1, 2000) i"
    )
    await lasting_desk.fill(5)
    assert len([await lasting_desk.claim(5) for _ in range(2)][1]) == 5

    async def claim() -> None:
        await lasting_desk.sync(room=50)

    await connection.execute("update call_settings set repaired_at = 'infinity'")
    cost = await touched(connection, claim)
    assert cost["call_lanes"][1] < 50, cost
