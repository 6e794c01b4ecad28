"""The questions of `call` and `status`: against our installation behind the gateway, and against answers gone wrong."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from aiohttp import web

from adapter.sandbox.gateway import Gateway
from adapter.sandbox.gateway.faults import Forward, lose
from adapter.supabase_io import sights
from adapter.supabase_io.config import HttpTimings, SupabaseConfig
from adapter.supabase_io.database import Database, SyncRequest
from adapter.supabase_io.desk import Desk, NumberRefused, Wish
from adapter.supabase_io.records import Unfit
from adapter.supabase_io.refusals import DatabaseAway, DatabaseRefused
from tests.supabase_io.http_server import Answer, FaultyRest, faulty_rest
from tests.supabase_io.samples import jwt, new_id

USER = "00000000-0000-4000-8000-00000000000a"
NUMBER = "011-1000 0001"

HEARTBEAT: dict[str, object] = {
    "pbx": "sandbox",
    "ready": True,
    "trunk": "SIP-TRUNK-1",
    "form": "trunk",
    "live": 3,
    "version": "0.1.0",
    "problem": "the AI drops\x1b[2J its calls",
    "limits": {"pbx": 50, "user": 10, "campaign": None},
    "region": "MY",
    "outbox": {"waiting": 0, "refused": 2},
    "doorbell": {"state": "up", "deaf": True, "problem": None},
}


@pytest.fixture
async def gateway(db: str) -> AsyncIterator[Gateway]:
    async with Gateway.started(db) as started:
        yield started


@pytest.fixture
async def desk(gateway: Gateway) -> AsyncIterator[Desk]:
    async with Desk(config(gateway)) as made:
        yield made


def config(gateway: Gateway) -> SupabaseConfig:
    return SupabaseConfig(url=gateway.url, key=gateway.service_role_key)


def wish(number: str = NUMBER, **more: Any) -> Wish:
    return Wish(key=new_id(), user_id=USER, number=number, more=more)


async def count(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval("select count(*) from call_queue"))
    finally:
        await connection.close()


async def test_a_wish_is_queued_followed_and_seen(db: str, gateway: Gateway, desk: Desk) -> None:
    asked = wish(customer_name="Aminah", priority=9, variables={"offer": "A"})
    queued = await desk.wish(asked)
    assert (queued.row.status, queued.row.e164, queued.row.phone_number) == ("queued", "+601110000001", NUMBER)
    assert queued.wait is not None
    assert (queued.wait.ahead, queued.wait.user_paused, queued.links) == (0, False, sights.Links())
    async with Database(config(gateway)) as adapter:
        await adapter.register(adapter=new_id(), expected=0, nonce=new_id(), pbx="sandbox", info={"version": "0.1.0"})
        await adapter.sync(SyncRequest(status=HEARTBEAT, room=5, claim_id=new_id()))
    seen = await desk.follow(queued.row.row_id)
    assert (seen.row.status, seen.wait, seen.row.pbx) == ("dialing", None, "sandbox")
    assert seen.row.claimed_at is not None
    assert queued.now < seen.row.claimed_at < seen.now
    (link,) = seen.links.adapters
    assert link.adapter == seen.row.adapter
    assert (link.ready, link.live, link.refused, link.pbx_limit, link.campaign_limit) == (True, 3, 2, 50, None)
    assert link.problem == "the AI drops [2J its calls"
    assert link.bell == "rows come in without its ring"
    hold = seen.links.hold_of("sandbox")
    assert hold is not None
    assert hold.holder == link.adapter
    overview = await desk.status(5)
    assert (overview.air.dialing, overview.queue.queued, overview.region) == (1, 0, "MY")
    assert [row.row_id for row in overview.calls] == [queued.row.row_id]
    assert overview.links.adapters[0].adapter == link.adapter


async def _lost(request: web.Request, forward: Forward) -> web.StreamResponse:
    await forward()
    return lose(request)


async def test_an_answer_that_was_lost_makes_no_second_row(db: str, gateway: Gateway, desk: Desk) -> None:
    asked = wish()
    gateway.http_fault = _lost
    with pytest.raises(DatabaseAway):
        await desk.wish(asked)
    gateway.http_fault = None
    first = await desk.wish(asked)
    assert (await desk.wish(asked)).row == first.row
    assert await count(db) == 1
    assert (await desk.wish(wish())).row.row_id != first.row.row_id


async def test_a_number_that_cannot_be_dialed(db: str, desk: Desk) -> None:
    with pytest.raises(NumberRefused, match="phone number"):
        await desk.wish(wish("12"))
    assert await count(db) == 0


async def test_a_row_that_is_not_there(desk: Desk) -> None:
    with pytest.raises(DatabaseRefused, match="no row 4711") as raised:
        await desk.follow(4711)
    assert raised.value.code == "PT404"


async def test_install_sql_is_older_than_this_program(db: str, desk: Desk) -> None:
    connection = await asyncpg.connect(db)
    await connection.execute("drop function call_status_v1(integer)")
    await connection.close()
    with pytest.raises(DatabaseRefused, match=r"install\.sql"):
        await desk.status(5)


@pytest.fixture
async def rest() -> AsyncIterator[FaultyRest]:
    async with faulty_rest() as server:
        yield server


@pytest.mark.parametrize("body", [[], {}, {"now": "yesterday"}, {"refused": 7}])
async def test_an_answer_of_another_shape_is_refused(rest: FaultyRest, body: Any) -> None:
    rest.answer = lambda _: Answer(body=body)
    waits = HttpTimings(connect=1.0, read=1.0, write=1.0, pool=1.0, total=2.0)
    async with Desk(SupabaseConfig(url=rest.url, key=jwt(), http=waits)) as desk:
        for question in (desk.wish(wish()), desk.follow(1), desk.status(5)):
            with pytest.raises(DatabaseRefused, match="shape"):
                await question


def test_a_heartbeat_of_another_version_hides_nobody() -> None:
    link = {
        "adapter": new_id(), "incarnation": 1, "pbx": None, "info": None, "seen_at": None, "ready_since": None,
        "registered_at": "2026-11-25T10:00:00+00:00",
        "status": {"ready": "yes", "live": "many", "limits": 7, "outbox": [], "problem": {}, "version": 3},
    }  # fmt: skip
    read = sights._link(link)
    assert (read.ready, read.live, read.problem, read.version, read.pbx_limit) == (False, 0, None, None, None)
    with pytest.raises(Unfit, match="registered_at"):
        sights._link({**link, "registered_at": None})
