"""Two daemons on one PBX: one dials, the other one watches. Killing either loses nothing that the PBX had taken.

The witness of the witness is the carrier's side of the PBX: whom it was asked to call, and when each call ended.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapter.core.model import Outcome
from adapter.sandbox.process import Daemon
from adapter.sandbox.scenarios import BY_CODE
from adapter.sandbox.world import World
from tests.e2e.test_daemon import ALL_DONE, _invites, _logs, _pbx, _queue, _rows, _until

SPEED = 2.0
"""Of the simulated PBX, and of its clock."""

pytestmark = pytest.mark.timeout(180)

MIX = ("10", "11", "12", "20", "21", "30", "40", "50")
"""Scenarios of every length and kind whose calls end for good at once."""

READY = "2 = (select count(*) from call_adapters where status ->> 'ready' = 'true')"

ALL_TAKEN_AND_DONE = f"{ALL_DONE} and not exists (select from call_queue where call_id is null)"


@asynccontextmanager
async def _two(tmp_path: Path, **settings: str) -> AsyncIterator[tuple[World, Daemon]]:
    """A world whose daemon holds the PBX, and a second daemon beside it."""
    defaults = {"SWEEP_SECONDS": "1", "CALLS_PER_SECOND": "50", "LOG_FORMAT": "json"}
    async with World.started(speed=SPEED, directory=tmp_path, settings={**defaults, **settings}) as world:
        await _until(world, "exists (select from call_pbx where holder is not null)")
        second = Daemon(
            {**world.daemon.settings, "STATE_DIR": str(tmp_path / "state-of-the-second")}, tmp_path / "second.log"
        )
        await second.start()
        try:
            await _until(world, READY)
            yield world, second
        finally:
            await second.kill()


def _said(daemon: Daemon, event: str) -> list[str]:
    """Calls of which this daemon said so."""
    lines = [json.loads(line) for line in daemon.log.read_text().splitlines() if line.startswith("{")]
    return [line["call"] for line in lines if line["event"] == event]


async def _mixed(world: World, *, first: int, each: int = 2) -> dict[int, str]:
    """Rows of every kind; which scenario each is."""
    codes: dict[int, str] = {}
    for code in MIX:
        codes.update(dict.fromkeys(await _queue(world, code, each, first=first), code))
    return codes


async def _sent(world: World, count: int) -> None:
    """Wait until the carrier was asked for so many calls."""
    async with asyncio.timeout(30):
        while len(_pbx(world).calls) < count:
            await asyncio.sleep(0.02)


async def _assert_as_the_carrier_says(world: World, codes: Mapping[int, str]) -> None:
    rows = {row["id"]: row for row in await _rows(world)}
    logs = {log["call_id"]: log for log in await _logs(world)}
    invites = {invite.call_id: invite for invite in _pbx(world).calls}
    assert all(count == 1 for count in _invites(world).values())
    assert all(count == 1 for count in Counter(invite.number for invite in invites.values()).values())
    for row_id, code in codes.items():
        row, scenario = rows[row_id], BY_CODE[code]
        invite, log = invites[str(row["call_id"])], logs[str(row["call_id"])]
        assert (code, row["outcome"]) == (code, str(scenario.outcome))
        assert "estimated" not in log["metadata"], code
        lasted = (row["ended_at"] - row["originated_at"]).total_seconds()
        assert lasted == pytest.approx(_seconds(invite.started, invite.ended), abs=0.5), code
        if scenario.outcome is Outcome.ANSWERED:
            talked = (row["ended_at"] - row["answered_at"]).total_seconds()
            assert talked == pytest.approx(_seconds(invite.answered, invite.ended), abs=0.5), code
            assert log["metadata"]["talk_seconds"] == str(int(talked)) == str(log["duration"]), code
        else:
            assert log["metadata"]["talk_seconds"] == "0"


def _seconds(begin: float | None, end: float | None) -> float:
    """How long the carrier saw it, by the PBX's clock."""
    assert begin is not None
    assert end is not None
    return (end - begin) * SPEED


