"""The life of one call, event by event: what the recordings do not show."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from adapter.core import call as life
from adapter.core.call import NEXT, OVERTIME, PATIENCE, Call, Input, Phase
from adapter.core.model import AmiEvent, Channel, ClaimedRow, Ending, Form, OpenCall, Outcome
from adapter.core.outcomes import SOON

ID = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"
TRUNK = "SIP-TRUNK-0000000A"
LEG = f"PJSIP/{TRUNK}-00000001"
PBX = 1_700_000_000.0
"""PBX's clock at t = 0."""
NOW = 5_000.0
"""Daemon's clock at t = 0."""

Step = Callable[[Call], Call]


def begin() -> Call:
    return life.start(ID, trunk=TRUNK, ring_seconds=30, max_call_seconds=900, now=NOW)


def feed(name: str, t: float, **fields: str) -> Step:
    event = AmiEvent(name=name, fields=fields, at=PBX + t)
    return lambda call: life.on_event(call, event, NOW + t)


def new(t: float = 0.0, name: str = LEG, uniqueid: str = ID, linkedid: str = ID) -> Step:
    return feed("Newchannel", t, Channel=name, Uniqueid=uniqueid, Linkedid=linkedid)


def state(t: float, word: str, name: str = LEG, uniqueid: str = ID) -> Step:
    return feed("Newstate", t, Channel=name, ChannelStateDesc=word, Uniqueid=uniqueid, Linkedid=ID)


def dial(event: str, t: float, status: str = "", name: str = LEG, uniqueid: str = ID) -> Step:
    return feed(event, t, DestChannel=name, DestUniqueid=uniqueid, DestLinkedid=ID, DialStatus=status)


def request(t: float, cause: int = 16, tech: int | None = None, uniqueid: str = ID) -> Step:
    return feed("HangupRequest", t, Channel=LEG, Uniqueid=uniqueid, Linkedid=ID, **_codes(cause, tech))


def hangup(t: float, cause: int = 16, tech: int | None = None, name: str = LEG, uniqueid: str = ID) -> Step:
    return feed("Hangup", t, Channel=name, Uniqueid=uniqueid, Linkedid=ID, **_codes(cause, tech))


def response(t: float, word: str, reason: int, action_id: str = ID) -> Step:
    return feed("OriginateResponse", t, ActionID=action_id, Response=word, Reason=str(reason), Uniqueid=ID)


def failure(t: float, reason: int = 0) -> Step:
    return response(t, "Failure", reason)


def tick(t: float) -> Step:
    return lambda call: life.on_tick(call, NOW + t)


def canceled(t: float) -> Step:
    return lambda call: life.on_canceled(call, NOW + t)


def lost(t: float) -> Step:
    return lambda call: life.on_lost(call, NOW + t)


def gone(t: float) -> Step:
    return lambda call: life.on_gone(call, NOW + t, "over")


def _codes(cause: int, tech: int | None) -> dict[str, str]:
    return {"Cause": str(cause)} | ({} if tech is None else {"TechCause": str(tech)})


def run(*steps: Step, call: Call | None = None) -> Call:
    call = call or begin()
    for step in steps:
        call = step(call)
    return call


def ended(*steps: Step) -> Ending:
    call = run(*steps)
    assert call.phase is Phase.ENDED
    assert call.ending is not None
    return call.ending


REFUSED_AT_03 = (new(), dial("DialBegin", 0.0))


def refused(cause: int, tech: int | None, *, rang: str = "", after: float = 0.3) -> Ending:
    """A call the far end refuses, with or without an 18x before."""
    ring = {"": (), "180": (state(0.1, "Ringing"),), "183": (dial("DialState", 0.1, "PROGRESS"),)}[rang]
    return ended(
        *REFUSED_AT_03,
        *ring,
        request(after, cause, tech),
        dial("DialEnd", after, "NOANSWER"),
        hangup(after, cause, tech),
        failure(after),
    )


@pytest.mark.parametrize(("ring", "outcome"), [("", Outcome.REJECTED), ("Ringing", Outcome.NO_ANSWER)])
def test_a_redirection_told_without_a_cause(ring: str, outcome: Outcome) -> None:
    """Asterisk 16 on a 302: DialEnd says CANCEL and whom to call instead, Hangup says cause 0."""
    away = {"DestChannel": LEG, "DestUniqueid": ID, "DestLinkedid": ID, "DialStatus": "CANCEL", "Forward": "redirected"}
    ending = ended(
        *REFUSED_AT_03,
        *((state(0.1, ring),) if ring else ()),
        request(0.3, 127),
        feed("DialEnd", 0.3, **away),
        hangup(0.3, 0),
        failure(0.3),
    )
    assert ending.outcome is outcome


# The table itself


def test_every_phase_has_a_row_and_only_the_end_is_final() -> None:
    assert NEXT.keys() == set(Phase)
    assert [phase for phase, row in NEXT.items() if not row] == [Phase.ENDED]
    assert all(Input.LOST in row for phase, row in NEXT.items() if row), "every call can end unseen"
    assert all(Phase.SENT not in row.values() for row in NEXT.values()), "nothing goes back to the start"


def test_every_phase_but_the_first_is_reached() -> None:
    assert {phase for row in NEXT.values() for phase in row.values()} == set(Phase) - {Phase.SENT}


def test_the_way_of_a_good_call() -> None:
    steps: list[tuple[Step, Phase]] = [
        (lambda call: life.on_reply(call, True, "", NOW), Phase.ACCEPTED),
        (new(0.1), Phase.DIALING),
        (dial("DialBegin", 0.1), Phase.DIALING),
        (dial("DialState", 0.2, "RINGING"), Phase.RINGING),
        (state(2.0, "Up"), Phase.TALKING),
        (dial("DialEnd", 2.0, "ANSWER"), Phase.TALKING),
        (response(2.0, "Success", 4), Phase.TALKING),
        (request(9.9), Phase.TALKING),
        (hangup(9.9), Phase.ENDED),
    ]
    call = begin()
    for step, phase in steps:
        call = step(call)
        assert call.phase is phase
        assert (call.ending is not None) == (phase is Phase.ENDED)
    assert call.ending is not None
    assert call.ending.talk_seconds == 7, "whole seconds that have passed, not rounded up"
    assert call.times.originated_at == PBX + 0.1


