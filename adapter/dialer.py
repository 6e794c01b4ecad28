"""From a claimed row to one Originate on the wire: paced, checked at the last moment, never twice.

A row reaches the PBX link at most once, because it is taken out of the list before it is sent and nothing puts it back.
What is not sent, for whatever reason, is released with that reason (design section 4, rule a); a row whose Originate
may have reached the PBX stays with the follower.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from adapter.core.model import CallTimes, ClaimedRow, Ending, Form, Outcome, Record, ReleaseCause, ReleaseRecord
from adapter.core.originate import DialPlan, Originate, RowRefused, build
from adapter.core.outcomes import outcome_record
from adapter.follower import Follower
from adapter.log import say
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
        calls_per_second: float,
    ) -> None:
        self._link = link
        self._follower = follower
        self._plan = plan
        self._store = store
        self._may_dial = may_dial
        self._keeps = keeps
        self._clock = clock
        self._gap = 1.0 / calls_per_second
        self._waiting: deque[Taken] = deque()
        self._seen: dict[str, None] = {}
        """Call ids taken by this process, oldest first."""

        self._hold_until = float("-inf")
        self._some = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()
        self._at_hand: dict[str, str | None] = {}
        """Calls being sent, and why not to if that was heard meanwhile: asked again right before they are written."""

    @property
    def backlog(self) -> int:
        """Rows claimed and not yet handed to the link."""
        return len(self._waiting)

    @property
    def sending(self) -> int:
        """Rows handed to the link whose Response has not come."""
        return len(self._sending)

    @property
    def holding_off(self) -> bool:
        """True for a moment after a row had to go back: claiming it again at once would only turn in a circle."""
        return self._clock() < self._hold_until

    def take(self, rows: Sequence[ClaimedRow], since: float) -> None:
        """Queue the rows of one claim in their order."""
        for row in rows:
            # A claim asked again returns the same rows; none of them is ever sent a second time.
            if row.call_id not in self._seen:
                self._seen[row.call_id] = None
                self._waiting.append(Taken(row=row, since=since))
        while len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        if self._waiting:
            self._some.set()

    async def run(self) -> None:
        """Send until canceled. An error of this program in one call ends the run, and with it the process."""
        turn = self._clock()
        async with asyncio.TaskGroup() as group:
            while True:
                await self._some.wait()
                while self._waiting:
                    await asyncio.sleep(max(0.0, turn - self._clock()))
                    # A late turn is not made up for by a burst: the pace holds for every second.
                    turn = max(turn, self._clock()) + self._gap
                    if self._waiting:
                        task = group.create_task(self._dial(self._waiting.popleft()))
                        self._sending.add(task)
                        task.add_done_callback(self._sending.discard)
                self._some.clear()

    async def give_back(self, why: str) -> int:
        """Release every row that has not been handed to the link; returns how many."""
        rows = [taken.row for taken in self._waiting]
        self._waiting.clear()
        for row in rows:
            await self._release(row, ReleaseCause.NOT_SENT, why)
        return len(rows)

    async def withdraw(self, call_id: str, why: str) -> bool:
        """Release one row if it has not been handed to the link; False if it has, or is not known.

        One that is being handed over goes back if it was not written yet; the caller ends it at the PBX all the same.
        """
        for taken in self._waiting:
            if taken.row.call_id == call_id:
                self._waiting.remove(taken)
                await self._release(taken.row, ReleaseCause.NOT_SENT, why)
                return True
        if call_id in self._at_hand:
            self._at_hand[call_id] = why
        return False

    async def drained(self) -> None:
        """Wait until the link has answered for every row it was given."""
        while self._sending:
            await asyncio.wait(self._sending)

    def _stale(self, taken: Taken) -> str | None:
        """Why this row must not be sent now, or None."""
        age = self._clock() - taken.since
        if age > FRESH_SECONDS:
            return f"the claim was {age:.0f} s old before the call could be sent"
        return self._at_hand.get(taken.row.call_id) or self._may_dial()

    async def _dial(self, taken: Taken) -> None:
        self._at_hand[taken.row.call_id] = None
        try:
            await self._try(taken)
        finally:
            del self._at_hand[taken.row.call_id]

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
            await self._block(row.call_id, str(refusal))
            return
        if originate.form is Form.ROUTE:
            routes = self._link.routes
            if routes is None:
                await self._release(row, ReleaseCause.NOT_SENT, "the outgoing routes could not be looked at")
                return
            if (words := routes.refusal(originate.number_dialed)) is not None:
                await self._block(row.call_id, words)
                return
        await self._send(taken, originate)

    async def _send(self, taken: Taken, originate: Originate) -> None:
        row = taken.row
        self._follower.expect(row, originate)
        reply = await self._link.originate(originate, lambda: self._stale(taken))
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
        await self._block(call_id, f"the row cannot be read: {problem}")

    async def _block(self, call_id: str, why: str) -> None:
        say(log, logging.WARNING, "call.blocked", "Row is not dialed", call=call_id, why=why)
        ending = Ending(outcome=Outcome.BLOCKED, reason=why, times=CallTimes())
        await self._store([outcome_record(call_id, ending, trunk=self._plan.trunk)])
