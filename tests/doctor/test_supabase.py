"""Doctor's Supabase side against the local gateway and a real PostgreSQL, sound and with each thing broken."""

import asyncio
import time

import asyncpg
import pytest

from adapter.doctor.findings import Finding, Verdict
from adapter.doctor.supabase import look
from adapter.sandbox.gateway import Gateway
from adapter.supabase_io.config import DoorbellMode, SupabaseConfig
from tests.supabase_io.samples import jwt

CHECKS = ["supabase.key", "supabase.reach", "supabase.functions", "supabase.doorbell"]


async def _findings(config: SupabaseConfig, *, bell_seconds: float = 10.0) -> dict[str, Finding]:
    found = [finding async for finding in look(config, now=time.time(), bell_seconds=bell_seconds)]
    assert [finding.check for finding in found] == CHECKS
    for finding in found:
        assert config.key not in repr(finding)
        assert bool(finding.mend) is (finding.verdict in (Verdict.WARN, Verdict.FAIL))
    return {finding.check: finding for finding in found}


async def test_a_sound_project_and_nothing_is_left_in_it(db: str) -> None:
    async with Gateway.started(db) as gateway:
        for key in (gateway.service_role_key, gateway.secret_key):
            found = await _findings(SupabaseConfig(url=gateway.url, key=key))
            assert {finding.verdict for finding in found.values()} == {Verdict.OK}, found
    connection = await asyncpg.connect(db)
    try:
        counts = await connection.fetchrow(
            "select (select count(*) from call_queue), (select count(*) from call_logs), "
            "(select count(*) from call_adapters)"
        )
        assert counts is not None
        assert tuple(counts) == (0, 0, 0)
    finally:
        await connection.close()


async def test_install_sql_is_missing(empty_db: str) -> None:
    async with Gateway.started(empty_db) as gateway:
        config = SupabaseConfig(url=gateway.url, key=gateway.service_role_key)
        found = await _findings(config, bell_seconds=1.0)
    assert found["supabase.reach"].verdict is Verdict.OK
    assert found["supabase.functions"].verdict is Verdict.FAIL
    assert "install.sql" in found["supabase.functions"].found
    assert found["supabase.doorbell"].verdict is Verdict.WARN


async def test_install_sql_is_of_another_version(db: str) -> None:
    connection = await asyncpg.connect(db)
    try:
        await connection.execute("delete from public.call_regions where region = 'US'")
    finally:
        await connection.close()
    async with Gateway.started(db) as gateway:
        found = await _findings(SupabaseConfig(url=gateway.url, key=gateway.service_role_key))
    assert found["supabase.functions"].verdict is Verdict.FAIL


async def test_a_key_of_another_project_and_one_that_expired(db: str) -> None:
    async with Gateway.started(db) as gateway:
        found = await _findings(SupabaseConfig(url=gateway.url, key=jwt(lives=-86_400.0)))
    assert found["supabase.key"].verdict is Verdict.WARN
    assert "expired" in found["supabase.key"].found
    assert found["supabase.functions"].verdict is Verdict.FAIL
    assert found["supabase.doorbell"].verdict is Verdict.WARN


async def test_nobody_answers_at_the_address() -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    found = await _findings(SupabaseConfig(url=f"http://127.0.0.1:{port}", key="sb_secret_of_a_test"))
    assert found["supabase.reach"].verdict is Verdict.FAIL
    assert {found[check].verdict for check in CHECKS[2:]} == {Verdict.SKIPPED}


@pytest.mark.parametrize("mode", [DoorbellMode.OFF, DoorbellMode.CHANGES])
async def test_the_doorbell_as_it_is_set(db: str, mode: DoorbellMode) -> None:
    async with Gateway.started(db) as gateway:
        found = await _findings(SupabaseConfig(url=gateway.url, key=gateway.service_role_key, doorbell=mode))
    wanted = Verdict.SKIPPED if mode is DoorbellMode.OFF else Verdict.OK
    assert found["supabase.doorbell"].verdict is wanted
