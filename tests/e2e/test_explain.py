"""`explain` and `dry-run` as processes, beside the real daemon."""

import json
import uuid
from pathlib import Path

import pytest

from adapter.sandbox.scenarios import number
from adapter.sandbox.world import World
from tests.e2e.test_commands import USER, Run, _ready, _run

pytestmark = pytest.mark.timeout(120)


async def test_why_somebody_was_called_and_what_a_campaign_would_do(tmp_path: Path) -> None:
    async with World.started(speed=5, directory=tmp_path) as world:
        await _ready(world)
        (row,) = await world.queue([{"user_id": USER, "phone_number": number("30", 1)}])
        await world.settled([row])
        call = str(await world.pool.fetchval("select call_id from call_queue where id = $1", row))
        for what in (str(row), call, number("30", 1)):
            code, text = await _run(world, "explain", what)
            assert code == 0, text
            assert f"Why …{number('30', 1)[-3:]} was called on 20" in text
            assert f"Call       {call}" in text
            assert f"Through    {world.pbx.trunk}" in text
            assert "busy: the line was busy" in text
            assert number("30", 1).lstrip("+") not in text
        code, text = await _run(world, "explain", call, "--json", "--full")
        found = json.loads(text)
        assert (code, found["kind"], found["calls"][0]["number"]) == (0, "call", number("30", 1))

        campaign = await world.pool.fetchval(
            "insert into campaigns (user_id, campaign_name) values ($1, 'November') returning id", uuid.UUID(USER)
        )
        await world.pool.execute("update campaigns set status = 'paused' where id = $1", campaign)
        rows = [{"user_id": USER, "campaign_id": str(campaign), "phone_number": number("10", n)} for n in range(30)]
        waiting = await world.queue(rows)
        code, text = await _run(world, "dry-run", str(campaign))
        assert code == 0, text
        for part in (
            *("Campaign November of user", "30 rows wait", "       30  would be dialed now"),
            *("nothing is dialed: the app has its campaign paused", f"Through    {world.pbx.trunk}: 30 rows"),
            *("How long   about", "50 calls at a time"),
        ):
            assert part in text, text
        code, text = await _run(world, "dry-run", str(campaign), "--json", "--limit", "10")
        assert (code, json.loads(text)["rows"], json.loads(text)["complete"]) == (0, 10, False)
        code, text = await _run(world, "explain", str(waiting[3]))
        assert code == 0
        assert "Waits: the app has its campaign paused" in text
        assert "NO  pause" in text
        assert "It was not called yet." in text

        code, text = await _run(world, "explain", "4711")
        assert (code, text) == (1, "Nothing to explain: call_queue has no row 4711\n")
        gone = await Run.started(world, "dry-run", str(uuid.uuid4()))
        assert await gone.ended() == 4
        assert "there is no campaign" in gone.err
        for wrong in (("dry-run", "November"), ("explain", "1", "--limit", "0"), ("explain",)):
            run = await Run.started(world, *wrong)
            assert await run.ended() == 2
