"""Both Supabase links against the sandbox's gateway and a real PostgreSQL with our installation."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from adapter.core.model import CallTimes, Ending, Outcome, OutcomeRecord, ReleaseCause, ReleaseRecord
from adapter.sandbox.gateway import Gateway, lose
from adapter.supabase_io.config import BellTimings, DoorbellMode, SupabaseConfig
from adapter.supabase_io.database import Database, DatabaseAway, DatabaseRefused, SyncRequest
from adapter.supabase_io.doorbell import Doorbell
from adapter.supabase_io.records import encode
from tests.supabase_io.samples import jwt, new_id

STATUS = {"pbx": "pbx-a", "ready": True, "pbx_boot": "b", "trunk": "SIP-TRUNK-0123ABCD", "form": "trunk", "live": 0}

QUICK = BellTimings(connect=3, close=0.5, backoff_first=0.05, backoff_most=0.2, deaf_floor=0.2)


@pytest.fixture
async def gateway(db: str) -> AsyncIterator[Gateway]:
    async with Gateway.started(db) as running:
        yield running


@contextlib.asynccontextmanager
async def registered(gateway: Gateway, key: str) -> AsyncIterator[Database]:
    async with Database(SupabaseConfig(url=gateway.url, key=key)) as database:
        found = await database.register(
            adapter=new_id(), expected=0, nonce=new_id(), pbx="pbx-a", info={"version": "0"}
        )
        assert found.accepted
        assert found.incarnation == 1
        assert found.open == ()
        yield database


async def insert(dsn: str, number: str = "012-345 6701") -> int:
    """One row as an app inserts it."""
    connection: Any = await asyncpg.connect(dsn)
    try:
        row: int = await connection.fetchval(
            "insert into public.call_queue (user_id, phone_number) values (gen_random_uuid(), $1) returning id", number
        )
    finally:
        await connection.close()
    return row


async def fetch(dsn: str, sql: str, *values: object) -> Any:
    """The first row of an answer."""
    connection: Any = await asyncpg.connect(dsn)
    try:
        return await connection.fetchrow(sql, *values)
    finally:
        await connection.close()


@pytest.mark.parametrize("kind", ["service_role_key", "secret_key"])
async def test_a_row_is_claimed_and_its_outcome_stored(db: str, gateway: Gateway, kind: str) -> None:
    row_id = await insert(db)
    async with registered(gateway, getattr(gateway, kind)) as database:
        claim = new_id()
        reply = await database.sync(SyncRequest(status=STATUS, room=5, claim_id=claim))
        assert reply.holder
        assert not reply.fenced
        (row,) = reply.rows
        assert (row.row_id, row.e164, row.phone_number, row.attempt) == (row_id, "+60123456701", "012-345 6701", 1)
        assert abs(row.claimed_at - time.time()) < 10
        assert row.claim_number == reply.claim_number
        assert reply.unreadable == ()
        again = await database.sync(SyncRequest(status=STATUS, room=5, claim_id=claim))
        assert [found.call_id for found in again.rows] == [row.call_id]
        now = row.claimed_at
        record = OutcomeRecord(
            call_id=row.call_id,
            ending=Ending(
                outcome=Outcome.BUSY,
                reason="the line is busy \x00 日本",
                times=CallTimes(originated_at=now, ended_at=now + 1.5),
                hangup_cause=17,
                sip_code=486,
            ),
            log_status="no_answered",
            trunk="SIP-TRUNK-0123ABCD",
        )
        unknown = ReleaseRecord(call_id=new_id(), cause=ReleaseCause.NOT_SENT, reason="never heard of")
        poison = {**encode(record), "outcome": "sung"}
        done = await database.sync(
            SyncRequest(status=STATUS, records=((1, poison), (2, encode(record)), (3, encode(unknown))))
        )
        assert 2 in done.recorded
        assert 3 in done.recorded
        assert [seq for seq, _ in done.refused] == [1]
    found = await fetch(db, "select * from public.call_logs where call_id = $1", row.call_id)
    assert found["status"] == "no_answered"


async def test_a_lost_answer_costs_nothing(db: str, gateway: Gateway) -> None:
    await insert(db)
    async with registered(gateway, gateway.service_role_key) as database:
        request = SyncRequest(status=STATUS, room=5, claim_id=new_id())

        async def lost(web: Any, forward: Any) -> Any:
            await forward()
            return lose(web)

        gateway.http_fault = lost
        with pytest.raises(DatabaseAway):
            await database.sync(request)
        gateway.http_fault = None
        assert len((await database.sync(request)).rows) == 1


async def test_the_same_try_of_registering_is_accepted_again_and_another_is_not(gateway: Gateway) -> None:
    adapter, nonce = new_id(), new_id()
    async with Database(SupabaseConfig(url=gateway.url, key=gateway.service_role_key)) as database:

        async def ask(expected: int, nonce: str) -> tuple[bool, int]:
            found = await database.register(adapter=adapter, expected=expected, nonce=nonce, pbx="pbx-a", info={})
            return found.accepted, found.incarnation

        assert await ask(0, nonce) == (True, 1)
        assert await ask(0, nonce) == (True, 1)
        assert await ask(0, new_id()) == (False, 1)
        assert await ask(1, new_id()) == (True, 2)


async def test_a_project_without_our_functions_says_what_to_run(empty_db: str) -> None:
    async with (
        Gateway.started(empty_db) as gateway,
        Database(SupabaseConfig(url=gateway.url, key=gateway.service_role_key)) as database,
    ):
        with pytest.raises(DatabaseRefused, match=r"run supabase/install\.sql"):
            await database.register(adapter=new_id(), expected=0, nonce=new_id(), pbx="pbx-a", info={})


async def test_a_key_of_another_project_says_so(gateway: Gateway) -> None:
    async with Database(SupabaseConfig(url=gateway.url, key=jwt())) as database:
        with pytest.raises(DatabaseRefused, match="key"):
            await database.register(adapter=new_id(), expected=0, nonce=new_id(), pbx="pbx-a", info={})


@contextlib.asynccontextmanager
async def ringing(gateway: Gateway, mode: DoorbellMode, key: str) -> AsyncIterator[Doorbell]:
    """A doorbell that is live."""
    bell = Doorbell(SupabaseConfig(url=gateway.url, key=key, doorbell=mode, bell=QUICK))
    task = asyncio.create_task(bell.run())
    try:
        await live(bell)
        bell.rung.clear()
        yield bell
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def live(bell: Doorbell) -> None:
    """Wait until it is."""
    async with asyncio.timeout(15):
        while not bell.status.live:
            await asyncio.sleep(0.01)


async def rings(bell: Doorbell) -> None:
    """Wait for a ring of the server's."""
    async with asyncio.timeout(10):
        await bell.rung.wait()
    bell.rung.clear()


