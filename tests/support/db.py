"""Databases for tests: one server for the whole run, a database of its own for each test.

`pg_server` is the server (`adapter.sandbox.postgres.Postgres`). The other fixtures give the dsn of a fresh database,
copied from a template that is made when first asked for (a copy takes about 30 ms), and dropped after the test:

- `empty_db`: a fresh Supabase project;
- `db`: the same with our installation (supabase/install.sql, else the migrations in the order of their names);
- `app_db`: a project with the existing app's schema (tests/supabase/app_schema.sql) and then our installation.

The dsn's user is `postgres`, who is no superuser, as on Supabase; `pg_server.admin_dsn(name)` is for what needs one.
"""

import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapter.sandbox.postgres import Postgres

ROOT = Path(__file__).resolve().parents[2]
APP_SCHEMA = ROOT / "tests" / "supabase" / "app_schema.sql"

_made: set[tuple[int, str]] = set()
"""Templates that exist, by the server's port and their name."""


def installation() -> list[Path]:
    """The files that install us, in order."""
    whole = ROOT / "supabase" / "install.sql"
    return [whole] if whole.exists() else sorted((ROOT / "supabase" / "migrations").glob("*.sql"))


async def make_template(server: Postgres, name: str, scripts: Sequence[Path]) -> str:
    """A project with these scripts run on it, made once; tests copy it and never connect to it. Returns its name."""
    if (server.port, name) not in _made:
        await server.drop_database(name)  # Left by a failed attempt.
        await server.create_project(name)
        for script in scripts:
            await server.run_script(name, script.read_text(encoding="utf-8"), source=script.name)
        _made.add((server.port, name))
    return name


@asynccontextmanager
async def fresh_database(server: Postgres, template: str) -> AsyncIterator[str]:
    """The dsn of a copy of `template`, dropped at the end."""
    name = f"t_{secrets.token_hex(6)}"
    await server.create_database(name, template)
    try:
        yield server.dsn(name)
    finally:
        await server.drop_database(name)


@pytest.fixture(scope="session")
def pg_server() -> Iterator[Postgres]:
    """The server of this run."""
    with Postgres.running() as server:
        yield server


@pytest.fixture
async def empty_db(pg_server: Postgres) -> AsyncIterator[str]:
    """A fresh Supabase project."""
    async with fresh_database(pg_server, await make_template(pg_server, "template_empty", [])) as dsn:
        yield dsn


@pytest.fixture
async def db(pg_server: Postgres) -> AsyncIterator[str]:
    """A project with our installation."""
    async with fresh_database(pg_server, await make_template(pg_server, "template_ours", installation())) as dsn:
        yield dsn


@pytest.fixture
async def app_db(pg_server: Postgres) -> AsyncIterator[str]:
    """A project with the existing app's schema and our installation on top."""
    scripts = [APP_SCHEMA, *installation()]
    async with fresh_database(pg_server, await make_template(pg_server, "template_app", scripts)) as dsn:
        yield dsn