def test_a_call_in_setup_counts_until_it_is_answered() -> None:
    assert begin().in_setup
    assert run(new(), state(1, "Ringing")).in_setup
    assert not run(new(), state(1, "Up")).in_setup
    assert not run(new(), hangup(1, 17), failure(1)).in_setup


@pytest.mark.parametrize(
    "answer",
    [state(2, "Up"), dial("DialEnd", 2, "ANSWER"), response(2, "Success", 4)],
    ids=["Newstate", "DialEnd", "OriginateResponse"],
)
def test_each_of_three_words_means_answered(answer: Step) -> None:
    call = run(new(), answer)
    assert (call.phase, call.answered_at) == (Phase.TALKING, PBX + 2)
    assert (
        run(state(3, "Up"), dial("DialEnd", 3, "ANSWER"), response(3, "Success", 4), call=call).answered_at == PBX + 2
    )


@pytest.mark.parametrize(
    ("word", "rings"),
    [
        (state(1, "Ringing"), True),
        (dial("DialState", 1, "RINGING"), True),
        (dial("DialState", 1, "PROGRESS"), True),
        (dial("DialState", 1, "PROCEEDING"), False),
        (state(1, "Down"), False),
    ],
)
def test_an_18x_is_ringing_and_nothing_else_is(word: Step, rings: bool) -> None:
    assert (run(new(), word).ringing_at == PBX + 1) is rings


def test_the_first_ring_counts() -> None:
    assert run(new(), state(1, "Ringing"), dial("DialState", 4, "PROGRESS")).ringing_at == PBX + 1


def test_a_leg_first_heard_of_in_another_event_is_taken() -> None:
    for first in (
        state(1, "Ringing"),
        dial("DialBegin", 1),
        dial("DialState", 1, "RINGING"),
        request(1),
        hangup(1, 17),
    ):
        call = run(first)
        assert (call.trunk_leg, call.originated_at) == (ID, PBX + 1)


def test_the_figures_that_are_promised() -> None:
    """Two minutes after the PBX's own bound every call has ended; an end has five seconds to be complete."""
    assert (PATIENCE, OVERTIME, life.AI_FAILED_WITHIN, SOON) == (5.0, 120.0, 2.0, 5.0)


# Whose event is it?


def test_events_of_other_calls_change_nothing() -> None:
    call = run(new(), state(1, "Ringing"))
    for event in (
        AmiEvent(name="Hangup", fields={"Channel": LEG, "Uniqueid": ID, "Linkedid": OTHER, "Cause": "17"}, at=PBX),
        AmiEvent(name="Hangup", fields={"Channel": LEG, "Uniqueid": ID, "Cause": "17"}, at=PBX),
        AmiEvent(name="OriginateResponse", fields={"ActionID": OTHER, "Uniqueid": ID, "Response": "Failure"}, at=PBX),
        AmiEvent(name="OriginateResponse", fields={"Uniqueid": ID, "Response": "Success"}, at=PBX),
        AmiEvent(name="VarSet", fields={"Channel": LEG, "Uniqueid": ID, "Linkedid": ID}, at=PBX),
    ):
        assert life.on_event(call, event, NOW) == call
    assert not life.concerns(call, AmiEvent(name="Hangup", fields={"Linkedid": OTHER}))
    assert life.concerns(call, AmiEvent(name="Shutdown", fields={}))


def test_the_legs_of_the_ai_say_nothing_about_the_callee() -> None:
    """The handler may dial further legs; one may even go out through the same trunk (a transfer)."""
    for name in ("PJSIP/201-00000002", "Local/201@x-0;1", f"PJSIP/{TRUNK}-00000002"):
        call = run(new(), state(2, "Up"))
        call = run(
            new(3, name, "mikopbx-1.2"),
            state(3, "Ringing", name, "mikopbx-1.2"),
            dial("DialState", 3, "RINGING", name, "mikopbx-1.2"),
            state(4, "Up", name, "mikopbx-1.2"),
            dial("DialEnd", 4, "BUSY", name, "mikopbx-1.2"),
            feed("HangupRequest", 5, Channel=name, Uniqueid="mikopbx-1.2", Linkedid=ID, Cause="17"),
            feed("SoftHangupRequest", 5, Channel=name, Uniqueid="mikopbx-1.2", Linkedid=ID, Cause="4"),
            hangup(5, 17, 486, name, "mikopbx-1.2"),
            call=call,
        )
        assert (call.phase, call.cause, call.far_end, call.ringing_at, call.dial_status) == (
            Phase.TALKING,
            None,
            False,
            None,
            "",
        )
        talk = run(hangup(9), call=call).ending
        assert talk is not None
        assert talk.talk_seconds == 7


def test_a_leg_of_another_trunk_is_not_ours_to_judge() -> None:
    call = run(new(0, f"PJSIP/{TRUNK}X-00000001"), state(1, "Up", f"PJSIP/{TRUNK}X-00000001"))
    assert (call.trunk_leg, call.answered_at) == ("", None)


def test_what_comes_for_a_leg_after_its_hangup_is_ignored() -> None:
    call = run(new(), hangup(1, 17))
    again = run(new(2), state(2, "Ringing"), state(2, "Up"), dial("DialEnd", 2, "ANSWER"), hangup(2, 34), call=call)
    assert (again.living, again.cause, again.answered_at, again.ringing_at) == (frozenset(), 17, None, None)
    assert again.phase is Phase.CLOSING


