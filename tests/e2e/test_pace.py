"""A PBX that becomes late is dialed more slowly, is told of, and gets its pace back; no row is lost by it."""

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import pytest

from adapter.sandbox.mikopbx import SimulatedPbx
from adapter.sandbox.mikopbx.session import Session
from adapter.sandbox.mikopbx.wire import Action
from adapter.sandbox.scenarios import number
from adapter.sandbox.world import World

USER = "00000000-0000-4000-8000-00000000aaaa"
LIMIT = 20.0
LATE_SECONDS = 0.6

pytestmark = pytest.mark.timeout(180)


async def _pace(world: World) -> dict[str, Any]:
    told = await world.pool.fetchval("select status -> 'pace' from call_adapters order by seen_at desc limit 1")
    return cast("dict[str, Any]", json.loads(told or "{}"))


async def _until(world: World, key: str, least: float | None, seconds: float = 60.0) -> dict[str, Any]:
    """The pace that the heartbeat tells, once it is so."""
    async with asyncio.timeout(seconds):
        while True:
            pace = await _pace(world)
            if key in pace and (pace[key] is not None if least is None else pace[key] >= least):
                return pace
            await asyncio.sleep(0.1)


async def test_a_late_pbx_is_dialed_slowly_until_it_is_in_time(tmp_path: Path) -> None:
    settings = {
        "SWEEP_SECONDS": "1",
        "CALLS_PER_SECOND": f"{LIMIT:g}",
        "MAX_CALLS_PER_USER": "50",
        "MAX_CALLS_IN_SETUP": "50",
        "LOG_FORMAT": "json",
    }
    async with World.started(speed=5.0, directory=tmp_path, settings=settings) as world:
        pbx = cast("SimulatedPbx", world.pbx)

        async def late(_session: Session, action: Action) -> bool:
            if action.name.lower() == "originate":
                await asyncio.sleep(LATE_SECONDS)
            return True

        whole = await _until(world, "now", LIMIT)
        assert whole["slowed"] is None
        pbx.before_action = late
        rows = [{"user_id": USER, "phone_number": number("10", serial)} for serial in range(1, 61)]
        ids = await world.queue(rows)
        slowed = await _until(world, "slowed", None)
        assert slowed["now"] <= LIMIT / 2
        assert "since the PBX answers late (p90" in slowed["slowed"]
        pbx.before_action = None
        await _until(world, "now", 0.6 * LIMIT)
        await world.settled(ids)
        assert len({call.call_id for call in pbx.calls}) == len(pbx.calls) >= len(ids)
        told = [json.loads(line) for line in world.daemon.log.read_text().splitlines() if '"pace"' in line]
        assert told, "the log tells of it"
        assert "slowed to" in json.dumps(told[0])
