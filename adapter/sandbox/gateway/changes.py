"""`postgres_changes`: a replication slot, polled through SQL, and what each subscriber may see of it.

Like the real server: the slot is temporary and only read while somebody is subscribed; only tables of the publication
`supabase_realtime` are heard of; a row is delivered with the rights that its subscriber's role has when it is read;
nothing is ever delivered again.
"""

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Protocol, TypeAlias

import asyncpg

from adapter.log import say
from adapter.sandbox.gateway.bindings import Binding, Filter
from adapter.sandbox.gateway.catalog import AnyConnection, identifier
from adapter.sandbox.gateway.frames import dumps
from adapter.sandbox.gateway.limits import Delays, Limits
from adapter.sandbox.gateway.pgoutput import Change, Decoder, Relation, Row

log = logging.getLogger(__name__)

PUBLICATION = "supabase_realtime"

READY_SECONDS = 10.0
"""How long a new subscriber waits for the slot before it hears "Too many database timeouts"."""

STOP_SECONDS = 2.0
"""A database that does not answer for this long at the end is left to itself."""

RESTART_SECONDS = 1.0
"""Between a broken feed and the next try."""

SMALL_BYTES = 64
"""Values up to this size stay in the record of a row that is too large."""

UNAUTHORIZED = '["Error 401: Unauthorized"]'
TOO_LARGE = '["Error 413: Payload Too Large"]'

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class Subscriber(Protocol):
    """A channel, as far as this module is concerned."""

    @property
    def bindings(self) -> tuple[Binding, ...]: ...
    @property
    def claims(self) -> Mapping[str, Any]: ...
    @property
    def role(self) -> str: ...

    def changed(self, payload: str) -> None:
        """Deliver the payload (JSON text) of one `postgres_changes` frame."""

    def lost_table(self, message: str) -> None:
        """A table of the subscription has left the publication."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a role may see of a table: its columns, and whether row security has to be asked for each row."""

    columns: tuple[str, ...]
    row_security: bool


@dataclass(slots=True, kw_only=True)
class Types:
    """Names of a table's column types: for SQL, and as Realtime prints them."""

    sql: Mapping[str, str]
    short: Mapping[str, str]


