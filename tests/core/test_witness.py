"""What a second adapter makes of the calls of the first: the same endings, from the events alone."""

from dataclasses import replace

import pytest

from adapter.core.call import Phase
from adapter.core.calls import Change, Ended
from adapter.core.model import AmiEvent, AnsweredMark, Channel, Ending, Form, OpenCall, Outcome
from adapter.core.witness import ASK_AFTER, ASK_MOST, LONGEST_RING, MOST_LIVES, Witness
from tests.core.replay import CLOCK, MAX_CALL_SECONDS, play
from tests.support.doubles import TRUNK, event, leg, row
from tests.support.transcripts import STORIES, Transcript, load

RING = 30
NOW = 5000.0
CALL = row(7).call_id
SECOND = row(8).call_id

UNLIKE = frozenset({"pjsip-daemon-hangup-ringing", "pjsip-duplicate-channelid"})
"""Recordings in which the one who placed the call did more than to listen; they have tests of their own."""


def _witness(*, since: float = NOW) -> Witness:
    """A witness that is connected since then."""
    witness = Witness(ring_seconds=RING, max_call_seconds=MAX_CALL_SECONDS)
    witness.on_seen((), since, known=())
    return witness


def _opened(serial: int = 7, *, cancel: bool = False, answered: float | None = None, **changes: object) -> OpenCall:
    return OpenCall(row=row(serial, **changes), incarnation=1, cancel_requested=cancel, answered_at=answered)


def _tell(witness: Witness, name: str, at: float, call_id: str = CALL, **fields: str) -> None:
    witness.on_event(event(name, call_id, at, **fields), at)


def _talk(witness: Witness, call_id: str = CALL) -> None:
    _tell(witness, "Newchannel", NOW + 1, call_id)
    _tell(witness, "Newstate", NOW + 2, call_id, ChannelStateDesc="Ringing")
    _tell(witness, "Newstate", NOW + 4, call_id, ChannelStateDesc="Up")


def _end(witness: Witness, call_id: str = CALL) -> None:
    _tell(witness, "HangupRequest", NOW + 9, call_id, Cause="16")
    _tell(witness, "Hangup", NOW + 9, call_id, Cause="16")


def _ask(witness: Witness, *opened: OpenCall, after: float = 60.0) -> list[Change]:
    witness.due(NOW + after)
    return list(witness.answered(opened))


def _ending(changes: list[Change]) -> Ending:
    (change,) = changes
    assert isinstance(change, Ended)
    return change.ending


# The same endings


def _uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def _renamed(message: AmiEvent, ids: dict[str, str]) -> AmiEvent:
    return replace(message, fields={key: ids.get(value, value) for key, value in message.fields.items()})


