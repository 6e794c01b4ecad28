"""One request per tick: records out, heartbeat, room; rows and commands in.

A tick happens at once when the bell rings, when a record waits, or when room appears while rows are known to wait; else
every `SWEEP_SECONDS`. A claim carries an id made here; while its answer is not in, the same id is asked again, so a
lost answer costs nothing. Each request carries its number: one that is executed after a newer one claims nothing, since
nobody waits for its answer any more. The claim comes last in the request, after the records: an adapter never claims
over outcomes that the database does not know yet.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from adapter.core.model import ClaimedRow, OpenCall, Way
from adapter.log import say
from adapter.supabase_io.database import Database, DatabaseAway, DatabaseRefused, SyncReply, SyncRequest
from adapter.supabase_io.doorbell import Doorbell
from adapter.supabase_io.outbox import Outbox

log = logging.getLogger(__name__)

BATCH = 200
"""Records in one request: 100 cost about 4.5 ms in the database, and the request stays far below a second."""

TOO_LARGE = 413
"""HTTP status of a request whose body a gateway does not take."""

TRAIL_SECONDS = 0.15
"""One more claim after the last empty one: longer than the 100 ms for which the database holds the bell back."""

SPACING_SECONDS = 0.02
"""Least time between two requests, so that single events of one burst share one."""


NOTES = 20
"""Notes of the database that are remembered, so that one that comes with every answer is said once."""

LEASE_SECONDS = 60.0
"""How long the database counts this adapter as the one that dials through its PBX, from each heartbeat."""

BELL_GRACE_SECONDS = 2.0
"""The ring for a row this young may still be on its way through Realtime (polled changes: up to half a second). A sweep
may find it before, so it is judged later, whatever `SWEEP_SECONDS` is."""

BELL_MEMORY_SECONDS = 60.0
"""An older row says nothing about the bell of now: it was released after a crash, or lay behind a closed door."""


class Fenced(RuntimeError):
    """A newer incarnation of this adapter is registered: this process must stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """What the daemon does with an answer."""

    dial: Callable[[tuple[ClaimedRow, ...], float], None]
    hang_up: Callable[[tuple[str, ...]], None]
    block: Callable[[str, str], Awaitable[None]]
    adopt: Callable[[tuple[OpenCall, ...]], None]
    know: Callable[[tuple[Way, ...], Mapping[str, str]], None]
    """The list of trunks has changed; and those that cannot be read, id → why."""

    beat: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim that was asked for and whose answer is not in; `since` is the boot clock before the first request."""

    id: str
    room: int
    since: float


class Ticker:
    """Owner of every request to `call_sync_v1`."""

    def __init__(
        self,
        *,
        database: Database,
        outbox: Outbox,
        doorbell: Doorbell,
        status: Callable[[], Mapping[str, object]],
        room: Callable[[], int],
        tick: Tick,
        clock: Callable[[], float],
        sweep_seconds: float,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._doorbell = doorbell
        self._status = status
        self._room = room
        self._tick = tick
        self._clock = clock
        self._sweep = sweep_seconds
        self._batch = BATCH
        self._notes: dict[str, None] = {}
        self._wanted = asyncio.Event()
        self._stop = asyncio.Event()
        self._claim: Claim | None = None
        self._requests = 0
        self._lease_until = float("-inf")
        self._more = False
        self._trail_at: float | None = None
        self._quiet = False
        self._unrung: tuple[float, ...] = ()
        self._trunks_version: int | None = None
        """Of the list of trunks that we have; None: the database shall send it."""

        self.epoch: int | None = None
        """Of our hold on the PBX, as the last answer told it."""

        self.database_problem: str | None = None
        self.went_back: str | None = None if outbox.went_back is None else self._back_in_time(outbox.went_back)
        """Words when the database was restored to an earlier time: then nothing is claimed any more."""

    @property
    def lease_valid(self) -> bool:
        """True while the database counts this adapter as the one that dials through its PBX."""
        return self._clock() < self._lease_until

    def want(self) -> None:
        """Ask for a tick now: a record waits, or room appeared."""
        self._wanted.set()

    def room_appeared(self) -> None:
        """A call ended or the PBX came up: worth a tick only if rows are known to wait."""
        if self._more:
            self._wanted.set()

    def stop(self) -> None:
        """Claim no more, and end `run` after the request that is under way."""
        self._stop.set()
        self._wanted.set()

    async def run(self) -> None:
        """Tick until stopped; raises `Fenced` when this process must not go on."""
        if self.went_back is not None:
            say(log, logging.CRITICAL, "database.went_back", self.went_back)
        while not self._stop.is_set():
            rung = await self._wait()
            await self._turn(rung=rung)
            await asyncio.sleep(SPACING_SECONDS)

    async def flush(self) -> None:
        """Send until the outbox is empty and the answer to the last claim is known."""
        while self._claim is not None or self._outbox.count:
            await self._turn(rung=False)
            await asyncio.sleep(SPACING_SECONDS)

    async def _wait(self) -> bool:
        """Sleep until the next tick is due; True when the bell asked for it."""
        if self._stop.is_set():
            return False
        timeout = self._sweep
        if self._trail_at is not None:
            timeout = min(timeout, max(0.0, self._trail_at - asyncio.get_running_loop().time()))
        waits = [asyncio.create_task(self._wanted.wait()), asyncio.create_task(self._doorbell.rung.wait())]
        try:
            await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
        rung = self._doorbell.rung.is_set()
        self._wanted.clear()
        self._doorbell.rung.clear()
        return rung

    async def _turn(self, *, rung: bool) -> None:
        # A tick for another reason comes too early for it, so it stays due.
        trailing = self._trail_at is not None
        if self._trail_at is not None and asyncio.get_running_loop().time() >= self._trail_at - SPACING_SECONDS / 2:
            self._trail_at = None
        # Whatever is found from here on, the bell has rung for it.
        self._quiet = self._quiet and not rung
        if rung:
            self._unrung = ()
        # A backlog of records goes first: nothing is claimed over outcomes that the database does not know yet.
        behind = self._outbox.count > self._batch
        may_claim = not (behind or self._stop.is_set() or self.went_back)
        if self._claim is None and may_claim and (room := self._room()) > 0:
            self._claim = Claim(id=str(uuid.uuid4()), room=room, since=self._clock())
        claim = self._claim
        reply = await self._ask(claim)
        self._tick.beat()
        if claim is not None:
            await self._claimed(claim, reply, by_sweep=not (rung or trailing))
        if rung:
            # The bell is held back in the database for 100 ms; a row committed in that time has rung no bell.
            self._trail_at = asyncio.get_running_loop().time() + TRAIL_SECONDS
        self._hear(reply.now)
        self._commands(reply)

    def _hear(self, now: float) -> None:
        """Rows that a sweep found and that nothing rang for in all the time a ring may take: the bell is deaf."""
        missed = sum(now - at > BELL_GRACE_SECONDS for at in self._unrung)
        if missed:
            self._unrung = tuple(at for at in self._unrung if now - at <= BELL_GRACE_SECONDS)
            self._doorbell.missed(missed)

    async def _ask(self, claim: Claim | None) -> SyncReply:
        """The request, tried until it is answered or we stop; the claim id makes each try the same claim."""
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(DatabaseAway),
            # Full jitter, so that several adapters do not come back in step; 15 s keeps within a lease of 60 s.
            wait=wait_random_exponential(multiplier=0.5, max=15),
            sleep=self._sleep,
            before_sleep=self._away,
            reraise=True,
        ):
            with attempt:
                started = self._clock()
                try:
                    reply = await self._database.sync(self._request(claim))
                except DatabaseRefused as error:
                    self._refused(error)
                    # A wrong key or a missing function is mended by hand, while we wait.
                    raise DatabaseAway(str(error)) from error
                self._answered(reply, started)
                return reply
        raise AssertionError("AsyncRetrying ends by return or raise")

    def _refused(self, error: DatabaseRefused) -> None:
        """A request too large is the fault of its records, not of the key: fewer at a time find the one (PG-13)."""
        if error.status != TOO_LARGE:
            return
        if self._batch > 1:
            self._batch //= 2
        else:
            for seq, _ in self._outbox.pending(1):
                self._outbox.refuse(seq, str(error))

    async def _sleep(self, seconds: float) -> None:
        """Back off, but wake at a stop: during the drain the tries come closer together instead."""
        if self._stop.is_set():
            await asyncio.sleep(min(seconds, 0.5))
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    def _request(self, claim: Claim | None) -> SyncRequest:
        self._requests += 1
        return SyncRequest(
            records=tuple(self._outbox.pending(self._batch)),
            status={
                **self._status(),
                "request": self._requests,
                "seen": self._outbox.highest_claim_number,
                "trunks_version": self._trunks_version,
            },
            room=claim.room if claim else 0,
            claim_id=claim.id if claim else None,
        )

    def _away(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        self._tick.beat()
        self._say_problem(str(error))

    def _say_problem(self, words: str) -> None:
        if self.database_problem != words:
            say(
                log,
                logging.WARNING,
                "database.away",
                "Supabase does not answer as it should; live calls are followed and outcomes kept in the outbox",
                problem=words,
                waiting=self._outbox.count,
            )
            self.database_problem = words

    def _say_note(self, note: str) -> None:
        """The database's own words, once each until they change."""
        if note not in self._notes:
            say(log, logging.WARNING, "database.note", f"The database says: {note}")
        self._notes = {note: None, **dict(list(self._notes.items())[:NOTES])}

    def _answered(self, reply: SyncReply, started: float) -> None:
        if self.database_problem is not None:
            self.database_problem = None
            say(log, logging.INFO, "database.back", "Supabase answers again", waiting=self._outbox.count)
        self._batch = min(BATCH, self._batch * 2)
        for seq, words in reply.refused:
            self._outbox.refuse(seq, words)
        self._outbox.done(reply.recorded)  # Also of a run that counts no more.
        if reply.fenced:
            raise Fenced(
                "A newer process with this adapter's identity is registered in the database; this one stops. "
                "Calls in the air go on and are followed by the newer one."
            )
        self._check_time(reply)
        self._lease_until = started + LEASE_SECONDS if reply.holder else float("-inf")

    def _check_time(self, reply: SyncReply) -> None:
        """The claim number only ever rises; a lower one means a restored backup, in which dialed rows wait again.

        Claims made since, our own or those of others, may have brought it above all that we had seen. So the rows tell
        as well, and so does what the database remembers to have told us: no claim of another adapter changes that.
        """
        highest = self._outbox.highest_claim_number
        told = reply.claim_number if reply.told is None else reply.told
        lowest = min([reply.claim_number, told, *(row.claim_number - 1 for row in reply.rows)])
        if self.went_back is not None:
            return
        if lowest >= highest:
            self._outbox.note_claim_number(reply.claim_number)
            return
        self.went_back = self._back_in_time(lowest)
        say(log, logging.CRITICAL, "database.went_back", self.went_back)
        self._outbox.note_went_back(lowest)

    def _back_in_time(self, number: int) -> str:
        return (
            f"the database counted from claim number {number} after {self._outbox.highest_claim_number}: it was "
            "restored to an earlier time, and rows dialed since wait there again. Nothing is dialed; calls in the air "
            "are followed. Stop the adapter, end the rows that were dialed (docs/database.md tells how), then move "
            "STATE_DIR away and start afresh"
        )

    async def _claimed(self, claim: Claim, reply: SyncReply, *, by_sweep: bool) -> None:
        self._claim = None
        if reply.rows:
            self._tick.dial(reply.rows, claim.since)
        for item in reply.unreadable:
            # It was claimed, so it must end; claimed again, it would be as unreadable as before.
            if item.where == "rows" and item.call_id is not None:
                await self._tick.block(item.call_id, item.problem)
        if by_sweep and self._quiet:
            # The queue was known to be empty before, and nobody rang: did these rows have a bell to ring?
            found = (row.bell_at for row in reply.rows if row.bell_at is not None)
            self._unrung += tuple(at for at in found if reply.now - at < BELL_MEMORY_SECONDS)
        self._quiet = reply.holder and not reply.more

    def _commands(self, reply: SyncReply) -> None:
        self._more = reply.more
        self.epoch = reply.epoch
        if reply.ways is not None:
            self._trunks_version = reply.trunks_version
            self._tick.know(reply.ways, reply.bad_ways)
        for note in reply.notes:
            self._say_note(note)
        if reply.takeover:
            self._tick.adopt(reply.takeover)
        if reply.hangups:
            self._tick.hang_up(reply.hangups)
        # A record that the database could not take just now (its row is held by another session) waits for the sweep.
        moving = bool(reply.recorded or reply.refused) and self._outbox.count > 0
        if moving or (reply.more and self._room() > 0):
            self._wanted.set()
