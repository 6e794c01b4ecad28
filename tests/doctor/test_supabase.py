"""Doctor's Supabase side against the local gateway and a real PostgreSQL, sound and with each thing broken."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import asyncpg
import pytest

from adapter.doctor.findings import Finding, Verdict
from adapter.doctor.supabase import CHECKS, look
from adapter.sandbox.gateway import Gateway
from adapter.supabase_io.config import DoorbellMode, HttpTimings, SupabaseConfig
from tests.supabase.helpers import connected
from tests.supabase_io.samples import jwt
from tests.support.db import ROOT

LEFT = """
select (select count(*) from call_queue), (select count(*) from call_logs), (select count(*) from call_adapters),
  (select count(*) from call_arrivals), (select count(*) from call_lanes), (select count(*) from campaigns)
"""


async def findings(config: SupabaseConfig, *, anon_key: str | None = None, seconds: float = 8.0) -> dict[str, Finding]:
    """All of them, by their names, which are always the same and in the same order."""
    found = [
        finding
        async for finding in look(
            config, now=time.time(), anon_key=anon_key, bell_seconds=seconds, row_seconds=min(seconds, 3.0)
        )
    ]
    assert tuple(finding.check for finding in found) == CHECKS
    for finding in found:
        assert config.key not in repr(finding)
        assert anon_key is None or anon_key not in repr(finding)
        assert bool(finding.mend) is (finding.verdict in (Verdict.WARN, Verdict.FAIL)), finding
    return {finding.check: finding for finding in found}


def verdicts(found: dict[str, Finding], but: Iterable[str] = ()) -> set[Verdict]:
    """How the checks came out, but for some."""
    return {finding.verdict for name, finding in found.items() if name not in but}


@asynccontextmanager
async def broken(dsn: str, change: str) -> AsyncIterator[Gateway]:
    """A project with something changed, and a gateway before it."""
    async with connected(dsn) as connection:
        await connection.execute(change)
    async with Gateway.started(dsn) as gateway:
        yield gateway


async def test_a_sound_project_and_nothing_is_left_in_it(db: str) -> None:
    async with Gateway.started(db) as gateway:
        for key, anon in (
            (gateway.service_role_key, gateway.anon_key),
            (gateway.secret_key, gateway.publishable_key),
        ):
            found = await findings(SupabaseConfig(url=gateway.url, key=key), anon_key=anon)
            assert verdicts(found) == {Verdict.OK}, found
    async with connected(db) as connection:
        assert tuple(await connection.fetchrow(LEFT) or ()) == (0, 0, 0, 0, 0, 0)


async def test_the_app_is_open_by_its_own_making(app_db: str) -> None:
    async with connected(app_db) as connection:
        await connection.execute("insert into users (username, email) values ('somebody', 'somebody@example.com')")
    async with Gateway.started(app_db) as gateway:
        config = SupabaseConfig(url=gateway.url, key=gateway.secret_key)
        found = await findings(config, anon_key=gateway.publishable_key)
    assert verdicts(found, ["supabase.anon"]) == {Verdict.OK}, found
    anon = found["supabase.anon"]
    assert anon.verdict is Verdict.WARN
    assert "password hash" in anon.found
    assert "somebody" not in repr(anon)
    async with connected(app_db) as connection:
        assert await connection.fetchval("select count(*) from users") == 1


async def test_without_the_public_key_it_says_that_nobody_tried(db: str) -> None:
    async with Gateway.started(db) as gateway:
        found = await findings(SupabaseConfig(url=gateway.url, key=gateway.secret_key))
    assert found["supabase.anon"].verdict is Verdict.SKIPPED
    assert "SUPABASE_ANON_KEY" in found["supabase.anon"].found


async def test_install_sql_was_not_run(empty_db: str) -> None:
    async with Gateway.started(empty_db) as gateway:
        config = SupabaseConfig(url=gateway.url, key=gateway.service_role_key)
        found = await findings(config, anon_key=gateway.anon_key, seconds=1.0)
    assert found["supabase.reach"].verdict is Verdict.OK
    assert found["supabase.installed"].verdict is Verdict.FAIL
    assert "was not run" in found["supabase.installed"].found
    assert "install.sql" in found["supabase.installed"].mend
    assert found["supabase.doorbell"].verdict is Verdict.WARN
    skipped = ["supabase.clock", *CHECKS[4:7], *CHECKS[8:]]
    assert {found[check].verdict for check in skipped} == {Verdict.SKIPPED}


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ("20261125000100", "was not run, or only a part of it"),
        ("20261125000400", "an older supabase/install.sql was run, or a part of one"),
        ("20261125000800", "an older supabase/install.sql was run, or a part of one"),
    ],
)
async def test_install_sql_is_of_before_doctor(empty_db: str, last: str, words: str) -> None:
    """Only the migrations up to one: an older version, or a CLI that stopped half-way."""
    async with connected(empty_db) as connection:
        for path in sorted((ROOT / "supabase" / "migrations").glob("*.sql")):
            if path.name[:14] <= last:
                await connection.execute(path.read_text(encoding="utf-8"))
    async with Gateway.started(empty_db) as gateway:
        config = SupabaseConfig(url=gateway.url, key=gateway.service_role_key)
        found = await findings(config, seconds=8.0 if last == "20261125000800" else 1.0)
    assert found["supabase.installed"].verdict is Verdict.FAIL
    assert words in found["supabase.installed"].found
    # The last of them publishes the table.
    assert found["supabase.doorbell"].verdict is (Verdict.OK if last == "20261125000800" else Verdict.WARN)
    assert found["supabase.roundtrip"].verdict is Verdict.SKIPPED


async def test_half_of_a_migration_was_applied(db: str) -> None:
    change = (
        "drop function call_sync_v1; alter table call_queue drop column caller_id cascade; drop table call_pbx cascade"
    )
    async with broken(db, change) as gateway:
        found = await findings(SupabaseConfig(url=gateway.url, key=gateway.secret_key))
    told = found["supabase.installed"]
    assert told.verdict is Verdict.FAIL
    for name in ("function call_sync_v1", "column call_queue.caller_id", "table call_pbx"):
        assert name in told.found, told
    assert found["supabase.functions"].verdict is Verdict.FAIL
    # Nothing is inserted into what is not known to leave it alone.
    assert found["supabase.roundtrip"].verdict is Verdict.SKIPPED
    async with connected(db) as connection:
        assert await connection.fetchval("select last_value from call_queue_id_seq where is_called") is None


async def test_numbers_are_read_by_other_rules(db: str) -> None:
    async with broken(db, "delete from public.call_regions where region = 'US'") as gateway:
        found = await findings(SupabaseConfig(url=gateway.url, key=gateway.service_role_key))
    assert found["supabase.installed"].verdict is Verdict.WARN
    assert "rows of call_regions" in found["supabase.installed"].found
    assert found["supabase.functions"].verdict is Verdict.FAIL


async def test_a_key_that_is_refused(db: str) -> None:
    async with Gateway.started(db) as gateway:
        of_another = await findings(SupabaseConfig(url=gateway.url, key=jwt()))
        expired = await findings(SupabaseConfig(url=gateway.url, key=gateway.token("service_role", seconds=-86_400.0)))
    for found in (of_another, expired):
        assert found["supabase.key"].verdict is Verdict.FAIL
        assert found["supabase.reach"].verdict is Verdict.OK
        assert verdicts(found, ["supabase.key", "supabase.reach"]) == {Verdict.SKIPPED}
    assert "expired" in expired["supabase.key"].found


async def test_a_key_that_ends_soon_is_told_with_its_day(db: str) -> None:
    async with Gateway.started(db) as gateway:
        keys = gateway.keys
        soon = keys.token("service_role", seconds=10 * 86_400.0)
        object.__setattr__(keys, "service_role", soon)
        found = await findings(SupabaseConfig(url=gateway.url, key=soon))
    assert found["supabase.key"].verdict is Verdict.WARN
    day = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 10 * 86_400))
    assert day in found["supabase.key"].found
    assert found["supabase.installed"].verdict is Verdict.OK


async def test_a_key_with_a_role_of_its_own(db: str) -> None:
    """`OTHER`: neither a JWT with service_role nor an sb_secret_ key, so only the database can tell what it may."""
    async with broken(db, "revoke execute on function call_sync_v1 from service_role") as gateway:
        found = await findings(SupabaseConfig(url=gateway.url, key=gateway.secret_key))
    assert found["supabase.functions"].verdict is Verdict.FAIL
    assert "call_sync_v1" in found["supabase.functions"].found


async def test_nobody_answers_at_the_address() -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    found = await findings(SupabaseConfig(url=f"http://127.0.0.1:{port}", key="sb_secret_of_a_test"))
    assert found["supabase.reach"].verdict is Verdict.FAIL
    assert {found[check].verdict for check in CHECKS[2:]} == {Verdict.SKIPPED}


async def test_a_silent_server_costs_a_bounded_time() -> None:
    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        closed.set()

    closed = asyncio.Event()
    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        config = SupabaseConfig(
            url=f"http://127.0.0.1:{port}", key="sb_secret_of_a_test", http=HttpTimings(read=0.3, total=0.5)
        )
        async with asyncio.timeout(3.0):
            found = await findings(config, anon_key="sb_publishable_of_a_test")
        await closed.wait()
    assert found["supabase.reach"].verdict is Verdict.FAIL
    assert {found[check].verdict for check in CHECKS[2:]} == {Verdict.SKIPPED}


async def test_what_answers_is_no_supabase() -> None:
    closed = asyncio.Event()

    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nContent-Type: text/html\r\n\r\nnope")
        writer.close()
        await writer.wait_closed()
        closed.set()

    server = await asyncio.start_server(page, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        found = await findings(SupabaseConfig(url=f"http://127.0.0.1:{port}", key="sb_secret_of_a_test"))
        await closed.wait()
    assert found["supabase.reach"].verdict is Verdict.FAIL
    assert {found[check].verdict for check in CHECKS[2:]} == {Verdict.SKIPPED}


@pytest.mark.parametrize("mode", list(DoorbellMode))
async def test_the_doorbell_as_it_is_set(db: str, mode: DoorbellMode) -> None:
    async with Gateway.started(db) as gateway:
        found = await findings(SupabaseConfig(url=gateway.url, key=gateway.service_role_key, doorbell=mode))
    wanted = Verdict.SKIPPED if mode is DoorbellMode.OFF else Verdict.OK
    assert found["supabase.doorbell"].verdict is wanted
    assert found["supabase.roundtrip"].verdict is wanted
    told = found["supabase.roundtrip"].found
    assert ("by broadcast" in told) is (mode in (DoorbellMode.AUTO, DoorbellMode.BROADCAST))
    assert ("by INSERT changes" in told) is (mode in (DoorbellMode.AUTO, DoorbellMode.CHANGES))


async def test_the_database_goes_away_in_the_middle(db: str) -> None:
    async with Gateway.started(db) as gateway:
        async with asyncio.timeout(20):
            checks = []
            async for finding in look(
                SupabaseConfig(url=gateway.url, key=gateway.secret_key),
                now=time.time(),
                anon_key=gateway.anon_key,
                bell_seconds=1.0,
                row_seconds=1.0,
            ):
                checks.append(finding)
                if finding.check == "supabase.app":
                    admin = await asyncpg.connect(db.replace("postgres@", "supabase_admin@"))
                    await admin.execute(
                        "select pg_terminate_backend(pid) from pg_stat_activity "
                        "where datname = current_database() and pid <> pg_backend_pid()"
                    )
                    await admin.close()
    assert tuple(finding.check for finding in checks) == CHECKS
