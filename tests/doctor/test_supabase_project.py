"""What the database says of itself, held against what this version ships: each kind of deviation, on a real one."""

import time
import uuid
from dataclasses import replace

import asyncpg
import pytest

from adapter.core.model import Form, Way
from adapter.doctor import supabase_project as project
from adapter.doctor.findings import Finding, Verdict
from adapter.doctor.supabase_project import Shipped
from adapter.sandbox.gateway import Gateway
from adapter.supabase_io.config import DoorbellMode, SupabaseConfig
from adapter.supabase_io.inspection import Inspection, Inspector
from tests.supabase.helpers import Desk, connected, number
from tests.support.db import ROOT

SHIPPED = Shipped.read()


async def inspected(dsn: str, change: str = "select 1") -> Inspection:
    """What doctor gets to know of a database after a change."""
    async with connected(dsn) as connection:
        await connection.execute(change)
    async with Gateway.started(dsn) as gateway, Inspector(_config(gateway)) as inspector:
        return await inspector.inspect()


def _config(gateway: Gateway) -> SupabaseConfig:
    return SupabaseConfig(url=gateway.url, key=gateway.secret_key)


@pytest.mark.parametrize(
    ("change", "verdict", "words"),
    [
        ("select 1", Verdict.OK, "as shipped"),
        ("drop function call_merged", Verdict.FAIL, "missing: function call_merged"),
        ("alter function call_lock() security definer", Verdict.FAIL, "different: function call_lock"),
        ("drop table call_bell", Verdict.FAIL, "missing: table call_bell"),
        ("alter table call_queue drop column caller_id cascade", Verdict.FAIL, "column call_queue.caller_id"),
        ("drop view calls_live", Verdict.FAIL, "missing: view calls_live"),
        ("alter view calls_live reset (security_invoker)", Verdict.FAIL, "different: view calls_live"),
        ("drop index call_queue_turn_idx", Verdict.FAIL, "missing: index call_queue_turn_idx"),
        (
            "drop trigger call_queue_after_cancel on call_queue",
            Verdict.FAIL,
            "trigger call_queue.call_queue_after_cancel",
        ),
        ("alter table call_lanes disable row level security", Verdict.FAIL, "different: table call_lanes"),
        ("revoke select on call_queue from service_role", Verdict.FAIL, "from service_role: select on call_queue"),
        ("update call_regions set national_pattern = '1' where region = 'FJ'", Verdict.WARN, "rows of call_regions"),
        (
            "create function call_sync_v2() returns int language sql as 'select 1'",
            Verdict.WARN,
            "function call_sync_v2",
        ),
        ("create function call_me() returns int language sql as 'select 1'", Verdict.OK, "as shipped"),
        ("alter table call_queue add column mine text", Verdict.OK, "not ours: column call_queue.mine"),
        ("update call_outcomes set bound = 9 where outcome = 'congestion'", Verdict.OK, "as shipped"),
    ],
)
async def test_installed(db: str, change: str, verdict: Verdict, words: str) -> None:
    finding = project.installed(await inspected(db, change), SHIPPED)
    assert finding.verdict is verdict, finding
    assert words in finding.found


INSTALLATION = (ROOT / "supabase" / "install.sql").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "mends"),
    [
        ("drop function call_merged", True),
        ("alter function call_lock() security definer", True),
        ("drop table call_pbx, call_bell cascade", True),
        ("drop table call_queue cascade", True),
        ("drop index call_queue_turn_idx", True),
        ("drop view calls_live", True),
        ("alter view calls_live reset (security_invoker)", True),
        ("drop trigger call_queue_after_cancel on call_queue", True),
        (("create or replace trigger call_queue_before_insert after insert on call_queue for each row "
         "execute function call_queue_before_insert()"), True),
        ("alter table call_lanes disable row level security", True),
        ("revoke select on call_queue from service_role", True),
        ("update call_regions set national_pattern = '1' where region = 'FJ'", True),
        ("delete from call_outcomes where outcome = 'busy'", True),
        ("alter table call_queue drop column caller_id cascade", False),
        ("alter table call_queue alter column priority set default 4", False),
        ("alter table call_queue drop constraint call_queue_priority_check", False),
        ("drop index call_queue_in_air_idx; create index call_queue_in_air_idx on call_queue (user_id)", False),
    ],
)  # fmt: skip
async def test_what_it_says_to_do_mends_it_or_it_says_what_does_not(db: str, change: str, mends: bool) -> None:
    broken = project.installed(await inspected(db, change), SHIPPED)
    assert broken.verdict in (Verdict.FAIL, Verdict.WARN), broken
    assert broken.mend.startswith("run supabase/install.sql")
    assert ("by hand" in broken.mend) is not mends
    stopped = False
    try:
        after = project.installed(await inspected(db, INSTALLATION), SHIPPED)
    except asyncpg.UndefinedColumnError:
        stopped, after = True, broken
    assert stopped is ("drop column" in change)
    assert (after.verdict is Verdict.OK) is mends, after


