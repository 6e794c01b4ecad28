"""What people ask: queue one call, follow it, see how everything is. No question costs more on a full queue."""

import re
import uuid
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from tests.supabase.helpers import OTHER, USER, Connection, Desk, answered, number, outcome
from tests.supabase.test_plans import ROWS, Fill, fill, touched

__all__ = ["fill"]


async def wish(connection: Connection, phone: str = "012-345 6700", key: uuid.UUID | None = None, **more: Any) -> Any:
    return await connection.fetchval(
        "select public.call_wish_v1($1, $2, $3, $4)", key or uuid.uuid4(), uuid.UUID(USER), phone, more
    )


async def follow(connection: Connection, row: int) -> dict[str, Any]:
    found: dict[str, Any] = await connection.fetchval("select public.call_follow_v1($1)", row)
    return found


async def status(connection: Connection, most: int = 10) -> dict[str, Any]:
    found: dict[str, Any] = await connection.fetchval("select public.call_status_v1($1)", most)
    return found


async def test_a_wish_becomes_one_row_however_often_its_answer_is_lost(desk: Desk) -> None:
    key, campaign = uuid.uuid4(), str(uuid.uuid4())
    more: dict[str, Any] = {
        "customer_name": "Aminah",
        "campaign_id": campaign,
        "priority": 9,
        "variables": {"offer": "A"},
    }
    first = await wish(desk.connection, key=key, **more)
    again = await wish(desk.connection, key=key, **more)
    other = await wish(desk.connection, **more)
    assert first["row"] == again["row"]
    assert other["row"]["row_id"] != first["row"]["row_id"]
    row = await desk.row(first["row"]["row_id"])
    assert (row["status"], row["e164"], row["customer_name"], row["priority"], row["max_attempts"]) == (
        "queued", "+60123456700", "Aminah", 9, 1
    )  # fmt: skip
    assert (str(row["campaign_id"]), row["variables"]) == (campaign, {"offer": "A"})
    # It goes its way like any other.
    claimed = await desk.claim(5)
    assert claimed[0]["row_id"] == first["row"]["row_id"]
    assert (await wish(desk.connection, key=key, **more))["row"]["status"] == "dialing"


async def test_a_number_that_cannot_be_dialed_adds_no_row(desk: Desk) -> None:
    found = await wish(desk.connection, "12")
    assert set(found) == {"refused"}
    assert found["refused"]
    assert await desk.connection.fetchval("select count(*) from call_queue") == 0
    assert await desk.connection.fetchval("select count(*) from call_logs") == 0


@pytest.mark.parametrize("more", [{"status": "done"}, {"phone_number": "1"}, {"metadata": {}}])
async def test_a_wish_names_known_columns_only(desk: Desk, more: dict[str, Any]) -> None:
    with pytest.raises(asyncpg.RaiseError, match="does not know"):
        await wish(desk.connection, **more)


async def test_a_row_that_is_wrong_otherwise_is_there_and_says_so(desk: Desk) -> None:
    found = await wish(desk.connection, ring_seconds=1)
    assert (found["row"]["status"], found["row"]["outcome"]) == ("done", "blocked")
    assert "ring_seconds" in found["row"]["reason"]


async def test_following_tells_what_decides_about_a_queued_row(desk: Desk) -> None:
    campaign = str(uuid.uuid4())
    connection = desk.connection
    first = await desk.insert(number(1), campaign_id=campaign)
    same = await desk.insert(number(1), campaign_id=campaign)
    for serial, priority in ((2, 9), (3, 5), (4, 1)):
        await desk.insert(number(serial), campaign_id=campaign, priority=priority)
    await desk.insert(number(5), campaign_id=campaign, priority=9, not_before=await later(connection))
    row = await desk.insert(number(6), campaign_id=campaign)
    assert first is not None
    assert same is not None
    assert row is not None
    wait = (await follow(connection, row))["wait"]
    assert wait == {
        "stopped": None, "user_paused": False, "lane_paused": False, "user_in_air": 0, "lane_in_air": 0,
        "rule": None, "put_off": None, "ahead": 4, "ahead_most": 100,
    }  # fmt: skip
    await connection.execute("update call_queue set priority = 9 where id = $1", first)
    assert {(await desk.claim_one())["row_id"] for _ in range(2)} == {first, first + 2}
    seen = (await follow(connection, same))["wait"]
    assert (seen["rule"], seen["user_in_air"], seen["lane_in_air"]) == ("another call to this number is going on", 2, 2)
    await connection.execute("update call_tenants set paused = true where user_id = $1", uuid.UUID(USER))
    await connection.execute("update call_lanes set paused = true where user_id = $1", uuid.UUID(USER))
    seen = (await follow(connection, same))["wait"]
    assert (seen["user_paused"], seen["lane_paused"]) == (True, True)
    assert (await follow(connection, first))["wait"] is None


async def later(connection: Connection) -> Any:
    return await connection.fetchval("select now() + interval '1 hour'")


