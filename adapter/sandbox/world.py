"""Everything on one machine: PostgreSQL, the local Supabase gateway, a PBX, and the real daemon.

    async with World.started() as world:
        ids = await world.queue([{"user_id": …, "phone_number": "+60 11-1000 0001"}])

The command `sandbox` and the end-to-end tests use the same world.
"""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import asyncpg
import httpx

import adapter
from adapter.sandbox.asterisk import RealPbx
from adapter.sandbox.asterisk.install import NEWEST
from adapter.sandbox.gateway import Gateway
from adapter.sandbox.mikopbx import SimulatedPbx
from adapter.sandbox.postgres import Postgres
from adapter.sandbox.process import Daemon
from adapter.sandbox.verdicts import ROWS, Rings, Row, rings_by_number

DATABASE = "sandbox"
STATE = "state"

SETTINGS: Mapping[str, str] = {
    "PBX_NAME": "sandbox",
    # The shortest ringing in which the slowest refusal of the number plan (6 s) still comes.
    "RING_SECONDS": "8",
    "MAX_CALL_SECONDS": "60",
    "MAX_CALLS": "50",
    "MAX_CALLS_PER_USER": "50",
    # A row that is tried again rings no bell, and nobody watches a sandbox for five seconds.
    "SWEEP_SECONDS": "1",
    "LOG_FORMAT": "human",
    "DEFAULT_REGION": "MY",
    # Who tries things out calls the same few numbers all day.
    "REPEAT_CALLS": "1000",
}
"""What the daemon is told beside addresses and keys."""

PACE = {"simulated": "20", "asterisk": "8"}
"""New calls a second. A real Asterisk with media sets up 10 a second cleanly on a small machine; 8 leaves it room."""

IMPATIENT = """
update public.call_outcomes set bound = 2, delay_seconds = 1 where retried = 'own_bound';
create or replace function public.sandbox_cools_quickly() returns trigger language plpgsql set search_path = '' as $$
begin
  new.cooled_until := least(new.cooled_until, clock_timestamp() + interval '1 second');
  return new;
end
$$;
create or replace trigger sandbox_cools_quickly before insert or update on public.call_trunk_health
  for each row execute function public.sandbox_cools_quickly();
"""
"""Calls that the carrier refused are tried again after half a minute or more; here after a second, and once less. Of
failures, a third of the example calls, a trunk cools down for a minute or more; here for a second."""

POLL_SECONDS = 0.1
"""Between two looks at rows that are waited for."""

BATCH = 25
"""Rows in one insert, as an app that starts a batch call sends them."""


class SandboxError(Exception):
    """Something that the sandbox needs is missing or failed; the words tell what to do."""


def install_sql() -> str:
    """Text of `supabase/install.sql`, which lies beside the package in a checkout."""
    path = Path(adapter.__file__).resolve().parent.parent / "supabase" / "install.sql"
    if not path.is_file():
        raise SandboxError(
            f"There is no {path}. The sandbox installs the adapter's tables from it, so it needs a checkout of the "
            "repository: clone it and run scripts/sandbox there."
        )
    return path.read_text()