async def test_a_missing_table_is_told_once_and_not_by_its_parts(db: str) -> None:
    finding = project.installed(await inspected(db, "drop table call_pbx, call_lanes cascade"), SHIPPED)
    assert finding.found == "missing: table call_lanes, table call_pbx, view queue_overview, view queue_problems"


async def test_a_newer_installation_with_changed_functions_is_not_to_be_taken_back(db: str) -> None:
    change = (
        "create function call_sync_v2() returns int language sql as 'select 1'; "
        "create or replace function call_at_work() returns boolean language sql stable set search_path = '' "
        "as 'select false'"
    )
    finding = project.installed(await inspected(db, change), SHIPPED)
    assert finding.verdict is Verdict.WARN
    assert "update the adapter" in finding.mend
    lacking = project.installed(await inspected(db, "drop function call_merged"), SHIPPED)
    assert lacking.verdict is Verdict.FAIL


async def test_which_of_the_two_is_older(db: str) -> None:
    """A newer release may have changed and dropped helpers: what adapters call is what counts."""
    found = await inspected(db, "drop function call_merged; alter function call_lock() security definer")
    for version in ("0.2.0", "0.1.1", "0.10.0", "1.0"):
        newer = project.installed(replace(found, version=version), SHIPPED)
        assert newer.verdict is Verdict.WARN, newer
        assert f"version {version} was run" in newer.found
        assert "do not run the older one" in newer.mend
    for version in ("0.1.0", "0.0.9"):
        older = project.installed(replace(found, version=version), SHIPPED)
        assert older.verdict is Verdict.FAIL
        assert "run supabase/install.sql" in older.mend
        assert ("0.0.9 was run" in older.found) is (version == "0.0.9")
    lost = await inspected(db, "drop function call_cancel_v1")
    assert project.installed(replace(lost, version="0.2.0"), SHIPPED).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("revoke execute on function call_cancel_v1 from service_role", "service_role may not execute call_cancel_v1"),
        ("grant execute on function call_cancel_v1 to anon", "anon may execute call_cancel_v1"),
        ("grant execute on function call_settle to authenticated", "authenticated may execute call_settle"),
        ("grant execute on function call_lock to public", "anon and authenticated may execute call_lock"),
    ],
)
async def test_functions(db: str, change: str, words: str) -> None:
    finding = project.functions(await inspected(db, change), SHIPPED)
    assert finding.verdict is Verdict.FAIL
    assert words in finding.found


@pytest.mark.parametrize(
    ("change", "mode", "verdict"),
    [
        ("select 1", DoorbellMode.AUTO, Verdict.OK),
        ("alter publication supabase_realtime drop table call_queue", DoorbellMode.AUTO, Verdict.WARN),
        ("alter publication supabase_realtime drop table call_queue", DoorbellMode.CHANGES, Verdict.WARN),
        ("alter publication supabase_realtime drop table call_queue", DoorbellMode.BROADCAST, Verdict.OK),
        ("drop publication supabase_realtime", DoorbellMode.AUTO, Verdict.WARN),
        ("alter publication supabase_realtime set (publish = 'update')", DoorbellMode.AUTO, Verdict.WARN),
        ("alter table call_queue disable trigger call_queue_before_insert", DoorbellMode.OFF, Verdict.FAIL),
        ("alter table call_queue enable replica trigger call_queue_after_insert", DoorbellMode.OFF, Verdict.FAIL),
    ],
)
async def test_publication(db: str, change: str, mode: DoorbellMode, verdict: Verdict) -> None:
    finding = project.publication(await inspected(db, change), mode)
    assert finding.verdict is verdict
    if finding.mend:
        told = finding.mend.removeprefix("in the SQL editor: ")
        mended = await inspected(db, INSTALLATION if told.startswith(project.INSTALL) else told)
        assert project.publication(mended, mode).verdict is Verdict.OK


