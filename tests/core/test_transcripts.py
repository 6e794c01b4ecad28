"""What a real Asterisk said about a call, and what we make of it: one test per recording, and the orders that vary."""

import json
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapter.core.call import EVENTS, Phase
from adapter.core.model import Ending, Outcome
from tests.core.replay import CLOCK, Story, play
from tests.support import transcripts
from tests.support.transcripts import CLOSED, Message, Transcript, compact, load, parse


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """How one call has to end. Times are seconds after its first leg was made, None = never."""

    call: str
    outcome: Outcome
    ended: float
    ringing: float | None = None
    answered: float | None = None
    talk: int = 0
    cause: int | None = None
    sip: int | None = None
    estimated: bool = False
    by_us: bool = False
    words: str = ""


EXPECTED: dict[str, tuple[Expected, ...]] = {
    "localout-answer-callee-hangup": (
        # The Local halves "ring" 5 ms before the callee's leg is made, and outlive it by 10 ms.
        Expected(
            call="lab-localout-answer-callee-hangup-1795404049",
            outcome=Outcome.ANSWERED,
            ringing=0.008,
            answered=2.012,
            ended=7.266,
            talk=5,
            cause=16,
            words="the callee hung up",
        ),
    ),
    "localout-busy-486": (
        Expected(call="lab-localout-busy-486-1795404175", outcome=Outcome.BUSY, ended=0.515, cause=17, sip=486),
    ),
    "pjsip-ai-backend-down": (
        Expected(
            call="lab-pjsip-ai-backend-down-1795404380",
            outcome=Outcome.AI_FAILED,
            ringing=0.005,
            answered=1.008,
            ended=1.021,
            cause=0,
            by_us=True,
            words="our side dropped the call",
        ),
    ),
    "pjsip-answer-ai-hangup": (
        Expected(
            call="lab-pjsip-answer-ai-hangup-1795404068",
            outcome=Outcome.ANSWERED,
            ringing=0.007,
            answered=1.009,
            ended=5.029,
            talk=4,
            cause=16,
            by_us=True,
            words="our side hung up",
        ),
    ),
    "pjsip-answer-callee-hangup": (
        Expected(
            call="lab-pjsip-answer-callee-hangup-1795404032",
            outcome=Outcome.ANSWERED,
            ringing=0.004,
            answered=2.008,
            ended=7.043,
            talk=5,
            cause=16,
            words="the callee hung up",
        ),
    ),
    "pjsip-answer-immediate-no-ringing": (
        Expected(
            call="lab-pjsip-answer-immediate-no-ringing-1795404058",
            outcome=Outcome.ANSWERED,
            answered=0.005,
            ended=3.041,
            talk=3,
            cause=16,
        ),
    ),
    "pjsip-carrier-forbidden-403": (
        Expected(
            call="lab-pjsip-carrier-forbidden-403-1795405774",
            outcome=Outcome.REJECTED,
            ended=0.205,
            cause=21,
            sip=403,
        ),
    ),
    "pjsip-carrier-no-reply-timeout30": (
        Expected(
            call="lab-pjsip-carrier-no-reply-timeout30-1795404504",
            outcome=Outcome.NO_REPLY,
            ended=30.006,
            cause=19,
            words="within 30 s",
        ),
    ),
    "pjsip-carrier-port-closed": (
        Expected(call="lab-pjsip-carrier-port-closed-1795404259", outcome=Outcome.NO_REPLY, ended=30.032, cause=19),
    ),
    "pjsip-congestion-503": (
        Expected(
            call="lab-pjsip-congestion-503-1795404217", outcome=Outcome.CONGESTION, ended=0.306, cause=34, sip=503
        ),
    ),
    "pjsip-daemon-hangup-ringing": (
        Expected(
            call="lab-pjsip-daemon-hangup-ringing-1795404411",
            outcome=Outcome.CANCELED,
            ringing=0.002,
            ended=4.012,
            cause=16,
        ),
    ),
    "pjsip-declined-603": (
        Expected(
            call="lab-pjsip-declined-603-1795405769",
            outcome=Outcome.DECLINED,
            ringing=0.002,
            ended=2.211,
            cause=21,
            sip=603,
        ),
    ),
    "pjsip-duplicate-channelid": (
        # The second Originate of the same id is refused while the first rings: it has no call of its own, and its
        # Failure, which names the first call's Uniqueid, changes nothing.
        Expected(
            call="lab-1795405959-dup",
            outcome=Outcome.ANSWERED,
            ringing=0.005,
            answered=2.008,
            ended=7.040,
            talk=5,
            cause=16,
        ),
        # The third is dialed again, for the id is free: why nothing of ours ever sends an id twice.
        Expected(call="lab-1795405959-dup", outcome=Outcome.BUSY, ended=0.507, cause=17, sip=486),
    ),
    "pjsip-earlymedia-then-480": (
        Expected(
            call="lab-pjsip-earlymedia-then-480-1795404303",
            outcome=Outcome.NO_ANSWER,
            ringing=0.006,
            ended=8.008,
            cause=19,
            sip=480,
        ),
    ),
    "pjsip-earlymedia-true-false-answer": (
        # Nobody answered. With EarlyMedia the PBX says Up, ANSWER and Success when the announcement begins, so we say
        # "answered" at that moment and cannot know better before the end; the AI has talked to an announcement. That is
        # why no Originate of ours has that header (tests/core/test_originate.py).
        Expected(
            call="lab-pjsip-earlymedia-true-false-answer-1795405810",
            outcome=Outcome.ANSWERED,
            ringing=0.006,
            answered=0.007,
            ended=8.011,
            talk=8,
            cause=19,
            sip=480,
        ),
    ),
    "pjsip-noanswer-originate-timeout": (
        Expected(
            call="lab-pjsip-noanswer-originate-timeout-1795404093",
            outcome=Outcome.NO_ANSWER,
            ringing=0.005,
            ended=8.011,
            cause=19,
            words="within 8 s",
        ),
    ),
    "pjsip-pbx-core-restart-now": (
        Expected(
            call="rst-core-restart-now-ring",
            outcome=Outcome.UNKNOWN,
            ringing=0.007,
            ended=3.008,
            cause=0,
            words="PBX stopped",
        ),
        Expected(
            call="rst-core-restart-now-talk",
            outcome=Outcome.ANSWERED,
            ringing=0.010,
            answered=1.010,
            ended=3.014,
            talk=2,
            cause=0,
            estimated=True,
            words="PBX stopped",
        ),
    ),
    "pjsip-three-interleaved": (
        Expected(call="lab-1795405959-B", outcome=Outcome.BUSY, ended=0.507, cause=17, sip=486),
        Expected(call="lab-1795405959-C", outcome=Outcome.NO_ANSWER, ringing=0.008, ended=6.010, cause=19),
        Expected(
            call="lab-1795405959-A",
            outcome=Outcome.ANSWERED,
            ringing=0.006,
            answered=2.009,
            ended=7.041,
            talk=5,
            cause=16,
        ),
    ),
}
"""In the order in which the calls end. Two recordings have a test of their own below, one has no leg at all."""