# How it ends: the far end refuses


SIP_TO_CAUSE = {
    300: 16, 302: 23, 400: 127, 401: 21, 402: 127, 403: 21, 404: 1, 405: 127, 406: 127, 408: 18, 410: 22, 413: 127,
    415: 127, 420: 3, 480: 19, 481: 127, 482: 127, 483: 19, 484: 28, 485: 1, 486: 17, 487: 127, 488: 58, 491: 127,
    493: 127, 500: 38, 501: 29, 502: 27, 503: 34, 504: 102, 505: 127, 513: 34, 600: 17, 603: 21, 604: 1, 606: 58,
    607: 127, 608: 127,
}  # fmt: skip
"""What Asterisk makes of each final code where the carrier sends no Q.850 Reason (outcomes, section 2)."""

NAMED = {
    401: Outcome.REJECTED,
    402: Outcome.REJECTED,
    403: Outcome.REJECTED,
    404: Outcome.INVALID_NUMBER,
    408: Outcome.NO_REPLY,
    410: Outcome.INVALID_NUMBER,
    480: Outcome.NO_ANSWER,
    483: Outcome.NO_ANSWER,
    484: Outcome.INVALID_NUMBER,
    485: Outcome.INVALID_NUMBER,
    486: Outcome.BUSY,
    600: Outcome.BUSY,
    603: Outcome.DECLINED,
    604: Outcome.INVALID_NUMBER,
}
"""Before any 18x; every other 3xx, 4xx, 6xx is rejected, every 5xx congestion."""

RANG_FIRST = {
    401: Outcome.DECLINED,
    403: Outcome.DECLINED,
    404: Outcome.INVALID_NUMBER,
    410: Outcome.INVALID_NUMBER,
    484: Outcome.INVALID_NUMBER,
    485: Outcome.INVALID_NUMBER,
    486: Outcome.BUSY,
    600: Outcome.BUSY,
    603: Outcome.DECLINED,
    604: Outcome.INVALID_NUMBER,
}
"""After an 18x; every other code is no_answer."""


@pytest.mark.parametrize(("sip", "cause"), SIP_TO_CAUSE.items())
def test_final_codes_before_any_ringing(sip: int, cause: int) -> None:
    wanted = NAMED.get(sip, Outcome.CONGESTION if 500 <= sip < 600 and cause != 127 else Outcome.REJECTED)
    if sip == 505:
        wanted = Outcome.CONGESTION
    ending = refused(cause, sip)
    assert ending.outcome is wanted
    assert (ending.hangup_cause, ending.sip_code) == (cause, sip)
    assert f"SIP {sip}" in ending.reason


@pytest.mark.parametrize(("sip", "cause"), SIP_TO_CAUSE.items())
@pytest.mark.parametrize("rang", ["180", "183"])
def test_final_codes_after_ringing(sip: int, cause: int, rang: str) -> None:
    assert refused(cause, sip, rang=rang, after=3).outcome is RANG_FIRST.get(sip, Outcome.NO_ANSWER)


@pytest.mark.parametrize(("sip", "cause"), SIP_TO_CAUSE.items())
@pytest.mark.parametrize("rang", ["", "180"])
def test_without_the_sip_code_the_outcome_is_the_same_where_it_can_be_known(sip: int, cause: int, rang: str) -> None:
    bare = refused(cause, None, rang=rang)
    assert bare.sip_code is None
    unknowable = {
        (603, ""): Outcome.REJECTED,  # cause 21, like 403
        (505, ""): Outcome.REJECTED,  # cause 127, like 400
    }
    assert bare.outcome is unknowable.get((sip, rang), refused(cause, sip, rang=rang).outcome)


@pytest.mark.parametrize("sip", [500, 501, 502, 503, 504, 513])
def test_a_server_failure_is_congestion_only_at_once_and_silence_later(sip: int) -> None:
    cause = SIP_TO_CAUSE[sip]
    assert refused(cause, sip, after=5.0).outcome is Outcome.CONGESTION
    assert refused(cause, sip, after=5.1).outcome is Outcome.NO_REPLY
    assert refused(cause, sip, after=5.0, rang="180").outcome is Outcome.NO_ANSWER


@pytest.mark.parametrize(
    ("cause", "sip", "outcome"),
    [
        (17, 503, Outcome.BUSY),  # the carrier's Reason header wins
        (1, 480, Outcome.INVALID_NUMBER),
        (20, 480, Outcome.NO_ANSWER),
        (20, None, Outcome.NO_ANSWER),
        (16, 603, Outcome.DECLINED),
        (31, 486, Outcome.BUSY),
        (31, None, Outcome.REJECTED),
        (41, None, Outcome.CONGESTION),
        (42, None, Outcome.CONGESTION),
        (44, None, Outcome.CONGESTION),
        (47, None, Outcome.CONGESTION),
    ],
)
def test_causes_from_a_reason_header(cause: int, sip: int | None, outcome: Outcome) -> None:
    assert refused(cause, sip).outcome is outcome


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("BUSY", Outcome.BUSY),
        ("CONGESTION", Outcome.CONGESTION),
        ("CHANUNAVAIL", Outcome.REJECTED),
        ("NOANSWER", Outcome.UNKNOWN),
    ],
)
def test_dial_status_helps_only_where_no_cause_was_told(status: str, outcome: Outcome) -> None:
    assert ended(new(), dial("DialEnd", 1, status), hangup(1, 0), failure(1)).outcome is outcome
    without = feed("Hangup", 1, Channel=LEG, Uniqueid=ID, Linkedid=ID)
    assert ended(new(), dial("DialEnd", 1, status), without, failure(1)).outcome is outcome