async def test_no_broadcast_function(db: str) -> None:
    found = replace(await inspected(db), send=False)
    assert project.publication(found, DoorbellMode.AUTO).verdict is Verdict.WARN
    assert project.publication(found, DoorbellMode.CHANGES).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("change", "verdict", "words"),
    [
        ("select 1", Verdict.OK, ""),
        ("alter table call_logs drop column recording_url, drop column duration", Verdict.FAIL,
         "lacks duration, recording_url"),
        ("alter table call_logs alter column duration type text", Verdict.FAIL, "call_logs.duration is text"),
        ("alter table call_logs add column tenant uuid not null", Verdict.FAIL, "requires tenant"),
        ("alter table call_logs add column tenant uuid not null default gen_random_uuid()", Verdict.OK, ""),
        ("alter table call_logs alter column status type varchar(40)", Verdict.OK, ""),
        ("drop table campaigns cascade", Verdict.FAIL, "campaigns is missing"),
        ("alter table call_logs add constraint mine foreign key (campaign_id) references campaigns (id)", Verdict.WARN,
         "mine"),
    ],
)  # fmt: skip
async def test_the_apps_tables(app_db: str, change: str, verdict: Verdict, words: str) -> None:
    finding = project.app(await inspected(app_db, change))
    assert finding.verdict is verdict, finding
    assert words in finding.found


@pytest.mark.parametrize(
    ("change", "billing", "verdict", "words"),
    [
        ("select 1", "off", Verdict.OK, "the AI handler's affair (BILLING=off)"),
        ("select 1", "minutes", Verdict.OK, "charged by the adapter (BILLING=minutes)"),
        ("drop table users cascade", "off", Verdict.OK, "all that is written is there"),
        ("drop table users cascade", "minutes", Verdict.FAIL, "the table users is missing"),
        ("alter table users drop total_minutes_used", "minutes", Verdict.FAIL, "users lacks total_minutes_used"),
        ("alter table call_logs drop is_retry", "minutes", Verdict.FAIL, "call_logs lacks is_retry"),
    ],
)
async def test_who_charges_and_whether_it_can(
    app_db: str, change: str, billing: str, verdict: Verdict, words: str
) -> None:
    finding = project.app(await inspected(app_db, change), billing)
    assert finding.verdict is verdict, finding
    assert words in finding.found


# ---------------------------------------------------------------- clock


def clock(found: Inspection, *, off: float, there: float = 0.0, back: float = 0.0, work: float = 0.0) -> Finding:
    """The clock check where this machine is ahead by `off`, and the way takes `there` and `back`."""
    sent = 1000.0
    began = 5000.0
    found = replace(
        found, sent=sent, began=began + there, now=began + there + work, received=sent + there + work + back
    )
    return project.clock(found, wall_at_zero=began - sent + off)


async def test_the_clock(db: str) -> None:
    found = await inspected(db)
    assert clock(found, off=0.0).verdict is Verdict.OK
    assert clock(found, off=1.9).verdict is Verdict.OK
    assert "2.5 s ahead" in clock(found, off=2.5).found
    assert clock(found, off=2.5).verdict is Verdict.WARN
    assert "40.0 s behind" in clock(found, off=-40.0).found
    # The way is taken off: half of it each, however long the database worked.
    assert "0.0 s" in clock(found, off=0.0, there=3.0, back=3.0, work=4.0).found
    assert clock(found, off=5.0, there=0.5, back=0.5, work=9.0).verdict is Verdict.WARN
    # A crooked way shows nothing that is within it.
    assert clock(found, off=0.0, there=6.0, back=0.0).verdict is Verdict.OK
    assert "give or take 3.00 s" in clock(found, off=0.0, there=6.0, back=0.0).found


