"""What `explain` says to a person: every fact is in it, numbers are masked, nothing is guessed."""

import json
from dataclasses import replace
from typing import Any

import pytest

from adapter.commands.view import objects, why
from adapter.supabase_io.explanations import Call, Explanation, Forecast, Owner, Row, Step, explanation
from adapter.supabase_io.records import Unfit
from tests.commands.facts import CALL, NOW, OTHER, TRUNK, live, over, sight

OWNER = Owner(user_id=OTHER, user_name="aminah", campaign_id=CALL, campaign_name="November")

STEPS = (
    Step(rule="adapter", passed=True, words="the PBX office is ready", until=None),
    Step(rule="person", passed=False, words="another call to this number is going on", until=NOW + 15),
)


def forecast(verdict: str, reason: str | None = None, **more: Any) -> Forecast:
    fields: dict[str, Any] = {"at": None, "pbx": "office", "trunk": TRUNK, "steps": STEPS, **more}
    return Forecast(verdict=verdict, why=reason, **fields)


def call(**more: Any) -> Call:
    fields: dict[str, Any] = {
        "call_id": CALL, "row_id": 42, "owner": OWNER, "e164": "+60123456700", "phone_number": "012-345 6700",
        "created_at": NOW - 60, "claimed_at": NOW - 30, "trunk": TRUNK, "dialed": True, "attempt": "1",
        "outcome": "answered", "reason": "answered; the callee hung up", "talk_seconds": 63,
        "facts": {"hours": "open: Wed 10:00 in Asia/Kuala_Lumpur", "trunk": TRUNK},
    }  # fmt: skip
    return Call(**{**fields, **more})


def seen(kind: str | None = "row", **more: Any) -> Explanation:
    fields: dict[str, Any] = {
        "now": NOW, "problem": None, "limit": 10, "e164": None, "rules": (), "rows": (), "calls": (),
    }  # fmt: skip
    return Explanation(kind=kind, **{**fields, **more})


def text(found: Explanation, *, full: bool = False) -> str:
    return "\n".join(why.lines(found, full=full))


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (forecast("now"), f"Would be dialed now through {TRUNK}, by the adapter's next look"),
        (forecast("waits", "outside its calling hours"), "Waits: outside its calling hours."),
        (forecast("waits", "not due", at=NOW + 60), "Not before 2026-11-25"),
        (forecast("ends", "the number is listed"), "Will end without a call: the number is listed."),
    ],
)
def test_before_the_call(told: Forecast, words: str) -> None:
    shown = text(seen(rows=(Row(sight=sight(), owner=OWNER, forecast=told),)))
    assert words in shown
    assert "Row 42: …700, for aminah (user 9f8e7d6c" in shown
    assert "campaign November" in shown
    assert "    ok  adapter    the PBX office is ready" in shown
    assert "    NO  person     another call to this number is going on, until 2026-11-25" in shown
    assert "It was not called yet." in shown


def test_why_did_you_call_me() -> None:
    shown = text(
        seen(kind="call", rows=(Row(sight=over("answered", "x"), owner=OWNER, forecast=None),), calls=(call(),))
    )
    assert shown.strip().startswith("Why …700 was called on 2026-11-25")
    for part in (
        "For        for aminah (user 9f8e7d6c", "row 42 of call_queue asked for it, inserted 2026-11-25", "; try 1",
        f"Through    {TRUNK}", "Permitted  hours: open: Wed 10:00 in Asia/Kuala_Lumpur; trunk: ",
        "Ended      answered: answered; the callee hung up, 1 min 03 s of talk", f"Call       {CALL}",
    ):  # fmt: skip
        assert part in shown, shown
    assert "Row 42" not in shown


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"facts": None}, "kept for 30 days"),
        ({"facts": {}}, "no rule had anything against it"),
        ({"outcome": None, "reason": None}, "not yet, or it is not known how"),
        ({"trunk": None}, "Through    the routes of MikoPBX"),
        ({"owner": Owner(user_id=OTHER, user_name=None, campaign_id=None, campaign_name=None)}, "in no campaign"),
        (
            {"dialed": False, "outcome": "blocked", "reason": "the number is listed"},
            "was not called: the number is listed",
        ),
    ],
)
def test_what_is_not_known_is_said(more: dict[str, Any], words: str) -> None:
    assert words in text(seen(kind="call", calls=(call(**more),)))


def test_a_row_that_does_not_wait() -> None:
    rows = (
        Row(sight=live(), owner=OWNER, forecast=None),
        Row(sight=over("busy", "the line was busy"), owner=OWNER, forecast=None),
    )
    shown = text(seen(rows=rows, calls=(call(),)))
    assert "It is in a call now." in shown
    assert "It is over: the line was busy." in shown
    assert "It was not called yet" not in shown


def test_a_number() -> None:
    found = seen(kind="number", e164="+60123456700", rules=STEPS, calls=(call(),) * 10)
    shown = text(found)
    assert shown.startswith("The number …700: 0 rows of call_queue, 10 or more calls in the last 30 days.")
    assert "would not be dialed now: another call to this number is going on, until" in shown
    assert "kept from being dialed by any rule" in text(replace(found, rules=STEPS[:1]))


def test_nothing_there() -> None:
    assert text(seen(kind=None, problem="call_queue has no row 7")) == "Nothing to explain: call_queue has no row 7"


def test_numbers_are_hidden_unless_asked_for() -> None:
    found = seen(
        kind="number",
        e164="+60123456700",
        rows=(
            Row(sight=sight(reason="+60123456700 is listed"), owner=OWNER, forecast=forecast("ends", "60123456700")),
        ),
        calls=(call(reason="called 0123456700"),),
    )
    hidden = text(found) + json.dumps(objects.explain_object(found, full=False))
    assert "123456" not in hidden
    assert "…700" in hidden
    for shown in (text(found, full=True), json.dumps(objects.explain_object(found, full=True))):
        assert "+60123456700" in shown
    told = objects.explain_object(found, full=False)
    assert (told["kind"], told["number"], told["calls"][0]["number"]) == ("number", "…700", "…700")
    assert told["calls"][0]["claimed_at"].startswith("2026-11-25T")
    assert told["rows"][0]["forecast"]["steps"][1]["until"].startswith("2026-11-25T")


@pytest.mark.parametrize("answer", [None, [], {}, {"now": "2026-11-25T10:00:00+00:00", "kind": "row", "rows": 3}])
def test_an_answer_of_another_shape_is_refused(answer: object) -> None:
    with pytest.raises(Unfit):
        explanation(answer)


def test_after_the_call_its_cost_and_what_follows() -> None:
    told = text(seen("call", calls=(call(cost="0.41 MYR", follows="no call: the person was reached"),)))
    assert "    Cost       0.41 MYR\n    Follows    no call: the person was reached" in told
    assert "Follows" not in text(seen("call", calls=(call(),)))
