"""call_doctor_v1 and call_probe_v1: what they tell is true, and a probe is never dialed and never stays."""

import asyncio
from typing import Any

import asyncpg
import pytest

from adapter.sandbox.postgres import Postgres
from tests.supabase.helpers import Connection, Desk, connected, number

NOBODY = "00000000-0000-0000-0000-000000000000"


async def told(connection: Connection) -> dict[str, Any]:
    """What doctor gets, asked as its key would."""
    await connection.execute("set role service_role")
    try:
        answer: dict[str, Any] = await connection.fetchval("select public.call_doctor_v1()")
    finally:
        await connection.execute("reset role")
    return answer


async def test_the_apps_tables_make_no_difference(db: str, app_db: str) -> None:
    async with connected(db) as ours, connected(app_db) as theirs:
        assert (await told(ours))["objects"] == (await told(theirs))["objects"]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (("create or replace function call_at_work() returns boolean language sql stable set search_path = '' "
         "as 'select false'"), "function call_at_work()"),
        ("alter function call_at_work() security definer", "function call_at_work()"),
        ("alter function call_at_work() reset search_path", "function call_at_work()"),
        ("alter table call_queue alter column priority set default 4", "column call_queue.priority"),
        ("alter table call_queue alter column idsale set not null", "column call_queue.idsale"),
        ("alter table call_adapters alter column pbx type varchar(9)", "column call_adapters.pbx"),
        (("alter table call_queue drop constraint call_queue_priority_check, "
         "add constraint call_queue_priority_check check (priority between 0 and 10)"),
         "constraint call_queue.call_queue_priority_check"),
        ("drop index call_queue_in_air_idx; create index call_queue_in_air_idx on call_queue (user_id)",
         "index call_queue_in_air_idx"),
        (("create or replace trigger call_queue_after_cancel after update on call_queue for each row "
         "execute function call_queue_after_cancel()"), "trigger call_queue.call_queue_after_cancel"),
        ("alter table call_bell disable row level security", "table call_bell"),
        ("delete from call_regions where region = 'FJ'", "rows of call_regions"),
        ("delete from call_outcomes where outcome = 'busy'", "row call_outcomes.busy"),
        ("drop sequence call_turn", "sequence call_turn"),
    ],
)  # fmt: skip
async def test_each_change_shows_in_its_own_print_and_in_no_other(db: str, change: str, name: str) -> None:
    async with connected(db) as connection:
        before = (await told(connection))["objects"]
        await connection.execute(change)
        after = (await told(connection))["objects"]
        assert {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)} == {name}


async def test_spaces_and_line_ends_make_no_difference(db: str) -> None:
    async with connected(db) as connection:
        before = (await told(connection))["objects"]
        text = await connection.fetchval("select pg_get_functiondef('call_lock()'::regprocedure)")
        await connection.execute(text.replace("\n", "\r\n   "))
        assert (await told(connection))["objects"] == before


async def test_it_tells_of_rights_policies_triggers_and_the_publication(app_db: str) -> None:
    async with connected(app_db) as connection:
        sound = await told(connection)
        assert sound["role"] == "service_role"
        assert sound["execute"]["call_cancel_v1(p_row bigint, p_reason text)"] == ["service_role"]
        assert sound["execute"]["call_lock()"] == []
        assert (sound["published"], sound["send"], sound["disabled_triggers"]) == (True, True, [])
        assert sound["tables"]["call_queue"]["rights"]["anon"] == []
        users = sound["tables"]["users"]
        assert (users["rls"], users["rows"], users["key"]) == (True, False, "id")
        (policy,) = users["policies"]
        assert (policy["roles"], policy["all_rows"], policy["any_new"]) == (["public"], True, True)
        await connection.execute(
            "alter table call_queue disable trigger call_queue_after_insert; "
            "alter publication supabase_realtime drop table call_queue; "
            "grant execute on function call_lock() to anon; grant select (id) on call_queue to anon; "
            "create policy own on call_queue for select to authenticated using (user_id = auth.uid())"
        )
        broken = await told(connection)
        assert broken["disabled_triggers"] == ["call_queue_after_insert"]
        assert broken["published"] is None
        assert broken["execute"]["call_lock()"] == ["anon"]
        assert broken["tables"]["call_queue"]["rights"]["anon"] == ["select"]
        (policy,) = broken["tables"]["call_queue"]["policies"]
        assert (policy["roles"], policy["for"], policy["all_rows"]) == (["authenticated"], "select", False)


async def test_half_an_installation_is_told_as_it_is(db: str) -> None:
    async with connected(db) as connection:
        await connection.execute("drop table call_adapters, call_pbx, call_regions, call_outcomes, call_queue cascade")
        answer = await told(connection)
        assert (answer["pbxs"], answer["adapters"], answer["published"]) == ([], [], None)
        assert "function call_sync_v1" in " ".join(answer["objects"])
        assert "table call_queue" not in answer["objects"]