ALONE = {"pjsip-trunk-no-contact", "pjsip-pbx-sigkill", "pjsip-disconnect-reconcile.1", "pjsip-disconnect-reconcile.2"}


def assert_ending(ending: Ending, expected: Expected) -> None:
    times = ending.times
    assert ending.outcome is expected.outcome
    assert times.originated_at is not None
    assert times.originated_at > 1.7e9, "PBX's clock"
    for name, instant in (
        ("ringing", times.ringing_at),
        ("answered", times.answered_at),
        ("ended", times.ended_at),
    ):
        wanted = getattr(expected, name)
        got = None if instant is None else instant - times.originated_at
        assert got == (None if wanted is None else pytest.approx(wanted, abs=0.0011)), name
    assert (ending.hangup_cause, ending.sip_code) == (expected.cause, expected.sip)
    assert ending.talk_seconds == expected.talk
    assert (ending.estimated, ending.ended_by_us) == (expected.estimated, expected.by_us)
    assert expected.words in ending.reason


def test_every_recording_of_a_call_has_an_expectation() -> None:
    assert {*transcripts.names("pjsip-"), *transcripts.names("localout-")} == EXPECTED.keys() | ALONE


@pytest.mark.parametrize("name", transcripts.names("localout-"))
def test_form_route_finds_its_provider_in_the_legs_name(name: str) -> None:
    story = Story()
    for message in load(name).messages:
        story.play([message])
        for call in story.board:
            assert call.trunk == ("SIP-TRUNK-AAAA0001" if call.trunk_leg else "")
            assert call.hangup_id == call.call_id or call.call_id in call.down, "never the provider's leg alone"
    assert len(story.ends) == 1