async def test_following_goes_on_to_the_outcome(desk: Desk) -> None:
    row = (await wish(desk.connection))["row"]["row_id"]
    call = (await desk.claim_one())["call_id"]
    seen = await follow(desk.connection, row)
    assert (seen["row"]["status"], seen["row"]["call_id"], seen["row"]["pbx"]) == ("dialing", call, "pbx-1")
    (link,) = seen["adapters"]
    assert (link["adapter"], link["incarnation"], link["status"]["ready"]) == (str(desk.adapter), 1, True)
    (held,) = seen["pbxs"]
    assert (held["pbx"], held["holder"], held["trunk"]) == ("pbx-1", str(desk.adapter), "SIP-TRUNK-1")
    await desk.sync([answered(call)])
    assert (await follow(desk.connection, row))["row"]["status"] == "talking"
    await desk.sync([outcome(call, "answered")])
    seen = await follow(desk.connection, row)
    assert (seen["row"]["status"], seen["row"]["outcome"], seen["row"]["talk_seconds"]) == ("talking", "answered", "35")
    await desk.settle()
    assert (await follow(desk.connection, row))["row"]["status"] == "done"


@pytest.mark.parametrize("function", ["call_follow_v1", "call_stop_v1"])
async def test_a_row_that_is_not_there(desk: Desk, function: str) -> None:
    with pytest.raises(asyncpg.PostgresError) as raised:
        await desk.connection.fetchval(f"select public.{function}(4711)")
    assert raised.value.sqlstate == "PT404"


async def test_a_row_is_stopped_wherever_it_stands(desk: Desk) -> None:
    async def stop(row: int) -> dict[str, Any]:
        found: dict[str, Any] = await desk.connection.fetchval(
            "select public.call_stop_v1($1, $2)", row, "changed my mind"
        )
        return dict(found["row"])

    row = (await wish(desk.connection, number(1)))["row"]["row_id"]
    stopped = await stop(row)
    assert (stopped["status"], stopped["reason"], stopped["claimed_at"]) == ("canceled", "changed my mind", None)
    assert await stop(row) == stopped
    row = (await wish(desk.connection, number(2)))["row"]["row_id"]
    call = (await desk.claim_one())["call_id"]
    stopped = await stop(row)
    assert (stopped["status"], stopped["cancel_requested"]) == ("dialing", True)
    assert (await desk.sync())["commands"] == [{"kind": "hangup", "call_id": call}]
    await desk.sync([outcome(call, "busy")])
    assert (await stop(row))["outcome"] == "busy"


async def test_an_empty_project(desk: Desk) -> None:
    found = await status(desk.connection)
    assert found["queue"] == {
        "most": 10000, "queued": 0, "due": 0, "due_since": None, "paused": 0, "expired": 0, "next_at": None
    }  # fmt: skip
    assert found["air"] == {"dialing": 0, "talking": 0, "settling": 0, "overdue": 0, "claimed_at": None}
    assert (found["ended"]["total"], found["ended"]["outcomes"]) == (0, {})
    assert (found["calls"], found["last"], found["pbxs"], found["region"]) == ([], [], [], "MY")
    assert [link["adapter"] for link in found["adapters"]] == [str(desk.adapter)]


async def test_rows_that_sleep_are_not_due(desk: Desk) -> None:
    """Else each night would look as if nothing worked."""
    zone = f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"  # It is about noon there.
    for serial in range(3):
        await desk.insert(number(serial), callee_zone=zone)
    assert (await status(desk.connection))["queue"]["due"] == 3
    await desk.connection.fetchval("select call_hours_set_v1('all', null, '14:00-18:00')")
    assert await desk.claim() == []
    # As those that a claim has not moved to the opening yet.
    await desk.connection.execute("update call_queue set not_before = now() - interval '1 hour'")
    await desk.connection.execute("delete from call_arrivals")
    queue = (await status(desk.connection))["queue"]
    assert (queue["queued"], queue["due"], queue["due_since"]) == (3, 0, None)
    assert datetime.fromisoformat(queue["next_at"]).astimezone(ZoneInfo(zone)).hour == 14


