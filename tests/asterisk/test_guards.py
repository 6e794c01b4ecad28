"""The guards of the daemon against a real PBX that goes wrong; what the carrier saw is the witness."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from adapter.core.policy import AI_FAILURES, AI_PROBE_SECONDS
from adapter.sandbox import asterisk
from adapter.sandbox.asterisk import Invite, RealPbx
from adapter.sandbox.world import World
from tests.e2e.test_daemon import ALL_DONE, USER, _queue, _rows, _until

pytestmark = [pytest.mark.asterisk, pytest.mark.timeout(180)]

RING, TALK = 8, 30
"""Ring limit and MAX_CALL_SECONDS of these daemons: the shortest that settings allow, and what the table needs."""

STAYS = "+601199000001"
"""A callee who never hangs up; the AI has no reason to either. Scenario 99 is of this file alone."""

SILENT = 20
"""Calls without a sound that stop a trunk (call_trunk_heard)."""

STOPPED = "exists (select from call_trunk_health where stopped_at is not null)"

READY = "exists (select from call_adapters where status ->> 'ready' = 'true' and status ->> 'problem' is null)"


@asynccontextmanager
async def _world(tmp_path: Path, **settings: str) -> AsyncIterator[World]:
    own = {"LOG_FORMAT": "json", "RING_SECONDS": str(RING), "MAX_CALL_SECONDS": str(TALK), **settings}
    async with World.started(pbx="asterisk", directory=tmp_path, settings=own) as world:
        yield world


def _pbx(world: World) -> RealPbx:
    return cast("RealPbx", world.pbx)


async def _restart(world: World, **settings: str) -> None:
    """A daemon with other settings; rows that still wait are forgotten."""
    await world.daemon.stop()
    await world.pool.execute("delete from call_queue where status = 'queued'")
    world.daemon.settings.update(settings)
    await world.daemon.start()


async def _until_problem(world: World, words: str, seconds: float = 30.0) -> None:
    """Wait until an operator reads this in `call_adapters`."""
    told = "select status ->> 'problem' from call_adapters order by seen_at desc limit 1"
    async with asyncio.timeout(seconds):
        while words not in (await world.pool.fetchval(told) or ""):
            await asyncio.sleep(0.05)


def _said(world: World, event: str) -> list[str]:
    lines = (json.loads(line) for line in world.daemon.log.read_text().splitlines() if line.startswith("{"))
    return [line["message"] for line in lines if line["event"] == event]


async def _stands_still(count: Callable[[], int], seconds: float = 4.0) -> None:
    before = count()
    await asyncio.sleep(seconds)
    assert count() == before


async def _change_dialplan(pbx: RealPbx, old: str, new: str) -> None:
    """As somebody does who edits a dialplan application. `dialplan reload` tells AMI clients nothing."""
    plan = pbx.folder / "pbx" / "etc" / "extensions.conf"
    text = plan.read_text()
    assert old in text
    plan.write_text(text.replace(old, new))
    await pbx.cli("dialplan reload")


async def _add_callee_who_stays(pbx: RealPbx) -> None:
    plan = pbx._carrier_folder / "etc" / "extensions.conf"
    steps = "exten => 1199,1,Ringing()\n same => n,Gosub(witness,s,1(answered))\n same => n,Answer(,i)\n"
    plan.write_text(f"{plan.read_text()}\n{steps} same => n,Wait(600)\n")
    await pbx._carrier.cli("dialplan reload")


async def test_ai_gone_ai_dropping_and_calls_that_never_end(tmp_path: Path) -> None:
    async with _world(tmp_path, CALLS_PER_SECOND="2") as world:
        pbx = _pbx(world)
        await _add_callee_who_stays(pbx)
        await world.queue([{"user_id": USER, "phone_number": STAYS}])
        await _until(world, "exists (select from call_queue where status = 'talking')")

        # The extension goes while the daemon runs: nobody more is called, and the live call goes on.
        await _change_dialplan(pbx, "exten => _999,1", "exten => _998,1")
        await _until_problem(world, "AI extension 999 does not exist")
        await _queue(world, "10", 2, first=300)
        await _stands_still(lambda: len(pbx.calls))
        assert pbx.calls[0].ended is None
        await _change_dialplan(pbx, "exten => _998,1", "exten => _999,1")
        await pbx.reload()
        await _until(world, "2 = (select count(*) from call_queue where outcome = 'answered')")

        # Killed and started again, the daemon knows nothing but what the PBX tells; the endless call goes on.
        await world.daemon.kill()
        await world.daemon.start()

        # Early media for ever is a ringing: it ends at the ring limit and says nothing against the trunk.
        await _queue(world, "23", 3, first=310)
        # The AI drops whoever answers. Calls already under way end the same; then nobody is called but a probe.
        await _queue(world, "14", 30, first=320)
        await _until_problem(world, "were dropped by our side")
        dropped = _of(pbx, "14")
        await asyncio.sleep(3)
        assert AI_FAILURES <= len(dropped()) <= AI_FAILURES + 5
        (last,) = dropped()[-1:]
        assert len(_said(world, "breaker")) == 1

        async with asyncio.timeout(AI_PROBE_SECONDS):
            while dropped()[-1] == last:
                await asyncio.sleep(0.1)
        assert dropped()[-1].started - last.started == pytest.approx(AI_PROBE_SECONDS, abs=3)

        # Nobody hung up on the endless call: Asterisk ended it at the bound that came with its Originate.
        (endless,) = pbx.invites(STAYS)
        assert endless.ended is not None
        assert endless.ended - endless.started == pytest.approx(RING + TALK, abs=1.5)
        await _until(world, "'answered' = (select outcome from call_queue where id = 1)")
        early = _of(pbx, "23")()
        assert len(early) == 3
        assert all(call.ended and call.ended - call.started == pytest.approx(RING, abs=1.0) for call in early)
        waiting = [row for row in await _rows(world) if row["status"] == "queued"]
        assert len(waiting) >= 30 - AI_FAILURES - 7


def _of(pbx: RealPbx, code: str) -> Callable[[], list[Invite]]:
    return lambda: [invite for invite in pbx.calls if invite.scenario == code]


async def test_a_trunk_down_out_of_credit_and_silent(tmp_path: Path) -> None:
    async with _world(tmp_path, TRUNK=asterisk.TRUNK_DOWN) as world:
        pbx = _pbx(world)
        # Found dead by the PBX itself: no claim at all. (An OPTIONS takes a second to be given up.)
        await _until_problem(world, f"trunk {asterisk.TRUNK_DOWN} is down")
        await _queue(world, "10", 2, first=400)
        await asyncio.sleep(3)
        assert {row["status"] for row in await _rows(world)} == {"queued"}

        # The carrier dies while the daemon runs, and comes back.
        await _restart(world, TRUNK=asterisk.TRUNK)
        await _until(world, READY)
        await pbx.kill_carrier()
        await _until_problem(world, f"trunk {asterisk.TRUNK} is down")
        await _queue(world, "24", 2, first=410)
        await asyncio.sleep(2)
        assert {row["status"] for row in await _rows(world)} == {"queued"}
        await pbx.start_carrier()
        await _until(world, ALL_DONE)
        assert [invite.scenario for invite in pbx.calls] == ["24", "24"]

        # Out of credit: 403 to everything. The rows wait, none of them is used up.
        await _queue(world, "60", 60, first=420)
        await _until(world, STOPPED, seconds=60)
        await asyncio.sleep(2)
        refused = _of(pbx, "60")
        # Each of the twenty was a silent call; on a busy machine some of them end before they reach the carrier.
        dialed = await world.pool.fetchval("select count(*) from call_dials where trunk = $1", asterisk.TRUNK)
        assert SILENT <= dialed <= SILENT + 10
        assert 0 < len(refused()) <= dialed
        await _stands_still(lambda: len(refused()))
        assert any("is stopped: " in words for words in _said(world, "database.note"))
        waiting = [row for row in await _rows(world) if row["status"] == "queued"]
        assert len(waiting) >= 30
        assert {row["attempts"] for row in waiting} == {0}

        # A black hole: nothing ever comes back, so it shows only at the ring limit; MAX_CALLS bounds what is under way.
        sent = len(_said(world, "call.sent"))
        await world.pool.execute("select call_resume_v1('trunk', $1)", asterisk.TRUNK)
        await _restart(world, TRUNK=asterisk.TRUNK_SILENT, MAX_CALLS="24", MAX_CALLS_PER_USER="24")
        await _until(world, READY)
        await _queue(world, "10", 60, first=500)
        await _until(world, STOPPED, seconds=60)
        await asyncio.sleep(2)
        assert SILENT <= len(_said(world, "call.sent")) - sent <= 24 + SILENT
        await _stands_still(lambda: len(_said(world, "call.sent")))
        assert {row["outcome"] for row in await _rows(world) if row["trunk"] == asterisk.TRUNK_SILENT} <= {"no_reply"}
