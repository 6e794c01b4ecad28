"""The real Asterisk pair. Where there is none the tests fail: `scripts/asterisk install` comes first.

What a call does is tried on the newest Asterisk and on the oldest that Debian still serves (`--release`).
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from adapter.sandbox.asterisk import RealPbx
from tests.asterisk.orders import HERE


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=HERE)
async def shared_pbx(request: pytest.FixtureRequest) -> AsyncIterator[RealPbx]:
    """One pair for all tests that do it no harm. Use other numbers than anybody else: each is called once."""
    async with RealPbx.started(release=request.param) as pbx:
        yield pbx


@pytest.fixture(params=HERE)
def release(request: pytest.FixtureRequest) -> str:
    """The Debian release of an Asterisk, for who starts a pair of one's own of each."""
    name: str = request.param
    return name


@pytest_asyncio.fixture
async def pbx() -> AsyncIterator[RealPbx]:
    """A pair of one's own, to be restarted, killed and frozen; it takes less than a second to start."""
    async with RealPbx.started() as own:
        yield own
