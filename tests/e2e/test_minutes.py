"""Minutes, from the settings of a running daemon to the balance of a user: a real PostgreSQL, a simulated MikoPBX."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from adapter.sandbox.scenarios import number
from adapter.sandbox.world import World
from tests.e2e.test_daemon import ALL_DONE, USER, _logs, _rows, _until

pytestmark = pytest.mark.timeout(120)

USERS = """
create table users (
  id uuid primary key, account_type text, trial_balance_minutes numeric(10, 2), pro_balance_minutes numeric(10, 2),
  total_minutes_used numeric(10, 2), updated_at timestamptz
)
"""


@asynccontextmanager
async def _world(tmp_path: Path, **settings: str) -> AsyncIterator[World]:
    defaults = {"SWEEP_SECONDS": "1", "CALLS_PER_SECOND": "50", "LOG_FORMAT": "json"}
    async with World.started(speed=5.0, directory=tmp_path, settings={**defaults, **settings}) as world:
        await world.pool.execute(USERS)
        await world.pool.execute("insert into users values ($1, 'trial', 1, 5, 0, now())", USER)
        yield world


def _said(world: World, event: str) -> list[str]:
    lines = [json.loads(line) for line in world.daemon.log.read_text().splitlines() if line.startswith("{")]
    return [line["message"] for line in lines if line["event"] == event]


async def test_answered_calls_are_charged_by_their_talk_and_others_are_not(tmp_path: Path) -> None:
    async with _world(tmp_path, BILLING="minutes", BILLING_STEP="60") as world:
        codes = ("11", "11", "20", "21", "30")
        await world.queue([{"user_id": USER, "phone_number": number(c, i)} for i, c in enumerate(codes)])
        await _until(world, ALL_DONE)
        talked = [log for log in await _logs(world) if log["duration"]]
        answered = [row for row in await _rows(world) if row["outcome"] == "answered"]
        assert len(talked) == len(answered) >= 2
        (balance,) = await world.pool.fetch("select * from users")
        # Each is shorter than a minute, and a started one counts.
        assert balance["total_minutes_used"] == Decimal(len(talked))
        assert (balance["trial_balance_minutes"], balance["pro_balance_minutes"]) == (0, 5)
        charges = await world.pool.fetch("select * from call_charges order by created_at")
        assert {str(charge["call_id"]) for charge in charges} == {log["call_id"] for log in talked}
        assert sum(charge["taken"] for charge in charges) == 1
        assert "the AI handler must not" in _said(world, "settings.billing")[0]
        assert _said(world, "database.note") == []


async def test_with_off_it_is_said_when_nobody_charges(tmp_path: Path) -> None:
    async with _world(tmp_path, BILLING="off") as world:
        await world.queue([{"user_id": USER, "phone_number": number("11", i)} for i in range(5)])
        await _until(world, ALL_DONE)
        async with asyncio.timeout(20):
            while not (said := _said(world, "database.note")):
                await asyncio.sleep(0.1)
        (note,) = said
        assert "the AI handler must" in _said(world, "settings.billing")[0]
        assert "changed no balance" in note
        assert await world.pool.fetchval("select total_minutes_used from users") == 0
        assert await world.pool.fetchval("select count(*) from call_charges") == 0


async def test_a_person_called_twice_has_one_row_if_it_is_set_so(tmp_path: Path) -> None:
    async with _world(tmp_path, LOG_ROWS="person") as world:
        await world.queue([{"user_id": USER, "phone_number": number("30", 1), "max_attempts": 2, "retry_seconds": 0}])
        await _until(world, ALL_DONE)
        (log,) = await _logs(world)
        assert (log["retry_count"], log["is_retry"], log["metadata"]["attempt"]) == (1, True, "2")
        assert [call["outcome"] for call in log["metadata"]["earlier_calls"]] == ["busy"]