def test_a_code_that_is_no_number_is_no_code() -> None:
    odd = feed("Hangup", 1, Channel=LEG, Uniqueid=ID, Linkedid=ID, Cause="Busy", TechCause="-1")
    ending = ended(new(), request(1, 17, 486), odd, failure(1))
    assert (ending.outcome, ending.hangup_cause, ending.sip_code) == (Outcome.BUSY, 17, 486)


# How it ends: our side


@pytest.mark.parametrize("order", ["hangup first", "failure first"])
@pytest.mark.parametrize(("rang", "outcome"), [(True, Outcome.NO_ANSWER), (False, Outcome.NO_REPLY)])
def test_our_timeout(rang: bool, outcome: Outcome, order: str) -> None:
    end = [hangup(30, 19, 480), failure(30, 3)]
    ring = [state(1, "Ringing")] if rang else []
    ending = ended(new(), *ring, *(end if order == "hangup first" else reversed(end)))
    assert ending.outcome is outcome
    assert (ending.hangup_cause, ending.sip_code) == (19, None), "the PBX made that 480 up"


def test_our_timeout_is_known_without_the_originate_response() -> None:
    assert ended(new(), hangup(30, 19, 480), tick(35)).outcome is Outcome.NO_REPLY
    far = ended(new(), request(8, 19, 480), dial("DialEnd", 8, "NOANSWER"), hangup(8, 19, 480), tick(13))
    assert (far.outcome, far.sip_code) == (Outcome.NO_ANSWER, 480), "that one came from the carrier"


def test_our_timeout_is_known_without_the_hangup() -> None:
    assert ended(new(), state(1, "Ringing"), failure(30, 3), tick(35)).outcome is Outcome.NO_ANSWER


def test_canceled_while_ringing_and_while_talking() -> None:
    ring = ended(new(), state(1, "Ringing"), canceled(3), dial("DialEnd", 4, "NOANSWER"), hangup(4), failure(4))
    assert (ring.outcome, ring.sip_code) == (Outcome.CANCELED, None)
    talk = ended(new(), state(1, "Up"), canceled(3), hangup(4))
    assert (talk.outcome, talk.talk_seconds, talk.ended_by_us) == (Outcome.CANCELED, 3, True)
    assert "canceled during the conversation" in talk.reason


def test_a_cancel_that_loses_the_race_against_the_carrier_is_still_a_cancel() -> None:
    ending = ended(new(), canceled(1), request(1, 17, 486), hangup(1, 17, 486), failure(1))
    assert (ending.outcome, ending.sip_code) == (Outcome.CANCELED, None)


def test_hung_up_by_somebody_else_on_the_pbx() -> None:
    assert ended(new(), hangup(1, 16), failure(1)).outcome is Outcome.UNKNOWN
    assert ended(new(), state(1, "Ringing"), hangup(2, 16), failure(2)).outcome is Outcome.NO_ANSWER


@pytest.mark.parametrize(
    ("talk", "far_end", "outcome"),
    [
        (1.9, False, Outcome.AI_FAILED),
        (2.0, False, Outcome.ANSWERED),
        (0.1, True, Outcome.ANSWERED),
    ],
)
def test_dropped_by_our_side(talk: float, far_end: bool, outcome: Outcome) -> None:
    end = 1 + talk
    ending = ended(new(), state(1, "Up"), *([request(end)] if far_end else []), hangup(end))
    assert ending.outcome is outcome
    assert ending.ended_by_us is not far_end
    assert ending.talk_seconds == int(talk)


def test_the_longest_call_is_named() -> None:
    assert "longest time allowed" in ended(new(), state(1, "Up"), hangup(930)).reason
    assert "our side hung up" in ended(new(), state(1, "Up"), hangup(928)).reason


# The PBX stops


@pytest.mark.parametrize("word", ["SoftHangupRequest", "Shutdown"])
def test_a_pbx_that_stops_is_nobodys_fault(word: str) -> None:
    stop = feed(word, 1.5, Channel=LEG, Uniqueid=ID, Linkedid=ID, Cause="4")
    talk = ended(new(), state(1, "Up"), stop, hangup(1.6, 0))
    assert (talk.outcome, talk.estimated, talk.ended_by_us) == (Outcome.ANSWERED, True, False), "not ai_failed"
    ring = ended(new(), state(1, "Ringing"), stop, hangup(1.6, 0), failure(1.6))
    assert ring.outcome is Outcome.UNKNOWN


def test_the_soft_hangup_of_an_application_that_ends_is_no_stop() -> None:
    soft = feed("SoftHangupRequest", 1.5, Channel=LEG, Uniqueid=ID, Linkedid=ID, Cause="16")
    assert ended(new(), state(1, "Up"), soft, hangup(1.6, 0)).outcome is Outcome.AI_FAILED


# Halves of an end that do not come


def test_patience_is_kept_and_then_over() -> None:
    call = run(new(), request(1, 17, 486), hangup(1, 17, 486))
    assert call.phase is Phase.CLOSING
    assert call.deadline == NOW + 1 + PATIENCE
    assert life.on_tick(call, NOW + 5.9) == call
    assert run(tick(6), call=call).ending == ended(new(), request(1, 17, 486), hangup(1, 17, 486), failure(1))


def test_a_failure_whose_hangup_never_comes() -> None:
    assert ended(new(), failure(1), tick(6)).outcome is Outcome.UNKNOWN
    seen = ended(new(), request(1, 34, 503), failure(1), tick(6))
    assert (seen.outcome, seen.sip_code) == (Outcome.CONGESTION, 503), "the request had told it, at once"
    assert seen.times.ended_at == PBX + 1


def test_all_legs_are_waited_for() -> None:
    second = "mikopbx-1.2"
    call = run(new(), new(0, "Local/1@x-0;2", second), hangup(1, 17), failure(1))
    assert call.phase is Phase.CLOSING
    assert ended(lambda _: call, hangup(2, 0, name="Local/1@x-0;2", uniqueid=second)).outcome is Outcome.BUSY