def _heard(transcript: Transcript, witness: Witness) -> dict[str, Ending]:
    """What a witness that hears only the events of a recording says of its calls, by their names there."""
    sent = {m.get("ActionID"): m.get("ChannelId") for m in transcript.messages if m.get("ChannelId")}
    uuids = {name: _uuid(at) for at, name in enumerate(sent.values())}
    ids = {**uuids, **{action: uuids[name] for action, name in sent.items()}}
    limits = {m.get("ChannelId"): m.get("Timeout") for m in transcript.messages if m.sent}
    rings = {name: int(limit) // 1000 for name, limit in limits.items() if limit.isdigit()}
    now = CLOCK
    for message in transcript.messages:
        now = CLOCK + message.t
        if message.event is not None:
            witness.on_event(_renamed(message.event, ids), now)
    witness.on_tick(now + 10)
    assert set(witness.due(now + 60)) <= set(uuids.values())
    opened = [_opened(at, ring_seconds=rings.get(name, RING)) for at, name in enumerate(uuids)]
    names = {uuid: name for name, uuid in uuids.items()}
    return {names[change.call_id]: change.ending for change in witness.answered(opened) if isinstance(change, Ended)}


@pytest.mark.parametrize("name", sorted(set(STORIES) - UNLIKE))
def test_a_witness_says_what_the_one_who_placed_the_call_says(name: str) -> None:
    transcript = load(name)
    heard = _heard(transcript, _witness(since=CLOCK - LONGEST_RING - 60))
    placed = {
        call: ending
        for call, ending in play(transcript).endings.items()
        if ending.outcome not in (Outcome.UNKNOWN, Outcome.PBX_ERROR)
    }
    if ".2" not in name and ".1" not in name:  # Of these the other half is in another recording.
        assert heard == placed


def test_the_recordings_show_every_kind_of_end() -> None:
    witness = [ending.outcome for name in set(STORIES) - UNLIKE for ending in _heard(load(name), _late()).values()]
    assert {Outcome.ANSWERED, Outcome.BUSY, Outcome.DECLINED, Outcome.NO_ANSWER, Outcome.TRUNK_UNAVAILABLE} <= {
        *witness
    }


def _late() -> Witness:
    return _witness(since=CLOCK - LONGEST_RING - 60)


def test_a_first_leg_tells_form_and_trunk() -> None:
    witness = _witness()
    _tell(witness, "Newchannel", NOW, CALL, Channel="PJSIP/SIP-OTHER-0F-0000001a")
    _tell(witness, "Newchannel", NOW, SECOND, Channel="Local/60123456700@all_peers-00000001;1")
    first, _ = witness.hand_over(_opened(7))
    second, _ = witness.hand_over(_opened(8))
    assert first is not None
    assert (first.form, first.trunk) == (Form.TRUNK, "SIP-OTHER-0F")
    assert second is not None
    assert (second.form, second.trunk) == (Form.ROUTE, "")


def test_what_only_the_row_tells_is_put_in_at_the_end() -> None:
    def ended(opened: OpenCall) -> Ending:
        witness = _witness()
        _tell(witness, "Newchannel", NOW + 1)
        _tell(witness, "Newstate", NOW + 2, ChannelStateDesc="Ringing")
        _tell(witness, "Hangup", NOW + 13, Cause="19")
        failed = {"ActionID": CALL, "Response": "Failure", "Reason": "3", "Channel": f"PJSIP/60@{TRUNK}"}
        _tell(witness, "OriginateResponse", NOW + 13, **failed)
        return _ending(_ask(witness, opened))

    assert ended(_opened(ring_seconds=12)).reason.startswith("nobody answered within 12 s")
    assert ended(_opened()).reason.startswith(f"nobody answered within {RING} s")
    assert ended(_opened(cancel=True)).outcome is Outcome.CANCELED


def test_a_call_that_the_callee_ended_was_not_canceled() -> None:
    witness = _witness()
    _talk(witness)
    _end(witness)
    assert _ending(_ask(witness, _opened(cancel=True))).outcome is Outcome.ANSWERED


# When it speaks


def test_it_asks_only_when_the_other_one_had_the_time_to_tell() -> None:
    witness = _witness()
    _talk(witness)
    assert witness.due(NOW + 4 + ASK_AFTER - 0.1) == ()
    assert witness.due(NOW + 4 + ASK_AFTER) == (CALL,)
    _end(witness)
    assert witness.due(NOW + 9 + ASK_AFTER - 0.1) == ()
    assert witness.due(NOW + 9 + ASK_AFTER) == (CALL,)


def test_what_the_database_knows_is_not_told_and_is_forgotten() -> None:
    witness = _witness()
    _talk(witness)
    _end(witness)
    assert _ask(witness) == []
    assert len(witness) == 0
    assert witness.due(NOW + 1e6) == ()


def test_an_answer_that_the_database_does_not_know_is_told_and_the_call_goes_on() -> None:
    witness = _witness()
    _talk(witness)
    (mark,) = _ask(witness, _opened())
    assert isinstance(mark, AnsweredMark)
    assert mark.times.answered_at == NOW + 4
    assert witness.due(NOW + 100) == ()
    _end(witness)
    assert _ending(_ask(witness, _opened(answered=NOW + 4))).talk_seconds == 5


def test_an_answer_that_is_known_is_not_told_again() -> None:
    witness = _witness()
    _talk(witness)
    assert _ask(witness, _opened(answered=NOW + 4)) == []
    assert CALL in witness


def test_an_end_that_comes_while_the_answer_is_asked_about_is_asked_about_again() -> None:
    witness = _witness()
    _talk(witness)
    assert witness.due(NOW + 8 + ASK_AFTER) == (CALL,)
    _end(witness)
    assert witness.answered(()) == ()
    assert witness.due(NOW + 9 + ASK_AFTER) == (CALL,)
    assert _ending(list(witness.answered([_opened(answered=NOW + 4)]))).talk_seconds == 5


def test_a_question_without_an_answer_is_asked_again() -> None:
    witness = _witness()
    _talk(witness)
    _end(witness)
    assert witness.due(NOW + 60) == witness.due(NOW + 62) == (CALL,)


def test_one_question_is_bounded() -> None:
    witness = _witness()
    ids = [_uuid(at) for at in range(ASK_MOST + 5)]
    for call_id in ids:
        _talk(witness, call_id)
        _end(witness, call_id)
    assert witness.due(NOW + 60) == tuple(ids[:ASK_MOST])
    witness.answered(())
    assert witness.due(NOW + 60) == tuple(ids[ASK_MOST:])


# What it takes over with


def test_a_living_call_is_handed_over_with_all_that_was_seen() -> None:
    witness = _witness()
    _talk(witness)
    call, told = witness.hand_over(_opened(ring_seconds=12, cancel=True))
    assert call is not None
    assert (call.phase, call.answered_at, call.ring_seconds) == (Phase.TALKING, NOW + 4, 12)
    assert call.canceled
    assert not call.gap
    assert [type(change) for change in told] == [AnsweredMark]
    assert CALL not in witness
    assert witness.due(NOW + 1e6) == ()


def test_an_ended_call_is_told_at_the_take_over() -> None:
    witness = _witness()
    _talk(witness)
    _end(witness)
    call, told = witness.hand_over(_opened())
    assert call is None
    assert _ending(list(told)).talk_seconds == 5
    assert len(witness) == 0


# What it does not say


def test_calls_of_the_pbx_itself_are_none_of_ours() -> None:
    witness = _witness()
    _talk(witness, "mikopbx-1795404246.12")
    _talk(witness, "00000000-0000-4000-8000-00000000000A")
    _tell(witness, "Newchannel", NOW, CALL, Uniqueid="mikopbx-1795404246.13")  # A further leg, its first unseen.
    _tell(witness, "Newstate", NOW, CALL, ChannelStateDesc="Up")
    assert len(witness) == 0


def test_what_was_not_seen_is_not_said() -> None:
    witness = _witness()
    _tell(witness, "Newchannel", NOW + 1)
    witness.on_lost(NOW + 2)
    witness.on_seen((), NOW + 5, known=())
    assert _ask(witness, _opened()) == []
    assert len(witness) == 0


def test_an_end_that_was_not_seen_is_left_to_the_doubt_of_who_takes_over() -> None:
    witness = _witness()
    _tell(witness, "Newchannel", NOW + 1)
    _tell(witness, "SoftHangupRequest", NOW + 2, Cause="4")
    _tell(witness, "Hangup", NOW + 2, Cause="0")
    witness.on_tick(NOW + 10)
    assert witness.hand_over(_opened()) == (None, ())


def test_a_late_failure_of_a_call_that_was_seen_to_end_is_no_new_call() -> None:
    witness = _witness(since=NOW - LONGEST_RING - 1)
    _tell(witness, "Newchannel", NOW + 1)
    _tell(witness, "Hangup", NOW + 2, Cause="16")
    witness.on_tick(NOW + 8)
    _tell(witness, "OriginateResponse", NOW + 9, ActionID=CALL, Response="Failure", Reason="0")
    assert _ask(witness, _opened()) == []


def test_an_answered_call_that_ended_unseen_is_told_as_estimated() -> None:
    witness = _witness()
    _talk(witness)
    witness.on_lost(NOW + 7)
    witness.on_seen((), NOW + 8, known=())
    ending = _ending(_ask(witness, _opened()))
    assert (ending.outcome, ending.estimated) == (Outcome.ANSWERED, True)


def test_a_call_found_at_login_was_seen_in_part() -> None:
    witness = _witness()
    witness.on_lost(NOW)
    witness.on_seen((leg(CALL), leg(SECOND, up=True)), NOW + 1, known=())
    failed = {"ActionID": CALL, "Response": "Failure", "Reason": "0"}
    _tell(witness, "Hangup", NOW + 3, CALL, Cause="34")
    _tell(witness, "OriginateResponse", NOW + 3, CALL, **failed)
    _tell(witness, "OriginateResponse", NOW + 4, CALL, **failed)
    _tell(witness, "Hangup", NOW + 6, SECOND, Cause="16")
    witness.on_tick(NOW + 20)
    # The first may have rung before the login, so it may not be called again for free: nothing is said.
    ending = _ending(_ask(witness, _opened(7), _opened(8)))
    assert (ending.outcome, ending.estimated, ending.talk_seconds) == (Outcome.ANSWERED, True, 5)


def test_calls_that_are_followed_already_are_not_watched_twice() -> None:
    witness = _witness()
    witness.on_seen((leg(CALL), leg(SECOND)), NOW, known={CALL})
    assert CALL not in witness
    assert SECOND in witness


@pytest.mark.parametrize(
    ("listened", "outcomes"), [(LONGEST_RING + 1, [Outcome.TRUNK_UNAVAILABLE]), (LONGEST_RING - 1, [])]
)
def test_a_failure_without_a_leg_is_believed_only_by_who_would_have_seen_one(
    listened: float, outcomes: list[Outcome]
) -> None:
    witness = _witness(since=NOW - listened)
    failed = {"ActionID": CALL, "Response": "Failure", "Reason": "0", "Channel": f"PJSIP/60123456700@{TRUNK}"}
    witness.on_event(AmiEvent(name="OriginateResponse", fields=failed, at=NOW), NOW)
    told = _ask(witness, _opened())
    assert [change.ending.outcome for change in told if isinstance(change, Ended)] == outcomes
    assert [change.call.trunk for change in told if isinstance(change, Ended)] == [TRUNK] * len(outcomes)


def test_memory_is_bounded() -> None:
    witness = _witness()
    for at in range(MOST_LIVES + 10):
        _tell(witness, "Newchannel", NOW, _uuid(at))
    assert len(witness) == MOST_LIVES
    ended = _witness()
    for at in range(MOST_LIVES + 10):
        _tell(ended, "Newchannel", NOW, _uuid(at))
        _tell(ended, "Newstate", NOW + 1, _uuid(at), ChannelStateDesc="Up")
        _tell(ended, "Hangup", NOW + 2, _uuid(at), Cause="16")
    assert len(ended) == MOST_LIVES
    assert _uuid(0) not in ended
    assert _uuid(MOST_LIVES + 9) in ended


def test_a_life_whose_end_never_comes_is_forgotten() -> None:
    witness = _witness()
    witness.on_seen(
        (Channel(name=f"PJSIP/{TRUNK}-1", uniqueid=CALL, linkedid=CALL, up=False, duration=1),), NOW, known=()
    )
    witness.on_tick(NOW + MAX_CALL_SECONDS + RING + 200)
    assert _ask(witness, after=1e6) == []
    assert len(witness) == 0
