"""One container with a real Asterisk, a real PostgreSQL and the local Supabase behind it, for all tests of this folder.

One, because a second adapter would rightly wait for the first one's lease; the container is stopped, killed and started
again on the same volume, as an owner's is. Two more, which can never work, wait out their `--hold` at the same time.
"""

import asyncio
import itertools
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from adapter.sandbox.asterisk import Invite, RealPbx
from adapter.sandbox.scenarios import BY_CODE, Scenario, number
from adapter.sandbox.verdicts import Row, faults
from adapter.sandbox.world import World
from adapter.supabase_io.statedir import StateDir
from tests.docker import composefile, memory
from tests.docker import image as images
from tests.docker.container import Place, Played
from tests.docker.image import Image

USER = "00000000-0000-4000-8000-00000000d0c4"

SLACK = 0.7
"""Seconds by which a real Asterisk under load may be late."""

RING_SECONDS = 8


@dataclass(slots=True, kw_only=True)
class Site:
    """The container with its world."""

    world: World
    container: Played
    _serial: "itertools.count[int]" = field(default_factory=itertools.count)

    @property
    def pbx(self) -> RealPbx:
        """The real one."""
        assert isinstance(self.world.pbx, RealPbx)
        return self.world.pbx

    async def running(self) -> None:
        """Return when the daemon may place calls."""
        if self.container.pid is None:
            await self.container.start()
        await self.until(lambda: self.ready, "ready")

    @property
    def ready(self) -> bool:
        """As the health file says."""
        return self.container.health.ready

    async def call(self, *codes: str) -> "Wishes":
        """Queue a call for a callee of each of these scenarios."""
        rows = [{"user_id": USER, "phone_number": number(code, next(self._serial))} for code in codes]
        ids = await self.world.queue(rows)
        scenarios = [BY_CODE[code] for code in codes]
        return Wishes(
            site=self, rows=dict(zip(ids, scenarios, strict=True)), numbers=[row["phone_number"] for row in rows]
        )

    async def until(self, true: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
        """Wait; on failure show what the container said last."""
        try:
            async with asyncio.timeout(seconds):
                while not true():
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"not {what} within {seconds:g} s\n{self.container.tail(40)}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """Queued calls, and what came of them: in the database, and at the carrier, who is the witness."""

    site: Site
    rows: dict[int, Scenario]
    numbers: list[str]

    @property
    def invites(self) -> list[Invite]:
        """What the carrier saw of them."""
        return [invite for wanted in self.numbers for invite in self.site.pbx.invites(wanted)]

    async def in_the_air(self) -> None:
        """Return when those who answer are talking and the others' phones ring."""

        def there() -> bool:
            up = [i for i in self.invites if i.ended is None and (i.answered if _answers(i) else i.rang) is not None]
            return len(up) == len(self.rows)

        await self.site.until(there, "all calls in the air")

    def alive(self) -> int:
        """How many legs the carrier still has."""
        return sum(invite.ended is None for invite in self.invites)

    async def final(self, seconds: float = 60.0) -> list[Row]:
        """The rows, once nothing more happens to them. The ten seconds after an answered call are cut short."""
        hasten = "update call_queue set settle_at = now() where settle_at > now()"
        async with asyncio.timeout(seconds):
            while True:
                rows = [row for row in await self.site.world.rows() if row.id in self.rows]
                if all(row.final for row in rows):
                    return rows
                await self.site.world.pool.execute(hasten)
                await asyncio.sleep(0.1)

    async def nothing_was_lost(self) -> None:
        """Every row has its callee's outcome, every phone rang once, and every call ended when its people wanted."""
        rows = await self.final()
        assert not faults(rows, self.rows, self.site.world.rings), self.site.container.tail(40)
        self.nobody_was_cut_off()

    def nobody_was_cut_off(self) -> None:
        """By the carrier's clock: talks lasted as long as the callee or the AI wanted, ringing as long as our limit."""
        for invite in self.invites:
            scenario = BY_CODE[invite.scenario]
            assert invite.ended is not None
            if invite.answered is not None:
                assert abs(invite.ended - invite.answered - scenario.talk) < SLACK, invite
            elif scenario.refuse_after is None:
                assert abs(invite.ended - invite.started - RING_SECONDS) < SLACK, invite


def _answers(invite: Invite) -> bool:
    return BY_CODE[invite.scenario].answers_after is not None


@pytest.fixture(scope="session")
def image() -> Image | None:
    """Made once; None without root, where the command runs as who we are."""
    return images.built() if os.geteuid() == 0 else None


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def site(image: Image | None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """The container, started."""
    folder = tmp_path_factory.mktemp("container")
    more = {"RING_SECONDS": str(RING_SECONDS), "LOG_FORMAT": "json"}
    async with AsyncExitStack() as stack:
        limit = stack.enter_context(memory.limited(composefile.size(composefile.adapter()["mem_limit"])))
        started = World.started(pbx="asterisk", directory=folder / "world", settings=more, daemon=False)
        world = await stack.enter_async_context(started)
        place = Place(folder=folder, image=image)
        container = Played(place=place, settings=world.daemon.settings, limit=limit if image else None)
        stack.push_async_callback(container.stop)
        await container.start()
        yield Site(world=world, container=container)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def misconfigured(image: Image | None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Played]:
    """A container whose settings cannot work."""
    folder: Path = tmp_path_factory.mktemp("misconfigured")
    settings = {"SUPABASE_SERVICE_ROLE_KEY": "a-key", "MIKOPBX_AMI_PASSWORD": "a-secret", "MAX_CALLS": "many"}
    container = Played(place=Place(folder=folder, image=image), settings=settings)
    await container.start()
    yield container
    await container.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def second(site: Site, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Played]:
    """A container whose volume is in use, as with `--scale adapter=2`. Here it is we who hold its lock: the first
    container is stopped by tests, and then its volume would be free."""
    place = Place(folder=tmp_path_factory.mktemp("second"), image=site.container.place.image)
    container = Played(place=place, settings=site.container.settings)
    place.lay_out(container.settings)
    with StateDir.open(place.state):
        for file in place.state.iterdir():
            shutil.chown(file, *[place.state.stat().st_uid] * 2)
        await container.start()
        yield container
        await container.stop()
