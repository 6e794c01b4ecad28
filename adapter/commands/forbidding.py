"""The do-not-call list at a terminal: asked of the database, which keeps it."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TextIO, TypeVar

from adapter.commands.following import Lines, patiently
from adapter.commands.view.codes import Code
from adapter.core.numberlist import Line, NoNumbers, masked, numbers
from adapter.supabase_io.config import SupabaseConfig
from adapter.supabase_io.desk import Desk
from adapter.supabase_io.forbidden import Entry, Listing
from adapter.supabase_io.refusals import DatabaseError

_Answer = TypeVar("_Answer")

BATCH = 1000
"""Numbers of one request. Claims wait for it, about 100 ms."""


def do(config: SupabaseConfig, arguments: argparse.Namespace) -> int:
    """Do what the command line says; the exit code (`codes.DO_NOT_CALL_HELP`)."""
    return asyncio.run(_do(config, arguments))


async def _do(config: SupabaseConfig, arguments: argparse.Namespace) -> int:
    view = Lines(sys.stdout)
    async with Desk(config) as desk:
        work = Work(desk, view, arguments)
        try:
            return await _WORK[arguments.what](work)
        except DatabaseError as error:
            view.say(f"{work.undone}: {error}")
        except (OSError, NoNumbers) as error:
            view.say(f"{work.undone}: {error}")
    return Code.NOT_QUEUED


class Work:
    """One command at work."""

    def __init__(self, desk: Desk, view: Lines, arguments: argparse.Namespace) -> None:
        self._desk = desk
        self._view = view
        self._arguments = arguments
        self._shown: Callable[[str], str] = str if arguments.show_numbers else masked
        self._expires_at = (
            None if arguments.days is None else (datetime.now(UTC) + timedelta(days=arguments.days)).isoformat()
        )
        self.undone = "Nothing was changed"
        """How to begin, where it ends early."""

    async def take_in(self) -> Code:
        """The file, batch by batch; what cannot be read is told line by line."""
        added = known = bad = 0
        with _opened(self._arguments.name) as file:
            for batch in _batches(numbers(file)):
                good = [line for line in batch if line.problem is None]
                told = {line.place: line for line in batch if line.problem is not None}
                if good:
                    done = await self._import([line.raw for line in good], "import")
                    added, known = added + done.added, known + done.known
                    told |= {good[place].place: good[place]._replace(problem=why) for place, why in done.bad}
                for place in sorted(told):
                    line = told[place]
                    self._view.say(f"Line {place}: {self._shown(line.raw) + ': ' if line.raw else ''}{line.problem}")
                bad += len(told)
                self.undone = (
                    f"Stopped after line {batch[-1].place}; what stands before it is listed. Import the file again: "
                    "what is listed stays as it is"
                )
        self._view.say(f"{added} added, {known} known before, {bad} lines that cannot be read")
        return Code.NOT_ANSWERED if bad else Code.ANSWERED

    async def add(self) -> Code:
        """One number."""
        done = await self._import([self._arguments.name], "by hand")
        for _, problem in done.bad:
            self._view.say(f"Not listed: {problem}")
            return Code.NOT_ANSWERED
        self._view.say(f"{self._shown(self._arguments.name)} {'is listed now' if done.added else 'was listed before'}")
        return Code.ANSWERED

    async def remove(self) -> Code:
        """One entry."""
        gone = await self._patiently(lambda: self._desk.allow(self._arguments.name, self._arguments.user))
        shown = self._shown(self._arguments.name)
        self._view.say(f"{shown} {'is not listed any more' if gone else 'was not listed, for this user or for all'}")
        return Code.ANSWERED if gone else Code.NOT_ANSWERED

    async def check(self) -> Code:
        """Entries of one number."""
        name, user = self._arguments.name, self._arguments.user
        found = await self._patiently(lambda: self._desk.forbidden(name, user, self._arguments.limit))
        if not found:
            self._view.say(f"{self._shown(name)} is not listed")
        self._tell(found)
        return Code.NOT_ANSWERED if found else Code.ANSWERED

    async def tell(self) -> Code:
        """The latest entries."""
        user, limit = self._arguments.user, self._arguments.limit
        found = await self._patiently(lambda: self._desk.forbidden(None, user, limit))
        if not found:
            self._view.say("Nothing is listed")
        self._tell(found)
        return Code.ANSWERED

    def _tell(self, found: Iterable[Entry]) -> None:
        for entry in found:
            whose = "for all" if entry.user_id is None else f"for user {entry.user_id}"
            why = entry.source if entry.reason is None else f"{entry.source}: {entry.reason}"
            until = "" if entry.expires_at is None else f", until {entry.expires_at[:16]}"
            self._view.say(f"{self._shown(entry.e164)} {whose}, since {entry.created_at[:10]}{until} ({why})")

    async def _import(self, raw: list[str], source: str) -> Listing:
        return await self._patiently(
            lambda: self._desk.forbid(
                raw,
                user=self._arguments.user,
                source=self._arguments.source or source,
                reason=self._arguments.reason,
                expires_at=self._expires_at,
            )
        )

    async def _patiently(self, ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
        return await patiently(ask, self._view)


@contextmanager
def _opened(name: str) -> Iterator[TextIO]:
    """The file as text. Bytes that are none become a sign that no number has, so that their line is told."""
    if name == "-":
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="replace")  # type: ignore[union-attr]
        yield sys.stdin
        return
    with Path(name).open(encoding="utf-8-sig", errors="replace", newline="\n") as file:
        yield file


def _batches(lines: Iterator[Line]) -> Iterator[list[Line]]:
    while batch := list(islice(lines, BATCH)):
        yield batch


_WORK: Mapping[str, Callable[[Work], Awaitable[Code]]] = {
    "import": Work.take_in,
    "add": Work.add,
    "remove": Work.remove,
    "check": Work.check,
    "list": Work.tell,
}
