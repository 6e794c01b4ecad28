"""Disks: the folder of an adapter as it is on the platter, and what the real outbox and STATE_DIR see of it.

What the outbox commits is synced, so it is there after any crash; what a crash meets before its commit is lost. A write
of the identity is one synced rename. Folders can be lost, cloned and rolled back between two runs, and full any time.
"""

import copy
import json
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapter.supabase_io.outbox_file import Kept, Statement
from adapter.supabase_io.statedir import Identity, StateDir, StateDirBusy
from tests.simulation.loop import PROCESS, Process


@dataclass(slots=True)
class File:
    """The outbox's file: what is committed."""

    records: dict[int, tuple[float, str]] = field(default_factory=dict)
    refused: dict[int, tuple[float, str, str]] = field(default_factory=dict)
    meta: dict[str, int] = field(default_factory=dict)

    def apply(self, statements: Iterable[Statement]) -> list[str]:
        """Commit; returns the bodies of the records that are new."""
        new: list[str] = []
        for sql, values in statements:
            word = sql.split(None, 4)[:4]
            if sql.startswith("insert or replace into record "):
                seq, at, body = values
                self.records[seq] = at, body
                new.append(body)
            elif sql.startswith("delete from record "):
                self.records.pop(values[0], None)
            elif sql.startswith("insert or replace into refused "):
                seq, at, body, error = values
                self.refused[seq] = at, body, error
            elif "'claim_number'" in sql:
                self.meta["claim_number"] = max(values[0], self.meta.get("claim_number", 0))
            elif "'went_back'" in sql:
                self.meta["went_back"] = values[0]
            else:
                raise AssertionError(f"the outbox wrote {word}, which the simulated disk does not know")
        return new

    def kept(self) -> Kept:
        """As `outbox_file.open_file` reads it."""
        return Kept(
            records=tuple((seq, at, json.loads(body)) for seq, (at, body) in sorted(self.records.items())),
            refused=len(self.refused),
            claim_number=self.meta.get("claim_number", 0),
            went_back=self.meta.get("went_back", 0),
            next_seq=1 + max([0, *self.records, *self.refused]),
        )


@dataclass(slots=True, eq=False)
class Folder:
    """One STATE_DIR."""

    identity: Identity | None = None
    file: File = field(default_factory=File)
    holder: Process | None = None
    full: bool = False
    on_synced: Callable[["Folder", dict[str, Any]], None] = lambda _folder, _body: None

    def clone(self) -> "Folder":
        """A copy, as `cp -a` makes it."""
        return Folder(identity=self.identity, file=copy.deepcopy(self.file), on_synced=self.on_synced)

    def restore(self, backup: "Folder") -> None:
        """Back to what a backup holds."""
        self.identity, self.file = backup.identity, copy.deepcopy(backup.file)


FOLDERS: dict[str, Folder] = {}
"""By path, in the world that runs."""


def folder_at(path: Path) -> Folder:
    """The folder of this path, for a process that lives."""
    PROCESS.get().check()
    return FOLDERS[str(path)]


def commit(connection: "Connection", statements: Iterable[Statement]) -> None:
    """Stands for `outbox_file.commit`: all of them or none, synced."""
    process, folder = PROCESS.get(), connection.folder
    process.write()
    if folder.full:
        raise sqlite3.OperationalError("database or disk is full")
    for body in folder.file.apply(statements):
        folder.on_synced(folder, json.loads(body))
    process.write()


class Connection:
    """Stands for the connection to the file."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def close(self) -> None:
        """Nothing is held."""


def open_file(path: Path) -> tuple[Any, Kept]:
    """Stands for `outbox_file.open_file`."""
    folder = folder_at(path.parent)
    if folder.full:
        raise sqlite3.OperationalError("database or disk is full")
    return Connection(folder), folder.file.kept()


class Result:
    """What an executor's future holds."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def result(self) -> Any:
        """The value."""
        return self._value


class Executor:
    """Stands for the outbox's thread; the loop knows it by `simulated` and gives it time."""

    simulated = True

    def __init__(self, **_: object) -> None:
        pass

    def submit(self, func: Callable[..., Any], *args: Any) -> Result:
        """At once: only the opening does so."""
        return Result(func(*args))

    def shutdown(self) -> None:
        """No thread to end."""


class SimStateDir(StateDir):
    """The real one on a simulated disk: the functions below stand for those of its module."""

    def close(self) -> None:
        """The lock goes with the process, or here."""
        process = PROCESS.get()
        folder = FOLDERS[str(self.path)]
        if process.alive and folder.holder is process:
            folder.holder = None


def make(path: Path) -> None:
    """Stands for `statedir._make`."""
    if folder_at(path).full:
        raise OSError(28, "No space left on device")


def take_lock(path: Path) -> int:
    """Stands for `statedir._take_lock`."""
    folder, process = folder_at(path), PROCESS.get()
    if folder.holder is not None and folder.holder.alive and folder.holder is not process:
        raise StateDirBusy(f"another adapter uses STATE_DIR {path}")
    folder.holder = process
    return -1


def identity_in(path: Path) -> Identity | None:
    """Stands for `statedir.identity_in`."""
    return folder_at(path).identity


def write_identity(path: Path, identity: Identity) -> None:
    """Stands for `statedir._write_identity`."""
    folder, process = folder_at(path), PROCESS.get()
    process.write()
    if folder.full:
        raise OSError(28, "No space left on device")
    folder.identity = identity
    process.write()