@dataclass(slots=True, kw_only=True, eq=False)
class Changes:
    """The poller. `dsn`: a user with REPLICATION; `pool`: connections that may become any API role."""

    dsn: str
    pool: "asyncpg.Pool[asyncpg.Record]"
    delays: Delays
    limits: Limits
    _subscribers: dict[Subscriber, None] = field(default_factory=dict)
    _in_force: set[Subscriber] = field(default_factory=set)
    _heirs: dict[Subscriber, Subscriber] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None
    _broken: bool = False
    _ready: asyncio.Event = field(default_factory=asyncio.Event)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def running(self) -> bool:
        """Whether the slot exists and is being read."""
        return self._ready.is_set()

    def enter(self, subscriber: Subscriber, *, after: Subscriber | None = None) -> None:
        """Count a subscriber whose `confirm` follows. `after`: its predecessor, whose subscription it may continue."""
        self._subscribers[subscriber] = None
        if after in self._in_force and after.bindings == subscriber.bindings:
            self._in_force.add(subscriber)
            self._heirs[after] = subscriber
        self._idle.clear()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="sandbox changes")

    async def confirm(self, subscriber: Subscriber) -> str | None:
        """Put the subscription in force; returns the error message if that is not possible.

        Rows committed before, while the slot was being made, are lost, as on the real server.
        """
        cold = not self._ready.is_set()
        error: str | None = '{:error, "Too many database timeouts"}'
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._ready.wait()
                error = await self._refused(subscriber)
        except (TimeoutError, OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError):
            pass  # The error message is already the right one.
        if error:
            self.leave(subscriber)
            return error
        if cold:
            await asyncio.sleep(self.delays.subscribe_cold)
        self._in_force.add(subscriber)
        return None

    def leave(self, subscriber: Subscriber) -> None:
        """Forget it; when the last one goes the slot goes too."""
        self._subscribers.pop(subscriber, None)
        self._in_force.discard(subscriber)
        if not self._subscribers:
            self._idle.set()

    def forget(self) -> None:
        """A fault: every subscription is gone, as if its row in the database were deleted. The slot is read on."""
        self._in_force.clear()

    def stop_worker(self) -> None:
        """A fault: the worker ends. Who was subscribed stays dead, untold; a new join starts another worker."""
        self._subscribers.clear()
        self._in_force.clear()
        self._idle.set()

    async def stop(self) -> None:
        """Forget everybody and wait until the slot is gone."""
        self._subscribers.clear()
        self._in_force.clear()
        self._idle.set()
        if self._task:
            # Not canceled at once: the query under way takes milliseconds, and its end would be left to chance.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._task, STOP_SECONDS)

    # ------------------------------------------------------------ the slot

    async def _run(self) -> None:
        while self._subscribers:
            try:
                connection = await asyncpg.connect(self.dsn, statement_cache_size=0)
                try:
                    slot = f"sandbox_{secrets.token_hex(6)}"
                    await connection.fetchval("select pg_create_logical_replication_slot($1, 'pgoutput', true)", slot)
                    self._ready.set()
                    self._broken = False
                    await self._poll(connection, slot)
                finally:
                    self._ready.clear()
                    await connection.close(timeout=STOP_SECONDS)
            # The internal one: the connection was lost in the very step in which the next question was put.
            except (OSError, asyncpg.InterfaceError, asyncpg.PostgresError, asyncpg.InternalClientError) as error:
                # As on the real server: subscribers hear nothing of it, and what is committed meanwhile is lost.
                if not self._broken:
                    say(log, logging.WARNING, "gateway.changes_lost", "The change feed broke", error=str(error))
                self._broken = True
                await self._pause(RESTART_SECONDS)
        self._task = None  # Nothing is awaited between the last look at the subscribers and here.

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)

    async def _poll(self, connection: Connection, slot: str) -> None:
        decoder = Decoder()
        checked = time.monotonic()
        while self._subscribers:
            found = await connection.fetch(
                "select data from pg_logical_slot_get_binary_changes("
                "$1, null, null, 'proto_version', '1', 'publication_names', $2)",
                slot,
                PUBLICATION,
            )
            changes = list(decoder.changes(row["data"] for row in found))
            self._heirs.clear()
            await self._deliver(connection, changes)
            if time.monotonic() - checked > self.delays.publication_check:
                checked = time.monotonic()
                await self._check_publication(connection)
            if not changes:
                await self._pause(self.delays.poll)

    async def _check_publication(self, connection: Connection) -> None:
        published = await _published(connection)
        for subscriber in list(self._in_force):
            gone = next((b for b in subscriber.bindings if not _fits(b, published)), None)
            if gone:
                # Putting the table back does not revive the subscription; a new join does.
                self.leave(subscriber)
                subscriber.lost_table(gone.not_published)

    async def _refused(self, subscriber: Subscriber) -> str | None:
        async with self.pool.acquire() as connection:
            published = await _published(connection)
            known_role = await connection.fetchval(
                "select exists (select from pg_roles where rolname = $1)", subscriber.role
            )
            for binding in subscriber.bindings:
                if not _fits(binding, published):
                    return binding.not_published
                if not known_role:
                    return binding.failed(f'ERROR 42704 (undefined_object) role "{subscriber.role}" does not exist')
                for wanted in binding.filters:
                    error = await _filter_refused(connection, binding, wanted)
                    if error:
                        return binding.failed(error)
        return None

    # ------------------------------------------------------------ delivery

    async def _deliver(self, connection: Connection, changes: Sequence[Change]) -> None:
        """Changes in order; neighbors of one table and one shape are made into JSON together."""
        for relation, shaped in groupby(changes, key=lambda change: change.relation):
            heard = [
                subscriber
                for subscriber in self._subscribers
                if subscriber in self._in_force
                and any(binding.concerns(relation.schema, relation.table) for binding in subscriber.bindings)
            ]
            if not heard:
                continue
            types = await _types(connection, relation)
            sights = {role: await _sight(connection, relation, role) for role in {s.role for s in heard}}
            batch = list(shaped)
            texts = _Texts(connection=connection, types=types)
            await texts.prepare(batch, {sight.columns for sight in sights.values()})
            for change in batch:
                for subscriber in heard:
                    await self._deliver_one(connection, change, subscriber, sights[subscriber.role], texts)

    async def _deliver_one(
        self, connection: Connection, change: Change, subscriber: Subscriber, sight: Sight, texts: "_Texts"
    ) -> None:
        relation = change.relation
        matching = [b for b in subscriber.bindings if b.hears(relation.schema, relation.table, change.kind)]
        matching = [b for b in matching if await _passes(connection, b.filters, change, texts.types)]
        if not matching:
            return
        ids = dumps([binding.id for binding in matching])
        place = f'"table":{dumps(relation.table)},"type":{dumps(change.kind)}'
        if not sight.columns:
            data = f'{place},"record":{{}},"columns":[],"errors":{UNAUTHORIZED}'
            schema = f'"schema":{dumps(relation.schema)},"commit_timestamp":null'
        else:
            if (
                sight.row_security
                and change.new is not None
                and not await self._visible(change, subscriber, texts.types)
            ):
                return
            narrowed = next((b.columns for b in matching if b.columns is not None), None)
            names = tuple(name for name in sight.columns if narrowed is None or name in narrowed)
            data = f"{place},{await texts.fields(change, names, self.limits.record_bytes)}"
            schema = f'"schema":{dumps(relation.schema)},"commit_timestamp":{dumps(change.committed)}'
        while subscriber in self._heirs:  # It was joined anew while we were busy: the same bindings, a new channel.
            subscriber = self._heirs[subscriber]
        if subscriber in self._in_force:
            subscriber.changed(f'{{"data":{{{data},{schema}}},"ids":{ids}}}')

    async def _visible(self, change: Change, subscriber: Subscriber, types: Types) -> bool:
        """Whether row security lets the subscriber's role see the row, as it is in the table now."""
        relation, row = change.relation, change.new or {}
        keys = [column.name for column in relation.columns if column.key]
        conditions = " and ".join(f"{identifier(k)} = (${n}::text)::{types.sql[k]}" for n, k in enumerate(keys, 1))
        table = f"{identifier(relation.schema)}.{identifier(relation.table)}"
        if not keys:
            return False  # Nothing to find the row by.
        try:
            async with self.pool.acquire() as connection, connection.transaction():
                await become(connection, subscriber.claims)
                sql = f"select exists (select from {table} where {conditions})"  # noqa: S608 - quoted names
                return bool(await connection.fetchval(sql, *(row.get(key) for key in keys)))
        except asyncpg.PostgresError:
            return False


