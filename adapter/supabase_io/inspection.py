"""What `doctor` asks of the database: `call_doctor_v1` as frozen values, and the probe that is never dialed."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapter.core.model import Way
from adapter.supabase_io import refusals
from adapter.supabase_io.database import Database, DatabaseRefused
from adapter.supabase_io.records import (
    Unfit,
    array,
    boolean,
    decode_way,
    instant,
    instant_or_none,
    integer,
    obj,
    text,
    text_or_none,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One policy of row level security."""

    name: str
    command: str
    """`select`, `insert`, `update`, `delete` or `all`."""

    permissive: bool
    roles: frozenset[str]
    """`public`: everybody."""

    all_rows: bool | None
    """It lets every row be seen or changed; None: it says nothing of rows that are there."""

    any_new: bool | None
    """It lets any row be written; None: as `all_rows`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Who may do what with a table, as the catalog says."""

    rls: bool
    rows: bool | None
    """Whether it holds any row; None: nobody of ours may look."""

    key: str | None
    """First column of its primary key: null in no row."""

    column: str | None
    """A column that may be written."""

    rights: Mapping[str, frozenset[str]]
    """By role: `select`, `insert`, `update`, `delete`, `truncate`, on the whole or on some of its columns."""

    policies: tuple[Policy, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of the app's."""

    type: str
    required: bool
    """Not null, and nothing fills it by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A PBX, and who dials through it."""

    pbx: str
    holder: str | None
    lease_until: float | None
    taken_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """An adapter, and when it was last heard of."""

    adapter: str
    incarnation: int
    pbx: str | None
    seen_at: float | None
    ready: bool
    """It was connected to its PBX then."""

    calls: int
    """In the air by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Answer of `call_doctor_v1`."""

    began: float
    """Database time when it began to answer …"""

    now: float
    """… and when it was done."""

    sent: float
    """Monotonic time here when it was asked …"""

    received: float
    """… and when the answer was here."""

    version: str
    """Version of the adapter whose install.sql was run last."""

    server: int
    """Version of PostgreSQL, such as 150008."""

    role: str
    """The role behind the key."""

    objects: Mapping[str, str]
    """Fingerprint of each object of ours, by its name."""

    execute: Mapping[str, frozenset[str]]
    """Who of us, `anon` and `authenticated` may call each function."""

    tables: Mapping[str, Table]
    columns: Mapping[str, Mapping[str, Column]]
    campaign_keys: tuple[str, ...]
    """Foreign keys on `call_logs.campaign_id`."""

    disabled_triggers: tuple[str, ...]
    published: bool | None
    """Whether inserts into `call_queue` are published; None: it is not in the publication."""

    send: bool
    """`realtime.send` is there."""

    pbxs: tuple[Held, ...]
    adapters: tuple[Heard, ...]
    """The last heard of first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A row that is there for a moment."""

    row: int
    sent: bool
    """A broadcast with its id was given to Realtime."""


class Inspector(Database):
    """The REST side as `doctor` uses it: it registers nothing, so it can never claim."""

    async def inspect(self) -> Inspection:
        """Raises DatabaseAway, DatabaseRefused (code PGRST202 where the function is missing)."""
        sent = time.monotonic()
        answer = await self.ask("call_doctor_v1", {})
        received = time.monotonic()
        try:
            return inspected(answer, sent=sent, received=received)
        except Unfit as error:
            raise _foreign("call_doctor_v1", error) from None

    async def ways(self, pbx: str) -> tuple[Way, ...]:
        """Trunks that `call_trunks` has switched on for this PBX; none: that of the settings is the only one. Of those
        that cannot be read the adapter tells. Raises DatabaseAway, DatabaseRefused."""
        answer = await self.rows("call_trunks", pbx=pbx, enabled="true")
        try:
            return tuple(way for item in array({"rows": answer}, "rows") if (way := _way(item)) is not None)
        except Unfit as error:
            raise _foreign("call_trunks", error) from None

    async def probe(self) -> Probe:
        """Insert a row that is never dialed; `forget` it. Raises DatabaseAway, DatabaseRefused."""
        answer = await self.ask("call_probe_v1", {})
        try:
            found = obj(answer, "the reply")
            return Probe(row=integer(found, "row"), sent=boolean(found, "sent"))
        except Unfit as error:
            raise _foreign("call_probe_v1", error) from None

    async def forget(self, row: int) -> bool:
        """Delete a probe, and those that others left; whether it was still there."""
        answer = await self.ask("call_probe_v1", {"p_done": row})
        return isinstance(answer, dict) and bool(answer.get("gone"))


def _foreign(function: str, error: Unfit) -> DatabaseRefused:
    return DatabaseRefused(f"{function} answered in a shape this version does not know ({error}): {refusals.INSTALL}")


def _way(item: object) -> Way | None:
    """A row of `call_trunks` as the claim tells it; None if it cannot be read."""
    row = obj(item, "trunk")
    words = {"id": "trunk", "strip": "strip_prefix", "add": "add_prefix"}
    try:
        return decode_way({**row, **{name: row.get(column) for name, column in words.items()}})
    except Unfit:
        return None


def inspected(answer: object, *, sent: float, received: float) -> Inspection:
    """Decode the answer of `call_doctor_v1`; raises Unfit when it is no such answer."""
    found = obj(answer, "the reply")
    published = found.get("published")
    return Inspection(
        began=instant(found, "began"),
        now=instant(found, "now"),
        sent=sent,
        received=received,
        version=text(found, "version"),
        server=integer(found, "server"),
        role=text(found, "role"),
        objects={name: str(print_) for name, print_ in _named(found, "objects").items()},
        execute={name: _words(roles) for name, roles in _named(found, "execute").items()},
        tables={name: _table(table) for name, table in _named(found, "tables").items()},
        columns={
            table: {name: _column(column) for name, column in obj(columns, table).items()}
            for table, columns in _named(found, "columns").items()
        },
        campaign_keys=tuple(str(name) for name in array(found, "campaign_keys")),
        disabled_triggers=tuple(str(name) for name in array(found, "disabled_triggers")),
        published=None if published is None else boolean(found, "published"),
        send=boolean(found, "send"),
        pbxs=tuple(_held(item) for item in array(found, "pbxs")),
        adapters=tuple(_heard(item) for item in array(found, "adapters")),
    )


def _named(found: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return obj(found.get(key), key)


def _words(value: object) -> frozenset[str]:
    return frozenset(str(word) for word in array({"words": value}, "words"))


def _table(value: object) -> Table:
    found = obj(value, "table")
    rows = found.get("rows")
    return Table(
        rls=boolean(found, "rls"),
        rows=None if rows is None else boolean(found, "rows"),
        key=text_or_none(found, "key"),
        column=text_or_none(found, "column"),
        rights={role: _words(words) for role, words in _named(found, "rights").items()},
        policies=tuple(_policy(item) for item in array(found, "policies")),
    )


def _policy(value: object) -> Policy:
    found = obj(value, "policy")
    return Policy(
        name=text(found, "name"),
        command=text(found, "for"),
        permissive=boolean(found, "permissive"),
        roles=_words(found.get("roles")),
        all_rows=None if found.get("all_rows") is None else boolean(found, "all_rows"),
        any_new=None if found.get("any_new") is None else boolean(found, "any_new"),
    )


def _column(value: object) -> Column:
    found = obj(value, "column")
    return Column(type=text(found, "type"), required=boolean(found, "required"))


def _held(value: object) -> Held:
    found = obj(value, "pbx")
    return Held(
        pbx=text(found, "pbx"),
        holder=text_or_none(found, "holder"),
        lease_until=instant_or_none(found, "lease_until"),
        taken_at=instant(found, "taken_at"),
    )


def _heard(value: object) -> Heard:
    found = obj(value, "adapter")
    return Heard(
        adapter=text(found, "adapter"),
        incarnation=integer(found, "incarnation"),
        pbx=text_or_none(found, "pbx"),
        seen_at=instant_or_none(found, "seen_at"),
        ready=found.get("ready") is True,
        calls=integer(found, "calls"),
    )
