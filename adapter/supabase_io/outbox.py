"""The local outbox: what happened to a call is on this disk before anybody tries to tell Supabase.

A SQLite file (WAL, every commit synced). Records stay until the database said that it has them. All writes that wait
are one transaction, so a lone record costs one sync and a hundred cost hardly more; nothing waits for a timer. The
records are held in memory too: reading costs no disk, and a disk that is full or a file that breaks loses none of them
while the process lives. They still go to Supabase, and the file is written as soon as that is possible again.
"""

import asyncio
import contextlib
import functools
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from adapter.core.model import Outcome, Record
from adapter.log import say
from adapter.supabase_io import outbox_file
from adapter.supabase_io.outbox_file import Kept, OutboxDamaged, OutboxNewer, Statement
from adapter.supabase_io.records import encode, sanitize
from adapter.supabase_io.statedir import move_aside

log = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
"""Between two tries to write while the disk refuses: an operator frees space within minutes, not milliseconds."""

KEEP_SECONDS = 3.0
"""Longest wait of a row for its claim number to be on disk: a slow disk takes below one, a claim is fresh for 5 s."""


class OutboxUnusable(Exception):
    """The outbox cannot be opened, or was closed before a record was on disk; the text tells what to do."""


@dataclass(frozen=True, slots=True)
class _Item:
    at: float
    body: dict[str, Any]


