"""From a claimed row to its outcome, with the link moved by hand: the crash table, line by line."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest

from adapter.core.call import OVERTIME
from adapter.core.model import (
    AnsweredMark,
    Channel,
    ClaimedRow,
    Ending,
    Form,
    OpenCall,
    Outcome,
    OutcomeRecord,
    Record,
    ReleaseCause,
    ReleaseRecord,
    Way,
)
from adapter.core.originate import DialPlan
from adapter.core.recovery import SETTLE
from adapter.core.routes import Routes, Step
from adapter.dialer import FRESH_SECONDS, HOLD_SECONDS, Dialer
from adapter.follower import Follower
from adapter.pacer import Pacer
from adapter.pbx import Down, Event, NotSent, PbxLink, Refused, Unsure
from tests.support.doubles import TRUNK, HandLink, event, leg, row

ROW = row(7)
CALL = ROW.call_id

BREATH = 0.02
"""The follower's own clock turns this often in these tests."""


@pytest.fixture(autouse=True)
def _quick_breath(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapter.follower.BREATH_SECONDS", BREATH)


class Desk:
    """Dialer and follower around a link moved by hand, with a clock moved by hand."""

    def __init__(self, form: Form = Form.TRUNK, link: HandLink | None = None) -> None:
        trunk = TRUNK if form is Form.TRUNK else ""
        self.link = link or HandLink()
        self.records: list[Record] = []
        self.endings: list[Ending] = []
        self.now = 1000.0
        self.why_not: str | None = None
        self.kept = True
        self.keeping: asyncio.Event | None = None
        self.follower = Follower(
            link=cast("PbxLink", self.link),
            store=self._store,
            ended=self.endings.append,
            now=lambda: self.now,
            clock=lambda: self.now,
            form=form,
            trunk=trunk,
            ring_seconds=30,
            max_call_seconds=900,
            no_answer_word="no_answered",
            incarnation=1,
            beat=lambda: None,
        )
        self.dialer = Dialer(
            link=cast("PbxLink", self.link),
            follower=self.follower,
            plan=DialPlan(form=form, trunk=trunk, ai_context="all_peers", ai_extension="999", region="MY"),
            store=self._store,
            may_dial=lambda: self.why_not,
            keeps=self._keeps,
            clock=lambda: self.now,
            # The pace has a clock of its own: that of the desk stands still.
            pacer=Pacer(
                calls_per_second=10_000.0, stopwatch=self.link.stopwatch, clock=time.monotonic, since=float("-inf")
            ),
        )

    async def _store(self, records: Sequence[Record]) -> None:
        self.records.extend(records)

    async def _keeps(self, number: int) -> bool:
        if self.keeping is not None:
            await self.keeping.wait()
        return self.kept

    async def until(self, true: Callable[[], object]) -> None:
        """Let the tasks turn until this is so."""
        async with asyncio.timeout(10):
            while not true():
                await asyncio.sleep(0.005)

    async def age(self, seconds: float) -> None:
        """Move the clock, and let the follower's own clock turn twice."""
        self.now += seconds
        await asyncio.sleep(3 * BREATH)

    def tell(self, name: str, at: float, **fields: str) -> None:
        """An event of the call."""
        self.link.messages.put_nowait(Event(event(name, CALL, at, **fields)))

    def last(self) -> Record:
        """The newest record."""
        return self.records[-1]

    def outcome(self) -> OutcomeRecord:
        """The newest record, which must be an outcome."""
        assert isinstance(self.records[-1], OutcomeRecord)
        return self.records[-1]

    def release(self) -> ReleaseRecord:
        """The newest record, which must be a release."""
        assert isinstance(self.records[-1], ReleaseRecord)
        return self.records[-1]


@asynccontextmanager
async def _desk(form: Form = Form.TRUNK, link: HandLink | None = None) -> AsyncIterator[Desk]:
    desk = Desk(form, link)
    tasks = [asyncio.create_task(part) for part in (desk.follower.run(), desk.follower.breathe(), desk.dialer.run())]
    desk.link.come_up()
    await asyncio.sleep(0)
    try:
        yield desk
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


async def _sent(desk: Desk) -> None:
    desk.dialer.take((ROW,), desk.now)
    await desk.until(lambda: desk.link.sent and not desk.dialer.sending)


async def _ring_and_answer(desk: Desk) -> None:
    desk.tell("Newchannel", 1000.1, ChannelState="0")
    desk.tell("Newstate", 1001.0, ChannelState="5", ChannelStateDesc="Ringing")
    desk.tell("Newstate", 1003.0, ChannelState="6", ChannelStateDesc="Up")
    await desk.until(lambda: desk.records)


async def test_an_answered_call_is_marked_and_ended() -> None:
    async with _desk() as desk:
        await _sent(desk)
        await _ring_and_answer(desk)
        assert isinstance(desk.last(), AnsweredMark)
        desk.tell("HangupRequest", 1010.0, Cause="16")
        desk.tell("Hangup", 1010.0, Cause="16")
        desk.link.messages.put_nowait(
            Event(event("OriginateResponse", CALL, 1003.0, ActionID=CALL, Response="Success", Reason="4"))
        )
        await desk.until(lambda: len(desk.records) == 2)
        assert desk.outcome().ending.outcome is Outcome.ANSWERED
        assert desk.outcome().ending.talk_seconds == 7
        assert desk.outcome().log_status == "answered"
        assert desk.follower.in_air == 0
        assert desk.endings == [desk.outcome().ending]


async def test_a_row_is_sent_once_however_often_it_is_claimed() -> None:
    async with _desk() as desk:
        desk.dialer.take((ROW, ROW), desk.now)
        desk.dialer.take((ROW,), desk.now)
        await desk.until(lambda: desk.link.sent and not desk.dialer.sending)
        desk.dialer.take((ROW,), desk.now)
        await asyncio.sleep(0.05)
        assert desk.link.sent == [CALL]


async def _released(desk: Desk, cause: ReleaseCause) -> str:
    await desk.until(lambda: desk.records)
    assert desk.release().cause is cause
    assert len(desk.records) == 1
    assert desk.follower.in_air == 0
    return desk.release().reason


async def test_a_row_whose_claim_number_is_not_on_disk_is_not_sent() -> None:
    """After a crash nobody would know that it was dialed, should the database be restored to before its claim."""
    async with _desk() as desk:
        desk.kept = False
        desk.dialer.take((ROW,), desk.now)
        await _released(desk, ReleaseCause.NOT_SENT)
        assert desk.link.sent == []


async def test_a_row_canceled_while_its_number_is_written_is_not_sent() -> None:
    """A slow disk leaves time for a cancel between the queue and the link."""
    async with _desk() as desk:
        gate = desk.keeping = asyncio.Event()
        desk.dialer.take((ROW,), desk.now)
        await desk.until(lambda: desk.dialer.sending)
        assert not await desk.dialer.withdraw(CALL, "canceled"), "it may be on its way"
        gate.set()
        assert await _released(desk, ReleaseCause.NOT_SENT) == "canceled"
        assert desk.link.sent == []


async def test_a_stale_claim_is_not_sent() -> None:
    async with _desk() as desk:
        desk.dialer.take((ROW,), desk.now - FRESH_SECONDS - 1)
        assert "old" in await _released(desk, ReleaseCause.NOT_SENT)
        assert desk.link.sent == []


async def test_a_lapsed_heartbeat_stops_the_send() -> None:
    async with _desk() as desk:
        desk.why_not = "the heartbeat in the database had lapsed"
        desk.dialer.take((ROW,), desk.now)
        assert "heartbeat" in await _released(desk, ReleaseCause.NOT_SENT)
        assert desk.link.sent == []


async def test_an_explicit_error_of_the_pbx_releases() -> None:
    async with _desk() as desk:
        desk.link.replies.append(Refused("Extension does not exist."))
        desk.dialer.take((ROW,), desk.now)
        assert await _released(desk, ReleaseCause.PBX_ERROR) == "Extension does not exist."


async def test_what_was_never_written_is_released() -> None:
    async with _desk() as desk:
        desk.link.replies.append(NotSent("there is no connection to the PBX"))
        desk.dialer.take((ROW,), desk.now)
        await _released(desk, ReleaseCause.NOT_SENT)


async def test_a_row_that_cannot_be_built_is_blocked_and_others_go_on() -> None:
    async with _desk() as desk:
        bad = row(8, caller_id="12\r\nAction: Command")
        desk.dialer.take((bad, ROW), desk.now)
        await desk.until(lambda: desk.link.sent)
        await desk.until(lambda: desk.records)
        assert (desk.outcome().call_id, desk.outcome().ending.outcome) == (bad.call_id, Outcome.BLOCKED)
        assert desk.outcome().log_status == "failed"
        assert desk.link.sent == [CALL]


async def test_rows_given_back_at_a_stop_are_released_and_never_sent() -> None:
    async with _desk() as desk:
        desk.dialer.take(tuple(row(serial) for serial in range(1, 4)), desk.now)
        assert await desk.dialer.give_back("the adapter was stopping") == 3
        await asyncio.sleep(0.05)
        assert desk.link.sent == []
        assert [type(record) for record in desk.records] == [ReleaseRecord] * 3


async def test_a_canceled_row_that_waits_is_withdrawn_and_never_sent() -> None:
    async with _desk() as desk:
        desk.dialer.take((ROW,), desk.now)
        assert await desk.dialer.withdraw(CALL, "canceled before it was dialed")
        assert not await desk.dialer.withdraw(CALL, "again")
        await asyncio.sleep(0.05)
        assert desk.link.sent == []
        await _released(desk, ReleaseCause.NOT_SENT)


async def test_a_row_that_went_back_is_not_claimed_again_at_once() -> None:
    async with _desk() as desk:
        before = desk.dialer.holding_off
        desk.link.replies.append(NotSent("the PBX does not read"))
        await _sent(desk)
        await desk.until(lambda: desk.records)
        after = desk.dialer.holding_off
        desk.now += HOLD_SECONDS
        assert (before, after, desk.dialer.holding_off) == (False, True, False)


async def _in_doubt(desk: Desk, *, executed: bool) -> None:
    """The Originate was written, no Response came, the link was lost and came back; nothing of the call is listed."""

    def lose() -> None:
        if executed:
            desk.link.execute(ROW)
        desk.link.up = False
        desk.link.messages.put_nowait(Down(1, "lost"))

    desk.link.before_reply = lose
    desk.link.replies.append(Unsure("the connection was lost before the PBX answered the Originate"))
    await _sent(desk)
    desk.link.before_reply = None
    await desk.until(desk.link.messages.empty)
    desk.now += 2
    desk.link.come_up()
    await asyncio.sleep(3 * BREATH)


async def test_doubt_is_not_settled_before_the_settle_time() -> None:
    async with _desk() as desk:
        await _in_doubt(desk, executed=False)
        await desk.age(SETTLE - 3)
        assert desk.records == []
        assert desk.follower.in_doubt == 1


async def test_the_journal_proves_that_it_never_ran() -> None:
    async with _desk() as desk:
        await _in_doubt(desk, executed=False)
        await desk.age(SETTLE + 1)
        await _released(desk, ReleaseCause.NEVER_EXECUTED)


async def test_a_journal_entry_means_unknown_never_a_second_call() -> None:
    async with _desk() as desk:
        await _in_doubt(desk, executed=True)
        await desk.age(SETTLE + 1)
        await desk.until(lambda: desk.records)
        assert desk.outcome().ending.outcome is Outcome.UNKNOWN
        assert desk.link.sent == [CALL]


async def test_a_restarted_pbx_proves_nothing() -> None:
    async with _desk() as desk:
        await _in_doubt(desk, executed=False)
        desk.link.boot = "2026-01-01 00:05:00"
        await desk.age(SETTLE + 1)
        await desk.until(lambda: desk.records)
        assert desk.outcome().ending.outcome is Outcome.UNKNOWN


async def test_a_call_in_doubt_that_is_alive_is_followed_to_its_end() -> None:
    async with _desk() as desk:
        await _in_doubt(desk, executed=True)
        desk.link.live = (leg(CALL),)
        await desk.age(SETTLE + 1)
        await desk.until(lambda: desk.follower.in_doubt == 0)
        desk.tell("Hangup", desk.now, Cause="17", TechCause="SIP 486 Busy Here")
        desk.link.messages.put_nowait(
            Event(event("OriginateResponse", CALL, desk.now, ActionID=CALL, Response="Failure", Reason="0"))
        )
        await desk.until(lambda: desk.records)
        assert desk.outcome().ending.outcome is Outcome.BUSY


async def test_a_call_that_lives_through_a_lost_link_keeps_its_answer() -> None:
    async with _desk() as desk:
        await _sent(desk)
        await _ring_and_answer(desk)
        desk.link.messages.put_nowait(Down(1, "lost"))
        desk.now += 30
        desk.link.come_up((leg(CALL, up=True),))
        await desk.until(desk.link.messages.empty)
        desk.tell("Hangup", 1100.0, Cause="16")
        await desk.until(lambda: len(desk.records) == 2)
        assert desk.outcome().ending.outcome is Outcome.ANSWERED
        assert desk.outcome().ending.talk_seconds == 97
        assert not desk.outcome().ending.estimated


async def test_an_answered_call_that_ended_unseen_is_answered_and_estimated() -> None:
    async with _desk() as desk:
        await _sent(desk)
        await _ring_and_answer(desk)
        desk.link.messages.put_nowait(Down(1, "lost"))
        desk.now += 30
        desk.link.come_up()
        await desk.until(desk.link.messages.empty)
        await desk.age(SETTLE + 1)
        await desk.until(lambda: len(desk.records) == 2)
        assert desk.outcome().ending.outcome is Outcome.ANSWERED
        assert desk.outcome().ending.estimated


async def test_one_call_in_doubt_leaves_the_others_as_they_are() -> None:
    """A channel list asked for because of one call must not make the others lose their evidence."""
    other = row(9)
    async with _desk() as desk:
        await _sent(desk)
        desk.tell("Newchannel", 1000.1, ChannelState="0")
        desk.follower.adopt((OpenCall(row=other, incarnation=1),), ours=True)
        desk.link.live = (leg(other.call_id),)
        await desk.until(lambda: desk.follower.in_doubt == 0)
        desk.tell("Hangup", 1000.5, Cause="34", TechCause="SIP 503 Service Unavailable")
        desk.link.messages.put_nowait(
            Event(event("OriginateResponse", CALL, 1000.5, ActionID=CALL, Response="Failure", Reason="0"))
        )
        await desk.until(lambda: desk.records)
        assert desk.outcome().ending.outcome is Outcome.CONGESTION


def _adopted(desk: Desk, claimed: ClaimedRow = ROW, *, ours: bool = True, **changes: float | bool | None) -> None:
    desk.follower.adopt((OpenCall(row=claimed, incarnation=1, **changes),), ours=ours)  # type: ignore[arg-type]


async def _settled(desk: Desk) -> None:
    await desk.age(SETTLE + 1)
    await desk.until(lambda: desk.records)


async def test_a_row_claimed_and_not_sent_before_a_crash_is_released() -> None:
    async with _desk() as desk:
        _adopted(desk)
        await _settled(desk)
        await _released(desk, ReleaseCause.NEVER_EXECUTED)


async def test_another_adapters_row_is_never_released() -> None:
    async with _desk() as desk:
        _adopted(desk, ours=False)
        await _settled(desk)
        assert desk.outcome().ending.outcome is Outcome.UNKNOWN


async def test_a_call_of_the_last_incarnation_that_is_alive_is_followed() -> None:
    async with _desk() as desk:
        desk.link.live = (leg(CALL, up=True),)
        _adopted(desk)
        await desk.until(lambda: desk.records)
        assert isinstance(desk.last(), AnsweredMark)
        desk.tell("Hangup", desk.now + 5, Cause="16")
        await desk.until(lambda: len(desk.records) == 2)
        assert desk.outcome().ending.outcome is Outcome.ANSWERED


class SlowLink(HandLink):
    """Answers a question with what was so when it was asked, once the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.let = asyncio.Event()

    async def _answer(self) -> None:
        self.asked.set()
        await self.let.wait()

    async def channels(self) -> tuple[Channel, ...]:
        """The list as it was."""
        listed = await super().channels()
        await self._answer()
        return listed

    async def journal(self, slot: int) -> str | None:
        """The entry as it was."""
        entry = await super().journal(slot)
        await self._answer()
        return entry

    async def next_question(self) -> None:
        """Answer the one under way; return when the next one is asked."""
        self.asked.clear()
        self.let.set()
        self.let.clear()
        await asyncio.wait_for(self.asked.wait(), 5)


@asynccontextmanager
async def _found_open(*listed: Channel) -> AsyncIterator[tuple[Desk, SlowLink]]:
    """A call of an earlier process is found open, and the list of channels that it is looked for in is under way."""
    slow = SlowLink()
    async with _desk(link=slow) as desk:
        await desk.until(slow.messages.empty)
        desk.now += SETTLE + 1
        slow.live = listed
        _adopted(desk)
        desk.now += SETTLE + 1
        await asyncio.wait_for(slow.asked.wait(), 5)
        yield desk, slow


async def test_an_answer_while_the_list_is_under_way_is_heard() -> None:
    """The list shows it ringing still; by then the callee has picked up, and hangs up later: no `no_answer`."""
    async with _found_open(leg(CALL)) as (desk, slow):
        desk.tell("Newstate", desk.now, ChannelState="6", ChannelStateDesc="Up")
        await desk.until(lambda: desk.records)
        assert isinstance(desk.last(), AnsweredMark)
        slow.live = (leg(CALL, up=True),)
        await slow.next_question()
        assert desk.follower.in_doubt == 1, "the old list settles nothing"
        slow.let.set()
        await desk.until(lambda: desk.follower.in_doubt == 0)
        desk.tell("HangupRequest", desk.now + 9, Cause="16")
        desk.tell("Hangup", desk.now + 9, Cause="16")
        await desk.until(lambda: len(desk.records) == 2)
        assert (desk.outcome().ending.outcome, desk.outcome().ending.talk_seconds) == (Outcome.ANSWERED, 9)
        assert not desk.outcome().ending.estimated


async def test_an_answer_that_still_waits_to_be_heard_outdates_the_list() -> None:
    """The disk is slow with another record, so that the answer lies in the queue when the old list is looked at."""
    gate = asyncio.Event()
    async with _found_open() as (desk, slow):

        async def slow_disk(records: Sequence[Record]) -> None:
            desk.records.extend(records)
            await gate.wait()

        desk.follower._store = slow_disk
        _adopted(desk, row(9))
        slow.messages.put_nowait(Event(event("Newstate", row(9).call_id, desk.now, ChannelStateDesc="Up")))
        await desk.until(lambda: desk.records)  # And the follower waits for the disk.
        desk.tell("Newchannel", desk.now, ChannelState="0")
        slow.let.set()
        await asyncio.sleep(5 * BREATH)
        assert desk.follower.in_doubt == 2
        assert not [record for record in desk.records if record.call_id == CALL]
        gate.set()


async def test_a_busy_pbx_does_not_keep_a_doubt_from_being_settled() -> None:
    """There is always something that waits to be heard; only what came before the answer is newer than it."""
    async with _found_open() as (desk, slow):

        async def storm() -> None:
            while True:
                slow.messages.put_nowait(Event(event("Newstate", row(9).call_id, desk.now, ChannelStateDesc="Down")))
                await asyncio.sleep(0)

        noise = asyncio.create_task(storm())
        slow.let.set()
        desk.now += SETTLE
        await desk.until(lambda: desk.records)
        noise.cancel()
        assert desk.follower.in_doubt == 0
        await _released(desk, ReleaseCause.NEVER_EXECUTED)


async def test_a_call_that_starts_while_the_journal_is_asked_is_not_released() -> None:
    """A PBX that was frozen executes the Originate after its journal was read: the row must not go back."""
    async with _found_open() as (desk, slow):
        await slow.next_question()  # The list shows nothing, and the journal is being asked.
        desk.tell("Newchannel", desk.now, ChannelState="0")
        await desk.until(slow.messages.empty)
        slow.let.set()  # The journal was empty, and neither does the next list show a leg so young.
        await asyncio.sleep(5 * BREATH)
        assert desk.records == []
        assert desk.follower.in_doubt == 1
        slow.live = (leg(CALL),)
        desk.now += SETTLE
        await desk.until(lambda: desk.follower.in_doubt == 0)
        assert desk.records == []
        assert desk.follower.in_air == 1


async def test_the_end_of_a_call_is_heard_before_it_is_looked_for() -> None:
    """Found open, and over before the first list: its own words tell how it ended."""
    async with _found_open(leg(CALL)) as (desk, _slow):
        desk.tell("Newstate", desk.now, ChannelState="5", ChannelStateDesc="Ringing")
        desk.tell("Hangup", desk.now, Cause="17", TechCause="SIP 486 Busy Here")
        desk.link.messages.put_nowait(
            Event(event("OriginateResponse", CALL, desk.now, ActionID=CALL, Response="Failure", Reason="5"))
        )
        await desk.until(lambda: desk.records)
        assert desk.outcome().ending.outcome is Outcome.BUSY
        assert desk.follower.in_doubt == desk.follower.in_air == 0


async def test_doubt_outlasts_the_longest_call_while_the_pbx_is_away() -> None:
    """Age is no evidence: the journal tells once the PBX is back, and a row that was never dialed goes back."""
    async with _desk() as desk:
        desk.link.replies.append(Unsure("the connection was lost before the PBX answered the Originate"))
        desk.link.before_reply = lambda: setattr(desk.link, "up", False)
        await _sent(desk)
        desk.link.messages.put_nowait(Down(1, "lost"))
        await desk.until(desk.link.messages.empty)
        await desk.age(30 + 900 + OVERTIME + 1)
        assert desk.records == []
        desk.link.come_up()
        await desk.until(desk.link.messages.empty)
        await desk.age(SETTLE + 1)
        await _released(desk, ReleaseCause.NEVER_EXECUTED)


async def test_a_canceled_call_that_is_not_there_yet_is_hung_up_when_it_comes() -> None:
    async with _desk() as desk:
        desk.link.there = False
        _adopted(desk)
        await desk.follower.hang_up(CALL)
        desk.link.there = True
        await desk.follower.hang_up(CALL)
        await desk.follower.hang_up(CALL)
        assert desk.link.hung_up == [CALL]


async def test_a_canceled_row_that_goes_back_leaves_nothing() -> None:
    async with _desk() as desk:
        await _in_doubt(desk, executed=False)
        await desk.follower.hang_up(CALL)
        await desk.age(SETTLE + 1)
        await _released(desk, ReleaseCause.NEVER_EXECUTED)
        assert not desk.follower._hang_ups


async def test_an_answered_call_of_the_last_incarnation_that_is_gone_stays_answered() -> None:
    async with _desk() as desk:
        _adopted(desk, answered_at=900.0)
        await _settled(desk)
        assert desk.outcome().ending.outcome is Outcome.ANSWERED
        assert desk.outcome().ending.estimated


async def test_a_canceled_call_is_hung_up_by_its_own_channel_once() -> None:
    async with _desk() as desk:
        await _sent(desk)
        desk.tell("Newchannel", 1000.1, ChannelState="0")
        await desk.until(desk.link.messages.empty)
        await desk.follower.hang_up(CALL)
        await desk.follower.hang_up(CALL)
        assert desk.link.hung_up == [CALL]
        desk.tell("Hangup", 1002.0, Cause="16")
        desk.link.messages.put_nowait(
            Event(event("OriginateResponse", CALL, 1002.0, ActionID=CALL, Response="Failure", Reason="0"))
        )
        await desk.until(lambda: desk.records)
        assert desk.outcome().ending.outcome is Outcome.CANCELED


async def test_a_cancel_while_the_link_is_down_is_done_when_it_is_back() -> None:
    async with _desk() as desk:
        await _sent(desk)
        desk.link.up = False
        await desk.follower.hang_up(CALL)
        assert desk.link.hung_up == []
        desk.link.come_up((leg(CALL),))
        await desk.follower.hang_up(CALL)
        assert desk.link.hung_up == [CALL]


async def test_an_error_in_one_call_ends_the_dialer() -> None:
    """A bug must end the process (code 70), not leave a row claimed and forgotten."""
    desk = Desk()

    async def broken(_records: Sequence[Record]) -> None:
        raise LookupError("bug")

    desk.dialer._store = cast("Callable[[Sequence[Record]], Awaitable[None]]", broken)
    desk.why_not = "no"
    desk.dialer.take((ROW,), desk.now)
    with pytest.RaisesGroup(LookupError):
        await asyncio.wait_for(desk.dialer.run(), 5)


# Form route


def _routes(*patterns: str) -> Routes:
    return Routes.read(
        Step(
            "GosubIf", f'$["${{REGEX("{pattern}" ${{EXTEN}})}}" == "1"]?SIP-TRUNK-5A0D000{n}-{n}-outgoing,${{EXTEN}},1'
        )
        for n, pattern in enumerate(patterns)
    )


@pytest.mark.parametrize(
    ("patterns", "words"), [(("^60", "^601"), "2 outgoing routes"), (("^65",), "no outgoing route")]
)
async def test_by_route_a_number_that_would_ring_twice_or_nowhere_is_never_sent(
    patterns: tuple[str, ...], words: str
) -> None:
    async with _desk(Form.ROUTE) as desk:
        desk.link.routes = _routes(*patterns)
        desk.dialer.take((ROW,), desk.now)
        await desk.until(lambda: desk.records)
        assert desk.outcome().ending.outcome is Outcome.BLOCKED
        assert words in desk.outcome().ending.reason
        assert desk.link.sent == []
        assert desk.follower.in_air == 0


async def test_by_route_nothing_is_sent_while_the_routes_are_not_known() -> None:
    async with _desk(Form.ROUTE) as desk:
        desk.dialer.take((ROW,), desk.now)
        assert "routes" in await _released(desk, ReleaseCause.NOT_SENT)
        assert desk.link.sent == []


async def test_by_route_the_record_names_the_provider_that_was_dialed() -> None:
    async with _desk(Form.ROUTE) as desk:
        desk.link.routes = _routes("^60")
        await _sent(desk)
        await _ring_and_answer(desk)
        await desk.follower.hang_up(CALL)
        assert desk.link.hung_up == [CALL]
        desk.tell("Hangup", 1010.0, Cause="16")
        await desk.until(lambda: len(desk.records) == 2)
        assert desk.outcome().trunk == TRUNK


async def test_a_refusal_of_a_call_that_was_seen_is_doubt_and_releases_nothing() -> None:
    async with _desk() as desk:
        desk.link.replies.append(Refused("Extension does not exist."))
        desk.link.before_reply = lambda: desk.tell("Newchannel", 2000.0)
        desk.link.come_up()
        desk.dialer.take([ROW], desk.now)
        await desk.until(lambda: desk.link.sent)
        await desk.age(1)
        assert desk.records == []
        desk.tell("Hangup", 2003.0, Cause="17")
        desk.tell("OriginateResponse", 2003.0, Response="Failure", ActionID=CALL, Reason="5")
        await desk.until(lambda: desk.records)
        assert desk.outcome().ending.outcome is Outcome.BUSY


SECOND = "SIP-TRUNK-5A0D0002"
BY_SECOND = row(7, way=Way(id=SECOND))


async def test_a_row_of_a_trunk_that_went_down_meanwhile_goes_back() -> None:
    async with _desk() as desk:
        desk.link.trunks = {TRUNK: None, SECOND: f"trunk {SECOND} is down"}
        desk.dialer.take([BY_SECOND], since=desk.now)
        assert f"trunk {SECOND} is down" in await _released(desk, ReleaseCause.NOT_SENT)
        assert desk.link.sent == []
        desk.dialer.take([row(8, way=Way(id=TRUNK))], since=desk.now)
        await desk.until(lambda: desk.link.sent)


async def test_a_row_of_a_trunk_that_was_never_looked_at_goes_back() -> None:
    async with _desk() as desk:
        desk.link.trunks = {TRUNK: None}
        desk.dialer.take([BY_SECOND], since=desk.now)
        assert "was not looked at" in await _released(desk, ReleaseCause.NOT_SENT)


async def test_the_call_of_another_trunk_is_followed_by_its_leg_there() -> None:
    async with _desk() as desk:
        desk.dialer.take([BY_SECOND], since=desk.now)
        await desk.until(lambda: desk.link.sent)
        name = f"PJSIP/{SECOND}-0000001a"
        desk.tell("Newchannel", 1000.0, Channel=name)
        desk.tell("Newstate", 1002.0, Channel=name, ChannelState="5")
        desk.tell("Hangup", 1003.0, Channel=name, Cause="17")
        failed = event("OriginateResponse", CALL, 1003.0, ActionID=CALL, Response="Failure", Reason="5")
        desk.link.messages.put_nowait(Event(failed))
        await desk.until(lambda: desk.records)
        assert desk.outcome().trunk == SECOND
        assert desk.outcome().ending.outcome is Outcome.BUSY


@pytest.mark.parametrize(
    ("way", "name", "trunk"),
    [
        (None, f"PJSIP/{TRUNK}-0000001a", TRUNK),
        (Way(id=SECOND), f"PJSIP/{SECOND}-0000001a", SECOND),
        (Way(id="routes", form=Form.ROUTE), "PJSIP/SIP-TRUNK-CHOSEN-0000001a", "SIP-TRUNK-CHOSEN"),
    ],
)
async def test_an_adopted_call_is_one_of_its_own_trunk(way: Way | None, name: str, trunk: str) -> None:
    """After a restart the row alone tells through what it was dialed; the settings may have another trunk now."""
    async with _desk() as desk:
        desk.follower.adopt([OpenCall(row=row(7, way=way), incarnation=0)], ours=True)
        desk.link.come_up([Channel(name=name, uniqueid=CALL, linkedid=CALL, up=True, duration=3)])
        await desk.until(lambda: desk.records)
        assert isinstance(desk.last(), AnsweredMark)
        desk.tell("Hangup", 1010.0, Channel=name, Cause="16")
        if way is not None and way.form is Form.ROUTE:
            desk.link.messages.put_nowait(Event(event("OriginateResponse", CALL, 1010.0, Response="Success")))
        await desk.until(lambda: isinstance(desk.last(), OutcomeRecord))
        assert desk.outcome().trunk == trunk
        assert desk.outcome().ending.outcome is Outcome.ANSWERED


async def test_a_blocked_row_names_the_trunk_it_was_for() -> None:
    async with _desk() as desk:
        desk.dialer.take([row(7, way=Way(id=SECOND, strip="62"))], since=desk.now)
        await desk.until(lambda: desk.records)
        assert (desk.outcome().trunk, desk.outcome().ending.outcome) == (SECOND, Outcome.BLOCKED)
        assert "does not begin so" in desk.outcome().ending.reason
