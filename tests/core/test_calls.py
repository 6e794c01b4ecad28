"""The board: whose event it is, what changed, and who leaves."""

import pytest

from adapter.core.call import OVERTIME, PATIENCE, start
from adapter.core.calls import Board, Ended
from adapter.core.model import AmiEvent, AnsweredMark, Channel, Outcome

A, B = "aaaaaaaa-0000-4000-8000-000000000001", "bbbbbbbb-0000-4000-8000-000000000002"
TRUNK = "SIP-TRUNK-0000000A"


def board() -> Board:
    calls = Board()
    for call_id in (A, B):
        calls.add(start(call_id, trunk=TRUNK, ring_seconds=30, max_call_seconds=900, now=0.0))
    return calls


def leg(name: str, call_id: str, at: float, **fields: str) -> AmiEvent:
    channel = f"PJSIP/{TRUNK}-{call_id[0]}"
    return AmiEvent(name=name, fields={"Channel": channel, "Uniqueid": call_id, "Linkedid": call_id, **fields}, at=at)


def test_each_event_goes_to_its_call() -> None:
    calls = board()
    assert calls.on_event(leg("Newchannel", A, 100), 1) == ()
    [mark] = calls.on_event(leg("Newstate", A, 102, ChannelStateDesc="Up"), 3)
    assert isinstance(mark, AnsweredMark)
    assert (mark.call_id, mark.times.originated_at, mark.times.answered_at) == (A, 100, 102)
    assert calls.on_event(leg("Newstate", A, 103, ChannelStateDesc="Up"), 4) == (), "once"
    assert calls.get(B) == start(B, trunk=TRUNK, ring_seconds=30, max_call_seconds=900, now=0.0)
    assert calls.in_setup == 1
    [end] = calls.on_event(leg("Hangup", A, 110, Cause="16"), 11)
    assert isinstance(end, Ended)
    assert (end.call_id, end.ending.talk_seconds) == (A, 8)
    assert calls.ids == {B}
    assert (A in calls, len(calls)) == (False, 1)
    assert calls.on_event(leg("Hangup", A, 110, Cause="16"), 11) == ()
    assert calls.get(A) is None


def test_an_id_is_on_the_board_once() -> None:
    with pytest.raises(ValueError, match="already in the air"):
        board().add(start(A, trunk=TRUNK, ring_seconds=30, max_call_seconds=900, now=0.0))


def test_a_row_that_was_not_sent_leaves_without_an_ending() -> None:
    calls = board()
    dropped = calls.drop(A)
    assert dropped is not None
    assert dropped.ending is None
    assert calls.drop(A) is None
    assert [call.call_id for call in calls] == [B]


def test_nothing_happens_for_ids_that_are_not_in_the_air() -> None:
    calls = Board()
    assert calls.on_reply(A, True, "", 0) == ()
    assert calls.on_canceled(A, 0) == ()
    assert calls.on_gone(A, 0, "?") == ()
    assert calls.on_event(leg("Newchannel", A, 1), 0) == ()
    assert calls.on_event(AmiEvent(name="FullyBooted", fields={}), 0) == ()
    assert calls.deadline is None


def test_a_reply_goes_to_its_call() -> None:
    calls = board()
    assert calls.on_reply(A, True, "", 1) == ()
    [end] = calls.on_reply(B, False, "Extension does not exist.", 1)
    assert isinstance(end, Ended)
    assert end.ending.outcome is Outcome.PBX_ERROR
    assert end.call.call_id == B


def test_a_shutdown_concerns_every_call() -> None:
    calls = board()
    assert calls.on_event(AmiEvent(name="Shutdown", fields={}, at=100), 1) == ()
    assert all(call.pbx_stopping for call in calls)


def test_time_passes_only_for_those_whose_moment_has_come() -> None:
    calls = board()
    calls.on_event(leg("Newchannel", A, 100), 0)
    calls.on_event(leg("Hangup", A, 101, Cause="17"), 1)
    assert calls.deadline == 6
    assert calls.on_tick(5.9) == ()
    [end] = calls.on_tick(6)
    assert isinstance(end, Ended)
    assert end.ending.outcome is Outcome.BUSY
    assert calls.ids == {B}


def test_a_call_in_doubt_is_not_over_by_its_age() -> None:
    calls = board()
    longest = 30 + 900 + OVERTIME
    assert [change.call_id for change in calls.on_tick(longest, doubted={A})] == [B]
    calls.on_event(leg("Newchannel", A, 100), longest)
    calls.on_event(leg("Hangup", A, 101, Cause="17"), longest)
    assert [change.call_id for change in calls.on_tick(longest + PATIENCE, doubted={A})] == [A], "its end was seen"


def test_a_cancel_is_noted_until_the_leg_ends() -> None:
    calls = board()
    calls.on_event(leg("Newchannel", A, 100), 0)
    assert calls.on_canceled(A, 1) == ()
    calls.on_event(leg("Hangup", A, 101, Cause="16"), 1)
    response = {"ActionID": A, "Response": "Failure", "Reason": "0"}
    [end] = calls.on_event(AmiEvent(name="OriginateResponse", fields=response, at=101), 1)
    assert isinstance(end, Ended)
    assert end.ending.outcome is Outcome.CANCELED


def test_events_of_strangers_prove_that_our_calls_live() -> None:
    calls = board()
    calls.on_event(leg("Newchannel", A, 100), 0)
    calls.on_event(leg("Newstate", A, 101, ChannelStateDesc="Up"), 1)
    calls.on_event(leg("Newchannel", "stranger", 150.9), 51)
    calls.on_event(leg("Newchannel", "late", 149), 51)
    calls.on_lost(60)
    calls.on_event(leg("Newchannel", "after the gap", 400), 300)
    [end] = calls.on_gone(A, 301, "the PBX has restarted")
    assert isinstance(end, Ended)
    assert (end.ending.outcome, end.ending.talk_seconds, end.ending.estimated) == (Outcome.ANSWERED, 49, True)


def test_a_list_of_legs_finds_answers_and_absences() -> None:
    calls = board()
    calls.on_event(leg("Newchannel", A, 100), 0)
    listed = (
        Channel(name=f"PJSIP/{TRUNK}-a", uniqueid=A, linkedid=A, up=True, duration=9),
        Channel(name="PJSIP/201-1", uniqueid="x", linkedid="stranger", up=True, duration=9),
    )
    [mark] = calls.on_seen(listed, 9)
    assert isinstance(mark, AnsweredMark)
    assert mark.call_id == A
    assert [call.call_id for call in calls.absent(listed)] == [B]
    assert all(call.gap for call in calls)


def test_a_list_asked_for_because_of_one_call_touches_no_other() -> None:
    calls = board()
    listed = (Channel(name=f"PJSIP/{TRUNK}-a", uniqueid=A, linkedid=A, up=True, duration=9),)
    [mark] = calls.on_found(A, listed, 9)
    assert isinstance(mark, AnsweredMark)
    assert [call.gap for call in calls] == [True, False]
    assert calls.on_found("stranger", listed, 9) == ()