@pytest.mark.parametrize("name", EXPECTED)
def test_recording(name: str) -> None:
    story = play(load(name))
    assert [call_id for _, call_id, _ in story.ends] == [expected.call for expected in EXPECTED[name]]
    for (_, _, ending), expected in zip(story.ends, EXPECTED[name], strict=True):
        assert_ending(ending, expected)
    assert len(story.board) == 0
    answered = [ending for _, _, ending in story.ends if ending.times.answered_at is not None]
    assert [mark.times.answered_at for _, mark in story.marks] == [e.times.answered_at for e in answered]
    before = 0.22 if name.startswith("localout-") else 0.0  # The PBX's own dialplan runs before the leg is made.
    for t, mark in story.marks:
        assert t - before == pytest.approx((mark.times.answered_at or 0) - (mark.times.originated_at or 0), abs=0.02), (
            "marked the moment the leg is up"
        )


def test_a_trunk_without_contact_has_no_leg() -> None:
    story = play(load("pjsip-trunk-no-contact"))
    [(t, _, ending)] = story.ends
    assert ending.outcome is Outcome.TRUNK_UNAVAILABLE
    assert t < 0.01, "told at once, without waiting for a Hangup that never comes"
    assert ending.times.originated_at is None
    assert (ending.hangup_cause, ending.sip_code, ending.talk_seconds) == (None, None, 0)


def test_refusals_and_failures_without_a_leg() -> None:
    story = play(load("errors-originate"))
    assert [(ending.outcome, ending.reason) for _, call_id, ending in story.ends if call_id.startswith("lab-")] == [
        (Outcome.TRUNK_UNAVAILABLE, "the trunk is down or unknown to the PBX"),
        (Outcome.TRUNK_UNAVAILABLE, "the trunk is down or unknown to the PBX"),
    ]
    [(_, _, refused)] = [end for end in story.ends if end[1].startswith("xxx")]
    assert refused.outcome is Outcome.PBX_ERROR
    assert refused.reason == "the PBX refused to place the call: Uniqueid length exceeds maximum of 149"


def test_a_lost_link_and_the_next_one_are_one_story() -> None:
    first, second = load("pjsip-disconnect-reconcile.1"), load("pjsip-disconnect-reconcile.2")
    story = Story().play(first.messages)
    [call] = story.board
    assert call.phase is Phase.RINGING
    story.note(0.8, story.board.on_lost(CLOCK + 0.8))
    split = next(i for i, m in enumerate(second.messages) if m.get("Event") == "CoreShowChannelsComplete")
    story.play(m for m in second.messages[:split] if m.get("Event") != "CoreShowChannel")
    listed = [m.channel for m in second.messages[:split] if m.get("Event") == "CoreShowChannel"]
    story.note(1.502, story.board.on_seen(listed, CLOCK + 1.502))
    assert story.board.absent(listed) == ()
    story.play(second.messages[split:])
    [(t, _, ending)] = story.ends
    assert_ending(
        ending,
        Expected(
            call="lab-1795405959-pjsip-rec",
            outcome=Outcome.ANSWERED,
            ringing=0.005,
            answered=2.009,
            ended=7.040,
            talk=5,
            cause=16,
        ),
    )
    assert t == 7.042
    assert len(story.marks) == 1


