"""Each state in which Realtime is silent and nobody says so (as seen on a real server): rows are dialed all the same.

The daemon's own parts, joined as in production, on the local gateway and a real PostgreSQL; only the PBX is a stand-in
that counts. The bell listens for INSERT changes alone, because broadcasts would ring through most of these states.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest

import adapter.ticker
from adapter.daemon import Daemon, Parts
from adapter.sandbox.gateway import Gateway
from adapter.sandbox.gateway.limits import Delays, Limits
from adapter.sandbox.postgres import Postgres
from adapter.settings import read
from adapter.supabase_io.config import BellTimings, DoorbellMode, SupabaseConfig
from adapter.supabase_io.database import Database
from adapter.supabase_io.doorbell import Doorbell
from adapter.supabase_io.outbox import Outbox
from tests.supabase_io.samples import new_id
from tests.support.db import installation
from tests.support.doubles import HandLink

SWEEP = 0.5

LATE = 4.0
"""Seconds by which a busy machine may miss the sweep; far below what any of these states lasts without a mend."""

QUICK = BellTimings(
    connect=2,
    subscribed=2.0,
    close=0.3,
    backoff_first=0.1,
    backoff_most=0.4,
    refused=0.5,
    limited=0.5,
    deaf_floor=1.0,
    deaf_most=4.0,
)
"""The defaults are some fifty times these."""


@dataclass(kw_only=True)
class Scene:
    """The running parts, and what a test asks of them."""

    dsn: str
    gateway: Gateway
    bell: Doorbell
    link: HandLink
    serial: int = field(default=0)

    async def run(self, sql: str, *values: object) -> Any:
        """One statement; while PostgreSQL is not there it is tried again."""
        async with asyncio.timeout(20):
            while True:
                try:
                    connection: Any = await asyncpg.connect(self.dsn)
                    try:
                        return await connection.fetchval(sql, *values)
                    finally:
                        await connection.close()
                except (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError):
                    await asyncio.sleep(0.05)

    async def insert(self) -> None:
        """One row, as an app inserts it."""
        self.serial += 1
        await self.run(
            "insert into public.call_queue (user_id, phone_number) values (gen_random_uuid(), $1)",
            f"012-345 {6000 + self.serial}",
        )

    async def placed(self, within: float) -> None:
        """Every row so far is dialed, once, within so many seconds."""
        started = time.monotonic()
        await until(lambda: len(self.link.sent) >= self.serial, 20)
        assert time.monotonic() - started <= within
        assert len(set(self.link.sent)) == len(self.link.sent) == self.serial

    async def seen(self) -> dict[str, Any]:
        """What an operator sees of the bell."""
        found = await self.run("select (status -> 'doorbell')::text from public.call_adapters")
        return dict(json.loads(found))

    async def shows(self, fits: Callable[[dict[str, Any]], bool], seconds: float = 15.0) -> None:
        """Wait until the operator sees what `fits`."""
        seen: dict[str, Any] = {}
        try:
            async with asyncio.timeout(seconds):
                while not fits(seen):
                    await asyncio.sleep(0.1)
                    seen = await self.seen()
        except TimeoutError:
            raise AssertionError(f"the heartbeat shows {seen}") from None

    async def heals(self) -> None:
        """With nothing but new rows coming in, they ring, and the operator sees that all is well.

        The first ring need not be the end of it: a row from before it may be found by the sweep only now.
        """
        rings = self.bell.status.rings
        seen: dict[str, Any] = {}
        try:
            async with asyncio.timeout(30):
                while self.bell.status.rings == rings or seen.get("state") != "live" or seen["deaf"] or seen["problem"]:
                    await self.insert()
                    await asyncio.sleep(0.4)
                    seen = await self.seen()
        except TimeoutError:
            raise AssertionError(f"the heartbeat shows {seen}") from None
        await self.placed(SWEEP + LATE)


async def until(met: Callable[[], object], seconds: float = 10.0) -> None:
    """Poll what has no event of its own."""
    async with asyncio.timeout(seconds):
        while not met():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def scene(
    dsn: str,
    place: Path,
    *,
    mode: DoorbellMode = DoorbellMode.CHANGES,
    deaf: bool = False,
    limits: Limits | None = None,
) -> AsyncIterator[Scene]:
    """The daemon's parts, running and live."""
    async with Gateway.started(dsn, delays=Delays(publication_check=0.5), limits=limits) as gateway:
        gateway.deaf = deaf
        config = SupabaseConfig(url=gateway.url, key=gateway.service_role_key, doorbell=mode, bell=QUICK)
        settings = read(
            {
                "SUPABASE_URL": gateway.url,
                "SUPABASE_SERVICE_ROLE_KEY": gateway.service_role_key,
                "MIKOPBX_HOST": "192.0.2.10",
                "MIKOPBX_AMI_USERNAME": "dialer",
                "MIKOPBX_AMI_PASSWORD": "p",
                "TRUNK": "SIP-TRUNK-1A2B3C4D",
                "BILLING": "off",
                "SWEEP_SECONDS": str(SWEEP),
                "CALLS_PER_SECOND": "50",
                # No call ends here.
                "MAX_CALLS": "500",
                "MAX_CALLS_IN_SETUP": "500",
            }
        )
        link, outbox = HandLink(), Outbox(place / "outbox.sqlite3")
        link.trunks = {settings["TRUNK"]: None}
        link.run = asyncio.Event().wait  # type: ignore[attr-defined]  # The stand-in has no life of its own.
        async with Database(config) as database:
            await database.register(adapter=new_id(), expected=0, nonce=new_id(), pbx=settings.pbx_name, info={})
            bell = Doorbell(config)
            parts = Parts(outbox=outbox, database=database, link=cast("Any", link), doorbell=bell)
            stop = asyncio.Event()
            running = asyncio.create_task(Daemon(settings, parts, 1, ()).run(stop))
            here = Scene(dsn=dsn, gateway=gateway, bell=bell, link=link)
            try:
                await until(lambda: bell.status.live)
                await here.shows(lambda seen: seen.get("state") == "live")
                yield here
                assert not running.done(), "no state ends the daemon"
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                await outbox.close()


