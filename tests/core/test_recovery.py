"""Doubt and evidence: every line of the release rule and of the crash table that the core decides."""

from typing import Any

import pytest

from adapter.core.model import ClaimedRow, OpenCall, Outcome, ReleaseCause
from adapter.core.recovery import SETTLE, End, Follow, Journal, Release, Verdict, Wait, judge

CALL = "11111111-1111-4111-8111-111111111111"
ROW = ClaimedRow(
    row_id=1, call_id=CALL, claim_number=500, attempt=1, user_id="u", phone_number="012", e164="+60123456700"
)
EMPTY = Journal.read(None)
TAKEN = Journal.read(f"500:{CALL}")


def ask(call: OpenCall | None = None, **evidence: Any) -> Verdict:
    """The case that may be released, but for what the test changes."""
    given: dict[str, Any] = {
        "alive": False,
        "journal": EMPTY,
        "accepted": False,
        "same_boot": True,
        "ours": True,
        "sent_age": SETTLE,
        "login_age": SETTLE,
    } | evidence
    return judge(call or OpenCall(row=ROW, incarnation=1), **given)


def ended(verdict: Verdict) -> End:
    assert isinstance(verdict, End)
    assert verdict.why in verdict.ending.reason
    assert verdict.ending.estimated
    assert verdict.ending.talk_seconds == 0
    return verdict


def test_a_living_leg_is_followed_whatever_else_is_said() -> None:
    assert ask(alive=True, sent_age=0, login_age=0, journal=TAKEN) == Follow()


@pytest.mark.parametrize(
    ("sent", "login", "rest"), [(0, 100, 20), (19, 100, 1), (100, 5, 15), (3, 1, 19), (20, 19.5, 0.5)]
)
def test_absence_is_believed_only_after_a_while(sent: float, login: float, rest: float) -> None:
    assert SETTLE == 20.0
    assert ask(sent_age=sent, login_age=login) == Wait(seconds=rest)
    assert ask(sent_age=sent, login_age=login, settle=0.1) != Wait(seconds=rest)


def test_never_executed_goes_back_to_the_queue() -> None:
    for journal in (EMPTY, Journal.read(""), Journal.read("499:another")):
        verdict = ask(journal=journal)
        assert isinstance(verdict, Release)
        assert verdict.cause is ReleaseCause.NEVER_EXECUTED
        assert "never executed" in verdict.reason


@pytest.mark.parametrize(
    ("evidence", "why"),
    [
        ({"journal": TAKEN}, "the PBX had taken the call"),
        ({"journal": Journal.read("500:another")}, "for another call"),
        ({"journal": Journal.read("4596:another")}, "written again"),
        ({"journal": Journal.read("garbage")}, "not ours"),
        ({"journal": Journal.read("500:")}, "not ours"),
        ({"journal": Journal.read("-3:x")}, "not ours"),
        ({"accepted": True}, "keeps no trace"),
        ({"same_boot": False}, "restarted"),
        ({"ours": False}, "another adapter"),
    ],
)
def test_everything_else_is_unknown(evidence: dict[str, Any], why: str) -> None:
    end = ended(ask(**evidence))
    assert end.ending.outcome is Outcome.UNKNOWN
    assert why in end.why


def test_an_answered_call_stays_answered() -> None:
    call = OpenCall(row=ROW, incarnation=1, originated_at=10.0, answered_at=20.0)
    end = ended(ask(call))
    assert end.ending.outcome is Outcome.ANSWERED
    assert (end.ending.times.answered_at, end.ending.times.ended_at) == (20.0, 20.0)


def test_a_call_whose_leg_was_seen_is_never_released() -> None:
    end = ended(ask(OpenCall(row=ROW, incarnation=1, originated_at=10.0)))
    assert end.ending.outcome is Outcome.UNKNOWN


def test_a_canceled_call_ends_canceled() -> None:
    call = OpenCall(row=ROW, incarnation=1, originated_at=10.0, cancel_requested=True)
    assert ended(ask(call)).ending.outcome is Outcome.CANCELED


def test_time_alone_releases_nothing() -> None:
    for evidence in ({"same_boot": False}, {"ours": False}, {"accepted": True}, {"journal": TAKEN}):
        assert isinstance(ask(sent_age=1e9, login_age=1e9, **evidence), End)
