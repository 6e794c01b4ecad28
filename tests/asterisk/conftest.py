"""The real Asterisk pair. Where there is none the tests fail: `scripts/asterisk install` comes first."""

from collections.abc import AsyncIterator

import pytest_asyncio

from adapter.sandbox.asterisk import RealPbx


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_pbx() -> AsyncIterator[RealPbx]:
    """One pair for all tests that do it no harm. Use other numbers than anybody else: each is called once."""
    async with RealPbx.started() as pbx:
        yield pbx


@pytest_asyncio.fixture
async def pbx() -> AsyncIterator[RealPbx]:
    """A pair of one's own, to be restarted, killed and frozen; it takes less than a second to start."""
    async with RealPbx.started() as own:
        yield own