@dataclass(kw_only=True)
class World:
    """A running sandbox. `directory` holds the daemon's log and its STATE_DIR."""

    kind: str
    postgres: Postgres
    dsn: str
    gateway: Gateway
    pbx: SimulatedPbx | RealPbx
    daemon: Daemon
    directory: Path
    http: httpx.AsyncClient
    pool: "asyncpg.Pool[asyncpg.Record]"

    @classmethod
    @asynccontextmanager
    async def started(
        cls,
        *,
        pbx: str = "simulated",
        speed: float = 1.0,
        release: str = NEWEST,
        settings: Mapping[str, str] | None = None,
        directory: Path | None = None,
        daemon: bool = True,
        echo: bool = False,
    ) -> AsyncIterator[Self]:
        """Start everything and stop it in the opposite order.

        `pbx`: `simulated` or `asterisk`. `speed`: of the simulated PBX. `release`: the Debian release of
        the real one. `settings`: further ones for the daemon.
        `directory`: of the log and the daemon's state, kept afterwards; None for one that is removed.
        `daemon` False leaves it to be started by hand.
        `echo`: the daemon's output goes to our standard error instead of its log.
        """
        async with AsyncExitStack() as stack:
            place = (directory or Path(tempfile.mkdtemp(prefix="mikopbx-adapter-sandbox-"))).absolute()
            if directory is None:
                stack.callback(shutil.rmtree, place, ignore_errors=True)
            else:
                place.mkdir(parents=True, exist_ok=True)
                # The database is new, so the identity and the outbox of an earlier run belong to nobody.
                shutil.rmtree(place / STATE, ignore_errors=True)
            schema = install_sql()
            postgres = await stack.enter_async_context(Postgres.started())
            await postgres.create_project(DATABASE)
            await postgres.run_script(DATABASE, schema, source="supabase/install.sql")
            await postgres.run_script(DATABASE, IMPATIENT, source="the sandbox's own settings")
            dsn = postgres.dsn(DATABASE)
            pool = await stack.enter_async_context(asyncpg.create_pool(dsn, min_size=1, max_size=2))
            gateway = await stack.enter_async_context(Gateway.started(dsn))
            exchange = await stack.enter_async_context(_pbx(pbx, speed, release))
            http = await stack.enter_async_context(
                httpx.AsyncClient(
                    base_url=gateway.url,
                    headers={"apikey": gateway.service_role_key, "Authorization": f"Bearer {gateway.service_role_key}"},
                    trust_env=False,
                )
            )
            process = Daemon(
                {
                    **SETTINGS,
                    **_connections(gateway, exchange, place),
                    "CALLS_PER_SECOND": PACE[pbx],
                    **(settings or {}),
                },
                place / "daemon.log",
                echo=echo,
            )
            stack.push_async_callback(process.stop)
            world = cls(
                kind=pbx,
                postgres=postgres,
                dsn=dsn,
                gateway=gateway,
                pbx=exchange,
                daemon=process,
                directory=place,
                http=http,
                pool=pool,
            )
            if daemon:
                await process.start()
            yield world

    @property
    def rings(self) -> Rings:
        """What the witness saw so far."""
        if isinstance(self.pbx, SimulatedPbx):
            return rings_by_number((invite.number, invite.call_id) for invite in self.pbx.calls)
        return rings_by_number((invite.number, invite.sip_call_id) for invite in self.pbx.calls)

    async def rows(self) -> list[Row]:
        """All rows of the queue as they are now."""
        return [Row(**dict(record)) for record in await self.pool.fetch(ROWS)]

    async def settled(self, ids: Collection[int], *, seconds: float = 60.0) -> list[Row]:
        """The rows with these ids, once all are final. Raises `SandboxError` if the daemon ends or time is up."""
        end = asyncio.get_running_loop().time() + seconds
        while True:
            rows = [row for row in await self.rows() if row.id in ids]
            waiting = [row for row in rows if not row.final]
            if not waiting:
                return rows
            if not self.daemon.running:
                raise SandboxError(f"the daemon ended while {len(waiting)} rows were open:\n{self.daemon.tail()}")
            if asyncio.get_running_loop().time() > end:
                raise SandboxError(f"{len(waiting)} rows were not final after {seconds:g} s:\n{self.daemon.tail()}")
            await asyncio.sleep(POLL_SECONDS)

    async def queue(self, rows: Sequence[Mapping[str, Any]]) -> list[int]:
        """Insert rows into `call_queue` as an app does, in batches through the REST API; their ids in order."""
        ids: list[int] = []
        for start in range(0, len(rows), BATCH):
            answer = await self.http.post(
                "/rest/v1/call_queue",
                json=list(rows[start : start + BATCH]),
                headers={"Prefer": "return=representation"},
            )
            if answer.is_error:
                raise SandboxError(f"The insert into call_queue was refused: {answer.status_code} {answer.text}")
            ids += [row["id"] for row in answer.json()]
        return ids


def _pbx(kind: str, speed: float, release: str) -> AbstractAsyncContextManager[SimulatedPbx | RealPbx]:
    if kind == "simulated":
        return SimulatedPbx.started(speed=speed)
    return RealPbx.started(release=release)


def _connections(gateway: Gateway, pbx: SimulatedPbx | RealPbx, directory: Path) -> dict[str, str]:
    return {
        "SUPABASE_URL": gateway.url,
        "SUPABASE_SERVICE_ROLE_KEY": gateway.service_role_key,
        "MIKOPBX_HOST": "127.0.0.1",
        "MIKOPBX_AMI_PORT": str(pbx.port),
        "MIKOPBX_AMI_USERNAME": pbx.username,
        "MIKOPBX_AMI_PASSWORD": pbx.password,
        "TRUNK": pbx.trunk,
        # Its users have no balance.
        "BILLING": "off",
        "STATE_DIR": str(directory / STATE),
    }
