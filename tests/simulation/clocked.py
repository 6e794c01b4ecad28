"""Our installation on a real PostgreSQL whose clock and call ids are ours.

Every `now()`, `clock_timestamp()` and new call id in install.sql is replaced by a function that reads a setting.
Nothing else differs from what users install.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from hashlib import md5
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg

from adapter.core.hours import Window
from adapter.core.model import OpenCall
from adapter.sandbox.postgres import Postgres
from adapter.supabase_io import replies
from adapter.supabase_io.database import Registered, SyncReply, SyncRequest
from tests.simulation.store import Refused, Store
from tests.simulation.store_tables import (
    Adapter,
    Day,
    Dial,
    Health,
    LaneTurn,
    Log,
    Pbx,
    RetryRule,
    Row,
    Stop,
    Tenant,
    Trunk,
)
from tests.support.db import installation

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_CLOCK = """
create function public.sim_now() returns timestamptz language sql stable set search_path = '' as $$
  select coalesce(nullif(current_setting('sim.now', true), ''), '2026-01-01 00:00:00+00')::timestamptz
$$;
create function public.sim_call_id(p_row bigint) returns uuid language sql stable set search_path = '' as $$
  select md5(p_row || ' ' || (extract(epoch from public.sim_now()) * 1000000)::bigint)::uuid
$$;
"""

_RESET = """
truncate public.call_queue, public.call_logs, public.call_tenants, public.call_lanes, public.call_arrivals,
  public.call_pauses, public.call_adapters, public.call_pbx, public.call_dials,
  public.call_trunks, public.call_trunk_health, public.call_limits,
  public.do_not_call, public.call_days, public.call_user_caps,
  public.call_hours, public.call_campaign_dates, public.call_user_zones, public.call_retry_rules,
  public.call_stops restart identity;
alter sequence public.call_claim_number restart;
alter sequence public.call_turn restart;
update public.call_bell set rung_at = '-infinity';
update public.call_settings set repair_user = null, repair_lane = null, repaired_at = '-infinity',
  max_calls = null, trunks_version = 1;
