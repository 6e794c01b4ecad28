"""From the row to the log on a real Asterisk: the real daemon, a real PostgreSQL, a real carrier as witness."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from adapter.sandbox.scenarios import SCENARIOS, number
from adapter.sandbox.world import World
from tests.asterisk.orders import HERE
from tests.e2e.test_daemon import ALL_DONE, USER, _logs, _queue, _rows, _until

pytestmark = [pytest.mark.asterisk, pytest.mark.timeout(180)]


def _carrier(world: World) -> Counter[str]:
    """INVITEs that reached the carrier, by E.164 digits."""
    return Counter(invite.number for invite in world.pbx.calls)


def _events(world: World) -> list[dict[str, Any]]:
    lines = world.daemon.log.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


@pytest.mark.parametrize("release", HERE)
async def test_every_outcome_the_carrier_can_give(tmp_path: Path, release: str) -> None:
    """Each number is used once; the carrier's own records are the witness: as many INVITEs as calls had a trunk leg."""
    settings = {"LOG_FORMAT": "json", "SWEEP_SECONDS": "1"}
    async with World.started(pbx="asterisk", release=release, directory=tmp_path, settings=settings) as world:
        await world.queue([{"user_id": USER, "phone_number": number(s.code, 1)} for s in SCENARIOS])
        await _until(world, ALL_DONE, 120)
        rows, logs = await _rows(world), await _logs(world)
        got = {s.name: (row["outcome"], row["ended_reason"]) for s, row in zip(SCENARIOS, rows, strict=True)}
        assert {name: outcome for name, (outcome, _) in got.items()} == {s.name: str(s.outcome) for s in SCENARIOS}
        calls = Counter(event["call"] for event in _events(world) if event["event"] == "call.sent")
        assert set(calls.values()) == {1}, "a call id was sent twice"
        seen = _carrier(world)
        assert sum(seen.values()) == len(calls)
        for scenario, row in zip(SCENARIOS, rows, strict=True):
            tries = row["attempts"] + sum(json.loads(row["faults"]).values())
            assert seen[row["e164"].lstrip("+")] == tries, scenario.name
        by_call = {log["call_id"]: log for log in logs}
        for scenario, row in zip(SCENARIOS, rows, strict=True):
            log = by_call[str(row["call_id"])]
            talked = round(scenario.talk) if row["outcome"] == "answered" else 0
            assert abs(log["duration"] - talked) <= 1, (scenario.name, log["duration"])


async def test_sigkill_of_the_daemon_ends_no_call_and_rings_nobody_twice(tmp_path: Path) -> None:
    settings = {"LOG_FORMAT": "json", "SWEEP_SECONDS": "1"}
    async with World.started(pbx="asterisk", directory=tmp_path, settings=settings) as world:
        await _queue(world, "10", 20, first=100)
        for _ in range(3):
            await asyncio.sleep(1.0)
            await world.daemon.kill()
            await world.daemon.start()
        await _until(world, ALL_DONE, 120)
        rows = await _rows(world)
        seen = _carrier(world)
        assert set(seen.values()) == {1}
        assert {row["outcome"] for row in rows} <= {"answered", "unknown"}
        # No call was cut by our deaths: each lasted its three seconds, until the callee hung up.
        for invite in world.pbx.calls:
            assert invite.answered is not None
            assert invite.ended is not None
            assert invite.ended - invite.answered == pytest.approx(3.0, abs=0.7)
        # Whoever was never called is not said to have been.
        for row in rows:
            if row["e164"].lstrip("+") not in seen:
                assert row["outcome"] == "unknown"


async def test_a_stop_with_calls_in_the_air_leaves_them_alone(tmp_path: Path) -> None:
    settings = {"LOG_FORMAT": "json", "SWEEP_SECONDS": "1"}
    async with World.started(pbx="asterisk", directory=tmp_path, settings=settings) as world:
        await _queue(world, "12", 6, first=200)
        await _until(world, "6 = (select count(*) from call_queue where status = 'talking')")
        assert await world.daemon.stop(seconds=9) == 0
        await world.daemon.start()
        await _until(world, ALL_DONE, 60)
        rows, logs = await _rows(world), await _logs(world)
        assert {row["outcome"] for row in rows} == {"answered"}
        assert {log["status"] for log in logs} == {"answered"}
        assert _carrier(world) == Counter(row["e164"].lstrip("+") for row in rows)