def test_a_lost_link_and_nothing_left_afterwards() -> None:
    story = Story().play(load("pjsip-disconnect-reconcile.1").messages)
    story.note(0.8, story.board.on_lost(CLOCK + 0.8))
    story.note(60, story.board.on_seen((), CLOCK + 60))
    [call] = story.board.absent(())
    story.note(90, story.board.on_gone(call.call_id, CLOCK + 90, "over when the PBX was reached again"))
    [(_, _, ending)] = story.ends
    assert (ending.outcome, ending.talk_seconds, ending.estimated) == (Outcome.UNKNOWN, 0, True)
    assert "over when the PBX was reached again" in ending.reason


def test_a_killed_pbx_leaves_calls_open_until_it_is_found_empty() -> None:
    transcript = load("pjsip-pbx-sigkill")
    story = play(transcript)
    assert story.ends == [], "no Hangup ever comes"
    assert transcript.messages[-1].get(CLOSED)
    for call in tuple(story.board):
        story.note(30, story.board.on_gone(call.call_id, CLOCK + 30, "the PBX has restarted"))
    talk, ring = story.endings["rst-sigkill-talk"], story.endings["rst-sigkill-ring"]
    assert (ring.outcome, ring.estimated) == (Outcome.UNKNOWN, True)
    assert (talk.outcome, talk.estimated, talk.talk_seconds) == (Outcome.ANSWERED, True, 0)
    assert talk.times.ended_at == pytest.approx(talk.times.answered_at, abs=0.001), "last proof of life"


# What varies from run to run must not change the outcome.

FAILED = tuple(
    name
    for name, calls in EXPECTED.items()
    if any(e.answered is None for e in calls) and name != "pjsip-duplicate-channelid"
)


def _swapped(messages: tuple[Message, ...]) -> list[Message]:
    """The same recording with every OriginateResponse Failure right before the Hangup of its leg."""
    out = list(messages)
    for failure in [m for m in messages if m.get("Response") == "Failure"]:
        hangup = next(
            m for m in messages if m.get("Event") == "Hangup" and m.get("Linkedid") == failure.get("Uniqueid")
        )
        out.remove(failure)
        out.insert(out.index(hangup), replace(failure, t=hangup.t))
    return out


def _endings(messages: list[Message] | tuple[Message, ...], name: str) -> dict[str, Ending]:
    return play(Transcript(name=name, story="", messages=tuple(messages))).endings


@pytest.mark.parametrize("name", FAILED)
def test_failure_before_hangup_makes_no_difference(name: str) -> None:
    messages = load(name).messages
    assert _swapped(messages) != list(messages)
    assert _endings(_swapped(messages), name) == play(load(name)).endings


@pytest.mark.parametrize("name", FAILED)
@pytest.mark.parametrize("where", ["first", "last", "gone"])
def test_the_failed_channel_of_the_pbx_makes_no_difference(name: str, where: str) -> None:
    messages = load(name).messages
    spool = [m for m in messages if m.get("Channel") == "OutgoingSpoolFailed"]
    rest = [m for m in messages if m not in spool]
    moved = {"first": [*spool, *rest], "last": [*rest, *spool], "gone": rest}[where]
    assert _endings(moved, name) == play(load(name)).endings


@pytest.mark.parametrize("name", EXPECTED)
def test_an_older_pbx_that_tells_no_sip_code_gives_the_same_outcome(name: str) -> None:
    messages = [replace(m, fields={k: v for k, v in m.fields.items() if k != "TechCause"}) for m in load(name).messages]
    without = _endings(messages, name)
    whole = play(load(name)).endings
    assert {c: e.outcome for c, e in without.items()} == {c: e.outcome for c, e in whole.items()}
    assert all(ending.sip_code is None for ending in without.values())


@pytest.mark.parametrize("name", [*EXPECTED, "pjsip-trunk-no-contact"])
def test_repeated_and_foreign_events_make_no_difference(name: str) -> None:
    """Each event twice, and a whole other call in between, which nobody here has placed."""
    other = "pjsip-congestion-503" if name == "localout-busy-486" else "localout-busy-486"
    foreign = [m for m in load(other).messages if not m.sent]
    messages: list[Message] = []
    for i, message in enumerate(load(name).messages):
        messages += [message] if message.sent or message.event is None else [message, message]
        messages += [replace(m, t=message.t) for m in foreign[i : i + 1]]
    # A channel list in the other transcript counts as a login, so less was watched.
    seen = {call_id: replace(ending, watched=True) for call_id, ending in _endings(messages, name).items()}
    assert seen == play(load(name)).endings