async def test_the_death_of_the_one_who_dials_leaves_no_unknown(tmp_path: Path) -> None:
    """Killed with calls ringing and talking: the other one tells every end, though the lease has not run out."""
    async with _two(tmp_path) as (world, second):
        before = await _mixed(world, first=0)
        await _until(world, ALL_DONE)
        codes = await _mixed(world, first=50)
        await _sent(world, len(before) + len(codes))
        await _until(world, "exists (select from call_queue where status = 'talking' and outcome is null)")
        await world.daemon.kill()
        open_calls = {str(row["call_id"]) for row in await _rows(world) if row["status"] != "done"}
        assert len(open_calls) >= len(codes) / 2
        await _until(world, ALL_TAKEN_AND_DONE, 40)
        await _assert_as_the_carrier_says(world, {**before, **codes})
        assert {"answered", "no_answer", "busy"} <= {row["outcome"] for row in await _rows(world)}
        assert await world.pool.fetchval("select epoch from call_pbx") == 1, "nobody has taken the PBX over yet"
        # While the first one lived it told everything itself.
        told = set(_said(second, "call.testified"))
        assert told
        assert told <= open_calls | {str(row["call_id"]) for row in await _rows(world) if row["id"] in codes}


async def test_a_restart_of_the_one_who_dials_leaves_no_unknown(tmp_path: Path) -> None:
    """What ended while it was away is told by the other one before the restarted one would give it up."""
    async with _two(tmp_path) as (world, _second):
        codes = await _mixed(world, first=0)
        await _sent(world, len(codes))
        await world.daemon.kill()
        async with asyncio.timeout(60):
            while any(call.ended is None for call in _pbx(world).calls):
                await asyncio.sleep(0.05)
        await world.daemon.start()
        await _until(world, ALL_TAKEN_AND_DONE, 60)
        await _assert_as_the_carrier_says(world, codes)


async def test_the_witness_takes_over_knowing(tmp_path: Path) -> None:
    """A lease later it dials what waits, follows what it has watched, and hangs up what is canceled."""
    async with _two(tmp_path, MAX_CALLS="4", MAX_CALLS_PER_USER="4", RING_SECONDS="60", MAX_CALL_SECONDS="120") as (
        world,
        second,
    ):
        # Three that ring until somebody ends them, one that is answered; the others wait for room.
        ringing = await _queue(world, "20", 3)
        (talking,) = await _queue(world, "12", first=10)
        await _until(world, f"exists (select from call_queue where id = {talking} and status = 'talking')")
        await world.daemon.kill()
        waiting = await _queue(world, "10", 3, first=20)
        # The lease runs out, and the second one has been there for longer than that.
        await world.pool.execute("update call_pbx set lease_until = now()")
        await world.pool.execute("update call_adapters set ready_since = now() - interval '2 minutes'")
        await _until(world, "exists (select from call_pbx where epoch = 2)")
        await _until(world, f"exists (select from call_queue where id = {talking} and status = 'done')")
        await world.pool.execute("update call_queue set cancel_requested = true where id = any($1)", ringing)
        await _until(world, ALL_TAKEN_AND_DONE)
        rows = {row["id"]: row for row in await _rows(world)}
        assert [rows[row]["outcome"] for row in ringing] == ["canceled"] * 3
        await _assert_as_the_carrier_says(world, {talking: "12", **dict.fromkeys(waiting, "10")})
        assert len(_said(second, "call.witnessed")) >= 3
        assert _said(second, "call.found") == []


async def test_the_death_of_the_witness_is_nobodys_loss(tmp_path: Path) -> None:
    async with _two(tmp_path) as (world, second):
        codes = await _mixed(world, first=0, each=1)
        await _sent(world, len(codes))
        await second.kill()
        await _until(world, ALL_TAKEN_AND_DONE)
        await _assert_as_the_carrier_says(world, codes)
