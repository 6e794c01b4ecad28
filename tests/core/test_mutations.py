"""Recorded calls with one message spoiled, beside a call that nobody spoiled.

What may come of the spoiled call is said per kind of damage (`Damage.honest`); the other call must end as recorded,
whatever the damage, unless the damage put its own id where calls are named.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter.core.model import Ending, Outcome
from adapter.core.outcomes import RULES
from adapter.pbx.session import event_of
from tests.core.replay import CLOCK, Story, play
from tests.core.test_transcripts import EXPECTED
from tests.support.transcripts import Message, load

TALKED = frozenset({Outcome.ANSWERED, Outcome.AI_FAILED, Outcome.VOICEMAIL})

NAMING = ("Linkedid", "DestLinkedid", "ActionID")
"""Headers by which an event finds its call."""

BYSTANDER = "pjsip-congestion-503"
"""Its leg has the same provider as most, its outcome is the easiest to spoil: nothing but one cause."""

VALUES = (
    *(
        "",
        " ",
        "0",
        "-1",
        "9" * 5000,
        "٣",
        "1e400",
        "nan",
        "inf",
        "-inf",
        "4102444799",
        "0.0",
        "true",
        "\x00",
        "\ufffd",
    ),
    *("PJSIP/", "Local/x@y-1;1", "PJSIP/SIP-TRUNK-AAAA0001-ffffffff", "Up", "Ringing", "ANSWER", "Success", "Failure"),
)
"""Values put in place of true ones; `x` of a megabyte is one more."""


@dataclass(frozen=True)
class Damage:
    """One way to spoil a stream at message `at`; `honest` says whether an outcome may come of it."""

    spoil: Callable[[list[Message], int, int], list[Message]]
    """Messages, place, and a number to choose by → messages."""

    honest: Callable[[Ending, Ending], bool]
    """Recorded ending, ending now."""


def _same(true: Ending, now: Ending) -> bool:
    return now == true


def _nothing_invented(true: Ending, now: Ending) -> bool:
    """Evidence got lost: it may be unknown, but no answer is made up or forgotten, and a try that was spent is not
    given back."""
    if now.outcome in {true.outcome, Outcome.UNKNOWN}:
        return True
    if (now.outcome in TALKED) is not (true.outcome in TALKED):
        return False
    return RULES[now.outcome].spends_attempt or not RULES[true.outcome].spends_attempt


def _ended(_true: Ending, _now: Ending) -> bool:
    """A lie in the PBX's own words: nobody can tell, but it ends, once, and touches nobody else."""
    return True


def _change(messages: list[Message], at: int, fields: Mapping[str, str]) -> list[Message]:
    return [*messages[:at], replace(messages[at], fields=fields), *messages[at + 1 :]]


def _lost(messages: list[Message], at: int, _n: int) -> list[Message]:
    return [*messages[:at], *messages[at + 1 :]]


def _twice(messages: list[Message], at: int, n: int) -> list[Message]:
    later = min(len(messages), at + 1 + n % 5)
    return [*messages[:later], replace(messages[at], t=messages[later - 1].t), *messages[later:]]


def _without_header(messages: list[Message], at: int, n: int) -> list[Message]:
    gone = sorted(messages[at].fields)[n % len(messages[at].fields)]
    return _change(messages, at, {k: v for k, v in messages[at].fields.items() if k != gone})


