"""Two daemons on a real Asterisk: the one that dials is killed, and the carrier's records say what became of it."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from adapter.core.model import Outcome
from adapter.sandbox.process import Daemon
from adapter.sandbox.scenarios import BY_CODE
from adapter.sandbox.world import World
from tests.e2e.test_daemon import ALL_DONE, _logs, _queue, _rows, _until

pytestmark = [pytest.mark.asterisk, pytest.mark.timeout(180)]

MIX = ("20", "10", "12", "21", "22", "40", "30", "50")
"""The longest first: the one that dials dies when the carrier has had the last one."""


@pytest.mark.parametrize("form", ["trunk", "route"])
async def test_the_death_of_the_one_who_dials_leaves_no_unknown(tmp_path: Path, form: str) -> None:
    """AMI tells both logins of one user the same events, so the second daemon comes to the same endings."""
    settings = {
        "LOG_FORMAT": "json",
        "SWEEP_SECONDS": "1",
        "DIAL_FORM": form,
        **({"TRUNK": ""} if form == "route" else {}),
    }
    async with World.started(pbx="asterisk", directory=tmp_path, settings=settings) as world:
        await _until(world, "exists (select from call_pbx where holder is not null)")
        second = Daemon(
            {**world.daemon.settings, "STATE_DIR": str(tmp_path / "state-of-the-second")}, tmp_path / "second.log"
        )
        await second.start()
        try:
            await _until(world, "2 = (select count(*) from call_adapters where status ->> 'ready' = 'true')")
            codes: dict[int, str] = {}
            for code in MIX:
                codes.update(dict.fromkeys(await _queue(world, code, 2, first=700), code))
            async with asyncio.timeout(30):
                while len(world.pbx.calls) < len(codes):
                    await asyncio.sleep(0.02)
            await world.daemon.kill()
            left = {row["id"] for row in await _rows(world) if row["status"] != "done"}
            assert len(left) >= len(codes) / 2
            await _until(world, ALL_DONE, 60)
            assert await world.pool.fetchval("select epoch from call_pbx") == 1, "nobody has taken the PBX over yet"
        finally:
            await second.kill()
        invites = {invite.number: invite for invite in world.pbx.calls}
        assert set(Counter(invite.number for invite in world.pbx.calls).values()) == {1}
        logs = {log["call_id"]: log for log in await _logs(world)}
        rows = await _rows(world)
        outcomes = {(codes[row["id"]], row["outcome"]) for row in rows}
        assert outcomes == {(code, str(BY_CODE[code].outcome)) for code in MIX}
        for row in rows:
            invite, log = invites[row["e164"].lstrip("+")], logs[str(row["call_id"])]
            assert invite.ended is not None
            assert "estimated" not in log["metadata"]
            assert log["metadata"]["trunk"] == world.pbx.trunk
            assert row["ended_at"].timestamp() == pytest.approx(invite.ended, abs=0.5)
            if row["outcome"] == Outcome.ANSWERED:
                assert invite.answered is not None
                assert row["answered_at"].timestamp() == pytest.approx(invite.answered, abs=0.5)
                talked = (row["ended_at"] - row["answered_at"]).total_seconds()
                assert log["duration"] == int(talked)
