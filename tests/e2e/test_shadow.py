"""`run --shadow` as a process: alone, and beside a living adapter with the same settings and STATE_DIR."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from adapter.sandbox.mikopbx import SECOND_TRUNK, SimulatedPbx
from adapter.sandbox.process import Daemon
from adapter.sandbox.scenarios import number
from adapter.sandbox.world import World

USER = "00000000-0000-4000-8000-00000000aaaa"

pytestmark = pytest.mark.timeout(120)


@asynccontextmanager
async def _shadow(world: World) -> AsyncIterator[Daemon]:
    process = Daemon(
        {**world.daemon.settings, "LOG_FORMAT": "json"},
        world.directory / "shadow.log",
        command=(sys.executable, "-m", "adapter.cli", "run", "--shadow"),
    )
    await process.start()
    try:
        yield process
        assert await process.stop() == 0
    finally:
        await process.kill()


def _lines(process: Daemon, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in process.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


async def _shown(process: Daemon, count: int, event: str = "shadow.would_dial") -> list[dict[str, Any]]:
    try:
        async with asyncio.timeout(30):
            while len(_lines(process, event)) < count:
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{count} lines {event} never came:\n{process.tail(40)}") from None
    return _lines(process, event)


async def _all(world: World) -> list[str]:
    found = []
    for table in ("call_queue", "call_logs", "call_dials", "call_adapters", "call_pbx"):
        rows = await world.pool.fetch(f"select to_jsonb(t)::text as row from {table} t order by 1")  # noqa: S608
        found += [row["row"] for row in rows]
    found.append(str(await world.pool.fetchval("select (last_value, is_called)::text from call_claim_number")))
    return found


async def test_alone_it_shows_each_row_once_and_leaves_no_trace(tmp_path: Path) -> None:
    async with World.started(speed=5, directory=tmp_path, daemon=False) as world:
        ids = await world.queue(
            [
                {
                    "user_id": USER, "phone_number": number("10", serial), "customer_name": "Aminah",
                    "variables": {"offer": "secret word"},
                }
                for serial in range(3)
            ]
        )  # fmt: skip
        (unknown,) = await world.queue([{"user_id": USER, "phone_number": number("10", 9), "trunk": "SIP-TRUNK-9"}])
        before = await _all(world)
        async with _shadow(world) as process:
            lines = await _shown(process, 3)
            (ended,) = await _shown(process, 1, "shadow.would_end")
            # An insert is heard, and several sweeps later nothing was shown twice.
            (late,) = await world.queue([{"user_id": USER, "phone_number": number("10", 4)}])
            # Only the row: the number of claims is drawn and put back while a shadow looks.
            before = sorted([*before, *[row for row in await _all(world) if row not in before and row[0] == "{"]])
            lines = await _shown(process, 4)
            await asyncio.sleep(2.5)
        assert sorted(await _all(world)) == before
        assert not (tmp_path / "state").exists()
        lines = _lines(process, "shadow.would_dial")
        assert [line["row"] for line in lines] == [*ids, late]
        assert (ended["row"], ended["why"]) == (unknown, "the trunk SIP-TRUNK-9 is not known")
        assert cast("SimulatedPbx", world.pbx).calls == []
        line = lines[0]
        assert (line["user"], line["trunk"], line["attempt"]) == (USER, world.pbx.trunk, 1)
        assert f"@{world.pbx.trunk} | Context: " in line["action"]
        assert "offer=…" in line["action"]
        text = process.log.read_text()
        for hidden in ("Aminah", "secret word", number("10", 0).lstrip("+"), world.gateway.service_role_key):
            assert hidden not in text
        assert len(_lines(process, "shadow.on")) == 1


async def test_beside_a_living_adapter_neither_feels_the_other(tmp_path: Path) -> None:
    async with World.started(speed=5, directory=tmp_path) as world, _shadow(world) as process:
        await _shown(process, 1, "pbx.up")
        ids = await world.queue([{"user_id": USER, "phone_number": number("10", serial)} for serial in range(20)])
        rows = await world.settled(ids)
        assert {row.outcome for row in rows} == {"answered"}
        # One call for each row, by the one adapter there is; nobody else drew a number.
        calls = cast("SimulatedPbx", world.pbx).calls
        assert len(calls) == len({call.number for call in calls}) == 20
        assert await world.pool.fetchval("select last_value from call_claim_number") == 20
        assert await world.pool.fetchval("select count(*) from call_adapters") == 1
        assert await world.pool.fetchval("select count(*) from call_queue where attempts <> 1 or faults <> '{}'") == 0
        shown = _lines(process, "shadow.would_dial")
        assert {line["row"] for line in shown} <= set(ids)
        assert process.running
        assert not _lines(process, "database.note")


async def test_it_shows_the_trunk_of_the_table_that_a_call_would_take(tmp_path: Path) -> None:
    async with World.started(speed=5, directory=tmp_path, daemon=False) as world:
        await world.pool.execute(
            "insert into call_trunks (pbx, trunk, number_style, strip_prefix, add_prefix) "
            "values ('sandbox', $1, 'national', '0', '0060')",
            SECOND_TRUNK,
        )
        await world.queue([{"user_id": USER, "phone_number": number("10", 1)}])
        async with _shadow(world) as process:
            (line,) = await _shown(process, 1)
        assert line["trunk"] == SECOND_TRUNK
        assert f"@{SECOND_TRUNK} |" in line["action"]
        assert cast("SimulatedPbx", world.pbx).calls == []