async def test_the_clock_as_it_is(db: str) -> None:
    started = time.time() - time.monotonic()
    found = await inspected(db)
    assert project.clock(found, wall_at_zero=started).verdict is Verdict.OK
    off = project.clock(found, wall_at_zero=started + 3.0)
    assert off.verdict is Verdict.WARN
    assert "3.0 s ahead" in off.found


# ---------------------------------------------------------------- who dials


async def test_nobody_has_run_yet(db: str) -> None:
    finding = project.pbx(await inspected(db))
    assert (finding.verdict, finding.found) == (Verdict.OK, "no adapter has run on this project yet")


async def test_who_dials_and_who_waits(db: str) -> None:
    async with connected(db) as connection:
        holder, witness = Desk(connection), Desk(connection)
        for desk in (holder, witness):
            await desk.register()
            await desk.sync()
        await holder.insert(number(1))
        await holder.claim_one()
    finding = project.pbx(await inspected(db))
    assert finding.verdict is Verdict.OK, finding
    assert f"adapter {str(holder.adapter)[:8]} dials (1 calls in the air), 1 more on this PBX" in finding.found
    found = await inspected(db)
    ours = project.pbx(found, name="pbx-1", adapter=str(holder.adapter))
    assert ours.verdict is Verdict.OK
    for adapter in (str(witness.adapter), None):
        theirs = project.pbx(found, name="pbx-1", adapter=adapter)
        assert theirs.verdict is Verdict.WARN
        assert "not the adapter of this STATE_DIR" in theirs.found
    assert project.pbx(found, name="another").verdict is Verdict.OK


async def test_a_holder_that_is_gone(db: str) -> None:
    async with connected(db) as connection:
        desk = Desk(connection)
        await desk.register()
        await desk.sync()
        await desk.insert(number(1))
        await desk.claim_one()
    gone = (
        "update call_adapters set seen_at = now() - interval '3 hours'; "
        "update call_pbx set lease_until = now() - interval '3 hours'"
    )
    finding = project.pbx(await inspected(db, gone))
    assert finding.verdict is Verdict.WARN
    assert "nobody dials through PBX pbx-1" in finding.found
    assert "3 hours ago" in finding.found
    assert "left 1 calls" in finding.found
    async with connected(db) as connection:
        other = Desk(connection)
        await other.register()
        await other.sync()
    taking_over = project.pbx(await inspected(db))
    assert "1 more on this PBX will take over" in taking_over.found


async def test_an_adapter_that_does_not_reach_its_pbx(db: str) -> None:
    async with connected(db) as connection:
        desk = Desk(connection, adapter=uuid.UUID("0f0e0d0c-0000-4000-8000-000000000001"))
        await desk.register()
        await desk.sync(ready=False)
    finding = project.pbx(await inspected(db))
    assert finding.verdict is Verdict.WARN
    assert "adapter 0f0e0d0c runs, but is not connected to its PBX" in finding.found


async def test_the_trunks_of_our_pbx_that_are_switched_on(db: str) -> None:
    rows = (
        "insert into call_trunks (pbx, trunk, form, strip_prefix, add_prefix, enabled) values "
        "('a', 'T-1', 'trunk', '60', '0', true), "
        "('a', 'T-2', 'route', '', '', true), ('a', 'T-3', 'trunk', '', '', false), ('b', 'T-4', 'trunk', '', '', true)"
    )
    async with connected(db) as connection:
        await connection.execute(rows)
    async with Gateway.started(db) as gateway:
        config = SupabaseConfig(url=gateway.url, key=gateway.service_role_key)
        async with Inspector(config) as inspector:
            found = await inspector.ways("a")
            assert sorted(found, key=lambda way: way.id) == [
                Way(id="T-1", strip="60", add="0"),
                Way(id="T-2", form=Form.ROUTE),
            ]
            assert await inspector.ways("c") == ()
