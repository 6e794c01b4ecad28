"""Which boxes to tick and to clear, from what the PBX says; and what is missing, from what was heard."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.doctor.findings import Verdict
from adapter.doctor.pbx.user import FILTERS, NEEDED_EVENTS, READ, WRITE, Boxes, judge_events, judge_rights
from adapter.pbx.rights import NEEDED, RISKY

ACTIONS = frozenset(NEEDED)
GOOD = Boxes(read=READ, write=WRITE)


def without(*rights: str) -> frozenset[str]:
    return frozenset(action for action, right in NEEDED.items() if right not in rights)


def test_the_boxes_of_the_guide_and_no_others() -> None:
    assert judge_rights(ACTIONS, GOOD).verdict is Verdict.OK
    assert judge_rights(ACTIONS | {"Ping", "Status", "ShowDialPlan"}, GOOD).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("allowed", "boxes", "verdict", "found", "mend"),
    [
        (without("call"), GOOD, Verdict.FAIL, "missing: write call", "tick write call"),
        (
            without("call", "reporting"),
            GOOD,
            Verdict.FAIL,
            "missing: write call and write reporting",
            "tick write call and write reporting",
        ),
        (ACTIONS, Boxes(read=READ - {"call"}, write=WRITE), Verdict.FAIL, "missing: read call", "tick read call"),
        (ACTIONS, Boxes(read=READ - {"user"}, write=WRITE), Verdict.WARN, "missing: read user", "tick read user"),
        (ACTIONS | {"Command"}, GOOD, Verdict.FAIL, "too many: write command", "clear write command"),
        (
            (ACTIONS | set(RISKY)) - {"Hangup"},
            GOOD,
            Verdict.FAIL,
            "too many: write command, write config and write system",
            "tick write call; clear write command, write config and write system",
        ),
        (
            ACTIONS,
            Boxes(read=READ | {"verbose"}, write=WRITE | {"agent"}),
            Verdict.WARN,
            "not needed: read verbose and write agent",
            "clear read verbose and write agent",
        ),
        (ACTIONS, Boxes(read=frozenset(), write=WRITE), Verdict.FAIL, "read call, read system and read user", "tick"),
        # The list of actions is not to be had: manager.conf alone.
        (
            None,
            Boxes(read=READ, write=WRITE | {"system"}),
            Verdict.FAIL,
            "too many: write system",
            "clear write system",
        ),
        (None, Boxes(read=READ, write=WRITE - {"call"}), Verdict.FAIL, "missing: write call", "tick write call"),
        (None, Boxes(read=frozenset({"all"}), write=frozenset({"all"})), Verdict.FAIL, "too many: write all", "clear"),
    ],
)
def test_what_to_tick_and_to_clear(
    allowed: frozenset[str] | None, boxes: Boxes, verdict: Verdict, found: str, mend: str
) -> None:
    told = judge_rights(allowed, boxes)
    assert told.verdict is verdict
    assert found in told.found
    assert mend in told.mend


def test_names_of_actions_in_any_letters() -> None:
    assert judge_rights(frozenset(action.upper() for action in ACTIONS), GOOD).verdict is Verdict.OK


def test_nothing_can_be_seen() -> None:
    assert judge_rights(None, None).verdict is Verdict.SKIPPED
    assert "the next check proves them" in judge_rights(ACTIONS, None).found


@given(st.sets(st.sampled_from(sorted(NEEDED))), st.sets(st.sampled_from(sorted(RISKY))))
def test_fails_exactly_where_the_daemon_would_call_nobody(lacking: set[str], risky: set[str]) -> None:
    told = judge_rights((ACTIONS - lacking) | risky, GOOD)
    assert (told.verdict is Verdict.FAIL) is bool(lacking or risky)


def test_lines_of_the_file() -> None:
    assert Boxes.of(None, None) is None
    assert Boxes.of(" call, System ,user", None) == Boxes(read=READ, write=frozenset())


ALL_FILTERS = ("!UserEvent: CdrConnector", *FILTERS)


@pytest.mark.parametrize(
    ("booted", "missing", "filters", "verdict", "words"),
    [
        (True, frozenset(), ALL_FILTERS, Verdict.OK, "FullyBooted, Hangup, Newchannel and OriginateResponse came"),
        (True, frozenset(), None, Verdict.OK, "came"),
        (True, frozenset(), ("!Event:Newexten", "!Event: RTCP"), Verdict.WARN, "nobody needs: VarSet"),
        (False, frozenset(), ALL_FILTERS, Verdict.FAIL, "the read right system is missing"),
        (True, NEEDED_EVENTS, ALL_FILTERS, Verdict.FAIL, "the read right call is missing"),
        (False, NEEDED_EVENTS, ALL_FILTERS, Verdict.FAIL, "not one event about a call"),
        (True, frozenset({"Newchannel"}), None, Verdict.FAIL, "Newchannel did not come, others did"),
    ],
)
def test_what_was_heard(
    booted: bool, missing: frozenset[str], filters: tuple[str, ...] | None, verdict: Verdict, words: str
) -> None:
    told = judge_events(booted=booted, heard=NEEDED_EVENTS - missing, filters=filters)
    assert told.verdict is verdict
    assert words in told.found


@pytest.mark.parametrize(("ticked", "right", "hides"), [(None, True, True), (True, False, True), (False, True, False)])
def test_a_deaf_user_whose_boxes_are_known(ticked: bool | None, right: bool, hides: bool) -> None:
    told = judge_events(booted=True, heard=frozenset(), filters=None, ticked=ticked)
    assert told.verdict is Verdict.FAIL
    assert ("tick read call" in told.mend) is right
    assert ("take away filters" in told.mend) is hides


def test_events_without_a_time() -> None:
    told = judge_events(booted=True, heard=NEEDED_EVENTS, filters=ALL_FILTERS, timed=False)
    assert told.verdict is Verdict.FAIL
    assert "timestampevents" in told.mend
