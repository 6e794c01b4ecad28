"""Desks: one registered adapter each. Where one connection is enough, in a transaction that is rolled back, because a
database of its own costs a test far more than its work."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapter.sandbox.postgres import Postgres
from tests.supabase.helpers import Desk, connected
from tests.support.db import APP_SCHEMA, installation, make_template


@asynccontextmanager
async def passing(server: Postgres, name: str, scripts: Sequence[Path]) -> AsyncIterator[Desk]:
    """A desk on a database that all tests share, and of whose work nothing stays."""
    database = await make_template(server, name, scripts)
    async with connected(server.dsn(database)) as connection:
        transaction = connection.transaction()
        await transaction.start()
        made = Desk(connection)
        await made.register()
        yield made
        await transaction.rollback()


@pytest.fixture
async def desk(pg_server: Postgres) -> AsyncIterator[Desk]:
    """An adapter on a project that was empty before, in one transaction."""
    async with passing(pg_server, "desk_ours", installation()) as made:
        yield made


@pytest.fixture
async def app_desk(pg_server: Postgres) -> AsyncIterator[Desk]:
    """An adapter on a project of the existing app, in one transaction."""
    async with passing(pg_server, "desk_app", [APP_SCHEMA, *installation()]) as made:
        yield made


@pytest.fixture
async def lasting_desk(db: str) -> AsyncIterator[Desk]:
    """An adapter on a database of its own (`db`), which others may open as well."""
    async with connected(db) as connection:
        made = Desk(connection)
        await made.register()
        yield made