def _renamed(messages: list[Message], at: int, n: int) -> list[Message]:
    name = sorted(messages[at].fields)[n % len(messages[at].fields)]
    new = (name.upper(), f"X-{name}", name + "\x00", "")[n // 7 % 4]
    return _change(messages, at, {(new if k == name else k): v for k, v in messages[at].fields.items()})


def _more_headers(messages: list[Message], at: int, n: int) -> list[Message]:
    more = {f"Made-Up-{i}": VALUES[n % len(VALUES)] for i in range(n % 40)}
    return _change(messages, at, {**messages[at].fields, **more, "AppData": "x" * 1_000_000})


def _garbage(messages: list[Message], at: int, n: int) -> list[Message]:
    names = sorted(messages[at].fields)
    values = (*VALUES, "x" * 1_000_000)
    value = values[n // len(names) % len(values)]
    return _change(messages, at, {**messages[at].fields, names[n % len(names)]: value})


def _foreign_event(messages: list[Message], at: int, n: int) -> list[Message]:
    """An event about nobody of ours that has our id wherever calls are not named."""
    own = next(m.get("ChannelId") for m in messages if m.get("ChannelId"))
    fields = dict.fromkeys(("Uniqueid", "DestUniqueid", "AccountCode", "Channel", "DestChannel", "CallID"), own)
    name = ("Hangup", "Newstate", "DialEnd", "HangupRequest", "Newchannel", "OriginateResponse")[n % 6]
    words = {"Cause": "16", "ChannelStateDesc": "Up", "DialStatus": "ANSWER", "Response": "Success"}
    foreign = {"Event": name, "Linkedid": own[:-1] + "?", "ActionID": own + "0", **fields, **words}
    return [*messages[:at], Message(t=messages[at].t, sent=False, fields=foreign), *messages[at:]]


DAMAGES: Mapping[str, Damage] = {
    "lost": Damage(_lost, _nothing_invented),
    "twice": Damage(_twice, _same),
    "without a header": Damage(_without_header, _nothing_invented),
    "renamed": Damage(_renamed, _nothing_invented),
    "more headers": Damage(_more_headers, _same),
    "garbage": Damage(_garbage, _ended),
    "foreign event": Damage(_foreign_event, _same),
}


def _heard(messages: Sequence[Message]) -> list[int]:
    """Places of the events."""
    return [i for i, m in enumerate(messages) if m.event is not None]


class Fuzzed(Story):
    """A story whose events pass the link's own reader, as on the wire."""

    def play_both(self, spoiled: Sequence[Message], whole: Sequence[Message]) -> None:
        """Two recordings at once, in the order of time."""
        for message in sorted([*spoiled, *whole], key=lambda m: m.t):
            self.now = CLOCK + message.t
            if message.sent or (message.get("Response") and "Event" not in message.fields):
                self.play([message])
            elif "Event" in message.fields:
                event = event_of(message.fields)
                if event.name == "OriginateResponse":
                    own = event.get("ActionID")
                    event = replace(event, fields={**event.fields, "ActionID": self.ids.get(own, own)})
                self.note(message.t, self.board.on_event(event, self.now))

    def finish(self) -> None:
        """What is still there is found gone by the next login."""
        for call in self.board:
            self.note(9999, self.board.on_tick(self.now + 10))
            self.note(9999, self.board.on_gone(call.call_id, self.now + 10, "over"))


ONE_CALL = sorted(name for name, calls in EXPECTED.items() if len(calls) == 1 and name != BYSTANDER)


@settings(max_examples=600, deadline=None)
@given(
    name=st.sampled_from(ONE_CALL),
    kind=st.sampled_from(sorted(DAMAGES)),
    place=st.integers(0, 10_000),
    choice=st.integers(0, 10_000),
)
def test_one_spoiled_message_spoils_one_call_at_most(name: str, kind: str, place: int, choice: int) -> None:
    damage, whole, other = DAMAGES[kind], load(name), load(BYSTANDER)
    heard = _heard(whole.messages)
    spoiled = damage.spoil(list(whole.messages), heard[place % len(heard)], choice)
    story = Fuzzed(names=play(whole).names)
    story.play_both(spoiled, other.messages)
    story.finish()
    true, bystander = play(whole).endings, play(other).endings
    assert len(story.ends) == len(story.endings) == len(true) + len(bystander), "each call ends, once"
    for call_id, ending in bystander.items():
        assert story.endings[call_id] == ending
    for call_id, ending in true.items():
        now = story.endings[call_id]
        assert damage.honest(ending, now), (ending, now)
        assert 0 <= now.talk_seconds <= 30 + 900 + 120
        assert len(now.reason) < 1000


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(ONE_CALL), place=st.integers(0, 10_000), header=st.sampled_from(["Uniqueid", "Channel"]))
def test_the_id_of_another_call_where_calls_are_not_named_touches_nobody(name: str, place: int, header: str) -> None:
    whole, other = load(name), load(BYSTANDER)
    bystander = play(other).endings
    heard = _heard(whole.messages)
    at = heard[place % len(heard)]
    spoiled = _change(list(whole.messages), at, {**whole.messages[at].fields, header: next(iter(bystander))})
    story = Fuzzed(names=play(whole).names)
    story.play_both(spoiled, other.messages)
    story.finish()
    for call_id, ending in bystander.items():
        assert story.endings[call_id] == ending


@pytest.mark.parametrize("name", ["pjsip-answer-ai-hangup", "localout-busy-486"])
@pytest.mark.parametrize("header", ["Cause", "TechCause", "Reason", "Timestamp", "ChannelStateDesc", "DialStatus"])
def test_every_odd_value_in_what_the_core_reads_ends_the_call_once(name: str, header: str) -> None:
    whole = load(name)
    for value in (*VALUES, "x" * 1_000_000):
        story = Fuzzed(names=play(whole).names)
        changed = [replace(m, fields={**m.fields, header: value}) if m.event else m for m in whole.messages]
        story.play_both(changed, [])
        story.finish()
        assert len(story.ends) == 1


@pytest.mark.parametrize("form", ["pjsip-answer-ai-hangup", "localout-answer-callee-hangup"])
def test_thousands_of_legs_under_one_call_take_bounded_room_and_time(form: str) -> None:
    whole = load(form)
    story = Fuzzed()
    story.play(m for m in whole.messages if m.t < 0.5)
    (call,) = story.board
    for i in range(20_000):
        for name in ("Newchannel", "Hangup"):
            fields = {
                "Event": name,
                "Linkedid": call.call_id,
                "Uniqueid": f"made-up-{i}",
                "Channel": f"PJSIP/SIP-X-{i}",
            }
            story.note(0.5, story.board.on_event(event_of(fields), story.now))
    (call,) = story.board
    assert len(call.living) + len(call.down) + len(call.tried) < 400
    story.play(m for m in whole.messages if m.t >= 0.5)
    story.finish()
    assert len(story.ends) == 1
