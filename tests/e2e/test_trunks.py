"""docs/trunks.md: its SQL is run as it stands there, and the second proxy takes over, on evidence only.

The daemon as a process, a real PostgreSQL, a simulated PBX with two providers; the carrier's side is the witness.
"""

import re
from pathlib import Path
from typing import Any, cast

import pytest

from adapter.core.model import NumberStyle
from adapter.core.numbers import trunk_form
from adapter.sandbox.mikopbx import SECOND_TRUNK, SimulatedPbx, TrunkState
from adapter.sandbox.world import World
from tests.e2e.test_daemon import ALL_DONE, _logs, _queue, _rows, _until, _world

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "trunks.md").read_text("utf-8")
BLOCKS = re.findall(r"^```sql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.timeout(120)


def told(block: str, first: str) -> str:
    """The statement of the page with the names of the sandbox in place of the reader's."""
    named = block.replace("pbx.example.com", "sandbox").replace("SIP-TRUNK-1A2B3C4D", first)
    return named.replace("SIP-TRUNK-5E6F7A8B", SECOND_TRUNK)


async def two_proxies(world: World) -> SimulatedPbx:
    """As the how-to says; returns once the adapter has looked at both."""
    await world.pool.execute(told(BLOCKS[0], world.pbx.trunk))
    await looked(world, f"(a.status -> 'trunks') ? '{SECOND_TRUNK}'")
    return cast("SimulatedPbx", world.pbx)


async def looked(world: World, what: str) -> None:
    """Wait for a heartbeat that tells so."""
    await _until(world, f"exists (select from call_adapters a where {what})", 30)


def through(pbx: SimulatedPbx) -> list[str]:
    """Provider of each INVITE, in order."""
    return [call.trunk for call in pbx.calls]


async def test_the_first_proxy_answers_503_and_the_second_takes_the_call(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        pbx = await two_proxies(world)
        pbx.failing = {pbx.trunk}
        await _queue(world, "11")
        await _until(world, ALL_DONE)
        (row,), logs = await _rows(world), await _logs(world)
        assert (row["outcome"], row["attempts"], row["dialed_trunk"]) == ("answered", 1, SECOND_TRUNK)
        assert through(pbx) == [pbx.trunk, SECOND_TRUNK]
        assert len({call.call_id for call in pbx.calls}) == 2, "a new call, a new call id"
        assert [log["metadata"]["trunk"] for log in logs] == [SECOND_TRUNK]


async def test_the_first_proxy_is_down_and_nobody_is_sent_there(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        pbx = await two_proxies(world)
        await _queue(world, "11")
        await _until(world, ALL_DONE)
        pbx.trunk_state = TrunkState.DOWN
        await looked(
            world, f"a.status #>> '{{trunks,{pbx.trunk},problem}}' is not null and (a.status ->> 'ready')::boolean"
        )
        await _queue(world, "11", first=1)
        await _until(world, ALL_DONE)
        assert through(pbx) == [pbx.trunk, SECOND_TRUNK]
        pbx.trunk_state = TrunkState.UP
        await looked(world, f"a.status #>> '{{trunks,{pbx.trunk},problem}}' is null")
        await _queue(world, "11", first=2)
        await _until(world, ALL_DONE)
        assert through(pbx) == [pbx.trunk, SECOND_TRUNK, pbx.trunk]


async def test_silence_may_have_rung_and_is_not_moved(tmp_path: Path) -> None:
    async with _world(tmp_path, RING_SECONDS="5") as world:
        pbx = await two_proxies(world)
        await _queue(world, "80", metadata={"max_attempts": 1})
        await _until(world, ALL_DONE)
        (row,) = await _rows(world)
        assert row["outcome"] == "no_reply"
        assert set(through(pbx)) == {pbx.trunk}


async def test_switched_off_by_hand_and_seen_in_the_table_of_health(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        pbx = await two_proxies(world)
        off, on = told(BLOCKS[2], pbx.trunk).strip().splitlines()
        await world.pool.execute(off)
        await _queue(world, "11")
        await _until(world, ALL_DONE)
        await world.pool.execute(on)
        await looked(world, f"(a.status -> 'trunks') ? '{pbx.trunk}'")
        await _queue(world, "11", first=1)
        await _until(world, ALL_DONE)
        assert through(pbx) == [SECOND_TRUNK, pbx.trunk]
        health = {row["trunk"]: row["recent"] for row in await world.pool.fetch(told(BLOCKS[1], pbx.trunk))}
        assert health == {pbx.trunk: ".", SECOND_TRUNK: "."}


async def test_legs_of_people_take_channels_of_the_trunk(tmp_path: Path) -> None:
    async with _world(tmp_path, TRUNK_CHANNELS="3") as world:
        pbx = cast("SimulatedPbx", world.pbx)
        await looked(world, f"(a.status #>> '{{trunks,{pbx.trunk},max_channels}}')::integer = 3")
        await _queue(world, "12", 3)
        await _until(world, "exists (select from call_queue where status = 'talking')")
        # Three channels, two of them kept for people: one call at a time.
        assert await world.pool.fetchval("select count(*) from call_queue where status in ('dialing', 'talking')") == 1
        # Our own leg is none of people's.
        await looked(world, f"a.status #>> '{{trunks,{pbx.trunk},foreign}}' = '0' and a.status ->> 'live' = '1'")


def table() -> list[list[str]]:
    """The rows of the table of numbers."""
    head = "| number_style | strip_prefix | add_prefix | dialed |\n| --- | --- | --- | --- |\n"
    lines = PAGE.partition(head)[2].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("cells", table(), ids=" ".join)
def test_numbers_are_dialed_as_the_page_says(cells: list[Any]) -> None:
    style, strip, add, dialed = cells
    assert trunk_form("+60123456700", NumberStyle(style), "MY", strip=strip, add=add) == dialed
