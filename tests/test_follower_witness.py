"""The follower as a witness: calls that another adapter placed through the same PBX, from the first leg to the end."""

import asyncio

from adapter.core.model import AnsweredMark, OpenCall, Outcome, ReleaseRecord
from adapter.core.recovery import SETTLE
from adapter.core.witness import ASK_AFTER
from adapter.pbx import Down, Event
from tests.support.doubles import event, leg, row
from tests.test_dialer_follower import CALL, ROW, Desk, _desk, _quick_breath, _sent

__all__ = ["_quick_breath"]

OPEN = OpenCall(row=ROW, incarnation=3)
ANSWERED = OpenCall(row=ROW, incarnation=3, answered_at=1003.0)


async def _heard(desk: Desk) -> None:
    await desk.until(desk.link.messages.empty)
    await asyncio.sleep(0.05)


async def _rings_and_is_answered(desk: Desk) -> None:
    desk.tell("Newchannel", 1000.1)
    desk.tell("Newstate", 1001.0, ChannelStateDesc="Ringing")
    desk.tell("Newstate", 1003.0, ChannelStateDesc="Up")
    await _heard(desk)


async def _hangs_up(desk: Desk) -> None:
    desk.tell("HangupRequest", 1010.0, Cause="16")
    desk.tell("Hangup", 1010.0, Cause="16")
    await _heard(desk)


async def test_a_witness_stores_nothing_by_itself_and_takes_up_no_room() -> None:
    async with _desk() as desk:
        await _rings_and_is_answered(desk)
        assert desk.follower.in_air == desk.follower.in_setup == desk.follower.in_doubt == 0
        await _hangs_up(desk)
        await desk.age(1000.0)
        assert desk.records == []
        assert desk.endings == []
        assert desk.link.hung_up == []


async def test_what_the_database_does_not_know_is_told_once() -> None:
    async with _desk() as desk:
        await _rings_and_is_answered(desk)
        await _hangs_up(desk)
        desk.now += ASK_AFTER
        assert desk.follower.unsure_of() == (CALL,)
        await desk.follower.testify([OPEN])
        ending = desk.outcome().ending
        assert (ending.outcome, ending.talk_seconds, ending.estimated) == (Outcome.ANSWERED, 7, False)
        # Who reports it counts it: the breakers stop the one who dials.
        assert desk.endings == [ending]
        assert desk.follower.unsure_of() == ()


async def test_what_the_database_knows_is_not_told() -> None:
    async with _desk() as desk:
        await _rings_and_is_answered(desk)
        await _hangs_up(desk)
        desk.now += ASK_AFTER
        assert desk.follower.unsure_of() == (CALL,)
        await desk.follower.testify([])
        assert desk.follower.unsure_of() == ()
        assert desk.records == []


async def test_a_take_over_goes_on_from_what_was_seen() -> None:
    async with _desk() as desk:
        await _rings_and_is_answered(desk)
        desk.follower.adopt([OPEN], ours=False)
        await desk.until(lambda: desk.records)
        (mark,) = desk.records
        assert isinstance(mark, AnsweredMark)
        assert (desk.follower.in_air, desk.follower.in_doubt) == (1, 0)
        await _hangs_up(desk)
        ending = desk.outcome().ending
        assert (ending.outcome, ending.talk_seconds, ending.estimated) == (Outcome.ANSWERED, 7, False)


async def test_an_end_between_the_death_of_the_other_and_the_take_over_is_no_doubt() -> None:
    async with _desk() as desk:
        await _rings_and_is_answered(desk)
        await _hangs_up(desk)
        desk.follower.adopt([ANSWERED], ours=False)
        await desk.until(lambda: desk.records)
        assert desk.outcome().ending.talk_seconds == 7
        assert desk.follower.in_air == 0


async def test_a_call_that_was_taken_over_can_be_hung_up() -> None:
    async with _desk() as desk:
        await _rings_and_is_answered(desk)
        await desk.follower.hang_up(CALL)
        assert desk.link.hung_up == [], "a witness ends no call"
        desk.follower.adopt([OPEN], ours=False)
        await desk.follower.hang_up(CALL)
        assert desk.link.hung_up == [CALL]


async def test_what_was_not_seen_stays_in_doubt() -> None:
    async with _desk() as desk:
        desk.tell("Newchannel", 1000.1)
        await _heard(desk)
        desk.link.messages.put_nowait(Down(1, "cut"))
        desk.link.come_up()
        await _heard(desk)
        desk.follower.adopt([OPEN], ours=False)
        assert desk.follower.in_doubt == 1
        await desk.age(SETTLE + 1)
        await desk.until(lambda: desk.records)
        assert desk.outcome().ending.outcome is Outcome.UNKNOWN
        assert not any(isinstance(record, ReleaseRecord) for record in desk.records)


async def test_a_call_found_at_login_is_watched_from_there() -> None:
    async with _desk() as desk:
        desk.link.messages.put_nowait(Down(1, "cut"))
        desk.link.come_up([leg(CALL, up=True)])
        await _hangs_up(desk)
        desk.now += ASK_AFTER
        assert desk.follower.unsure_of() == (CALL,)
        await desk.follower.testify([ANSWERED])
        assert desk.outcome().ending.outcome is Outcome.ANSWERED
        assert desk.outcome().ending.estimated


async def test_own_calls_are_not_watched_twice() -> None:
    async with _desk() as desk:
        await _sent(desk)
        await _rings_and_is_answered(desk)
        desk.link.messages.put_nowait(Down(1, "cut"))
        desk.link.come_up([leg(CALL, up=True)])
        await _hangs_up(desk)
        assert desk.outcome().ending.outcome is Outcome.ANSWERED
        desk.tell("OriginateResponse", 1010.0, ActionID=CALL, Response="Success")
        await _heard(desk)
        desk.now += 1000.0
        assert desk.follower.unsure_of() == ()


async def test_a_call_so_young_that_it_is_not_listed_yet_is_not_told_as_over() -> None:
    async with _desk() as desk:
        await _rings_and_is_answered(desk)
        desk.link.messages.put_nowait(Down(1, "cut"))
        desk.link.come_up()
        await _heard(desk)
        desk.link.live = (leg(CALL, up=True),)
        desk.follower.adopt([ANSWERED], ours=False)
        await desk.until(lambda: desk.follower.in_doubt == 0)
        assert desk.records == []
        assert desk.follower.in_air == 1


async def test_an_answered_call_that_ended_while_the_link_was_down_is_told_to_its_last_proof_of_life() -> None:
    async with _desk() as desk:
        await _rings_and_is_answered(desk)
        desk.link.messages.put_nowait(Event(event("Newchannel", row(8).call_id, 1008.0)))
        desk.link.messages.put_nowait(Down(1, "cut"))
        await _heard(desk)
        desk.now += 9.0
        desk.link.come_up()
        await _heard(desk)
        desk.follower.adopt([ANSWERED], ours=False)
        await desk.until(lambda: desk.records)
        ending = desk.outcome().ending
        assert (ending.outcome, ending.talk_seconds, ending.estimated) == (Outcome.ANSWERED, 5, True)