class Outbox:
    """Make it inside the event loop; `close` it last. The calls are for that loop only."""

    def __init__(
        self, path: Path, *, clock: Callable[[], float] = time.time, retry_seconds: float = RETRY_SECONDS
    ) -> None:
        """Open or make the file; raises OutboxUnusable. A damaged file is moved aside, never deleted."""
        self._path = path
        self._clock = clock
        self._retry = retry_seconds
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outbox")
        try:
            self._db, kept = self._thread.submit(_open, path).result()
        except BaseException:
            self._thread.shutdown()
            raise
        self._items = {seq: _Item(at, body) for seq, at, body in kept.records}
        self._refused = kept.refused
        self._claim_number = self._kept_number = kept.claim_number
        self._more_kept = asyncio.Event()
        self._went_back = kept.went_back
        self._next = kept.next_seq
        self._statements: list[Statement] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._unsaved: dict[int, asyncio.Future[None]] = {}
        """By seq: answered when the record is on disk, or in Supabase if that is sooner."""
        self._writer: asyncio.Task[None] | None = None
        self._broken = False
        self._closing = asyncio.Event()
        self._problem: str | None = None

    # -- what is there

    @property
    def count(self) -> int:
        """Records that Supabase has not confirmed."""
        return len(self._items)

    @property
    def refused_count(self) -> int:
        """Records that the database could not take, kept in table `refused` of the file."""
        return self._refused

    @property
    def oldest_age(self) -> float:
        """Seconds that the oldest unconfirmed record has waited; 0 if none waits."""
        oldest = next(iter(self._items.values()), None)
        return 0.0 if oldest is None else max(0.0, self._clock() - oldest.at)

    @property
    def highest_claim_number(self) -> int:
        """Highest claim number ever seen; a lower one from the database means that it went back in time."""
        return self._claim_number

    @property
    def went_back(self) -> int | None:
        """Claim number by which the database was found to have gone back in time, by this process or one before."""
        return self._went_back or None

    @property
    def problem(self) -> str | None:
        """Why nothing can be written to disk now, in words; None when all is well. Claim nothing while it is set."""
        return self._problem

    def pending(self, limit: int) -> list[tuple[int, Mapping[str, Any]]]:
        """The oldest records, as `(seq, JSON object)`."""
        return [(seq, item.body) for seq, item in islice(self._items.items(), limit)]

    def settled(self) -> frozenset[str]:
        """Call ids whose end waits here to be told: nobody needs to look for these calls. `unknown` is no end."""
        return frozenset(
            item.body["call_id"]
            for item in self._items.values()
            if item.body["kind"] == "release" or item.body.get("outcome", Outcome.UNKNOWN) != Outcome.UNKNOWN
        )

    # -- changes

    async def put(self, record: Record) -> None:
        """Keep `record`; returns when it is on disk, or in Supabase. Being canceled does not take it back.

        While the disk refuses this waits, and the record is pending all the same. Raises OutboxUnusable after `close`.
        """
        self._check_open()
        seq, self._next = self._next, self._next + 1
        item = self._items[seq] = _Item(self._clock(), encode(record))
        saved = self._unsaved[seq] = asyncio.get_running_loop().create_future()
        saved.add_done_callback(lambda _: self._unsaved.pop(seq, None))
        # Shielded: who waits may be canceled, the record stays.
        await asyncio.shield(self._write([outbox_file.put(seq, item.at, item.body)], saved))

    def done(self, seqs: Iterable[int]) -> Awaitable[None]:
        """The database has these records. Unknown numbers are ignored.

        As with all that follows, memory has changed at the return; await the result to know that the disk has, too,
        which may take as long as the disk is full. Nobody whose work must go on meanwhile waits for it: what is told to
        Supabase twice counts once.
        """
        known = [seq for seq in seqs if self._items.pop(seq, None) is not None]
        for seq in known:
            self._stored(seq)
        return self._write([outbox_file.delete(seq) for seq in known])

    def refuse(self, seq: int, error: str) -> Awaitable[None]:
        """The database cannot take this record: keep it aside with the error, and say so once."""
        item = self._items.pop(seq, None)
        if item is None:
            return self._write([])
        error = str(sanitize(error))
        self._refused += 1
        self._stored(seq)
        say(
            log,
            logging.ERROR,
            "outbox.refused",
            "The database cannot take a record; it is kept in the outbox file, table refused",
            seq=seq,
            call=item.body.get("call_id"),
            kind=item.body.get("kind"),
            problem=error,
        )
        return self._write([outbox_file.refuse(seq, item.at, item.body, error), outbox_file.delete(seq)])

    def note_claim_number(self, number: int) -> Awaitable[None]:
        """Remember the highest claim number seen. A lower one changes nothing."""
        if number <= self._claim_number:
            return self._write([])
        self._claim_number = number
        written = self._write([outbox_file.claim_number(number)])
        written.add_done_callback(lambda future: self._kept(number, future))
        return written

    async def keeps(self, number: int) -> bool:
        """True once a claim number as high as this one is on disk; False if that takes longer than `KEEP_SECONDS`."""
        try:
            async with asyncio.timeout(KEEP_SECONDS):
                while self._kept_number < number:
                    self._more_kept.clear()
                    await self._more_kept.wait()
        except TimeoutError:
            return False
        return True

    def note_went_back(self, number: int) -> Awaitable[None]:
        """Remember that the database went back in time. Only a new STATE_DIR forgets it: after a restart the numbers
        may have risen again, and the rows dialed since the backup wait all the same."""
        if self._went_back:
            return self._write([])
        self._went_back = max(number, 1)
        return self._write([outbox_file.went_back(self._went_back)])

    async def close(self) -> None:
        """Write what waits, with one last try, and close the file; safe to call twice."""
        if self._closing.is_set():
            return
        self._closing.set()
        if self._writer is not None:
            await asyncio.wait({self._writer})
        lost = [future for future in self._unsaved.values() if not future.done()]
        for future in lost:
            future.set_exception(OutboxUnusable(f"closed before the record was on disk: {self._problem}"))
            future.exception()  # Its caller may be gone; the line below tells all the same.
        for future in self._waiting:
            future.cancel()
        if lost:
            say(
                log,
                logging.CRITICAL,
                "outbox.lost",
                "Leaving while outcomes are neither on disk nor in Supabase; their calls will end as unknown",
                records=len(lost),
                problem=self._problem,
            )
        await asyncio.get_running_loop().run_in_executor(self._thread, self._db.close)
        self._thread.shutdown()

    # -- writing

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise OutboxUnusable("the outbox is closed")

    def _stored(self, seq: int) -> None:
        saved = self._unsaved.get(seq)
        if saved is not None and not saved.done():
            saved.set_result(None)

    def _kept(self, number: int, written: "asyncio.Future[None]") -> None:
        if not written.cancelled():
            self._kept_number = max(self._kept_number, number)
            self._more_kept.set()

    def _write(
        self, statements: Sequence[Statement], written: "asyncio.Future[None] | None" = None
    ) -> "asyncio.Future[None]":
        self._check_open()
        future = written or asyncio.get_running_loop().create_future()
        if not statements:
            future.set_result(None)
            return future
        self._statements += statements
        self._waiting.append(future)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all(), name="outbox")
        return future

    async def _write_all(self) -> None:
        """Commit until nothing waits; each turn takes all that came during the one before."""
        while self._statements:
            statements, self._statements = self._statements, []
            waiting, self._waiting = self._waiting, []
            try:
                await self._commit(statements)
            except (sqlite3.Error, OSError, OutboxDamaged, OutboxNewer) as error:
                self._statements[:0] = statements
                self._waiting[:0] = waiting
                self._say_problem(error)
                broke = isinstance(error, sqlite3.Error) and outbox_file.damaged(error) and not self._broken
                self._broken = self._broken or broke
                if self._closing.is_set() and not broke:
                    return
                if not broke:
                    await self._pause()
            else:
                self._say_well()
                for future in waiting:
                    if not future.done():
                        future.set_result(None)

    async def _commit(self, statements: Sequence[Statement]) -> None:
        in_thread = functools.partial(asyncio.get_running_loop().run_in_executor, self._thread)
        if self._broken:
            # Memory knows every record that is still wanted; all of them go into the sound file.
            known = [outbox_file.put(seq, item.at, item.body) for seq, item in self._items.items()]
            if self._went_back:
                known.append(outbox_file.went_back(self._went_back))
            statements = [*known, outbox_file.claim_number(self._claim_number), *statements]
            await in_thread(self._db.close)
            self._db, _ = await in_thread(_open_or_replace, self._path)
        await in_thread(outbox_file.commit, self._db, statements)
        self._broken = False

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._retry):
                await self._closing.wait()

    def _say_problem(self, error: Exception) -> None:
        words = f"the outbox cannot be written: {error}"
        if words != self._problem:
            self._problem = words
            say(
                log,
                logging.CRITICAL,
                "outbox.stuck",
                "Outcomes cannot be written to disk; they are kept in memory and still sent to Supabase. Mend the disk "
                "of STATE_DIR, or free space on it; do not stop the adapter before",
                path=self._path,
                problem=str(error),
                records=len(self._unsaved),
            )

    def _say_well(self) -> None:
        if self._problem is not None:
            self._problem = None
            say(log, logging.WARNING, "outbox.well", "Outcomes are written to disk again", path=self._path)


def _open(path: Path) -> tuple[sqlite3.Connection, Kept]:
    try:
        return _open_or_replace(path)
    except OutboxNewer as error:
        raise OutboxUnusable(
            f"the outbox {path} was written by a newer version of this program ({error}); install that version again, "
            "or let it empty the outbox first"
        ) from None
    except (sqlite3.Error, OSError, OutboxDamaged) as error:
        raise OutboxUnusable(
            f"the outbox {path} cannot be opened ({error}); STATE_DIR must be on a disk with free space, writable for "
            "the adapter's user. Nothing was changed"
        ) from None


def _open_or_replace(path: Path) -> tuple[sqlite3.Connection, Kept]:
    try:
        return outbox_file.open_file(path)
    except OutboxDamaged as error:
        say(
            log,
            logging.CRITICAL,
            "outbox.damaged",
            "The outbox file is damaged; it was moved aside and a new one begun. Outcomes that only it held are not in "
            "Supabase: keep the file, `sqlite3 <file> .recover` may read them",
            moved_to=move_aside(path, outbox_file.COMPANIONS),
            problem=str(error),
        )
    return outbox_file.open_file(path)