def test_the_refusal_of_a_duplicate_does_not_harm_the_call_that_lives() -> None:
    """Even where it carries the same ActionID, because the same action came twice."""
    call = run(new(), state(1, "Ringing"), failure(2))
    assert call.phase is Phase.CLOSING
    call = run(state(3, "Up"), call=call)
    assert (call.phase, call.closing_since) == (Phase.TALKING, None)
    assert run(failure(4), tick(60), call=call).phase is Phase.TALKING, "nor one that comes while they talk"
    assert ended(lambda _: call, request(9), hangup(9)).outcome is Outcome.ANSWERED


def test_the_refusal_of_a_duplicate_before_the_first_ring() -> None:
    call = run(new(), failure(1), state(2, "Ringing"))
    assert (call.phase, call.failure) == (Phase.RINGING, None)
    assert ended(lambda _: call, request(4, 17), hangup(4, 17), failure(4)).outcome is Outcome.BUSY


def test_a_call_without_an_end_is_given_up_after_its_last_bound() -> None:
    call = run(new(), state(1, "Ringing"))
    assert call.deadline == NOW + 30 + 900 + OVERTIME
    assert life.on_tick(call, call.deadline - 0.1) == call
    end = life.on_tick(call, call.deadline).ending
    assert end is not None
    assert end.outcome is Outcome.UNKNOWN
    talk = run(state(2, "Up"), call=call)
    end = life.on_tick(talk, talk.deadline).ending
    assert end is not None
    assert (end.outcome, end.estimated) == (Outcome.ANSWERED, True)


def test_an_event_without_a_timestamp_takes_the_pbx_time_from_the_last_one() -> None:
    fields = {"Channel": LEG, "ChannelStateDesc": "Up", "Uniqueid": ID, "Linkedid": ID}
    call = life.on_event(run(new()), AmiEvent(name="Newstate", fields=fields), NOW + 2)
    assert call.answered_at == pytest.approx(PBX + 2)


# The Response


def test_a_refused_originate_ends_at_once() -> None:
    call = life.on_reply(begin(), False, "Extension does not exist.", NOW)
    assert call.ending is not None
    assert call.ending.outcome is Outcome.PBX_ERROR
    assert call.ending.reason == "the PBX refused to place the call: Extension does not exist."
    silent = life.on_reply(begin(), False, " ", NOW).ending
    assert silent is not None
    assert silent.reason.endswith("no reason given")


def test_a_response_that_comes_after_its_events_changes_nothing() -> None:
    call = run(new(), state(1, "Ringing"))
    assert life.on_reply(call, True, "", NOW) == call
    assert life.on_reply(call, False, "?", NOW).phase is Phase.RINGING


# The link is lost


def listed(*, up: bool = False, name: str = LEG, uniqueid: str = ID, linkedid: str = ID, duration: int = 7) -> Channel:
    return Channel(name=name, uniqueid=uniqueid, linkedid=linkedid, up=up, duration=duration)


def test_a_leg_seen_again_is_followed_on() -> None:
    call = run(new(), lost(1))
    call = life.on_seen(call, (listed(), listed(linkedid=OTHER, up=True)), NOW + 2)
    assert (call.phase, call.gap, call.answered_at) == (Phase.DIALING, True, None)
    assert call.originated_at == PBX, "the first word counts"


def test_a_leg_found_up_was_answered_unseen() -> None:
    call = life.on_seen(run(new(), lost(1)), (listed(up=True),), NOW + 10)
    assert (call.phase, call.answered_at) == (Phase.TALKING, PBX + 10)
    ending = ended(lambda _: call, hangup(11))
    assert (ending.outcome, ending.estimated) == (Outcome.ANSWERED, True), "not ai_failed: it may have talked long"


def test_a_call_whose_channel_event_was_missed_is_found_in_the_list() -> None:
    call = life.on_seen(begin(), (listed(duration=7),), NOW + 10)
    assert (call.phase, call.trunk_leg, call.originated_at) == (Phase.DIALING, ID, NOW + 3)


def test_an_empty_list_proves_nothing_yet() -> None:
    call = life.on_seen(run(new(), lost(1)), (), NOW + 2)
    assert call.phase is Phase.DIALING
    assert not life.is_listed(call, ())
    assert life.is_listed(call, (listed(),))
    assert not life.is_listed(call, (listed(linkedid=OTHER),))


def test_a_list_without_the_trunk_leg_that_was_known_is_for_the_caller_to_believe() -> None:
    """It may be a leg just made that is not listed yet: in a simulated world an answered call was ended by it."""
    of_the_ai = (listed(name="PJSIP/201-1", uniqueid="x"),)
    call = life.on_seen(run(new(), lost(1)), of_the_ai, NOW + 2)
    assert (call.phase, call.trunk_leg in call.living) == (Phase.DIALING, True)
    assert not life.is_listed(call, of_the_ai)
    assert life.is_listed(begin(), of_the_ai), "which leg is the callee's was not known"


def test_legs_of_the_ai_alone_prove_nothing_while_the_trunk_leg_is_not_known() -> None:
    assert life.on_seen(begin(), (listed(name="PJSIP/201-1", uniqueid="x"),), NOW).phase is Phase.SENT


def test_a_leg_whose_hangup_was_seen_is_not_found_again() -> None:
    call = run(new(), hangup(1, 17))
    assert life.on_seen(call, (listed(),), NOW + 1).living == frozenset()