async def test_it_changes_nothing(db: str) -> None:
    async with connected(db) as connection, connection.transaction(readonly=True):
        await told(connection)


async def test_a_probe_touches_nothing_but_its_own_row(lasting_desk: Desk) -> None:
    connection = lasting_desk.connection
    await lasting_desk.sync()
    counts = (
        "select (select count(*) from call_logs), (select count(*) from call_arrivals), "
        "(select count(*) from call_lanes), (select count(*) from call_tenants), (select count(*) from campaigns)"
    )
    before = await connection.fetchrow(counts)
    await connection.execute("set role service_role")
    probe = await connection.fetchval("select call_probe_v1()")
    await connection.execute("reset role")
    row = await lasting_desk.row(probe["row"])
    assert (row["status"], row["call_id"], str(row["user_id"])) == ("canceled", None, NOBODY)
    assert await connection.fetchrow(counts) == before
    message = await connection.fetchrow("select topic, event, payload, private from realtime.messages")
    assert message is not None
    assert (message["topic"], message["event"], message["private"]) == ("call_queue", "rows", True)
    assert message["payload"]["probe"] == probe["row"]
    gone = await connection.fetchval("select call_probe_v1($1)", probe["row"])
    assert (gone["row"], gone["gone"]) == (None, 1)
    assert await connection.fetchval("select count(*) from call_queue") == 0
    assert await connection.fetchrow(counts) == before


async def test_it_deletes_probes_only(lasting_desk: Desk) -> None:
    connection = lasting_desk.connection
    mine = await lasting_desk.insert(number(1))
    ended = await lasting_desk.insert(number(2), user_id=NOBODY, status="done")
    named = await lasting_desk.insert(number(3), idempotency_key="probe of doctor 1")
    await connection.execute("update call_queue set created_at = now() - interval '1 day'")
    for row in (mine, ended, named):
        assert (await connection.fetchval("select call_probe_v1($1)", row))["gone"] == 0
    other = await connection.fetchval("select call_probe_v1()")
    probe = await connection.fetchval("select call_probe_v1()")
    assert (await connection.fetchval("select call_probe_v1($1)", probe["row"]))["gone"] == 1
    assert {row[0] for row in await connection.fetch("select id from call_queue")} == {
        *(mine, ended, named),
        other["row"],
    }


@pytest.mark.parametrize("by", ["probe", "sweep"])
async def test_a_probe_whose_doctor_died_goes_by_itself(lasting_desk: Desk, by: str) -> None:
    connection = lasting_desk.connection
    left = await connection.fetchval("select call_probe_v1()")
    await lasting_desk.sync()
    assert await connection.fetchval("select count(*) from call_queue where id = $1", left["row"]) == 1
    await connection.execute("update call_queue set created_at = now() - interval '61 seconds'")
    if by == "probe":
        await connection.fetchval("select call_probe_v1()")
    else:
        assert (await lasting_desk.sync())["notes"] == []
    assert await connection.fetchval("select count(*) from call_queue where id = $1", left["row"]) == 0


async def test_no_claim_ever_gets_a_probe(db: str) -> None:
    """A real adapter claims all it can while probes come and go."""
    async with connected(db) as one, connected(db) as two:
        desk = Desk(one)
        await desk.register()
        claimed: list[dict[str, Any]] = []
        probes: list[int] = []

        async def probing() -> None:
            for _ in range(40):
                probe = await two.fetchval("select call_probe_v1()")
                probes.append(probe["row"])
                await asyncio.sleep(0.005)
                await two.fetchval("select call_probe_v1($1)", probe["row"])

        task = asyncio.create_task(probing())
        serial = 0
        while not task.done():
            serial += 1
            await desk.insert(number(serial))
            claimed += await desk.claim(10)
        await task
        claimed += await desk.claim(10)
        assert len(claimed) == serial
        assert serial > 1
        assert not {row["row_id"] for row in claimed} & set(probes)
        assert await one.fetchval("select count(*) from call_queue where user_id = $1", NOBODY) == 0
        assert await one.fetchval("select count(*) from call_logs") == serial


async def test_without_realtime_a_probe_says_so(db: str, pg_server: Postgres) -> None:
    admin = await asyncpg.connect(pg_server.admin_dsn(db.rsplit("/", 1)[1]))
    try:
        await admin.execute("drop schema realtime cascade")
    finally:
        await admin.close()
    async with connected(db) as connection:
        probe = await connection.fetchval("select call_probe_v1()")
        assert probe["sent"] is False
        assert (await told(connection))["send"] is False
        assert probe["row"] > 0
