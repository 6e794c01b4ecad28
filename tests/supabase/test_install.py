"""The installation: on an empty project, on the app's schema, again and again, and without changing what is there."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from adapter.sandbox import installsql
from adapter.sandbox.postgres import Postgres
from tests.supabase.helpers import Connection, connected, number
from tests.support.db import APP_SCHEMA, ROOT

INSTALL = (ROOT / "supabase" / "install.sql").read_text(encoding="utf-8")
MIGRATIONS = sorted((ROOT / "supabase" / "migrations").glob("*.sql"))

SNAPSHOT = {
    "columns": "select table_name, column_name, data_type, is_nullable, column_default, is_generated "
    "from information_schema.columns where table_schema = 'public' order by 1, 2",
    "constraints": "select conrelid::regclass::text, conname, pg_get_constraintdef(oid) from pg_constraint "
    "where connamespace = 'public'::regnamespace order by 1, 2, 3",
    "indexes": "select indexdef from pg_indexes where schemaname = 'public' order by 1",
    "functions": "select pg_get_functiondef(oid), proacl::text from pg_proc "
    "where pronamespace = 'public'::regnamespace order by 1",
    "triggers": "select pg_get_triggerdef(oid) from pg_trigger where not tgisinternal order by 1",
    "policies": "select * from pg_policies order by schemaname, tablename, policyname",
    "relations": "select relname, relkind::text, relacl::text, relrowsecurity, obj_description(oid, 'pg_class') "
    "from pg_class where relnamespace = 'public'::regnamespace order by 1",
    "publications": "select * from pg_publication_tables order by 1, 2, 3",
    "regions": "select xmin::text, r.* from call_regions r order by region",
    "outcomes": "select xmin::text, o.* from call_outcomes o order by outcome",
    "settings": "select xmin::text, s.* from call_settings s",
    "bell": "select xmin::text, b.* from call_bell b",
}


async def snapshot(connection: Connection, queries: Mapping[str, str] = SNAPSHOT) -> dict[str, list[tuple[Any, ...]]]:
    """All that an installation could change."""
    return {name: [tuple(row) for row in await connection.fetch(query)] for name, query in queries.items()}


async def shape(connection: Connection, tables: list[str]) -> list[tuple[Any, ...]]:
    """Columns, constraints and triggers of some tables."""
    rows = await connection.fetch(
        "select table_name::text, column_name::text, data_type::text, is_nullable::text, column_default::text "
        "from information_schema.columns where table_name = any($1::text[]) "
        "union all select conrelid::regclass::text, conname::text, pg_get_constraintdef(oid), '', '' "
        "from pg_constraint where conrelid::regclass::text = any($1::text[]) "
        "union all select tgrelid::regclass::text, tgname::text, pg_get_triggerdef(oid), '', '' "
        "from pg_trigger where not tgisinternal and tgrelid::regclass::text = any($1::text[]) order by 1, 2, 3",
        tables,
    )
    return [tuple(row) for row in rows]


async def test_again_on_an_empty_project_changes_nothing(db: str) -> None:
    async with connected(db) as connection:
        before = await snapshot(connection)
        await connection.execute(INSTALL)
        assert await snapshot(connection) == before


async def test_again_on_the_apps_schema_changes_nothing(app_db: str) -> None:
    async with connected(app_db) as connection:
        before = await snapshot(connection)
        for path in MIGRATIONS:
            await connection.execute(path.read_text(encoding="utf-8"))
        assert await snapshot(connection) == before


async def test_again_keeps_what_the_owner_changed_and_the_rows_there_are(db: str) -> None:
    async with connected(db) as connection:
        await connection.execute("update call_outcomes set bound = 9 where outcome = 'congestion'")
        await connection.execute("update call_settings set default_region = 'SG'")
        await connection.execute(
            "insert into call_queue (user_id, phone_number) values (gen_random_uuid(), $1)", number(1)
        )
        await connection.execute(INSTALL)
        assert await connection.fetchval("select bound from call_outcomes where outcome = 'congestion'") == 9
        assert await connection.fetchval("select default_region from call_settings") == "SG"
        assert await connection.fetchval("select count(*) from call_queue") == 1


async def test_the_apps_tables_are_only_completed(empty_db: str) -> None:
    tables = ["call_logs", "campaigns", "contacts", "prompts", "users", "phone_config", "system_settings"]
    async with connected(empty_db) as connection:
        await connection.execute(APP_SCHEMA.read_text(encoding="utf-8"))
        before = await shape(connection, tables)
        await connection.execute(INSTALL)
        added = set(await shape(connection, tables)) - set(before)
        assert set(before) <= set(await shape(connection, tables))
        triggers = {row for row in added if str(row[2]).startswith("CREATE TRIGGER call_")}
        assert {(row[0], row[1]) for row in triggers} == {
            ("campaigns", "call_campaign_added"),
            ("campaigns", "call_campaign_paused"),
            ("campaigns", "call_campaign_deleted"),
        }
        assert {(row[0], row[1], row[2]) for row in added - triggers} == {
            ("call_logs", "transcript", "text"),
            ("call_logs", "cost", "numeric"),
            ("call_logs", "recording_url", "text"),
        }
        assert await connection.fetchval(
            "select count(*) from pg_constraint where contype = 'f' and "
            "(conrelid::regclass::text like 'call\\_%' and confrelid::regclass::text = 'campaigns')"
        ) == 2  # original_campaign_id of call_logs and that of call_costs, both the app's.  # fmt: skip


async def test_an_app_without_row_level_security_stays_open(empty_db: str) -> None:
    async with connected(empty_db) as connection:
        await connection.execute(APP_SCHEMA.read_text(encoding="utf-8"))
        await connection.execute(
            'alter table call_logs disable row level security; drop policy "Allow all" on call_logs'
        )
        await connection.execute(INSTALL)
        await connection.execute("set role anon")
        await connection.execute(
            "insert into call_logs (user_id, call_id, agent_id, caller_number, start_time, status) "
            "values (gen_random_uuid(), 'c', 'a', '1', now(), 'answered')"
        )
        assert await connection.fetchval("select count(*) from call_logs") == 1


async def test_hand_added_columns_and_duplicates_in_live_data_are_no_hindrance(empty_db: str) -> None:
    async with connected(empty_db) as connection:
        await connection.execute(APP_SCHEMA.read_text(encoding="utf-8"))
        await connection.execute("alter table call_logs add column cost numeric(10, 4), add column transcript varchar")
        await connection.execute(
            "insert into call_logs (user_id, call_id, agent_id, caller_number, start_time, status) "
            "select gen_random_uuid(), 'same', 'a', '1', now(), 'answered' from generate_series(1, 2)"
        )
        await connection.execute(INSTALL)
        types = await connection.fetch(
            "select column_name, data_type from information_schema.columns where table_name = 'call_logs' "
            "and column_name in ('cost', 'transcript', 'recording_url') order by 1"
        )
        assert [tuple(row) for row in types] == [
            ("cost", "numeric"), ("recording_url", "text"), ("transcript", "character varying"),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("index", "made"),
    [
        ("create index mine on call_logs (call_id)", False),
        ("create unique index mine on call_logs (call_id, user_id)", False),
        ("create index mine on call_logs (user_id, call_id)", True),
        ("create index mine on call_logs (call_id) where status = 'initiated'", True),
    ],
)
async def test_the_index_on_call_id_is_made_only_if_there_is_none(empty_db: str, index: str, made: bool) -> None:
    async with connected(empty_db) as connection:
        await connection.execute(APP_SCHEMA.read_text(encoding="utf-8"))
        await connection.execute(index)
        await connection.execute(INSTALL)
        names = await connection.fetch("select indexname from pg_indexes where tablename = 'call_logs'")
        assert ("call_logs_call_id_idx" in [row[0] for row in names]) is made


@pytest.mark.parametrize("publication", ["none", "all tables", "schema", "other table"])
async def test_the_queue_is_published_whatever_the_publication_was(
    empty_db: str, pg_server: Postgres, publication: str
) -> None:
    admin = await asyncpg.connect(pg_server.admin_dsn(empty_db.rsplit("/", 1)[1]))
    try:
        await admin.execute("drop publication supabase_realtime")
        if publication == "all tables":
            await admin.execute("create publication supabase_realtime for all tables")
        elif publication == "schema":
            await admin.execute("create publication supabase_realtime for tables in schema public")
        elif publication == "other table":
            await admin.execute(
                "create table public.other (id int primary key); create publication supabase_realtime for table other; "
                "alter publication supabase_realtime owner to postgres"
            )
    finally:
        await admin.close()
    async with connected(empty_db) as connection:
        for _ in range(2):
            await connection.execute(INSTALL)
        assert await connection.fetchval(
            "select count(*) from pg_publication_tables "
            "where pubname = 'supabase_realtime' and tablename = 'call_queue'"
        ) == 1  # fmt: skip


async def test_it_installs_where_there_is_no_realtime(empty_db: str, pg_server: Postgres) -> None:
    admin = await asyncpg.connect(pg_server.admin_dsn(empty_db.rsplit("/", 1)[1]))
    try:
        await admin.execute("drop schema realtime cascade")
    finally:
        await admin.close()
    async with connected(empty_db) as connection:
        await connection.execute(INSTALL)
        await connection.execute(
            "insert into call_queue (user_id, phone_number) values (gen_random_uuid(), $1)", number(1)
        )


def test_install_sql_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert installsql.main(["--check"]) == 0
    assert capsys.readouterr().err == ""
    assert installsql.script() == INSTALL


def test_check_tells_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "supabase" / "migrations", tmp_path / "migrations")
    monkeypatch.setattr(installsql, "FOLDER", tmp_path)
    assert installsql.main(["--check"]) == 1
    assert "python -m adapter.sandbox.installsql" in capsys.readouterr().err
    assert installsql.main([]) == 0
    assert installsql.main(["--check"]) == 0
    with pytest.raises(FileNotFoundError, match="checkout"):
        installsql.script(tmp_path / "nowhere")


def test_migrations_are_named_as_the_command_line_tool_wants() -> None:
    names = [path.name for path in MIGRATIONS]
    assert len(names) > 4
    assert all(name[:14].isdigit() and name[14] == "_" for name in names)
    assert len({name[:14] for name in names}) == len(names)
