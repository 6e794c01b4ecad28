"""The table of outcomes, line by line as docs promise it, and the words that people read."""

import pytest

from adapter.core.model import AmiEvent, CallTimes, Ending, Outcome, Verdict
from adapter.core.outcomes import (
    CAUSE_WORDS,
    CAUSES,
    NO_ANSWER_WORDS,
    REFUSALS,
    RULES,
    Retry,
    Sense,
    log_status,
    outcome_record,
    reason,
    refusal_outcome,
    sense_of,
    spends_attempt,
)

TABLE = [
    # outcome, verdict, status ("-" = the app's word for "no answer"), spends an attempt, who retries
    ("answered", "callee", "answered", True, "never"),
    ("no_answer", "callee", "-", True, "policy"),
    ("busy", "callee", "-", True, "policy"),
    ("declined", "callee", "-", True, "on_request"),
    ("voicemail", "callee", "voicemail", True, "policy"),
    ("no_reply", "carrier", "-", True, "policy"),
    ("invalid_number", "number", "failed", True, "never"),
    ("rejected", "carrier", "failed", False, "own_bound"),
    ("congestion", "carrier", "failed", False, "own_bound"),
    ("trunk_unavailable", "carrier", "failed", False, "own_bound"),
    ("pbx_error", "us", "failed", False, "own_bound"),
    ("ai_failed", "us", "answered", True, "never"),
    ("blocked", "us", "failed", False, "never"),
    ("canceled", "us", "failed", False, "never"),
    ("unknown", "us", "failed", True, "on_request"),
]


def ending(outcome: Outcome, *, ringing: bool = False, answered: bool = False) -> Ending:
    times = CallTimes(ringing_at=1.0 if ringing else None, answered_at=2.0 if answered else None)
    return Ending(outcome=outcome, reason="words", times=times)


def test_the_table_names_every_outcome() -> None:
    assert [row[0] for row in TABLE] == [outcome.value for outcome in RULES] == [o.value for o in Outcome]


@pytest.mark.parametrize(("word", "verdict", "status", "spends", "retry"), TABLE)
def test_each_line(word: str, verdict: str, status: str, spends: bool, retry: str) -> None:
    outcome = Outcome(word)
    rule = RULES[outcome]
    assert (rule.verdict, rule.retry) == (Verdict(verdict), Retry(retry))
    assert spends_attempt(ending(outcome)) is spends
    for no_answer in NO_ANSWER_WORDS:
        assert log_status(outcome, no_answer) == status.replace("-", no_answer)
    assert log_status(outcome) == status.replace("-", "no_answered")


@pytest.mark.parametrize("outcome", Outcome)
def test_what_was_set_at_the_answer_stays(outcome: Outcome) -> None:
    assert log_status(outcome, answered=True) == ("voicemail" if outcome is Outcome.VOICEMAIL else "answered")


@pytest.mark.parametrize(("ringing", "answered"), [(True, False), (True, True), (False, True)])
def test_a_canceled_call_spends_a_try_if_it_rang(ringing: bool, answered: bool) -> None:
    assert spends_attempt(ending(Outcome.CANCELED, ringing=ringing, answered=answered))


def test_the_record_of_an_ending() -> None:
    record = outcome_record("id", ending(Outcome.BUSY), trunk="T", no_answer_word="no_answer")
    assert (record.call_id, record.log_status, record.trunk) == ("id", "no_answer", "T")
    assert record.ending == ending(Outcome.BUSY)
    assert outcome_record("id", ending(Outcome.CANCELED, answered=True), trunk="T").log_status == "answered"


def test_every_sense_has_its_outcomes() -> None:
    assert REFUSALS.keys() == set(Sense)


@pytest.mark.parametrize(
    ("sense", "soon", "late", "rang"),
    [
        ("busy", "busy", "busy", "busy"),
        ("decline", "declined", "declined", "declined"),
        ("barred", "rejected", "rejected", "declined"),
        ("number", "invalid_number", "invalid_number", "invalid_number"),
        ("absent", "no_answer", "no_answer", "no_answer"),
        ("silence", "no_reply", "no_reply", "no_answer"),
        ("fault", "congestion", "no_reply", "no_answer"),
        ("refusal", "rejected", "rejected", "no_answer"),
    ],
)
def test_refusals(sense: str, soon: str, late: str, rang: str) -> None:
    assert refusal_outcome(Sense(sense), rang=False, after=5.0) == soon
    assert refusal_outcome(Sense(sense), rang=False, after=5.01) == late
    assert refusal_outcome(Sense(sense), rang=True, after=0.1) == rang


@pytest.mark.parametrize(
    ("cause", "sip", "status", "sense"),
    [
        (17, None, "", "busy"),
        (17, 503, "CONGESTION", "busy"),
        (0, None, "BUSY", "busy"),
        (None, None, "CONGESTION", "fault"),
        (None, None, "CHANUNAVAIL", "refusal"),
        (None, None, "NOANSWER", None),
        (0, None, "", None),
        (99, None, "BUSY", "refusal"),
        (None, 599, "", "fault"),
        (None, 600, "", "busy"),
        (None, 499, "", "refusal"),
        (21, 603, "", "decline"),
        (21, 403, "", "barred"),
    ],
)
def test_what_a_code_says(cause: int | None, sip: int | None, status: str, sense: str | None) -> None:
    assert sense_of(cause, sip, status) == sense


def test_words() -> None:
    assert reason(Outcome.BUSY) == "the line was busy"
    assert reason(Outcome.BUSY, cause=17, sip_code=486) == "the line was busy (SIP 486; cause 17, busy)"
    assert reason(Outcome.REJECTED, cause=99) == "the carrier refused the call (cause 99)"
    assert reason(Outcome.UNKNOWN, cause=0, detail="no trace") == "no trace"
    assert CAUSES.keys() <= CAUSE_WORDS.keys()


def test_a_header_an_event_has_not_is_empty() -> None:
    event = AmiEvent(name="Hangup", fields={"Cause": "16"})
    assert (event.get("Cause"), event.get("TechCause"), event.at) == ("16", "", None)


def test_codes_are_told_once() -> None:
    inner = reason(Outcome.REJECTED, cause=21, sip_code=403)
    assert reason(Outcome.UNKNOWN, cause=21, sip_code=403, detail=f"its last word was: {inner}").count("SIP 403") == 1
