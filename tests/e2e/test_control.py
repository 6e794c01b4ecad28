"""Pause, resume and cancel beside the real daemon: at once where the doorbell rings, with the next sweep else.

The witness is the carrier's side of the PBX: when it was sent an INVITE, and when that call ended.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from adapter.sandbox.mikopbx import SimulatedPbx
from adapter.sandbox.scenarios import number
from adapter.sandbox.world import World

USER = "00000000-0000-4000-8000-00000000aaaa"
CAMPAIGN = "00000000-0000-4000-8000-0000000000c1"
ELSEWHERE = "00000000-0000-4000-8000-0000000000c2"

AT_ONCE = 1.0
NEVER_BY_ITSELF = "20"
"""SWEEP_SECONDS; what is done long before it was done by the bell."""

pytestmark = pytest.mark.timeout(120)


@asynccontextmanager
async def _world(tmp_path: Path, **settings: str) -> AsyncIterator[World]:
    async with World.started(directory=tmp_path, settings=settings) as world:
        async with asyncio.timeout(30):
            while not await world.pool.fetchval(READY):
                await asyncio.sleep(0.05)
        yield world


READY = (
    "select count(*) from call_pbx x join call_adapters a on a.adapter = x.holder where a.status ->> 'ready' = 'true'"
)


async def _within(seconds: float, done: Callable[[], bool]) -> float:
    """How long it took until this was so."""
    began = time.monotonic()
    while not done():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def _ringing(world: World) -> SimulatedPbx:
    """Two people are rung for ever, of two campaigns of one user."""
    pbx = cast("SimulatedPbx", world.pbx)
    rows = [
        {"user_id": USER, "phone_number": number("20", 1), "campaign_id": CAMPAIGN},
        {"user_id": USER, "phone_number": number("20", 2), "campaign_id": ELSEWHERE},
    ]
    await world.queue(rows)
    await _within(25, lambda: len(pbx.calls) == 2 and all(call.rang is not None for call in pbx.calls))
    await asyncio.sleep(0.3)  # Until the adapter has heard it.
    assert all(call.ended is None for call in pbx.calls)
    return pbx


CANCELS = {
    "row": "select call_cancel_v1((select min(id) from call_queue))",
    "campaign": f"select call_cancel_all_v1('campaign', '{CAMPAIGN}')",
}


@pytest.mark.parametrize("kind", sorted(CANCELS))
async def test_a_ringing_call_is_hung_up_at_once_and_no_other(tmp_path: Path, kind: str) -> None:
    async with _world(tmp_path, SWEEP_SECONDS=NEVER_BY_ITSELF) as world:
        pbx = await _ringing(world)
        mine = next(call for call in pbx.calls if call.number.endswith(number("20", 1)[-7:]))
        (other,) = (call for call in pbx.calls if call is not mine)
        await world.pool.execute(CANCELS[kind])
        await _within(AT_ONCE, lambda: mine.ended is not None)
        await asyncio.sleep(0.5)
        assert other.ended is None
        # What it says once it is over.
        async with asyncio.timeout(10):
            outcome = "select outcome from call_queue order by id limit 1"
            while await world.pool.fetchval(outcome) is None:
                await asyncio.sleep(0.05)
        assert await world.pool.fetchval(outcome) == "canceled"


async def test_pause_and_resume_act_at_once(tmp_path: Path) -> None:
    async with _world(tmp_path, SWEEP_SECONDS=NEVER_BY_ITSELF, CALLS_PER_SECOND="2") as world:
        pbx = cast("SimulatedPbx", world.pbx)
        await world.queue([{"user_id": USER, "phone_number": number("20", i)} for i in range(40)])
        await _within(25, lambda: len(pbx.calls) > 1)
        await world.pool.execute("select call_pause_v1('user', $1)", USER)
        await asyncio.sleep(AT_ONCE)
        dialed = len(pbx.calls)
        claimed = await world.pool.fetchval("select count(*) from call_queue where status <> 'queued'")
        await asyncio.sleep(2.0)
        assert len(pbx.calls) == dialed == claimed < 40
        await world.pool.execute("select call_resume_v1('user', $1)", USER)
        await _within(AT_ONCE, lambda: len(pbx.calls) > dialed)


async def test_without_a_bell_the_next_sweep_acts(tmp_path: Path) -> None:
    sweep = 2.0
    async with _world(tmp_path, SWEEP_SECONDS=str(sweep), DOORBELL="off") as world:
        pbx = await _ringing(world)
        await world.pool.execute("select call_cancel_all_v1('all')")
        await _within(sweep + AT_ONCE, lambda: all(call.ended is not None for call in pbx.calls))
