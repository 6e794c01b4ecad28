"""A row that really comes back, by each way of ringing, with each of them broken; and nothing stays behind."""

import asyncio

import asyncpg
import pytest
from aiohttp import web

from adapter.doctor.findings import Finding, Verdict
from adapter.doctor.supabase_bell import doorbell, roundtrip
from adapter.sandbox.gateway import Gateway
from adapter.sandbox.gateway.faults import Forward
from adapter.sandbox.postgres import Postgres
from adapter.supabase_io.config import DoorbellMode, SupabaseConfig
from tests.supabase.helpers import Desk, connected, number

BOTH = ["by broadcast within", "by INSERT changes within"]


async def came(
    gateway: Gateway, mode: DoorbellMode = DoorbellMode.AUTO, *, seconds: float = 5.0, row_seconds: float = 2.0
) -> Finding:
    """The finding of one round trip."""
    config = SupabaseConfig(url=gateway.url, key=gateway.secret_key, doorbell=mode)
    return await roundtrip(config, seconds=seconds, row_seconds=row_seconds)


async def left(dsn: str) -> int:
    """Rows in the queue."""
    async with connected(dsn) as connection:
        found: int = await connection.fetchval("select count(*) from call_queue")
        return found


async def test_both_ways_are_timed_and_nothing_stays(db: str) -> None:
    async with Gateway.started(db) as gateway:
        for _ in range(3):
            finding = await came(gateway)
            assert finding.verdict is Verdict.OK, finding
            assert all(words in finding.found for words in BOTH)
            assert finding.seconds is not None
            assert 0 < finding.seconds < 2
        assert await left(db) == 0
        assert gateway.realtime_channels == 0


async def test_a_table_that_is_not_published(db: str) -> None:
    async with connected(db) as connection:
        await connection.execute("alter publication supabase_realtime drop table call_queue")
    async with Gateway.started(db) as gateway:
        finding = await came(gateway)
        assert finding.verdict is Verdict.WARN
        assert "by broadcast within" in finding.found
        assert "not by INSERT changes (Unable to subscribe" in finding.found
        only = await came(gateway, DoorbellMode.CHANGES)
        assert only.verdict is Verdict.WARN
        assert "only the sweep would find a row" in only.found
        assert "SWEEP_SECONDS" in only.mend
        assert (await came(gateway, DoorbellMode.BROADCAST)).verdict is Verdict.OK
    assert await left(db) == 0


async def test_no_broadcast_from_the_database(db: str, pg_server: Postgres) -> None:
    admin = await asyncpg.connect(pg_server.admin_dsn(db.rsplit("/", 1)[1]))
    try:
        await admin.execute("alter function realtime.send rename to sent_once")
    finally:
        await admin.close()
    async with Gateway.started(db) as gateway:
        finding = await came(gateway)
    assert finding.verdict is Verdict.WARN
    assert "not by broadcast (the database has no realtime.send" in finding.found
    assert "by INSERT changes within" in finding.found
    assert await left(db) == 0


async def test_a_dead_subscription_is_found_out(db: str) -> None:
    """Joined, subscribed, heartbeats well, and no row comes."""
    async with Gateway.started(db) as gateway:
        gateway.deaf = True
        finding = await came(gateway, row_seconds=0.3)
    assert finding.verdict is Verdict.WARN
    assert finding.found.count("joined, but silent for 0.3 s") == 2
    assert await left(db) == 0


async def test_realtime_is_down_or_ends_while_one_waits(db: str) -> None:
    async with Gateway.started(db) as gateway:
        gateway.deaf = True
        waiting = asyncio.create_task(came(gateway, row_seconds=5.0))
        async with asyncio.timeout(5):
            while await left(db) == 0:
                await asyncio.sleep(0.01)
        gateway.kill_realtime()
        finding = await waiting
        assert finding.verdict is Verdict.WARN
        assert "only the sweep" in finding.found
        down = await came(gateway, seconds=1.0)
        assert down.verdict is Verdict.WARN
        assert await left(db) == 0
        gateway.resume_realtime()
        assert (await doorbell(SupabaseConfig(url=gateway.url, key=gateway.secret_key), 5.0)).verdict is Verdict.OK


async def test_only_its_own_row_counts(db: str) -> None:
    """Others insert all the time, and their rows ring as well: they prove nothing about this one."""
    swallow = (
        "create function only_others() returns trigger language plpgsql as "
        "$$ begin if new.payload ? 'probe' then return null; end if; return new; end $$; "
        "create trigger only_others before insert on realtime.messages for each row execute function only_others()"
    )
    async with connected(db.replace("postgres@", "supabase_admin@")) as admin:
        await admin.execute(swallow)
    async with connected(db) as connection, Gateway.started(db) as gateway:
        desk = Desk(connection)

        async def inserts() -> None:
            for serial in range(400):
                await desk.insert(number(serial))
                await asyncio.sleep(0.01)

        task = asyncio.create_task(inserts())
        try:
            finding = await came(gateway, row_seconds=1.0)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert await connection.fetchval("select count(*) from realtime.messages") > 0
    assert finding.verdict is Verdict.WARN, finding
    assert "by INSERT changes within" in finding.found
    assert "not by broadcast (joined, but silent" in finding.found
    async with connected(db) as connection:
        assert await connection.fetchval("select count(*) from call_queue where status = 'canceled'") == 0


async def test_a_row_that_was_heard_before_is_not_taken_for_it(db: str) -> None:
    async with connected(db) as connection, Gateway.started(db) as gateway:
        desk = Desk(connection)

        async def late(request: web.Request, forward: Forward) -> web.StreamResponse:
            if request.path.endswith("call_probe_v1") and await left(db) == 0:
                await desk.insert(number(1))
                await asyncio.sleep(0.3)
            return await forward()

        gateway.http_fault = late
        finding = await came(gateway, DoorbellMode.CHANGES)
    assert finding.verdict is Verdict.OK, finding


async def test_the_function_is_not_there(db: str) -> None:
    async with connected(db) as connection:
        await connection.execute("drop function call_probe_v1")
    async with Gateway.started(db) as gateway:
        finding = await came(gateway)
    assert finding.verdict is Verdict.WARN
    assert "no row could be inserted" in finding.found


async def test_a_doctor_that_is_canceled_takes_its_row_away(db: str) -> None:
    async with Gateway.started(db) as gateway:
        gateway.deaf = True
        task = asyncio.create_task(came(gateway, row_seconds=30.0))
        async with asyncio.timeout(5):
            while await left(db) == 0:
                await asyncio.sleep(0.01)
        # The row is there before doctor has the answer that names it; without that only the next probe finds it.
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await left(db) == 0


async def test_an_adapter_at_work_hears_it_and_claims_nothing(db: str) -> None:
    async with connected(db) as connection, Gateway.started(db) as gateway:
        desk = Desk(connection)
        await desk.register()
        claimed = []

        async def at_work() -> None:
            while True:
                claimed.extend(await desk.claim(10))
                await asyncio.sleep(0.002)

        task = asyncio.create_task(at_work())
        try:
            findings = [await came(gateway) for _ in range(5)]
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert {finding.verdict for finding in findings} == {Verdict.OK}
        assert claimed == []
        assert await left(db) == 0
        counts = await connection.fetchrow("select (select count(*) from call_logs), (select count(*) from call_lanes)")
        assert tuple(counts or ()) == (0, 0)
