"""Two providers of one carrier on a real Asterisk: the second takes over, on evidence only."""

from pathlib import Path

import pytest

from adapter.sandbox.asterisk import SECOND_TRUNK, TRUNK_DOWN
from adapter.sandbox.scenarios import number
from adapter.sandbox.world import World
from tests.e2e.test_daemon import ALL_DONE, USER, _logs, _rows, _until

pytestmark = [pytest.mark.asterisk, pytest.mark.timeout(180)]

TRUNKS = "insert into call_trunks (pbx, trunk, priority) values ('sandbox', $1, 6), ('sandbox', $2, 5)"


async def test_a_503_goes_through_the_second_provider_and_a_dead_one_is_passed_over(tmp_path: Path) -> None:
    settings = {"LOG_FORMAT": "json", "SWEEP_SECONDS": "1"}
    async with World.started(pbx="asterisk", directory=tmp_path, settings=settings) as world:
        await world.pool.execute(TRUNKS, world.pbx.trunk, SECOND_TRUNK)
        seen = "exists (select from call_adapters a where (a.status -> 'trunks') ? '{0}')"
        await _until(world, seen.format(SECOND_TRUNK), 30)
        await world.queue([{"user_id": USER, "phone_number": number("70", 1)}])
        await _until(world, "exists (select from call_queue where dialed_trunk = '" + SECOND_TRUNK + "')", 60)
        await _until(world, ALL_DONE, 90)
        (row,) = await _rows(world)
        assert row["outcome"] == "congestion"
        assert row["attempts"] == 0, "no attempt is spent where nobody's phone can have rung"

        await world.pool.execute("delete from call_trunks")
        await world.pool.execute("delete from call_trunk_health")
        await world.pool.execute(TRUNKS, TRUNK_DOWN, SECOND_TRUNK)
        down = f"a.status #>> '{{trunks,{TRUNK_DOWN},problem}}' like '%is down%'"
        await _until(world, f"exists (select from call_adapters a where {down})", 30)
        await world.queue([{"user_id": USER, "phone_number": number("11", 1)}])
        await _until(world, ALL_DONE, 60)
        _, answered = await _rows(world)
        assert (answered["outcome"], answered["dialed_trunk"]) == ("answered", SECOND_TRUNK)
        log = next(log for log in await _logs(world) if log["call_id"] == str(answered["call_id"]))
        assert log["metadata"]["trunk"] == SECOND_TRUNK