@pytest.mark.parametrize("cause", [21, 34, 58])
def test_after_a_gap_nobody_is_called_again_for_free(cause: int) -> None:
    """It may have rung unseen, so an outcome that spends no try is not given."""
    ending = ended(new(), lost(0.1), request(0.3, cause), hangup(0.3, cause), failure(0.3))
    assert ending.outcome is Outcome.UNKNOWN
    assert "link was down" in ending.reason
    assert ended(lost(0), failure(0.1)).outcome is Outcome.UNKNOWN, "its Newchannel may have been missed"
    rang = ended(new(), state(0.1, "Ringing"), lost(0.2), request(3, cause), hangup(3, cause), failure(3))
    assert rang.outcome in {Outcome.DECLINED, Outcome.NO_ANSWER}
    assert ended(new(), lost(0.1), request(0.3, 17), hangup(0.3, 17), failure(0.3)).outcome is Outcome.BUSY


def test_after_a_gap_nobody_says_that_it_never_rang() -> None:
    """A ringing phone is told once; who was away then does not blame the carrier for silence."""
    for end in ([hangup(30, 19, 480), failure(30, 3)], [request(8, 18, 408), hangup(8, 18, 408), failure(8)]):
        ending = ended(new(), lost(0.1), *end)
        assert ending.outcome is Outcome.NO_ANSWER
        assert "not seen" in ending.reason
        assert not ending.watched
        watched = ended(new(), *end)
        assert (watched.outcome, watched.watched) == (Outcome.NO_REPLY, True)


def test_an_answer_missed_in_a_gap_is_told_by_the_originate_response() -> None:
    ending = ended(new(), lost(1), hangup(5, 16), response(5, "Success", 4))
    assert (ending.outcome, ending.estimated) == (Outcome.ANSWERED, True)


@pytest.mark.parametrize(("state_at_end", "outcome"), [("Up", Outcome.ANSWERED), ("Ringing", Outcome.NO_ANSWER)])
def test_an_answer_missed_in_a_gap_is_told_by_the_state_in_which_the_leg_ends(
    state_at_end: str, outcome: Outcome
) -> None:
    down = feed("Hangup", 9, Channel=LEG, Uniqueid=ID, Linkedid=ID, Cause="16", ChannelStateDesc=state_at_end)
    call = run(new(), state(1, "Ringing"), lost(2), down)
    ending = life.on_tick(call, NOW + 9 + life.PATIENCE).ending
    assert ending is not None
    assert (ending.outcome, ending.estimated, ending.talk_seconds) == (outcome, outcome is Outcome.ANSWERED, 0)


def test_gone_after_an_answer_reaches_to_the_last_proof_of_life() -> None:
    talk = run(new(), state(2, "Up"))
    heard = life.on_lost(talk, NOW + 9, alive_at=PBX + 8.5)
    ending = run(gone(60), call=heard).ending
    assert ending is not None
    assert (ending.outcome, ending.talk_seconds, ending.estimated) == (Outcome.ANSWERED, 6, True)
    seen = life.on_seen(heard, (listed(up=True),), NOW + 20)
    ending = run(gone(60), call=seen).ending
    assert ending is not None
    assert ending.talk_seconds == 18


def test_gone_before_an_answer() -> None:
    assert ended(new(), gone(9)).outcome is Outcome.UNKNOWN
    assert ended(new(), canceled(1), gone(9)).outcome is Outcome.CANCELED
    assert ended(new(), state(1, "Up"), canceled(2), gone(9)).outcome is Outcome.CANCELED


def test_gone_while_the_end_was_half_in() -> None:
    ending = ended(new(), request(1, 17, 486), hangup(1, 17, 486), gone(2))
    assert (ending.outcome, ending.estimated) == (Outcome.BUSY, False)


def test_a_lost_link_without_a_leg_proves_no_life() -> None:
    assert life.on_lost(begin(), NOW, alive_at=PBX).last_alive is None
    assert life.on_lost(run(new(3)), NOW).last_alive == PBX + 3


# Found again after a restart


def found(*, answered_at: float | None = None, originated_at: float | None = None, cancel: bool = False) -> Call:
    row = ClaimedRow(
        row_id=1, call_id=ID, claim_number=5, attempt=1, user_id="u", phone_number="0123456700", e164="+60123456700"
    )
    open_call = OpenCall(
        row=row, incarnation=1, originated_at=originated_at, answered_at=answered_at, cancel_requested=cancel
    )
    return life.resume(open_call, trunk=TRUNK, ring_seconds=30, max_call_seconds=900, now=NOW)


def test_a_call_taken_up_again_goes_on_where_the_database_had_it() -> None:
    call = found(answered_at=PBX - 100, originated_at=PBX - 110)
    assert (call.phase, call.gap, call.last_alive) == (Phase.TALKING, True, PBX - 100)
    call = life.on_seen(call, (listed(up=True),), NOW)
    ending = ended(lambda _: call, request(5), hangup(5))
    assert (ending.talk_seconds, ending.estimated) == (105, False)
    assert ending.times.originated_at == PBX - 110


@pytest.mark.parametrize("up", [True, False])
def test_a_call_found_by_a_daemon_whose_clock_is_wrong_has_the_times_of_the_pbx(up: bool) -> None:
    """NOW is years away from the PBX's clock: no time of ours may stay beside times of the PBX."""
    call = life.on_seen(found(), (listed(up=up, duration=7),), NOW)
    if not up:
        call = state(2, "Up")(call)
    ending = ended(lambda _: call, hangup(30))
    assert ending.times.originated_at == PBX - 7
    assert ending.times.answered_at == (PBX if up else PBX + 2)
    assert ending.times.ended_at == PBX + 30
    assert ending.talk_seconds == (30 if up else 28)


@pytest.mark.parametrize("clock", [-3600.0, 3600.0])
def test_nor_is_such_a_call_ended_before_its_time(clock: float) -> None:
    call = found(answered_at=NOW - clock - 5, originated_at=NOW - clock - 10)
    call = life.on_seen(call, (listed(up=True, duration=10),), NOW)
    assert life.on_tick(call, NOW + 600).phase is Phase.TALKING
    assert life.on_tick(call, NOW + 30 + 900 + OVERTIME - 9).phase is Phase.ENDED


