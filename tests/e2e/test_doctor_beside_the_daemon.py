"""Doctor's Supabase side while the daemon is at work: it hears the probe, dials nobody for it, and goes on."""

import asyncio
import time
from pathlib import Path
from typing import cast

import pytest

from adapter.doctor.findings import Verdict
from adapter.doctor.supabase import look
from adapter.sandbox.mikopbx import SimulatedPbx
from adapter.sandbox.scenarios import number
from adapter.sandbox.world import World
from adapter.supabase_io.config import SupabaseConfig

USER = "00000000-0000-4000-8000-00000000aaaa"

CALLS = 12

ROUNDS = 3

pytestmark = pytest.mark.timeout(120)


async def test_a_look_beside_a_daemon_that_dials(tmp_path: Path) -> None:
    settings = {"SWEEP_SECONDS": "1", "CALLS_PER_SECOND": "4", "LOG_FORMAT": "json"}
    async with World.started(speed=5.0, directory=tmp_path, settings=settings) as world:
        await world.queue([{"user_id": USER, "phone_number": number("10", serial)} for serial in range(CALLS)])
        async with asyncio.timeout(30):
            while not await world.pool.fetchval("select count(*) from call_logs"):
                await asyncio.sleep(0.05)
        config = SupabaseConfig(url=world.gateway.url, key=world.gateway.service_role_key)
        for _ in range(ROUNDS):
            found = {
                finding.check: finding
                async for finding in look(config, now=time.time(), anon_key=world.gateway.anon_key, bell_seconds=10.0)
            }
            assert {finding.verdict for finding in found.values()} == {Verdict.OK}, found
            assert " dials (" in found["supabase.pbx"].found
        async with asyncio.timeout(60):
            while await world.pool.fetchval("select count(*) from call_queue where outcome is null"):
                await asyncio.sleep(0.05)
        assert await world.pool.fetchval("select count(*) from call_queue") == CALLS
        assert await world.pool.fetchval("select count(*) from call_logs") == CALLS
        assert len(cast("SimulatedPbx", world.pbx).calls) == CALLS
        # Each probe took a number of the identity column, and nothing else of it is left.
        assert await world.pool.fetchval("select last_value from call_queue_id_seq") == CALLS + ROUNDS
        assert "202555" not in world.daemon.log.read_text()
