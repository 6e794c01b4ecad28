"""The three witnesses: what the carrier wrote down, what the database holds, what ever reached an outbox."""

import asyncio
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from adapter.supabase_io import outbox_file

OUTBOX = "outbox.sqlite3"

_TRIGGER = """
create table if not exists witness (n integer primary key autoincrement, body text not null);
create trigger if not exists witness after insert on record begin insert into witness (body) values (new.body); end;
"""
"""Confirmed records are deleted from the outbox; this copy is made in the same transaction and stays."""

_ROWS = """
select q.id, q.e164, q.status, q.outcome, q.last_outcome, q.ended_reason, q.call_id::text, q.adapter::text,
       extract(epoch from q.claimed_at)::float8 as claimed_at, extract(epoch from q.ended_at)::float8 as ended_at,
       q.attempts, q.faults
  from public.call_queue q order by q.id
"""

_LOGS = "select call_id, status, metadata ->> 'outcome' as outcome from public.call_logs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of `call_queue`; times are epoch seconds."""

    id: int
    e164: str
    status: str
    outcome: str | None = None
    last_outcome: str | None = None
    ended_reason: str | None = None
    call_id: str | None = None
    adapter: str | None = None
    claimed_at: float | None = None
    ended_at: float | None = None
    attempts: int = 0
    faults: Mapping[str, int]

    @property
    def final(self) -> bool:
        """Nothing more happens to it."""
        return self.status in ("done", "canceled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """One row of `call_logs`."""

    call_id: str
    status: str
    outcome: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What an outbox file tells: every record that ever reached it, and those that are still in it."""

    records: tuple[Mapping[str, Any], ...] = ()
    waiting: int = 0
    refused: int = 0


def prepare(state: Path) -> None:
    """Make the outbox of a STATE_DIR that was never used, with the trigger that remembers."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    db, _ = outbox_file.open_file(state / OUTBOX)
    try:
        db.executescript(_TRIGGER)
    finally:
        db.close()


def read_outbox(state: Path) -> Kept:
    """Of a daemon that has ended."""
    db = sqlite3.connect(state / OUTBOX)
    try:
        return Kept(
            records=tuple(json.loads(body) for (body,) in db.execute("select body from witness order by n")),
            waiting=int(db.execute("select count(*) from record").fetchone()[0]),
            refused=int(db.execute("select count(*) from refused").fetchone()[0]),
        )
    finally:
        db.close()


async def read_database(dsn: str) -> tuple[list[Row], list[Log]]:
    """All rows, from a database that may be recovering from a crash of ours."""
    for _ in range(100):
        try:
            connection = await asyncpg.connect(dsn)
        except (OSError, asyncpg.PostgresError):
            await asyncio.sleep(0.2)
            continue
        try:
            rows = [_row(record) for record in await connection.fetch(_ROWS)]
            return rows, [Log(**dict(record)) for record in await connection.fetch(_LOGS)]
        finally:
            await connection.close()
    raise AssertionError("PostgreSQL did not come back within 20 s")


def _row(record: "asyncpg.Record") -> Row:
    fields = dict(record)
    return Row(**{**fields, "e164": fields["e164"] or "", "faults": json.loads(fields["faults"])})