"""


def call_id(row: int, now: float) -> str:
    """As `sim_call_id`."""
    return str(UUID(md5(f"{row} {round(now * 1e6)}".encode(), usedforsecurity=False).hexdigest()))


def clocked(script: str) -> str:
    """The installation with our clock and call ids."""
    script, clocks = re.subn(r"\b(?:clock_timestamp|now)\(\)", "public.sim_now()", script)
    script, ids = re.subn(
        r"\b(\w+)\.call_id := gen_random_uuid\(\)", r"\1.call_id := public.sim_call_id(\1.id)", script
    )
    if clocks < 20 or ids < 4:
        raise AssertionError(f"install.sql has {clocks} clocks and {ids} new call ids: has its style changed?")
    return script


async def make_project(server: Postgres, name: str) -> str:
    """The dsn of a project with the clocked installation."""
    await server.drop_database(name)
    await server.create_project(name)
    await server.run_script(name, _CLOCK)
    for script in installation():
        await server.run_script(name, clocked(script.read_text(encoding="utf-8")), source=script.name)
    return server.dsn(name)


_NAMES = {
    "rows": ("select * from public.call_queue", Row),
    "logs": ("select * from public.call_logs", Log),
    "tenants": ("select * from public.call_tenants", Tenant),
    "lanes": ("select * from public.call_lanes", LaneTurn),
    "adapters": ("select * from public.call_adapters", Adapter),
    "pbxs": ("select * from public.call_pbx", Pbx),
    "trunks": ("select * from public.call_trunks", Trunk),
    "health": ("select * from public.call_trunk_health", Health),
    "dials": ("select * from public.call_dials", Dial),
    "days": ("select * from public.call_days", Day),
    "stops": ("select * from public.call_stops", Stop),
}
_KEYS = {
    "rows": ("id",), "logs": ("call_id",), "tenants": ("user_id",), "lanes": ("user_id", "lane"),
    "adapters": ("adapter",), "pbxs": ("pbx",), "trunks": ("pbx", "trunk"), "health": ("pbx", "trunk"),
    "dials": ("call_id",), "days": ("user_id", "day"),
    "stops": ("id",),
}  # fmt: skip
_COLUMNS = {name: tuple(column.name for column in fields(kind)) for name, (_, kind) in _NAMES.items()}

Contents: TypeAlias = dict[str, Any]


def contents_of_store(store: Store) -> Contents:
    """Everything, table by table, key by key."""
    tables = store.tables
    found: Contents = {name: {_key(key): vars(row) for key, row in getattr(tables, name).items()} for name in _NAMES}
    found["arrivals"] = sorted(tables.arrivals)
    found["sequences"] = tables.last_claim, tables.last_turn
    found["repair"] = tables.repair
    return found


def _key(key: Any) -> Any:
    return key if isinstance(key, tuple) else (key,)


class ClockedPostgres:
    """The same operations as `Store`, on the real functions."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @classmethod
    async def on(cls, connection: Connection) -> "ClockedPostgres":
        """Take over a connection."""
        await connection.execute("set timezone = 'UTC'")
        await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
        return cls(connection)

    async def reset(self) -> None:
        """An empty project."""
        await self._connection.execute(_RESET)

    async def contents(self) -> Contents:
        """Everything, table by table, key by key."""
        found: Contents = {}
        for name, (query, _) in _NAMES.items():
            found[name] = {
                tuple(_plain(row[key]) for key in _KEYS[name]): {key: _plain(row[key]) for key in _COLUMNS[name]}
                for row in await self._connection.fetch(query)
            }
        arrivals = await self._connection.fetch("select user_id, lane, due_at from public.call_arrivals")
        found["arrivals"] = sorted(tuple(map(_plain, row.values())) for row in arrivals)
        row = await self._connection.fetchrow(
            "select case when c.is_called then c.last_value else 0 end, "
            "case when t.is_called then t.last_value else 0 end, repair_user, repair_lane "
            "from public.call_claim_number c, public.call_turn t, public.call_settings s"
        )
        assert row is not None
        found["sequences"] = row[0], row[1]
        found["repair"] = None if row[2] is None else (str(row[2]), str(row[3]))
        return found

    async def at(self, now: float) -> None:
        """Set the clock."""
        await self._connection.execute("select set_config('sim.now', $1, false)", _moment(now).isoformat())

    async def insert(self, *, now: float, **columns: Any) -> int:
        """As `Store.insert`."""
        await self.at(now)
        row: int | None = await self._run(
            f"insert into public.call_queue ({', '.join(columns)}) values ({_marks(columns)}) returning id",  # noqa: S608
            *map(_sql, columns.items()),
        )
        return row or 0

    async def edit(self, row: int, now: float, **changes: Any) -> bool:
        """As `Store.edit`."""
        await self.at(now)
        sets = ", ".join(f"{name} = ${serial}" for serial, name in enumerate(changes, 2))
        found = await self._run(
            f"update public.call_queue set {sets} where id = $1 returning id",  # noqa: S608
            row,
            *map(_sql, changes.items()),
        )
        return found is not None

    async def cancel(self, row: int, reason: str | None, now: float) -> str:
        """As `Store.cancel`."""
        await self.at(now)
        status: str = await self._run("select public.call_cancel_v1($1, $2)", row, reason)
        return status

    async def delete_row(self, row: int, now: float) -> bool:
        """As `Store.delete_row`."""
        await self.at(now)
        return await self._run("delete from public.call_queue where id = $1 returning id", row) is not None

    async def delete_log(self, call_id: str) -> bool:
        """As `Store.delete_log`."""
        return await self._run("delete from public.call_logs where call_id = $1 returning id", call_id) is not None

    async def handler_word(self, call_id: str, word: str, now: float, **columns: Any) -> bool:
        """As `Store.handler_word`."""
        await self.at(now)
        columns = {"status": word, "updated_at": now, **columns}
        sets = ", ".join(f"{name} = ${serial}" for serial, name in enumerate(columns, 2))
        found = await self._run(
            f"update public.call_logs set {sets} where call_id = $1 returning id",  # noqa: S608
            call_id,
            *map(_sql, columns.items()),
        )
        return found is not None

    async def pause(self, user: str, lane: str | None, paused: bool, now: float) -> bool:
        """As `Store.pause`."""
        await self.at(now)
        if lane is None:
            query = "update public.call_tenants set paused = $2 where user_id = $1 returning user_id"
            return await self._run(query, user, paused) is not None
        query = "update public.call_lanes set paused = $3 where user_id = $1 and lane = $2 returning user_id"
        return await self._run(query, user, lane, paused) is not None

    async def stop(self, kind: str, key: str, reason: str | None, now: float) -> tuple[bool, int]:
        """As `Store.stop`."""
        await self.at(now)
        told = await self._run("select public.call_pause_v1($1, $2, $3)", kind, key, reason)
        return told["before"], told["live"]

    async def unstop(self, kind: str, key: str, now: float) -> tuple[bool, str | None]:
        """As `Store.unstop`."""
        await self.at(now)
        told = await self._run("select public.call_resume_v1($1, $2)", kind, key)
        return told["was"], told["still"]

    async def trunk(self, pbx: str, trunk: str, now: float, **columns: Any) -> None:
        """As `Store.trunk`."""
        await self.at(now)
        names = ("pbx", "trunk", *columns)
        sets = ", ".join(f"{name} = excluded.{name}" for name in names)
        await self._run(
            f"insert into public.call_trunks ({', '.join(names)}) values ({_marks(dict.fromkeys(names))}) "  # noqa: S608
            f"on conflict (pbx, trunk) do update set {sets}",
            pbx,
            trunk,
            *columns.values(),
        )

    async def drop_trunk(self, pbx: str, trunk: str, now: float) -> bool:
        """As `Store.drop_trunk`."""
        await self.at(now)
        query = "delete from public.call_trunks where pbx = $1 and trunk = $2 returning pbx"
        return await self._run(query, pbx, trunk) is not None

    async def forgive(self, trunk: str, now: float) -> bool:
        """As `Store.forgive`."""
        await self.at(now)
        was: bool = await self._run("select public.call_trunk_forgive($1)", trunk)
        return was

    async def limit(self, kind: str, key: str | None, most: int | None, now: float) -> None:
        """As `Store.limit`."""
        await self.at(now)
        if key is None:
            await self._run("update public.call_settings set max_calls = $1", most)
        elif most is None:
            await self._run("delete from public.call_limits where kind = $1 and key = $2", kind, key)
        else:
            query = (
                "insert into public.call_limits (kind, key, max_calls) values ($1, $2, $3) "
                "on conflict (kind, key) do update set max_calls = excluded.max_calls"
            )
            await self._run(query, kind, key, most)

    async def hours(self, scope: str, of: str, windows: Sequence[Window], now: float) -> None:
        """As `Store.hours`."""
        await self.at(now)
        await self._run("delete from public.call_hours where scope = $1 and scope_id = $2", scope, of)
        for window in windows:
            times = (f"{second // 3600:02d}:{second // 60 % 60:02d}" for second in (window.start, window.end))
            await self._run(
                "insert into public.call_hours (scope, scope_id, days, from_time, to_time) "
                "values ($1, $2, $3, $4::text::time, $5::text::time)",
                scope, of, sorted(window.days), *times,
            )  # fmt: skip

    async def dates(self, campaign: str, starts_at: float | None, ends_at: float | None, now: float) -> None:
        """As `Store.dates`."""
        await self.at(now)
        await self._run("delete from public.call_campaign_dates where campaign_id = $1", campaign)
        if (starts_at, ends_at) != (None, None):
            moments = (None if at is None else _moment(at) for at in (starts_at, ends_at))
            await self._run("insert into public.call_campaign_dates values ($1, $2, $3)", campaign, *moments)

    async def forbid(self, e164: str, user: str | None, expires_at: float | None, now: float) -> None:
        """As `Store.forbid`."""
        await self.at(now)
        await self._run(
            "insert into public.do_not_call (e164, user_id, expires_at) values ($1, $2, $3) "
            "on conflict (e164, user_id) do update set expires_at = excluded.expires_at",
            e164, user, None if expires_at is None else _moment(expires_at),
        )  # fmt: skip

    async def user_cap(self, user: str, calls: int | None, minutes: int | None, now: float) -> None:
        """As `Store.user_cap`."""
        await self.at(now)
        await self._run(
            "insert into public.call_user_caps values ($1, $2, $3) on conflict (user_id) do update "
            "set calls_per_day = excluded.calls_per_day, minutes_per_day = excluded.minutes_per_day",
            user, calls, minutes,
        )  # fmt: skip

    async def user_zone(self, user: str, zone: str | None, now: float) -> None:
        """As `Store.user_zone`."""
        await self.at(now)
        await self._run("delete from public.call_user_zones where user_id = $1", user)
        if zone is not None:
            await self._run("insert into public.call_user_zones values ($1, $2)", user, zone)

    async def retry(self, scope: str, of: str | None, outcome: str, said: RetryRule | None, now: float) -> None:
        """As `Store.retry`."""
        await self.at(now)
        calls, delays, spread = said or (None, None, None)
        query = "select public.call_retry_set_v1($1, $2, $3, $4, $5, $6)"
        await self._run(query, scope, of, outcome, calls, delays, spread)

    async def forget_turns(self, user: str, now: float) -> int:
        """As `Store.forget_turns`."""
        await self.at(now)
        await self._run("delete from public.call_tenants where user_id = $1", user)
        query = "with gone as (delete from public.call_lanes where user_id = $1 returning 1) select count(*) from gone"
        count: int = await self._run(query, user)
        return count

    async def register(  # noqa: PLR0917  # As `Store.register`.
        self, adapter: str, expected: int, nonce: str, pbx: str | None, info: Mapping[str, Any], now: float
    ) -> Registered:
        """As `Store.register`."""
        await self.at(now)
        answer = await self._run(
            "select public.call_register_v1($1, $2, $3, $4, $5)", adapter, expected, nonce, pbx, info
        )
        return replies.registered(answer)

    async def sync(self, adapter: str, incarnation: int, request: SyncRequest, now: float) -> SyncReply:
        """As `Store.sync`; the request is put together as `Database` does."""
        await self.at(now)
        answer = await self._run(
            "select public.call_sync_v1($1, $2, $3, $4, $5, $6)",
            adapter,
            incarnation,
            [{**record, "seq": seq} for seq, record in request.records],
            dict(request.status),
            request.room,
            request.claim_id,
        )
        return replies.synced(answer)

    async def witness(self, adapter: str, calls: Sequence[str], now: float) -> tuple[OpenCall, ...]:
        """As `Store.witness`."""
        await self.at(now)
        return replies.wanted(await self._run("select public.call_witness_v1($1, $2)", adapter, list(calls))).open

    async def _run(self, query: str, *values: Any) -> Any:
        try:
            return await self._connection.fetchval(query, *values)
        except asyncpg.PostgresError as error:
            raise Refused(error.args[0], error.sqlstate or "") from None


def _marks(columns: Mapping[str, Any]) -> str:
    return ", ".join(f"${serial}" for serial, _ in enumerate(columns, 1))


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


_INSTANTS = frozenset({"not_before", "expires_at", "updated_at"})


def _sql(item: tuple[str, Any]) -> Any:
    name, value = item
    return _moment(value) if name in _INSTANTS and value is not None else value


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.timestamp()
    return str(value) if isinstance(value, UUID) else value