async def test_everything_at_a_glance(desk: Desk) -> None:
    connection = desk.connection
    ids = [await desk.insert(number(serial)) for serial in range(8)]
    claimed = await desk.claim(4)
    calls = [row["call_id"] for row in claimed]
    await desk.sync([answered(calls[1]), outcome(calls[2], "answered"), outcome(calls[3], "busy")])
    await desk.insert("12")
    await connection.execute("update call_queue set not_before = now() + interval '1 hour' where id = $1", ids[4])
    await connection.execute("update call_queue set expires_at = now() - interval '3 minutes' where id = $1", ids[5])
    await connection.execute(
        "update call_queue set deadline = now() - interval '3 minutes' where call_id = $1", uuid.UUID(calls[0])
    )
    await connection.execute(
        "insert into call_queue (user_id, phone_number) select $1, $2 || i from generate_series(100, 102) i",
        uuid.UUID(OTHER),
        "+60123457",
    )
    await connection.execute("insert into call_tenants (user_id, paused) values ($1, true)", uuid.UUID(OTHER))
    found = await status(connection)
    queue = found["queue"]
    # One of the four queued rows of the first user is for later, so its lane counts by its due ones.
    assert (queue["queued"], queue["due"], queue["paused"], queue["expired"]) == (7, 3, 3, 1)
    assert queue["due_since"] is not None
    assert {name: found["air"][name] for name in ("dialing", "talking", "settling", "overdue")} == {
        "dialing": 1, "talking": 1, "settling": 1, "overdue": 1
    }  # fmt: skip
    assert (found["ended"]["total"], found["ended"]["outcomes"]) == (2, {"busy": 1, "blocked": 1})
    assert [call["call_id"] for call in found["calls"]] == calls[:3]
    assert [row["outcome"] for row in found["last"]] == ["blocked", "busy"]
    short = await status(connection, 1)
    assert (len(short["calls"]), len(short["last"])) == (1, 1)
    assert (short["queue"], short["air"]) == (queue, found["air"])
    assert [len((await status(connection, most))["last"]) for most in (-5, 0)] == [0, 0]


async def test_no_question_costs_more_on_a_full_queue(lasting_desk: Desk, fill: Fill) -> None:
    """Counted by PostgreSQL: no table read whole, and no more rows than a look is worth, with any statistics."""
    connection = lasting_desk.connection
    await connection.execute("alter table call_queue set (autovacuum_enabled = off)")
    for _ in range(7):  # PostgreSQL settles for a general plan after five; these are made for an empty queue.
        first = (await wish(connection, number(1)))["row"]["row_id"]
        await follow(connection, first)
        await status(connection)
    await fill()
    await lasting_desk.claim(20)
    for fresh in (False, True):
        if fresh:
            await connection.execute("analyze")
        seen: dict[str, Any] = {}

        async def look(seen: dict[str, Any] = seen) -> None:
            seen.update(await status(connection))

        cost = await touched(connection, look)
        assert (seen["queue"]["queued"], seen["air"]["dialing"]) == (10000, 20)
        assert cost["call_queue"][0] == 0, cost
        assert cost["call_queue"][1] < 10_500, cost
        assert cost["call_queue"][1] < ROWS / 5
        last = await connection.fetchval("select max(id) from call_queue where status = 'queued'")

        async def one(last: int = last) -> None:
            assert (await follow(connection, last))["wait"]["ahead"] > 90

        cost = await touched(connection, one)
        assert cost["call_queue"][0] == 0, cost
        assert cost["call_queue"][1] < 500, cost

        async def place() -> None:
            await wish(connection, number(77))

        cost = await touched(connection, place)
        assert cost["call_queue"][0] == 0, cost
        assert cost["call_queue"][1] < 500, cost


MARKS = {"v_limit": "integer", "v_most": "integer", "v_now": "timestamptz", "v_late": "timestamptz"}
"""Names in the function's text and their types."""

STATEMENTS = (
    ("select q.user_id, q.lane, q.not_before", ")", "call_queue_expiry_idx"),
    ("select q.outcome from public.call_queue q", ") d", "call_queue_ended_idx"),
    ("select * from public.call_queue q\n        where q.status in ('done'", ") c", "call_queue_ended_idx"),
    ("select * from public.call_queue q\n        where q.status in ('dialing'", ") c", "call_queue_live_number_key"),
)
"""Where each begins and ends in the function's text, and the index that must answer it."""


@pytest.mark.parametrize(("begin", "end", "index"), STATEMENTS)
async def test_each_count_and_list_comes_through_its_index(
    lasting_desk: Desk, fill: Fill, begin: str, end: str, index: str
) -> None:
    """EXPLAIN of the statements in the function, with plans that know no value, under the settings of the function."""
    connection = lasting_desk.connection
    await fill()
    function = await connection.fetchrow("select prosrc, proconfig from pg_proc where proname = 'call_status_v1'")
    assert function is not None
    statement = function["prosrc"][function["prosrc"].index(begin) :]
    statement = statement[: statement.index(end)]
    for place, name in enumerate(MARKS, start=1):
        statement = re.sub(rf"\b{name}\b", f"${place}", statement)
    for setting in function["proconfig"]:
        name, value = setting.split("=", 1)
        await connection.execute("select set_config($1, $2, false)", name, value.strip('"'))
    await connection.execute("set plan_cache_mode = force_generic_plan")
    await connection.execute(f"prepare look ({', '.join(MARKS.values())}) as {statement}")
    for _ in range(2):
        plan = "\n".join(
            row[0]
            for row in await connection.fetch("explain execute look (10, 10000, now(), now() - interval '1 day')")
        )
        assert f"using {index} on call_queue" in plan, plan
        assert "Seq Scan on call_queue" not in plan, plan
        await connection.execute("analyze")