def test_a_call_taken_up_while_it_rings() -> None:
    call = life.on_seen(found(), (listed(duration=0),), NOW)
    assert (call.phase, call.started_at) == (Phase.DIALING, NOW)
    assert life.on_seen(found(), (listed(duration=50),), NOW).started_at == NOW - 50, "so its longest time is kept"
    assert found(cancel=True).canceled


def test_a_leg_found_ringing_has_rung() -> None:
    """Else a call that nobody answers would end as one of which the carrier never said that it rang."""
    found_ringing = life.on_seen(found(), (replace(listed(duration=3), ringing=True),), NOW)
    assert (found_ringing.phase, found_ringing.ringing_at) == (Phase.RINGING, NOW)
    again = life.on_seen(found_ringing, (replace(listed(duration=4), ringing=True),), NOW + 1)
    assert again.ringing_at == NOW, "the first ring counts"


# The end is the end


@pytest.mark.parametrize(
    "step",
    [
        new(99),
        state(99, "Up"),
        hangup(99, 34),
        failure(99),
        response(99, "Success", 4),
        tick(99_999),
        canceled(99),
        lost(99),
        gone(99),
        lambda call: life.on_reply(call, True, "", NOW),
        lambda call: life.on_reply(call, False, "", NOW),
        lambda call: life.on_seen(call, (listed(up=True),), NOW),
        feed("Shutdown", 99),
    ],
)
def test_nothing_moves_a_call_that_has_ended(step: Step) -> None:
    call = run(new(), request(1, 17), hangup(1, 17), failure(1))
    after = step(call)
    assert (after.phase, after.ending) == (Phase.ENDED, call.ending)


def test_what_to_hang_up() -> None:
    assert begin().hangup_id == ID
    assert replace(begin(), trunk_leg="mikopbx-1.1").hangup_id == "mikopbx-1.1"


# Form route: the callee's leg is the one that a provider's name or the ;2 half points to

HALF = "Local/60123456700@all_peers-00000001"
SECOND = "33333333-3333-5333-8333-333333333333"
FIRST_LEG, NEXT_LEG = "PJSIP/SIP-TRUNK-0000000A-00000001", "PJSIP/SIP-TRUNK-0000000B-00000002"


def by_route(*steps: Step) -> Call:
    call = life.start(ID, form=Form.ROUTE, trunk="", ring_seconds=30, max_call_seconds=900, now=NOW)
    pair = (
        new(0.0, f"{HALF};1"),
        new(0.0, f"{HALF};2", SECOND),
        state(0.2, "Ringing", f"{HALF};1"),
        dial("DialState", 0.2, "RINGING", f"{HALF};1"),
    )
    return run(*pair, *steps, call=call)


def tried(
    start: float, end: float, cause: int, tech: int | None, *, ring: bool = False, n: int = 1
) -> tuple[Step, ...]:
    """One trunk leg, from its making to its Hangup."""
    name, uniqueid = (FIRST_LEG, NEXT_LEG)[n - 1], f"mikopbx-1.{n}"
    return (
        new(start, name, uniqueid),
        dial("DialBegin", start, name=name, uniqueid=uniqueid),
        *((state(start + 0.1, "Ringing", name, uniqueid),) if ring else ()),
        request(end, cause, tech, uniqueid),
        dial("DialEnd", end, "NOANSWER", name, uniqueid),
        hangup(end, cause, tech, name, uniqueid),
    )


def over(t: float, reason: int = 0) -> tuple[Step, ...]:
    return (
        hangup(t, 0, name=f"{HALF};1"),
        failure(t, reason),
        hangup(t, 16, name=f"{HALF};2", uniqueid=SECOND),
    )


def routed(*steps: Step) -> Ending:
    call = by_route(*steps)
    assert call.ending is not None
    return call.ending


def test_route_the_halves_ring_and_nobody_was_dialed() -> None:
    call = by_route()
    assert (call.phase, call.ringing_at, call.originated_at) == (Phase.SENT, None, None)
    ending = routed(*over(0.4))
    assert ending.outcome is Outcome.TRUNK_UNAVAILABLE
    assert "no outgoing route took the number" in ending.reason


def test_route_an_answer_by_the_pbx_itself_is_no_answer() -> None:
    up = (state(0.5, "Up", f"{HALF};2", SECOND), state(0.5, "Up", f"{HALF};1"), response(0.5, "Success", 4))
    down = (hangup(4, 16, name=f"{HALF};1"), hangup(4, 16, name=f"{HALF};2", uniqueid=SECOND))
    assert by_route(*up).answered_at is None
    ending = routed(*up, *down)
    assert ending.outcome is Outcome.UNKNOWN, "somebody may have been there; nothing sends it again"
    refused = routed(*tried(0.2, 0.4, 1, 404), *up, *down)
    assert refused.outcome is Outcome.INVALID_NUMBER, "an announcement after the refusal"


@pytest.mark.parametrize("name", ["PJSIP/carrier-user-00000001", "DAHDI/i1/60123456700-1"])
def test_route_what_the_second_half_dials_is_the_callee_whatever_its_name(name: str) -> None:
    uniqueid = "mikopbx-1.1"
    begin_ = feed(
        "DialBegin", 0.3, Channel=f"{HALF};2", Linkedid=ID, DestChannel=name, DestUniqueid=uniqueid, DestLinkedid=ID
    )
    call = by_route(new(0.2, name, uniqueid), begin_, state(2.0, "Up", name, uniqueid))
    assert call.answered_at == PBX + 2.0
    assert by_route(new(0.2, name, uniqueid), state(2.0, "Up", name, uniqueid)).answered_at is None