async def become(connection: AnyConnection, claims: Mapping[str, Any]) -> None:
    """For the rest of the transaction be the role of these claims."""
    await connection.execute(
        "select set_config('request.jwt.claims', $1, true), set_config('role', $2, true)",
        json.dumps(claims),
        str(claims["role"]),
    )


async def _published(connection: AnyConnection) -> list[tuple[str, str]]:
    found = await connection.fetch(
        "select schemaname, tablename from pg_publication_tables where pubname = $1", PUBLICATION
    )
    return [(row["schemaname"], row["tablename"]) for row in found]


def _fits(binding: Binding, published: Iterable[tuple[str, str]]) -> bool:
    return any(binding.concerns(schema, table) for schema, table in published)


async def _filter_refused(connection: AnyConnection, binding: Binding, wanted: Filter) -> str | None:
    type_ = await connection.fetchval(
        "select format_type(atttypid, -1) from pg_attribute "
        "where attrelid = to_regclass(format('%I.%I', $1::text, $2::text)) and attname = $3",
        binding.schema,
        binding.table,
        wanted.column,
    )
    if type_ is None:
        return f"ERROR P0001 (raise_exception) invalid column for filter {wanted.column}"
    try:
        await connection.fetchval(f"select {wanted.sql.format(type=type_)}", None, wanted.operand)
    except asyncpg.PostgresError as error:
        return f"ERROR {error.sqlstate} {error}"
    return None


async def _passes(connection: Connection, filters: Sequence[Filter], change: Change, types: Types) -> bool:
    row = change.new if change.new is not None else change.old or {}
    for wanted in filters:
        sql = f"select {wanted.sql.format(type=types.sql[wanted.column])}"
        if not await connection.fetchval(sql, row.get(wanted.column), wanted.operand):
            return False
    return True


async def _types(connection: Connection, relation: Relation) -> Types:
    found = await connection.fetch(
        "select oid::int8 as oid, typname, format_type(oid, -1) as sql from pg_type where oid = any ($1::oid[])",
        [column.type_oid for column in relation.columns],
    )
    by_oid = {row["oid"]: row for row in found}
    return Types(
        sql={column.name: by_oid[column.type_oid]["sql"] for column in relation.columns},
        short={column.name: by_oid[column.type_oid]["typname"] for column in relation.columns},
    )


