"""A desk: one registered adapter on a fresh project with our installation."""

from collections.abc import AsyncIterator

import pytest

from tests.supabase.helpers import Desk, connected


@pytest.fixture
async def desk(db: str) -> AsyncIterator[Desk]:
    """An adapter on a project that was empty before."""
    async with connected(db) as connection:
        made = Desk(connection)
        await made.register()
        yield made


@pytest.fixture
async def app_desk(app_db: str) -> AsyncIterator[Desk]:
    """An adapter on a project of the existing app."""
    async with connected(app_db) as connection:
        made = Desk(connection)
        await made.register()
        yield made