def test_route_what_the_ai_dials_later_is_not_the_callee() -> None:
    call = by_route(
        new(0.2, FIRST_LEG, "mikopbx-1.1"),
        state(1.0, "Up", FIRST_LEG, "mikopbx-1.1"),
        response(1.0, "Success", 4),
        *tried(5.0, 5.4, 34, 503, n=2),
    )
    assert (call.trunk_leg, call.trunk, call.phase) == ("mikopbx-1.1", "SIP-TRUNK-0000000A", Phase.TALKING)
    call = run(
        request(9.0, 16, uniqueid="mikopbx-1.1"), hangup(9.0, 16, name=FIRST_LEG, uniqueid="mikopbx-1.1"), call=call
    )
    assert call.ending is not None
    assert (call.ending.outcome, call.ending.talk_seconds) == (Outcome.ANSWERED, 8)


def test_route_our_timeout_while_it_rings() -> None:
    leg = (new(0.2, FIRST_LEG, "mikopbx-1.1"), state(0.3, "Ringing", FIRST_LEG, "mikopbx-1.1"))
    end = (
        hangup(30, 0, name=f"{HALF};1"),
        failure(30, 3),
        dial("DialEnd", 30.01, "CANCEL", FIRST_LEG, "mikopbx-1.1"),
        hangup(30.01, 19, 480, FIRST_LEG, "mikopbx-1.1"),
    )
    assert by_route(*leg, *end).phase is Phase.CLOSING, "a half is left"
    ending = routed(*leg, *end, hangup(30.02, 16, name=f"{HALF};2", uniqueid=SECOND))
    assert (ending.outcome, ending.sip_code) == (Outcome.NO_ANSWER, None)
    assert ending.times.ended_at == PBX + 30.01


def test_route_while_a_half_lives_the_next_leg_may_still_come() -> None:
    waiting = by_route(*tried(0.2, 3.0, 19, 480, ring=True), tick(3.0 + PATIENCE + 60))
    assert waiting.phase is Phase.CLOSING
    again = run(new(70, NEXT_LEG, "mikopbx-1.2"), call=waiting)
    assert (again.phase, again.trunk, again.trunk_leg) == (Phase.DIALING, "SIP-TRUNK-0000000B", "mikopbx-1.2")
    assert (again.cause, again.ended_at, again.far_end) == (None, None, False)
    answered = run(state(72, "Up", NEXT_LEG, "mikopbx-1.2"), call=again)
    assert (answered.answered_at, answered.ringing_at) == (PBX + 72, PBX + 0.2 + 0.1)


def test_route_patience_begins_anew_with_the_last_leg() -> None:
    legs = (hangup(9.0, 0, name=f"{HALF};1"), hangup(9.0, 16, name=f"{HALF};2", uniqueid=SECOND))
    call = by_route(*tried(0.2, 3.0, 1, 404), *legs, tick(9.0 + PATIENCE - 0.1))
    assert call.phase is Phase.CLOSING
    ended_ = run(tick(9.0 + PATIENCE), call=call).ending
    assert ended_ is not None
    assert ended_.outcome is Outcome.INVALID_NUMBER


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        ((19, 480, True), (34, 503, False), Outcome.NO_ANSWER),
        ((19, 480, True), (1, 404, False), Outcome.NO_ANSWER),
        ((19, 480, False), (21, 403, False), Outcome.NO_ANSWER),
        ((21, 603, True), (21, 403, False), Outcome.DECLINED),
        ((1, 404, False), (34, 503, False), Outcome.CONGESTION),
        ((34, 503, False), (1, 404, False), Outcome.INVALID_NUMBER),
        ((34, 503, False), (17, 486, False), Outcome.BUSY),
        ((34, 503, False), (21, 603, True), Outcome.DECLINED),
    ],
)
def test_route_the_last_leg_is_judged_but_never_as_less_than_what_rang(
    first: tuple[int, int, bool], second: tuple[int, int, bool], outcome: Outcome
) -> None:
    one = tried(0.2, 1.0, first[0], first[1], ring=first[2])
    two = tried(1.0, 1.5, second[0], second[1], ring=second[2], n=2)
    ending = routed(*one, *two, *over(1.6))
    assert ending.outcome is outcome
    late = [two[0], *one[-3:], *two[1:]]
    late_ending = routed(*one[:-3], *late, *over(1.6))
    assert late_ending.outcome in {outcome, Outcome.UNKNOWN, Outcome.NO_ANSWER}, "the first leg's end came late"


def test_route_found_again_between_two_routes_it_goes_on() -> None:
    pair = (
        Channel(name=f"{HALF};1", uniqueid=ID, linkedid=ID, up=False, duration=3),
        Channel(name=f"{HALF};2", uniqueid=SECOND, linkedid=ID, up=False, duration=3),
    )
    call = by_route(new(0.2, FIRST_LEG, "mikopbx-1.1"), lost(2.0))
    call = life.on_seen(call, pair, NOW + 3.0)
    assert call.phase is Phase.DIALING, "no trunk leg right now, but the halves live"
    leg = Channel(name=NEXT_LEG, uniqueid="mikopbx-1.2", linkedid=ID, up=True, duration=1)
    call = life.on_seen(call, (*pair, leg), NOW + 5.0)
    assert (call.trunk_leg, call.trunk, call.phase) == ("mikopbx-1.2", "SIP-TRUNK-0000000B", Phase.TALKING)
    assert call.hangup_id == ID, "with only the trunk leg gone the next route would ring"


def test_route_put_through_while_the_link_was_down_is_not_guessed() -> None:
    call = by_route(new(0.2, FIRST_LEG, "mikopbx-1.1"), lost(0.5))
    call = run(
        hangup(9.0, 16, name=FIRST_LEG, uniqueid="mikopbx-1.1"),
        response(9.0, "Success", 4),
        hangup(9.0, 16, name=f"{HALF};1"),
        hangup(9.0, 16, name=f"{HALF};2", uniqueid=SECOND),
        call=call,
    )
    assert call.ending is not None
    assert call.ending.outcome is Outcome.UNKNOWN
