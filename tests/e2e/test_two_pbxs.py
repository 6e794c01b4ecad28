"""Two PBXs on one queue, each with trunks that the other has not: a number is called where it may be called, at once.

Whoever asks first is left to chance; a row that waited for its minute would be later than a test allows.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapter.sandbox.mikopbx import SimulatedPbx
from adapter.sandbox.process import Daemon
from adapter.sandbox.scenarios import number
from adapter.sandbox.world import World
from tests.e2e.test_daemon import USER, _pbx, _queue, _rows, _until

pytestmark = pytest.mark.timeout(180)

SPEED = 2.0
HERE, THERE = "10", "30"
"""Scenarios that each PBX may call: answered, busy. Numbers have them behind +60 11."""

TRUNKS = """
insert into call_trunks (pbx, trunk, prefixes)
values ('sandbox', $1, array['6011' || $2]), ('second', $1, array['6011' || $3])
"""

ALL_CALLED = "not exists (select from call_queue where outcome is null)"
"""That is what may not wait for a sweep; the AI's last word about an answered call may."""

READY = "2 = (select count(*) from call_adapters where status ->> 'ready' = 'true' and status -> 'trunks' ? '{trunk}')"


@asynccontextmanager
async def _two(tmp_path: Path) -> AsyncIterator[tuple[World, SimulatedPbx, Daemon]]:
    """A world, a second PBX and the daemon that dials through it."""
    settings = {"SWEEP_SECONDS": "20", "LOG_FORMAT": "json"}
    async with (
        World.started(speed=SPEED, directory=tmp_path, settings=settings) as world,
        SimulatedPbx.started(speed=SPEED) as pbx,
    ):
        await world.pool.execute(TRUNKS, world.pbx.trunk, HERE, THERE)
        own = {
            "PBX_NAME": "second", "MIKOPBX_AMI_PORT": str(pbx.port), "MIKOPBX_AMI_PASSWORD": pbx.password,
            "STATE_DIR": str(tmp_path / "state-of-the-second"),
        }  # fmt: skip
        second = Daemon({**world.daemon.settings, **own}, tmp_path / "second.log")
        await second.start()
        try:
            await _until(world, READY.format(trunk=world.pbx.trunk), 30)
            yield world, pbx, second
        finally:
            await second.kill()


async def test_each_number_is_called_where_it_may_be(tmp_path: Path) -> None:
    async with _two(tmp_path) as (world, pbx, _):
        rows = [{"user_id": USER, "phone_number": number(code, i)} for i in range(15) for code in (HERE, THERE)]
        await world.queue(rows)
        await _until(world, ALL_CALLED, 40)
        assert [row["outcome"] for row in await _rows(world)] == ["answered", "busy"] * 15
        assert {call.scenario for call in _pbx(world).calls} == {HERE}
        assert {call.scenario for call in pbx.calls} == {THERE}
        assert len(_pbx(world).calls) == len(pbx.calls) == 15


async def test_rows_of_an_adapter_that_is_away_wait_for_it(tmp_path: Path) -> None:
    async with _two(tmp_path) as (world, pbx, second):
        await second.kill()
        await world.pool.execute("update call_pbx set lease_until = now() where pbx = 'second'")
        await _queue(world, THERE, 3)
        await _until(world, "3 = (select count(*) from call_queue where handed_to = 'second')")
        await _queue(world, HERE, 2)
        await _until(world, "2 = (select count(*) from call_queue where outcome = 'answered')")
        assert not pbx.calls
        await second.start()
        await _until(world, ALL_CALLED, 40)
        assert [call.scenario for call in pbx.calls] == [THERE] * 3
