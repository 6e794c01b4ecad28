"""The SQLite file of the outbox: how it is opened, proven sound and written. Blocking; lives in the outbox's thread."""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter.supabase_io.statedir import sync_directory

FORMAT = 1
"""`PRAGMA user_version` of the file."""

COMPANIONS = ("", "-wal", "-shm")
"""What belongs to one SQLite file in WAL mode."""

BUSY_SECONDS = 5.0
"""Patience with an operator's sqlite3 shell that holds the write lock."""

Statement = tuple[str, tuple[Any, ...]]

_SCHEMA = (
    "create table if not exists record (seq integer primary key, at real not null, body text not null)",
    """create table if not exists refused
       (seq integer primary key, at real not null, body text not null, error text not null)""",
    "create table if not exists meta (name text primary key, value integer not null)",
)

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class OutboxDamaged(Exception):
    """The file is no sound SQLite file."""


class OutboxNewer(Exception):
    """The file was written by a later version of this program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What an opened file holds."""

    records: tuple[tuple[int, float, dict[str, Any]], ...]
    """`(seq, epoch seconds, JSON object)`, oldest first."""

    refused: int
    claim_number: int
    went_back: int
    """Claim number by which the database was found to have gone back in time; 0 if it never was."""

    next_seq: int


def put(seq: int, at: float, body: dict[str, Any]) -> Statement:
    """Keep one record."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return "insert or replace into record values (?, ?, ?)", (seq, at, text)


def delete(seq: int) -> Statement:
    """Forget one record."""
    return "delete from record where seq = ?", (seq,)


def refuse(seq: int, at: float, body: dict[str, Any], error: str) -> Statement:
    """Keep one record aside."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return "insert or replace into refused values (?, ?, ?, ?)", (seq, at, text, error)


def claim_number(number: int) -> Statement:
    """Keep the highest claim number; a lower one changes nothing."""
    sql = """insert into meta values ('claim_number', ?)
             on conflict (name) do update set value = max(value, excluded.value)"""
    return sql, (number,)


def went_back(number: int) -> Statement:
    """Keep the claim number by which the database was found to have gone back in time."""
    return "insert or replace into meta values ('went_back', ?)", (number,)


def open_file(path: Path) -> tuple[sqlite3.Connection, Kept]:
    """Open or make the file; raises sqlite3.Error, OSError, OutboxDamaged, OutboxNewer."""
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        kept = _prepared(db)
        sync_directory(path.parent)
    except sqlite3.Error as error:
        db.close()
        if damaged(error):
            raise OutboxDamaged(str(error)) from None
        raise
    except BaseException:
        db.close()
        raise
    return db, kept


def commit(db: sqlite3.Connection, statements: Iterable[Statement]) -> None:
    """All of them or none, synced; raises sqlite3.Error."""
    db.execute("begin immediate")
    try:
        for sql, values in statements:
            db.execute(sql, values)
        db.execute("commit")
    except BaseException:
        if db.in_transaction:
            db.execute("rollback")
        raise


def damaged(error: sqlite3.Error) -> bool:
    """True when the file itself is broken, not the disk full or the folder read-only."""
    # The low byte is the primary code. An error made by the module itself has none.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def _prepared(db: sqlite3.Connection) -> Kept:
    made_by = _number(db, "pragma user_version")
    if made_by > FORMAT:
        raise OutboxNewer(f"format {made_by}, known up to {FORMAT}")
    db.execute("pragma journal_mode = wal")
    db.execute("pragma synchronous = full")  # In WAL mode: one fsync for each commit.
    (verdict,) = db.execute("pragma quick_check(1)").fetchone()
    if verdict != "ok":
        raise OutboxDamaged(str(verdict))
    commit(db, [(sql, ()) for sql in (*_SCHEMA, f"pragma user_version = {FORMAT}")])
    try:
        records = tuple(
            (seq, at, json.loads(body)) for seq, at, body in db.execute("select seq, at, body from record order by seq")
        )
    except ValueError as error:
        raise OutboxDamaged(f"a record is no JSON: {error}") from None
    return Kept(
        records=records,
        refused=_number(db, "select count(*) from refused"),
        claim_number=_number(db, "select coalesce(max(value), 0) from meta where name = 'claim_number'"),
        went_back=_number(db, "select coalesce(max(value), 0) from meta where name = 'went_back'"),
        next_seq=1
        + _number(db, "select coalesce(max(seq), 0) from (select seq from record union all select seq from refused)"),
    )


def _number(db: sqlite3.Connection, sql: str) -> int:
    return int(db.execute(sql).fetchone()[0])
