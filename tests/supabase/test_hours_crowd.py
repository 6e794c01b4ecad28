"""Calling hours with many rows and many claimers: what is shut costs nothing and holds up nobody."""

import asyncio
import random
import uuid
from datetime import UTC, datetime

import pytest

from adapter.core import hours
from adapter.sandbox.postgres import Postgres
from tests.supabase.helpers import OTHER, USER, Desk, connected, outcome
from tests.supabase.test_hours_claim import away, noon
from tests.supabase.test_hours_claim import hours as set_hours
from tests.supabase.test_plans import touched

ROWS = 100_000
WEEK = "06:00-07:00; 18:00-19:00"

CLAIMERS = 16
SECONDS = 6.0
LEFT = "select count(*) from call_queue where zones = $1 and attempts = 0 and status = 'queued'"
"""Or the trunk would be stopped as dead."""


async def fill(server: Postgres, db: str, zone: str, count: int, start: int) -> None:
    """Rows of one lane and zone, without triggers: the number function is not what is measured."""
    async with connected(server.admin_dsn(db.rsplit("/", 1)[1])) as connection:
        await connection.execute("set session_replication_role = replica")
        await connection.execute(
            "insert into call_queue "
            "(user_id, phone_number, e164, country, zones, expires_at, max_attempts, retry_seconds) "
            "select $1, n, n, 'MY', $2, now() + interval '1 day', 1, 1800 "
            "from (select '+601' || (100000000 + $3::int + i) as n from generate_series(1, $4::int) i) x",
            USER, zone, start, count,
        )  # fmt: skip
        await connection.execute(
            "insert into call_arrivals (user_id, lane, due_at) values ($1, $2, now())",
            USER,
            "00000000-0000-0000-0000-000000000000",
        )


@pytest.mark.parametrize("statistics", ["fresh", "stale"])
async def test_a_hundred_thousand_rows_that_are_shut_cost_what_fifty_do(
    lasting_desk: Desk, db: str, pg_server: Postgres, statistics: str
) -> None:
    connection = lasting_desk.connection
    await connection.execute("alter table call_queue set (autovacuum_enabled = off)")
    await lasting_desk.insert(status="canceled")
    await connection.execute("vacuum analyze call_queue")
    await fill(pg_server, db, noon(), ROWS, 0)
    await fill(pg_server, db, away(), 60, ROWS)
    if statistics == "fresh":
        await connection.execute("analyze")
    await set_hours(lasting_desk, WEEK)
    got: list[int] = []

    async def claim() -> None:
        got.append(len(await lasting_desk.claim(50)))

    # All rows of the shut zone stand in front of those of the open one.
    for expected in (50, 10, 0):
        cost = await touched(connection, claim)
        assert got[-1] == expected
        assert all(whole == 0 for whole, _ in cost.values()), cost
        assert cost["call_queue"][1] < 4000, cost
    for _ in range(3):
        cost = await touched(connection, claim)
        assert cost["call_queue"][1] < 1000, cost
    assert got[-1] == 0


async def test_the_rows_of_a_lane_and_zone_come_through_their_index(
    lasting_desk: Desk, db: str, pg_server: Postgres
) -> None:
    """EXPLAIN of the statements that stand in the functions, with plans that know no value, and no help."""
    connection = lasting_desk.connection
    await fill(pg_server, db, noon(), ROWS, 0)
    variables = {"p_user": "uuid", "p_lane": "uuid", "p_zones": "text", "p_most": "integer", "p_now": "timestamptz"}
    source = await connection.fetchval("select prosrc from pg_proc where proname = 'call_hours_put_off'")
    statement = source[source.index("select d.id") :]
    statement = statement[: statement.index("));")]
    for place, name in enumerate(variables, start=1):
        statement = statement.replace(name, f"${place}")
    await connection.execute(f"prepare put_off ({', '.join(variables.values())}) as {statement}")
    await connection.execute("set plan_cache_mode = force_generic_plan")
    for _ in range(2):
        plan = "\n".join(row[0] for row in await connection.fetch(
            "explain execute put_off (gen_random_uuid(), gen_random_uuid(), 'UTC', 200, now())"
        ))  # fmt: skip
        assert "Index Scan using call_queue_zones_idx" in plan
        assert "Seq Scan" not in plan
        assert "Sort" not in plan
        await connection.execute("analyze")


async def test_sixteen_claimers_dial_nobody_after_it_shuts_and_everybody_else(
    lasting_desk: Desk, db: str, pg_server: Postgres
) -> None:
    """By what the database itself remembers of each call, and by Python's own reading of the hours."""
    await fill(pg_server, db, noon(), 4000, 0)
    await fill(pg_server, db, away(), 600, 10_000)
    await set_hours(lasting_desk, "12:00-13:00", "user", OTHER)  # Of somebody else.
    loop = asyncio.get_running_loop()
    until = loop.time() + SECONDS
    problems: list[object] = []

    async def claimer(place: int) -> None:
        async with connected(db) as connection:
            me = Desk(connection, pbx=f"pbx-{place % 4}", adapter=uuid.UUID(int=place % 4 + 1))
            if place < 4:
                await me.register()
            me.incarnation = 1
            calls: list[str] = []
            # A busy machine takes its time for those that are left.
            while loop.time() < until or (loop.time() < until + 60 and await connection.fetchval(LEFT, away())):
                reply = await me.sync(
                    [outcome(call, "no_answer") for call in calls],
                    room=random.choice([3, 10, 25]),
                )
                problems.extend([*reply["notes"], *reply["refused"]])
                calls = [row["call_id"] for row in reply["rows"]]
                await asyncio.sleep(random.random() / 20)

    first = [asyncio.create_task(claimer(place)) for place in range(4)]
    await asyncio.sleep(0.3)
    others = [asyncio.create_task(claimer(place)) for place in range(4, CLAIMERS)]
    await asyncio.sleep(0.5)
    await set_hours(lasting_desk, WEEK)
    shut_at = await lasting_desk.connection.fetchval("select clock_timestamp()")
    await asyncio.gather(*first, *others)
    assert problems == []

    week = hours.united(
        hours.Window(days=frozenset(range(1, 8)), start=hour * 3600, end=(hour + 1) * 3600) for hour in (6, 18)
    )
    dials = await lasting_desk.connection.fetch(
        "select d.claimed_at, q.zones, d.facts from call_dials d join call_queue q on q.id = d.row_id"
    )
    before = [dial for dial in dials if dial["claimed_at"] < shut_at]
    after = [dial for dial in dials if dial["claimed_at"] > shut_at]
    assert {dial["zones"] for dial in before} >= {noon()}
    assert after
    for dial in after:
        assert hours.is_open(week, dial["zones"].split(), dial["claimed_at"].timestamp()), dial
        assert dial["facts"]["hours"].endswith(dial["zones"])
    left = await lasting_desk.connection.fetchval(LEFT, away())
    assert left == 0, "everybody for whom it was open was dialed"
    row = await lasting_desk.connection.fetchrow(
        "select * from call_queue where zones = $1 and status = 'queued'", noon()
    )
    assert row is not None
    assert datetime.now(UTC) < row["expires_at"]
