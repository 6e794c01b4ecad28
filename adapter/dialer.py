"""From a claimed row to one Originate on the wire: paced, checked at the last moment, never twice.

A row reaches the PBX link at most once, because it is taken out of the list before it is sent and nothing puts it back.
What is not sent, for whatever reason, is released with that reason (design section 4, rule a); a row whose Originate
may have reached the PBX stays with the follower.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from adapter.core.model import (
    CallTimes,
    ClaimedRow,
    Ending,
    Form,
    Outcome,
    Record,
    ReleaseCause,
    ReleaseRecord,
    Way,
)
from adapter.core.originate import DialPlan, Originate, RowRefused, build
from adapter.core.outcomes import outcome_record
from adapter.follower import Follower
from adapter.log import say
from adapter.pacer import LEAST_WAIT, Pacer
from adapter.pbx import Accepted, NotSent, PbxLink, Refused, Shown, Unsure

log = logging.getLogger(__name__)

FRESH_SECONDS = 5.0
"""Oldest claim that is still sent (design section 4). It is measured from before the request that made it."""


HOLD_SECONDS = 1.0
"""No claims for so long after a row had to go back: what stopped it (a full socket, a lost lease) takes a moment."""

REMEMBERED = 100_000
"""Call ids that are remembered as taken: a claim can be asked again for seconds, this covers hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A claimed row that waits for its turn; `since` is the boot clock before the claim was asked for."""

    row: ClaimedRow
    since: float
    trunk: str
    """Id of its trunk: each has a queue of its own, so that rows of a slow one hold up no others."""


class Dialer:
    """Sends claimed rows at the set pace; everything that stops it ends in a release, not in silence."""

    def __init__(
        self,
        *,
        link: PbxLink,
        follower: Follower,
        plan: DialPlan,
        store: Callable[[Sequence[Record]], Awaitable[None]],
        may_dial: Callable[[], str | None],
        keeps: Callable[[int], Awaitable[bool]],
        clock: Callable[[], float],
        pacer: Pacer,
        taken: Callable[[], None] = lambda: None,
    ) -> None:
        """`taken`: called whenever a row was taken in hand, so that there may be room for others."""
        self._link = link
        self._follower = follower
        self._plan = plan
        self._store = store
        self._may_dial = may_dial
        self._keeps = keeps
        self._clock = clock
        self._pacer = pacer
        self._taken = taken
        self._waiting: dict[str, deque[Taken]] = {}
        """Trunk → its rows, in the order of the claims."""

        self._seen: dict[str, None] = {}
        """Call ids taken by this process, oldest first."""

        self._hold_until = float("-inf")
        self._some = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()
        self._at_hand: dict[str, str | None] = {}
        """Calls being sent, and why not to if that was heard meanwhile: asked again right before they are written."""

        self._unwritten: dict[str, str] = {}
        """Of these the ones that have not been written yet, and their trunks."""

    @property
    def backlog(self) -> int:
        """Rows claimed and not yet handed to the link."""
        return sum(map(len, self._waiting.values()))

    @property
    def sending(self) -> int:
        """Rows handed to the link whose Response has not come."""
        return len(self._sending)

    @property
    def holding_off(self) -> bool:
        """True for a moment after a row had to go back: claiming it again at once would only turn in a circle."""
        return self._clock() < self._hold_until

    def take(self, rows: Sequence[ClaimedRow], since: float) -> None:
        """Queue the rows of one claim in their order, each behind those of its trunk."""
        self._pacer.know(row.way for row in rows if row.way is not None)
        for row in rows:
            # A claim asked again returns the same rows; none of them is ever sent a second time.
            if row.call_id not in self._seen:
                self._seen[row.call_id] = None
                trunk = self._plan.trunk if row.way is None else row.way.id
                self._waiting.setdefault(trunk, deque()).append(Taken(row=row, since=since, trunk=trunk))
        while len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        if self._waiting:
            self._some.set()

    async def run(self) -> None:
        """Send until canceled. An error of this program in one call ends the run, and with it the process."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._some.clear()
                while (due := self._due()) is not None and due[0] <= 0:
                    self._take_in_hand(group, due[1])
                with suppress(TimeoutError):
                    async with asyncio.timeout(None if due is None else max(due[0], LEAST_WAIT)):
                        # A row of another trunk may be there before the one that is waited for has its turn.
                        await self._some.wait()

    def _due(self) -> tuple[float, str] | None:
        """In how many seconds the next row has its turn, and of which trunk it is; the oldest claim of those due.

        A row that has grown too old goes back then, and waits for no turn to do so.
        """
        turns = [
            (min(self._pacer.until(trunk), self._left(rows[0])), rows[0].since, trunk)
            for trunk, rows in self._waiting.items()
            if rows
        ]
        return next(((wait, trunk) for wait, _, trunk in sorted(turns)), None)

    def _take_in_hand(self, group: asyncio.TaskGroup, trunk: str) -> None:
        taken = self._waiting[trunk].popleft()
        if self._left(taken) > 0:
            self._pacer.take(trunk)
        task = group.create_task(self._dial(taken))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        self._taken()

    def trunk_rooms(self, ways: Iterable[Way]) -> dict[str, int]:
        """How many rows of each trunk may be claimed now: what can be sent within a second, less what waits already."""
        known = tuple(ways)
        self._pacer.know(known)
        trunks = [way.id for way in known] or [self._plan.trunk]
        return {trunk: max(0, self._pacer.trunk_room(trunk) - self._unsent(trunk)) for trunk in trunks}

    def _unsent(self, trunk: str) -> int:
        return len(self._waiting.get(trunk, ())) + sum(at_hand == trunk for at_hand in self._unwritten.values())

    async def give_back(self, why: str) -> int:
        """Release every row that has not been handed to the link; returns how many."""
        rows = [taken.row for queue in self._waiting.values() for taken in queue]
        self._waiting.clear()
        for row in rows:
            await self._release(row, ReleaseCause.NOT_SENT, why)
        return len(rows)

    async def withdraw(self, call_id: str, why: str) -> bool:
        """Release one row if it has not been handed to the link; False if it has, or is not known.

        One that is being handed over goes back if it was not written yet; the caller ends it at the PBX all the same.
        """
        for queue in self._waiting.values():
            for taken in queue:
                if taken.row.call_id == call_id:
                    queue.remove(taken)
                    await self._release(taken.row, ReleaseCause.NOT_SENT, why)
                    return True
        if call_id in self._at_hand:
            self._at_hand[call_id] = why
        return False

    async def drained(self) -> None:
        """Wait until the link has answered for every row it was given."""
        while self._sending:
            await asyncio.wait(self._sending)

    def _left(self, taken: Taken) -> float:
        """Seconds for which this claim may still be sent."""
        return max(0.0, taken.since + FRESH_SECONDS - self._clock())

    def _stale(self, taken: Taken) -> str | None:
        """Why this row must not be sent now, or None."""
        age = self._clock() - taken.since
        if age >= FRESH_SECONDS:
            return f"the claim was {age:.0f} s old before the call could be sent"
        return self._at_hand.get(taken.row.call_id) or self._may_dial()

    def _last_look(self, taken: Taken) -> str | float | None:
        """Asked in the last step before the bytes: may it be sent, and is it its turn?"""
        why = self._stale(taken) or self._down(taken.trunk) or self._pacer.turn(taken.trunk)
        if why is None:
            self._unwritten.pop(taken.row.call_id, None)
        return why

    async def _dial(self, taken: Taken) -> None:
        call_id = taken.row.call_id
        self._at_hand[call_id] = None
        self._unwritten[call_id] = taken.trunk
        try:
            await self._try(taken)
        finally:
            del self._at_hand[call_id]
            self._unwritten.pop(call_id, None)

    async def _try(self, taken: Taken) -> None:
        row = taken.row
        if not await self._keeps(row.claim_number):
            # After a crash this adapter would not know that it had dialed the row, should the database be restored.
            await self._release(row, ReleaseCause.NOT_SENT, "its claim number could not be written to disk")
            return
        if (why := self._stale(taken)) is not None:
            await self._release(row, ReleaseCause.NOT_SENT, why)
            return
        try:
            originate = build(row, self._plan)
        except RowRefused as refusal:
            await self._block(row.call_id, str(refusal), trunk=taken.trunk)
            return
        if originate.form is Form.ROUTE:
            routes = self._link.routes
            if routes is None:
                await self._release(row, ReleaseCause.NOT_SENT, "the outgoing routes could not be looked at")
                return
            if (words := routes.refusal(originate.number_dialed)) is not None:
                await self._block(row.call_id, words, trunk=taken.trunk)
                return
        await self._send(taken, originate)

    async def _send(self, taken: Taken, originate: Originate) -> None:
        row = taken.row
        self._follower.expect(row, originate)
        reply = await self._link.originate(originate, lambda: self._last_look(taken))
        if isinstance(reply, Refused) and self._follower.has_heard_of(row.call_id):
            reply = Unsure(f"the PBX refused the call after it had shown a leg of it ({reply.message})")
        match reply:
            case Accepted():
                say(log, logging.INFO, "call.sent", "Originate accepted", call=row.call_id, row=row.row_id)
                await self._follower.accepted(row.call_id)
            case Refused():
                self._follower.forget(row.call_id)
                await self._release(row, ReleaseCause.PBX_ERROR, reply.message)
            case NotSent():
                self._follower.forget(row.call_id)
                await self._release(row, ReleaseCause.NOT_SENT, reply.reason)
            case Shown():
                self._follower.forget(row.call_id)
            case Unsure():
                say(
                    log,
                    logging.WARNING,
                    "call.unsure",
                    "Originate written, no Response: it is never sent again; the PBX's channels and journal will tell",
                    call=row.call_id,
                    row=row.row_id,
                    why=reply.reason,
                )
                self._follower.doubt(row.call_id)

    async def _release(self, row: ClaimedRow, cause: ReleaseCause, why: str) -> None:
        self._hold_until = self._clock() + HOLD_SECONDS
        say(log, logging.INFO, "call.released", "Row goes back: not dialed", call=row.call_id, row=row.row_id, why=why)
        await self._store([ReleaseRecord(call_id=row.call_id, cause=cause, reason=why)])

    async def block_unreadable(self, call_id: str, problem: str) -> None:
        """A claimed row came in a shape that cannot be read: it ends, since it would be unreadable again."""
        await self._block(call_id, f"the row cannot be read: {problem}", trunk="")

    def _down(self, trunk: str) -> str | None:
        """Why no call goes through this trunk now, or None. Of the link as a whole the link tells itself."""
        looked = self._link.status.trunks
        if trunk in looked:
            return looked[trunk]
        return f"trunk {trunk} was not looked at" if looked else None

    async def _block(self, call_id: str, why: str, *, trunk: str) -> None:
        say(log, logging.WARNING, "call.blocked", "Row is not dialed", call=call_id, why=why)
        ending = Ending(outcome=Outcome.BLOCKED, reason=why, times=CallTimes())
        await self._store([outcome_record(call_id, ending, trunk=trunk)])