@pytest.mark.parametrize("kind", ["service_role_key", "secret_key"])
@pytest.mark.parametrize("mode", [DoorbellMode.AUTO, DoorbellMode.BROADCAST, DoorbellMode.CHANGES])
async def test_an_insert_rings(db: str, gateway: Gateway, mode: DoorbellMode, kind: str) -> None:
    async with ringing(gateway, mode, getattr(gateway, kind)) as bell:
        await insert(db)
        await rings(bell)
        assert bell.status.rings >= 1
        assert bell.status.problem is None


async def test_a_project_without_the_table_in_the_publication_rings_by_broadcast(db: str, gateway: Gateway) -> None:
    connection: Any = await asyncpg.connect(db)
    await connection.execute("alter publication supabase_realtime drop table public.call_queue")
    await connection.close()
    async with ringing(gateway, DoorbellMode.AUTO, gateway.service_role_key) as bell:
        assert bell.status.listens == "broadcast"
        assert "Unable to subscribe" in str(bell.status.problem)
        await insert(db)
        await rings(bell)


@pytest.mark.parametrize("how", ["drop_realtime_connections", "pause_realtime", "deaf"])
async def test_a_bell_that_was_hurt_rings_again(db: str, gateway: Gateway, how: str) -> None:
    async with ringing(gateway, DoorbellMode.AUTO, gateway.service_role_key) as bell:
        connects = bell.status.connects
        if how == "deaf":
            gateway.deaf = True
            await insert(db)
            gateway.deaf = False
            bell.missed(1)
        elif how == "pause_realtime":
            gateway.pause_realtime()
            await asyncio.sleep(0.2)
            gateway.resume_realtime()
        else:
            gateway.drop_realtime_connections()
        async with asyncio.timeout(15):
            while bell.status.connects == connects or not bell.status.live:
                await asyncio.sleep(0.01)
        bell.rung.clear()
        before = bell.status.rings
        await insert(db, "012-345 6702")
        await rings(bell)
        assert bell.status.rings > before