Step = Callable[[Scene], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A state: how it comes, how it goes, and whether the link heals so fast that there is nothing to see."""

    hurt: Step
    mend: Step
    brief: bool = False
    connects: int
    """Most connections that may be made until it is over; the library alone makes hundreds a second in some."""


async def nothing(_scene: Scene) -> None:
    """It is over by itself, or the new join of a rebuilt line mends it."""


async def cut(here: Scene) -> None:
    here.gateway.drop_realtime_connections()


async def pause(here: Scene) -> None:
    here.gateway.pause_realtime()


async def kill(here: Scene) -> None:
    here.gateway.kill_realtime()


async def resume(here: Scene) -> None:
    here.gateway.resume_realtime()


async def reload(here: Scene) -> None:
    here.gateway.reload_realtime()


async def stop_worker(here: Scene) -> None:
    here.gateway.stop_replication()


async def forget(here: Scene) -> None:
    here.gateway.forget_subscriptions()


async def terminate(here: Scene) -> None:
    await here.run(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity "
        "where pid <> pg_backend_pid() and datname = current_database()"
    )


async def silence(here: Scene) -> None:
    here.gateway.deaf = True


async def speech(here: Scene) -> None:
    here.gateway.deaf = False


async def unpublish(here: Scene) -> None:
    await here.run("alter publication supabase_realtime drop table public.call_queue")


async def publish(here: Scene) -> None:
    await here.run("alter publication supabase_realtime add table public.call_queue")


STATES = {
    "connection cut": State(hurt=cut, mend=nothing, brief=True, connects=5),
    "server stopped, 1012": State(hurt=pause, mend=resume, connects=40),
    "server killed, 1006": State(hurt=kill, mend=resume, connects=40),
    "project reloaded": State(hurt=reload, mend=nothing, brief=True, connects=5),
    "replication worker stopped": State(hurt=stop_worker, mend=nothing, connects=5),
    "subscription deleted": State(hurt=forget, mend=nothing, connects=5),
    "backends terminated": State(hurt=terminate, mend=nothing, brief=True, connects=5),
    "deaf for a time": State(hurt=silence, mend=speech, connects=5),
    "table taken out of the publication": State(hurt=unpublish, mend=publish, connects=20),
}


@pytest.mark.parametrize("name", STATES)
async def test_calls_are_placed_though_realtime_says_nothing(
    name: str, db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter.ticker, "BELL_GRACE_SECONDS", 1.2)
    state = STATES[name]
    async with scene(db, tmp_path) as here:
        await here.heals()  # It rang before.
        connects = here.bell.status.connects
        await state.hurt(here)
        for _ in range(2):
            await here.insert()
            await here.placed(SWEEP + LATE)
        if not state.brief:
            await here.shows(lambda seen: bool(seen) and (seen["state"] != "live" or seen["deaf"]) and seen["problem"])
        await state.mend(here)
        await here.heals()
        assert here.bell.status.connects - connects <= state.connects


async def test_a_bell_that_is_deaf_from_its_join_on_is_seen_and_heals(
    db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a join to a publication that was empty a moment ago: "Subscribed", then nothing for up to a minute."""
    monkeypatch.setattr(adapter.ticker, "BELL_GRACE_SECONDS", 1.2)
    async with scene(db, tmp_path, deaf=True) as here:
        for _ in range(3):  # A row that meets the sweep of the join itself proves nothing.
            await here.insert()
            await here.placed(SWEEP + LATE)
        await here.shows(lambda seen: bool(seen) and seen["deaf"] and seen["missed"] >= 1)
        here.gateway.deaf = False
        await here.heals()
        assert here.bell.status.connects <= 4


async def test_over_the_event_rate_the_sweep_dials_and_nothing_is_hammered(
    db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter.ticker, "BELL_GRACE_SECONDS", 1.2)
    async with scene(db, tmp_path, limits=Limits(events_per_second=5, rate_seconds=3)) as here:
        rows = 40
        await here.run(
            "insert into public.call_queue (user_id, phone_number) "
            "select gen_random_uuid(), '012-345 ' || 7000 + n from generate_series(1, $1::integer) n",
            rows,
        )
        here.serial += rows
        await until(lambda: here.bell.status.rings)
        connects, rings = here.bell.status.connects, here.bell.status.rings
        assert rings < rows, "the rest was dropped, untold"
        await here.heals()
        assert here.bell.status.connects - connects <= 3


async def test_a_crash_of_postgresql_is_waited_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its postmaster ends every process and recovers. Joined clients hear nothing of it."""
    monkeypatch.setattr(adapter.ticker, "BELL_GRACE_SECONDS", 1.2)
    async with Postgres.started() as server:
        await server.create_project("crash")
        for script in installation():
            await server.run_script("crash", script.read_text("utf-8"), source=script.name)
        async with scene(server.dsn("crash"), tmp_path) as here:
            await here.heals()
            connects = here.bell.status.connects
            victim = await here.run("select pid from pg_stat_activity where backend_type = 'checkpointer'")
            os.kill(victim, signal.SIGKILL)
            await here.insert()
            await here.placed(15.0)
            await here.heals()
            assert here.bell.status.connects - connects <= 3


async def test_broadcasts_ring_through_a_dead_subscription(db: str, tmp_path: Path) -> None:
    """In mode auto the two ways stand in for each other: nothing is missed, so nothing is rebuilt."""
    async with scene(db, tmp_path, mode=DoorbellMode.AUTO) as here:
        here.gateway.stop_replication()
        for _ in range(3):
            rings = here.bell.status.rings
            await asyncio.sleep(0.2)  # The database rings at most every 100 ms.
            await here.insert()
            await until(lambda: here.bell.status.rings > rings)  # noqa: B023 - awaited within the round
        await here.placed(SWEEP + LATE)
        assert (here.bell.status.connects, here.bell.status.missed) == (1, 0)
