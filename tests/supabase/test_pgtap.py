"""supabase/tests, as `supabase test db` runs them: on a fresh project with our example rows, and on the app's."""

import asyncio
import re
import subprocess
from pathlib import Path

import asyncpg
import pytest

from adapter.sandbox.postgres import Postgres
from tests.support import pgtap
from tests.support.db import APP_SCHEMA, ROOT, fresh_database, installation, make_template

FILES = sorted((ROOT / "supabase" / "tests").glob("*.sql"))

PROJECTS = {"fresh": [*installation(), ROOT / "supabase" / "seed.sql"], "app": [APP_SCHEMA, *installation()]}

# Fetching pgTAP the first time, with lists of packages, may take longer than any test.
pytestmark = pytest.mark.timeout(pgtap.APT_SECONDS * 3)


async def told(server: Postgres, dsn: str, script: str) -> str:
    """What psql prints, called as pg_prove calls it. An SQL error ends it with another exit code than 0."""
    connection = await asyncpg.connect(server.admin_dsn())
    try:
        binaries = await connection.fetchval("select setting from pg_config where name = 'BINDIR'")
    finally:
        await connection.close()
    command = [str(Path(binaries) / "psql"), "-X", "-A", "-q", "-t", "-P", "pager=off", "-v", "ON_ERROR_STOP=1"]
    done = await asyncio.to_thread(
        subprocess.run, [*command, "-d", dsn], input=script, capture_output=True, text=True, check=False
    )
    return f"{done.stdout}{done.stderr}psql ended with {done.returncode}\n"


def problems(output: str) -> list[str]:
    """What is wrong with an output: failed tests, a plan that does not fit, an error. Nothing is left out or expected
    to fail here, so TODO and SKIP are problems."""
    lines = output.splitlines()
    plans = [int(match[1]) for line in lines if (match := re.match(r"1\.\.(\d+)$", line))]
    tests = [int(match[1]) for line in lines if (match := re.match(r"(?:not )?ok (\d+)\b", line))]
    found = [line for line in lines if line.startswith("not ok") or re.search(r"# (TODO|SKIP)\b", line, re.IGNORECASE)]
    if len(plans) != 1 or plans[0] == 0 or tests != list(range(1, plans[0] + 1)):
        found.append(f"planned {plans}, ran {len(tests)}")
    if not output.endswith("psql ended with 0\n"):
        found.append(lines[-1])
    return found


@pytest.fixture
async def tap_server(pg_server: Postgres) -> Postgres:
    """The server, which knows the extension."""
    await pgtap.put_into(pg_server)
    return pg_server


def test_there_are_files() -> None:
    assert FILES


@pytest.mark.parametrize("project", PROJECTS)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
async def test_file(tap_server: Postgres, project: str, file: Path) -> None:
    template = await make_template(tap_server, f"template_tap_{project}", PROJECTS[project])
    async with fresh_database(tap_server, template) as dsn:
        output = await told(tap_server, dsn, file.read_text(encoding="utf-8"))
        assert not problems(output), output
        # Nothing stays, so the files may run in any order, and on a local project with rows in it.
        connection = await asyncpg.connect(dsn)
        try:
            assert await connection.fetchval("select count(*) from pg_extension where extname = 'pgtap'") == 0
            rows = await connection.fetchval("select count(*) from public.call_queue")
            assert rows == (2 if project == "fresh" else 0)
        finally:
            await connection.close()


async def test_what_fails_there_fails_here(tap_server: Postgres, empty_db: str) -> None:
    head = "begin; create extension pgtap with schema extensions; set local search_path = public, extensions;"
    tail = "select * from finish(); rollback;"

    async def run(body: str) -> list[str]:
        return problems(await told(tap_server, empty_db, f"{head}\n{body}\n{tail}\n"))

    assert await run("select plan(1); select ok(true, 'right');") == []
    assert await run("select plan(1); select ok(false, 'wrong');") == ["not ok 1 - wrong"]
    assert await run("select plan(2); select ok(true);") == ["planned [2], ran 1"]
    assert await run("select plan(1); select ok(true); select ok(true);") == ["planned [1], ran 2"]
    assert await run("select ok(true);") != []
    assert await run("select plan(1); select nothing_like_it();") == ["planned [1], ran 0", "psql ended with 3"]
    assert await run("select plan(1); select skip('not today');") != []
    assert await run("select plan(1); select todo('later', 1); select ok(false);") != []


def test_the_package_for_the_newest_server_is_taken() -> None:
    found = "pgtap-doc - words\npostgresql-9-pgtap - a\npostgresql-15-pgtap - b\nlibtap-pgtap-perl - c\n"
    assert pgtap._named(found) == "postgresql-15-pgtap"
    assert pgtap._named("pgtap - metapackage\n") is None


def test_without_apt_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pgtap.PgTapMissing, match=r"there is no apt-get, .*install it .*postgresql-NN-pgtap"):
        pgtap.fetched()
    # Files that somebody put there are taken.
    (pgtap.cache_dir() / "pgtap.control").write_text("default_version = '1.3.3'\n")
    with pytest.raises(pgtap.PgTapMissing, match="no script"):
        pgtap.fetched()
    (pgtap.cache_dir() / "pgtap--1.3.3.sql").write_text("select 1;\n")
    assert [file.name for file in pgtap.fetched()] == ["pgtap.control", "pgtap--1.3.3.sql"]
