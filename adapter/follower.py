"""Follows every call that may be on the PBX: events in, records out, doubt settled by evidence.

Every call that lives here is *on the board* and followed by its events (`core/calls.py`). Calls *in doubt* may or may
not be on the PBX: an Originate without a Response, a call that no channel list shows after a login, a call that an
earlier incarnation had claimed. Doubt is settled by `core/recovery.py` from the channel list, the PBX journal and
the PBX's start time, never by the passing of time alone, and never by an answer that is older than an event.

Calls that another adapter placed through this PBX are watched as well (`core/witness.py`): what was seen of them is
told when the database does not know it, and is where this adapter goes on when it takes the PBX over.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from adapter.core.call import call_id_of, resume, start
from adapter.core.calls import Board, Change, Ended
from adapter.core.model import AnsweredMark, Channel, ClaimedRow, Ending, Form, OpenCall, Record, ReleaseRecord
from adapter.core.originate import Originate, slot_of
from adapter.core.outcomes import outcome_record
from adapter.core.recovery import End, Follow, Journal, Release, Wait, judge
from adapter.core.witness import Witness
from adapter.log import say
from adapter.pbx import Down, Event, LinkDown, PbxLink, PbxMessage, Up

log = logging.getLogger(__name__)

BREATH_SECONDS = 0.5
"""How often time is let pass for the board and doubt is looked at: a tenth of the shortest wait in the core (5 s)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A call of which it is not known whether it is on the PBX."""

    call: OpenCall
    sent_at: float
    """Boot clock at (or before) which the Originate was written, for a call of an earlier incarnation its finding; or
    the latest event of the call."""

    accepted: bool = False
    """The PBX had answered `Response: Success`."""

    ours: bool = True
    """This process sent it, or an earlier incarnation of it whose lock we hold."""

    look_at: float = 0.0
    """Boot clock of the next look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What we know of a call on the board beside its life."""

    call: OpenCall
    sent_at: float
    accepted: bool = False
    ours: bool = True


class Follower:
    """Consumer of the link's messages and owner of all calls in the air."""

    def __init__(
        self,
        *,
        link: PbxLink,
        store: Callable[[Sequence[Record]], Awaitable[None]],
        ended: Callable[[Ending], None],
        now: Callable[[], float],
        clock: Callable[[], float],
        trunk: str,
        form: Form = Form.TRUNK,
        ring_seconds: int,
        max_call_seconds: int,
        no_answer_word: str,
        incarnation: int,
        beat: Callable[[], None],
    ) -> None:
        self._link = link
        self._store = store
        self._ended = ended
        self._now = now
        self._clock = clock
        self._trunk = trunk
        self._form = form
        self._ring_seconds = ring_seconds
        self._max_call_seconds = max_call_seconds
        self._no_answer_word = no_answer_word
        self._incarnation = incarnation
        self._beat = beat
        self._board = Board()
        self._witness = Witness(ring_seconds=ring_seconds, max_call_seconds=max_call_seconds)
        self._to_tell: list[Change] = []
        """What was seen of calls that were just taken over; told with the next breath."""

        self._known: dict[str, Known] = {}
        self._doubts: dict[str, Doubt] = {}
        self._up_since: float | None = None
        self._hang_ups: set[str] = set()
        self._heard = 0
        self._more_heard = asyncio.Event()

    # What the dialer and the ticker ask

    @property
    def in_air(self) -> int:
        """Calls that are, or may be, on the PBX."""
        return len(self._board)

    @property
    def in_setup(self) -> int:
        """Calls that neither talk nor have ended."""
        return self._board.in_setup

    @property
    def in_doubt(self) -> int:
        """Calls of which it is not known whether they are on the PBX."""
        return len(self._doubts)

    def __contains__(self, call_id: object) -> bool:
        """True for a call of an adapter, this one or another: its legs are no strangers'."""
        return call_id in self._board or call_id in self._witness

    def knows(self, call_id: str) -> bool:
        """True for a call that was handed to the link, or is being looked for."""
        return call_id in self._board

    def expect(self, row: ClaimedRow, originate: Originate) -> None:
        """An Originate is about to be written: from now on its events have an owner."""
        now = self._now()
        self._known[row.call_id] = Known(call=OpenCall(row=row, incarnation=self._incarnation), sent_at=self._clock())
        self._board.add(
            start(
                row.call_id,
                form=originate.form,
                trunk=originate.trunk,
                ring_seconds=originate.ring_seconds,
                max_call_seconds=self._max_call_seconds,
                now=now,
            )
        )

    async def accepted(self, call_id: str) -> None:
        """The PBX answered `Response: Success`."""
        if (known := self._known.get(call_id)) is not None:
            self._known[call_id] = replace(known, accepted=True)
        await self._apply(self._board.on_reply(call_id, True, "", self._now()))

    def forget(self, call_id: str) -> None:
        """The Originate was certainly not executed."""
        self._board.drop(call_id)
        self._known.pop(call_id, None)
        self._hang_ups.discard(call_id)

    def has_heard_of(self, call_id: str) -> bool:
        """True if the PBX has shown a leg of this call: then it was executed, whatever else is said about it."""
        call = self._board.get(call_id)
        return call is None or bool(call.trunk_leg or call.living or call.down)

    def doubt(self, call_id: str) -> None:
        """Bytes were written and no Response came: channels and journal will tell, unless its events came already."""
        call = self._board.get(call_id)
        if call is not None and not call.trunk_leg:
            self._doubt(call_id)

    def adopt(self, calls: Sequence[OpenCall], *, ours: bool) -> None:
        """Calls that the database holds open and this process did not send (a start, a take-over)."""
        now = self._clock()
        for call in calls:
            if not self.knows(call.row.call_id) and not self._witnessed(call):
                self._put_on_board(call, ours=ours)
                self._doubts[call.row.call_id] = Doubt(call=call, sent_at=now, ours=ours)
                say(log, logging.INFO, "call.found", "Call of an earlier process found open", call=call.row.call_id)

    def _put_on_board(self, call: OpenCall, *, ours: bool) -> None:
        """A call that an earlier process had sent gets a life here: from now on its events have an owner."""
        self._known[call.row.call_id] = Known(call=call, sent_at=self._clock(), ours=ours)
        way = call.row.way
        form, trunk = (self._form, self._trunk) if way is None else (way.form, way.id)
        if form is Form.ROUTE:
            trunk = ""  # Until the trunk leg tells which provider MikoPBX chose.
        self._board.add(
            resume(
                call,
                form=form,
                trunk=trunk,
                ring_seconds=call.row.ring_seconds or self._ring_seconds,
                max_call_seconds=self._max_call_seconds,
                now=self._now(),
            )
        )

    def _witnessed(self, opened: OpenCall) -> bool:
        """A call that we have seen, and not only heard of: it is followed on from here, or its end is told."""
        call_id = opened.row.call_id
        life, changes = self._witness.hand_over(opened)
        if life is None and not changes:
            return False
        self._to_tell += changes
        if life is not None:
            self._known[call_id] = Known(call=opened, sent_at=self._clock(), accepted=True, ours=False)
            self._board.add(life)
        say(log, logging.INFO, "call.witnessed", "Call of another adapter was watched and is taken over", call=call_id)
        return True

    def unsure_of(self) -> tuple[str, ...]:
        """Calls of another adapter that we saw answered or ended: does the database know?"""
        return self._witness.due(self._now())

    async def testify(self, wanted: Sequence[OpenCall]) -> None:
        """The database's answer to `unsure_of`: it does not know the end of these; it is told what was seen of them."""
        changes = self._witness.answered(wanted)
        for change in changes:
            say(log, logging.INFO, "call.testified", "The database is told what was seen", call=change.call_id)
        await self._apply(changes)

    async def hang_up(self, call_id: str) -> None:
        """Somebody canceled this call: end it at the PBX by its exact channel."""
        call = self._board.get(call_id)
        if call is None or call_id in self._hang_ups:
            return
        self._hang_ups.add(call_id)
        say(log, logging.INFO, "call.cancel", "Hanging up on request", call=call_id)
        await self._apply(self._board.on_canceled(call_id, self._now()))
        # The command comes again with the next sync, until the call has ended.
        try:
            if not await self._link.hangup(call.hangup_id):
                self._hang_ups.discard(call_id)  # Over, or not there yet: a call in doubt may still come up.
        except LinkDown as error:
            self._hang_ups.discard(call_id)
            say(log, logging.WARNING, "call.cancel_failed", "Hang-up not done yet", call=call_id, why=str(error))

    # What it does by itself

    async def run(self) -> None:
        """Consume the link until canceled."""
        while True:
            messages = [await self._link.messages.get()]
            while not self._link.messages.empty() and len(messages) < 1000:
                messages.append(self._link.messages.get_nowait())
            changes: list[Change] = []
            for message in messages:
                changes += self._hear(message)
            self._heard += len(messages)
            self._more_heard.set()
            await self._apply(changes)

    async def breathe(self) -> None:
        """Let time pass for the board and settle doubt, until canceled."""
        while True:
            await asyncio.sleep(BREATH_SECONDS)
            self._beat()
            self._witness.on_tick(self._now())
            told, self._to_tell = self._to_tell, []
            await self._apply([*told, *self._board.on_tick(self._now(), doubted=self._doubts)])
            if self._doubts and self._up_since is not None:
                try:
                    await self._settle()
                except LinkDown:
                    continue  # The link says so itself; doubt waits for the next login.

    def _hear(self, message: PbxMessage) -> Sequence[Change]:
        now = self._now()
        match message:
            case Event():
                self._outdate(call_id_of(message.event))
                if not self.knows(call_id_of(message.event)):
                    self._witness.on_event(message.event, now)
                return self._board.on_event(message.event, now)
            case Up():
                self._up_since = self._clock()
                self._witness.on_seen(message.channels, now, known=self._board.ids)
                changes = self._board.on_seen(message.channels, now)
                for call in self._board.absent(message.channels):
                    self._doubt(call.call_id)
                return changes
            case Down():
                self._up_since = None
                self._hang_ups.clear()
                self._witness.on_lost(now)
                return self._board.on_lost(now)

    def _doubt(self, call_id: str) -> None:
        """A login shows no leg of this call: it ended unseen, never was, or is not listed yet."""
        known, call = self._known.get(call_id), self._board.get(call_id)
        if call is not None and known is not None:
            opened = replace(known.call, answered_at=call.answered_at, originated_at=call.originated_at)
            self._doubts[call_id] = Doubt(call=opened, sent_at=known.sent_at, accepted=known.accepted, ours=known.ours)

    def _outdate(self, call_id: str) -> None:
        """An event of a call in doubt: what is being asked about it may be older, and a leg just made is not listed
        yet, so that it may be called absent only SETTLE after this."""
        if (doubt := self._doubts.get(call_id)) is not None:
            self._doubts[call_id] = replace(doubt, sent_at=self._clock(), look_at=0.0)

    async def _settle(self) -> None:
        """Look at every doubt that is due, with one channel list for all of them."""
        now = self._clock()
        due = [doubt for doubt in self._doubts.values() if now >= doubt.look_at]
        if due:
            channels = await self._link.channels()
            for doubt in due:
                self._beat()
                await self._settle_one(doubt, channels)

    async def _settle_one(self, doubt: Doubt, channels: Sequence[Channel]) -> None:
        call_id = doubt.call.row.call_id
        alive = call_id in self._board and self._board.is_listed(call_id, channels)
        entry = None if alive else await self._link.journal(slot_of(doubt.call.row.claim_number))
        await self._caught_up()
        now = self._clock()
        call = self._board.get(call_id)
        if self._up_since is None or call is None or self._doubts.get(call_id) is not doubt:
            return  # The link was lost, or something was heard of the call, while the PBX was asked.
        verdict = judge(
            replace(doubt.call, originated_at=call.originated_at, answered_at=call.answered_at),
            alive=alive,
            journal=Journal.read(entry),
            accepted=doubt.accepted,
            same_boot=doubt.call.row.pbx_boot is not None and doubt.call.row.pbx_boot == self._link.status.boot,
            ours=doubt.ours,
            sent_age=now - doubt.sent_at,
            login_age=now - self._up_since,
        )
        match verdict:
            case Wait():
                self._doubts[call_id] = replace(doubt, look_at=now + verdict.seconds)
            case Follow():
                await self._follow(doubt, channels)
            case Release():
                await self._release(doubt, verdict)
            case End():
                await self._end(doubt, verdict)
            case _:
                assert_never(verdict)

    async def _caught_up(self) -> None:
        """Until all is heard that has come so far: it is newer than the answers that came with it."""
        come = self._link.messages.received
        while self._heard < come:
            self._more_heard.clear()
            await self._more_heard.wait()

    async def _follow(self, doubt: Doubt, channels: Sequence[Channel]) -> None:
        """A leg is alive: the doubt is over and events tell the rest."""
        call_id = doubt.call.row.call_id
        del self._doubts[call_id]
        say(log, logging.INFO, "call.alive", "Call is alive on the PBX and is followed", call=call_id)
        await self._apply(self._board.on_found(call_id, channels, self._now()))

    async def _release(self, doubt: Doubt, verdict: Release) -> None:
        call_id = doubt.call.row.call_id
        del self._doubts[call_id]
        self.forget(call_id)
        say(log, logging.INFO, "call.released", "Row goes back: not dialed", call=call_id, why=verdict.reason)
        await self._store([ReleaseRecord(call_id=call_id, cause=verdict.cause, reason=verdict.reason)])

    async def _end(self, doubt: Doubt, verdict: End) -> None:
        call_id = doubt.call.row.call_id
        del self._doubts[call_id]
        await self._apply(self._board.on_gone(call_id, self._now(), verdict.why))

    async def _apply(self, changes: Sequence[Change]) -> None:
        """What changed goes to the outbox, then to the log."""
        records: list[Record] = []
        for change in changes:
            match change:
                case AnsweredMark():
                    records.append(change)
                    say(log, logging.INFO, "call.answered", "Callee picked up", call=change.call_id)
                case Ended():
                    records.append(self._over(change))
                case _:
                    assert_never(change)
        if not records:
            return
        storing = asyncio.ensure_future(self._store(records))
        try:
            while not storing.done():
                await asyncio.wait({storing}, timeout=BREATH_SECONDS)
                self._beat()  # To wait for a full disk, or for Supabase in its place, is not to hang.
        finally:
            storing.cancel()
        storing.result()

    def _over(self, change: Ended) -> Record:
        call_id, ending = change.call_id, change.ending
        self._known.pop(call_id, None)
        self._doubts.pop(call_id, None)
        self._hang_ups.discard(call_id)
        self._ended(ending)
        say(
            log,
            logging.INFO,
            "call.ended",
            f"Call ended: {ending.reason}",
            call=call_id,
            outcome=ending.outcome.value,
            talk_seconds=ending.talk_seconds,
            cause=ending.hangup_cause,
            sip=ending.sip_code,
        )
        return outcome_record(call_id, ending, trunk=change.call.trunk, no_answer_word=self._no_answer_word)