async def _sight(connection: Connection, relation: Relation, role: str) -> Sight:
    row = await connection.fetchrow(
        "select c.relrowsecurity and not r.rolbypassrls as row_security, "
        "array(select attname::text from pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped"
        " and has_column_privilege(r.oid, c.oid, attnum, 'select')) as columns "
        "from pg_class c, pg_roles r where c.oid = $1 and r.rolname = $2",
        relation.oid,
        role,
    )
    if row is None:
        return Sight(columns=(), row_security=False)
    may_see = set(row["columns"])
    keys = [column.name for column in relation.columns if column.key]
    visible = tuple(column.name for column in relation.columns if column.name in may_see)
    # Without the key a row cannot be told from another: as if nothing were granted.
    return Sight(columns=visible if all(key in may_see for key in keys) else (), row_security=row["row_security"])


@dataclass(slots=True, kw_only=True)
class _Texts:
    """Rows as JSON text, made by PostgreSQL itself: full digits, its own spelling of times."""

    connection: Connection
    types: Types
    _made: dict[tuple[int, tuple[str, ...]], str] = field(default_factory=dict)

    async def prepare(self, changes: Sequence[Change], column_sets: Iterable[tuple[str, ...]]) -> None:
        """Make the records of all these changes in few statements instead of one each."""
        for names in column_sets:
            for present, alike in groupby(
                (change for change in changes if change.new is not None), key=lambda c: _present(c.new or {}, names)
            ):
                rows = [change.new or {} for change in alike]
                for row, text in zip(rows, await self._rendered(rows, present), strict=True):
                    self._made[id(row), names] = text

    async def fields(self, change: Change, names: tuple[str, ...], most_bytes: int) -> str:
        """`"record":…,"old_record":…,"columns":…,"errors":…` of one change, restricted to these columns."""
        parts, errors = [], "null"
        new = change.new
        if new is not None:
            too_large = sum(len(text or "") for text in new.values()) > most_bytes
            if too_large:
                errors = TOO_LARGE
                small = {name: text for name, text in new.items() if len(text or "") <= SMALL_BYTES}
                parts.append(f'"record":{await self._one(small, names)}')
            else:
                parts.append(f'"record":{self._made.get((id(new), names)) or await self._one(new, names)}')
        if change.kind != "INSERT":
            parts.append(f'"old_record":{await self._one(_old(change), names)}')
        columns = json.dumps([{"name": name, "type": self.types.short[name]} for name in names], ensure_ascii=False)
        return ",".join([*parts, f'"columns":{columns}', f'"errors":{errors}'])

    async def _one(self, row: Row, names: tuple[str, ...]) -> str:
        return (await self._rendered([row], _present(row, names)))[0]

    async def _rendered(self, rows: Sequence[Row], names: tuple[str, ...]) -> list[str]:
        if not names:
            return ["{}"] * len(rows)
        arrays = ", ".join(f"${n}::text[]" for n in range(1, len(names) + 1))
        aliases = ", ".join(f"c{n}" for n in range(len(names)))
        fields = ", ".join(
            f"{_json_value(f'u.c{n}', self.types.sql[name])} as {identifier(name)}" for n, name in enumerate(names)
        )
        found = await self.connection.fetch(
            f"select to_jsonb(r)::text from unnest({arrays}) with ordinality as u ({aliases}, n), "  # noqa: S608
            f"lateral (select {fields}) r order by u.n",
            *([row[name] for row in rows] for name in names),
        )
        return [str(row[0]) for row in found]


def _present(row: Row, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name in row)


def _old(change: Change) -> Row:
    """The old row if the table logs it whole, else its key."""
    old = change.old if change.old is not None else change.new or {}
    if change.old is not None and change.relation.full:
        return old
    keys = {column.name for column in change.relation.columns if column.key}
    return {name: text for name, text in old.items() if name in keys}


def _json_value(value: str, type_: str) -> str:
    if type_ == "bytea":
        return f"encode({value}::bytea, 'hex')"  # Without the \x.
    if type_ in ("bpchar", "character"):
        return f"rtrim({value})"
    return f"{value}::{type_}"