@pytest.mark.parametrize("name", EXPECTED)
def test_a_late_repetition_of_the_whole_call_makes_no_difference(name: str) -> None:
    transcript = load(name)
    story = play(transcript)
    before = list(story.ends)
    story.play(replace(m, t=m.t + 60) for m in transcript.messages if not m.sent)
    assert story.ends == before


@pytest.mark.parametrize("name", [*EXPECTED, "pjsip-pbx-sigkill", "pjsip-trunk-no-contact"])
def test_cut_off_anywhere_every_call_ends_once_and_nothing_is_guessed(name: str) -> None:
    transcript = load(name)
    whole = play(transcript).endings
    for size in range(len(transcript.messages)):
        story = play(replace(transcript, messages=transcript.messages[:size]))
        story.note(999, story.board.on_lost(CLOCK + 999))
        for call in story.board:
            answered = call.answered_at is not None
            closing = call.phase is Phase.CLOSING
            story.note(999, story.board.on_gone(call.call_id, CLOCK + 999, "cut off"))
            ending = story.endings[call.call_id]
            if answered:
                assert (ending.outcome, ending.estimated) == (Outcome.ANSWERED, True)
            elif closing:
                assert ending.outcome in {whole[call.call_id].outcome, Outcome.UNKNOWN, Outcome.NO_ANSWER}
            else:
                assert ending.outcome in {Outcome.UNKNOWN, Outcome.CANCELED}
        assert len(story.board) == 0
        assert len(story.ends) == len(story.ids), "one end for each Originate"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(sorted(EXPECTED)))
def test_in_any_order_at_all_a_call_ends_at_most_once_and_stays_ended(data: st.DataObject, name: str) -> None:
    messages = load(name).messages
    sent = [m for m in messages if m.get("Action") == "Originate"]
    heard = data.draw(st.permutations([m for m in messages if not m.sent]))
    story = Story()
    story.play(sent[:1])
    story.play(heard)
    for call in story.board:
        story.note(0, story.board.on_gone(call.call_id, story.now, "over"))
    assert len(story.ends) == 1
    assert len(story.marks) <= 1


# The converter

RAW = """# scenario: words of somebody else
# t=-0.300
C: Action: Login
C: Secret: <secret>
C:
S: Asterisk Call Manager/11.0.0
S: Response: Success
S: Message: Authentication accepted
S:
# t=+0.000
C: Action: Originate
C: Channel: PJSIP/79990000001@SIP-TRUNK-AAAA0001
C: Variable: X=1
C:
S: Event: VarSet
S: Channel: x
S:
# t=+1.250
S: Event: Hangup
S: ChanVariable: A=1
S: ChanVariable: B=2
S: Cause: 16
S:
S: Event: Newstate
# t=+2.000 (connection closed by server)
"""


def test_the_converter_keeps_facts_and_drops_prose_secrets_and_noise() -> None:
    lines = [json.loads(line) for line in compact(parse(RAW))]
    assert lines == [
        {"t": -0.3, "dir": "C", "Action": "Login"},
        {"t": -0.3, "dir": "S", "Response": "Success", "Message": "Authentication accepted"},
        {"t": 0.0, "dir": "C", "Action": "Originate", "Channel": "PJSIP/60123456701@SIP-TRUNK-AAAA0001"},
        {"t": 1.25, "dir": "S", "Event": "Hangup", "Cause": "16"},
        {"t": 2.0, "dir": "S", "Closed": "server"},
    ], "the message that was cut off is none"


def test_no_event_the_core_listens_to_is_dropped_by_the_converter() -> None:
    assert not EVENTS & transcripts.DROPPED_EVENTS


def test_the_files_hold_every_story_and_no_secret() -> None:
    assert set(transcripts.names()) == transcripts.STORIES.keys()
    for name in transcripts.names():
        transcript = load(name)
        assert transcript.story == transcripts.STORIES[name]
        assert not any("Secret" in m.fields for m in transcript.messages)
