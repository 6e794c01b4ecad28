"""The judge must see each lie of each witness."""

from dataclasses import replace
from typing import Any

import pytest

from adapter.sandbox.asterisk.witness import Invite
from adapter.sandbox.scenarios import number
from tests.chaos.history import NO_FAULT, Blind, Said, Span, blind_times, log_lines
from tests.chaos.judge import Evidence, judge
from tests.chaos.witnesses import Kept, Log, Row

ANSWERS, BUSY, CONGESTED, DECLINES = (number(code, 1) for code in ("10", "30", "70", "40"))


def _row(e164: str, outcome: str, **more: Any) -> Row:
    fields: dict[str, Any] = {"id": 1, "status": "done", "call_id": "c1", "adapter": "a1", "claimed_at": 100.0}
    return Row(**{**fields, "e164": e164, "outcome": outcome, "ended_at": 130.0, "faults": {}, **more})


def _call(e164: str, started: float, ended: float | None, **more: Any) -> Invite:
    return Invite(number=e164.lstrip("+"), started=started, ended=ended, sip_call_id=f"s{started}", **more)


def _evidence(row: Row, *calls: Invite, **more: Any) -> Evidence:
    record = {"kind": "outcome", "call_id": "c1", "outcome": row.outcome}
    fields: dict[str, Any] = {
        "rows": [row],
        "logs": [Log(call_id="c1", status="failed", outcome=row.outcome)],
        "invites": calls,
        "outboxes": {"first": Kept(records=(record,))},
        "names": {"a1": "first"},
        "blind": [],
        "spans": [],
        "ring_seconds": 5.0,
    }
    return Evidence(**{**fields, **more})


def _kinds(evidence: Evidence) -> list[str]:
    return [finding.kind for finding in judge(evidence).findings]


def test_agreement_is_silent() -> None:
    assert _kinds(_evidence(_row(BUSY, "busy"), _call(BUSY, 100.1, 100.7))) == []
    answered = _call(ANSWERS, 100.1, 104.6, rang=100.2, answered=101.1)
    assert _kinds(_evidence(_row(ANSWERS, "answered"), answered)) == []


def test_a_person_called_twice_is_seen() -> None:
    calls = (_call(BUSY, 100.1, 100.7), _call(BUSY, 109.1, 109.7))
    assert _kinds(_evidence(_row(BUSY, "busy"), *calls)) == ["double ring"]


def test_what_the_carrier_refused_may_be_called_again_within_its_bound() -> None:
    row = _row(CONGESTED, "congestion", claimed_at=101.5)
    calls = [_call(CONGESTED, at, at + 0.4) for at in (100.1, 101.6, 103.1)]
    assert _kinds(_evidence(row, *calls[:2])) == []
    assert _kinds(_evidence(row, *calls)) == ["double ring"]
    rang = replace(calls[0], rang=100.2)
    assert _kinds(_evidence(row, rang, calls[1])) == ["double ring"]


def test_a_call_to_somebody_without_a_row_is_seen() -> None:
    assert _kinds(_evidence(_row(BUSY, "busy"), _call(BUSY, 100.1, 100.7), _call(DECLINES, 100.1, 101.7))) == [
        "double ring"
    ]


def test_a_row_that_did_not_end_is_seen() -> None:
    assert "not final" in _kinds(_evidence(_row(BUSY, "busy", status="dialing"), _call(BUSY, 100.1, 100.7)))


def test_a_guess_is_seen() -> None:
    assert _kinds(_evidence(_row(ANSWERS, "no_answer"), _call(ANSWERS, 100.1, 104.6, answered=101.1))) == [
        "wrong outcome"
    ]
    # Cut in its first second, so nobody can have declined.
    assert _kinds(_evidence(_row(DECLINES, "declined"), _call(DECLINES, 100.1, 100.9, rang=100.2))) == ["wrong outcome"]
    assert _kinds(_evidence(_row(BUSY, "busy"))) == ["wrong outcome"]


def test_an_outcome_that_reached_the_outbox_and_not_the_database_is_seen() -> None:
    row = _row(BUSY, "busy")
    call = _call(BUSY, 100.1, 100.7)
    told = Kept(records=({"kind": "outcome", "call_id": "c2", "outcome": "answered"},))
    assert _kinds(_evidence(row, call, outboxes={"first": told})) == ["lost outcome"]
    refused = Kept(records=({"kind": "outcome", "call_id": "c2", "outcome": "congestion"},))
    assert _kinds(_evidence(row, call, outboxes={"first": refused})) == ["lost outcome"]
    counted = replace(row, faults={"congestion": 1})
    assert _kinds(_evidence(counted, call, outboxes={"first": refused})) == []
    assert _kinds(_evidence(row, call, outboxes={"first": Kept(waiting=1)})) == ["not delivered"]


def test_evidence_may_replace_unknown_and_nothing_else() -> None:
    row = _row(BUSY, "busy")
    call = _call(BUSY, 100.1, 100.7)
    records = tuple({"kind": "outcome", "call_id": "c1", "outcome": word} for word in ("unknown", "busy"))
    assert _kinds(_evidence(row, call, outboxes={"first": Kept(records=records)})) == []
    unknown = _row(BUSY, "unknown")
    blind = [Blind(adapter="first", cause="adapter.kill", began=99.0, ended=110.0)]
    lost = _evidence(unknown, call, outboxes={"first": Kept(records=records)}, blind=blind)
    assert _kinds(lost) == ["lost outcome"]


def test_unknown_needs_a_fault_in_reach() -> None:
    row = _row(BUSY, "unknown")
    call = _call(BUSY, 100.1, 100.7)
    assert _kinds(_evidence(row, call)) == ["unexplained unknown"]
    elsewhere = [Blind(adapter="second", cause="adapter.kill", began=99.0, ended=110.0)]
    assert _kinds(_evidence(row, call, blind=elsewhere)) == ["unexplained unknown"]
    later = [Blind(adapter="first", cause="adapter.kill", began=105.0, ended=110.0)]
    assert _kinds(_evidence(row, call, blind=later)) == ["unexplained unknown"]
    blind = [Blind(adapter="first", cause="adapter.kill", began=100.2, ended=102.0)]
    judged = judge(_evidence(row, call, blind=blind))
    assert not judged.findings
    assert judged.unknown == {"adapter.kill": 1}


def test_the_ring_limit_counts_from_the_dial_of_the_pbx() -> None:
    silent = number("20", 1)
    late = _call(silent, 101.8, 106.1, rang=101.9)
    assert _kinds(_evidence(_row(silent, "no_answer"), late)) == []
    # Claimed a moment before, so the PBX gave up too early: that is a cut, not a limit.
    assert _kinds(_evidence(_row(silent, "no_answer", claimed_at=101.5), late)) == ["wrong outcome"]
    # However long it waited for its turn after the claim.
    assert _kinds(_evidence(_row(silent, "no_answer", claimed_at=90.0), replace(late, ended=103.9))) == [
        "wrong outcome"
    ]


def test_a_pbx_that_was_frozen_past_its_ring_limit_has_given_up_first() -> None:
    """Seen with seeds 202 and 203: the callee answered or declined, and the PBX said cause 19 when it went on."""
    call = _call(DECLINES, 100.1, 101.6, rang=100.2)

    def kinds(word: str, began: float, ended: float) -> list[str]:
        spans = [Span(kind="pbx.freeze", target="pbx", began=began, ended=ended)]
        return _kinds(_evidence(_row(DECLINES, word), call, spans=spans))

    assert kinds("no_answer", 101.0, 107.0) == []
    assert kinds("declined", 101.0, 107.0) == []
    assert kinds("busy", 101.0, 107.0) == ["wrong outcome"]
    assert kinds("no_answer", 101.0, 103.0) == ["wrong outcome"], "it went on before its limit, and heard the end"
    assert kinds("no_answer", 102.0, 107.0) == ["wrong outcome"], "the call had ended"
    assert kinds("no_reply", 100.3, 107.0) == []
    assert kinds("no_reply", 101.5, 107.0) == ["wrong outcome"], "it had rung"


def test_a_frozen_pbx_does_not_forget_an_answer() -> None:
    call = _call(ANSWERS, 100.1, 104.6, rang=100.2, answered=101.1)
    spans = [Span(kind="pbx.freeze", target="pbx", began=103.0, ended=108.0)]
    assert _kinds(_evidence(_row(ANSWERS, "no_answer"), call, spans=spans)) == ["wrong outcome"]


PAIR = {"a1": "first", "a2": "second"}
FIRST_KILLED = Blind(adapter="first", cause="adapter.kill", began=100.2, ended=103.0)


def test_what_a_living_witness_saw_is_not_unknown() -> None:
    row, call = _row(BUSY, "unknown"), _call(BUSY, 100.1, 100.7)
    assert _kinds(_evidence(row, call, names=PAIR, blind=[FIRST_KILLED])) == ["unexplained unknown"]
    also = Blind(adapter="second", cause="ami.stall", began=100.5, ended=112.0)
    judged = judge(_evidence(row, call, names=PAIR, blind=[FIRST_KILLED, also]))
    assert judged.unknown == {"adapter.kill": 1}
    # A kill of the PBX takes the sight of everybody.
    killed = [Span(kind="pbx.kill", target="pbx", began=100.4, ended=101.0)]
    assert _kinds(_evidence(row, call, names=PAIR, blind=[FIRST_KILLED], spans=killed)) == []


@pytest.mark.parametrize(("target", "kind"), [("second", "adapter.kill"), ("second", "adapter.stop")])
def test_a_witness_that_dies_before_it_has_told_is_none(target: str, kind: str) -> None:
    row, call = _row(BUSY, "unknown"), _call(BUSY, 100.1, 100.7)

    def died(at: float, *more: Span) -> list[str]:
        spans = [Span(kind=kind, target=target, began=at, ended=at + 1), *more]
        return _kinds(_evidence(row, call, names=PAIR, blind=[FIRST_KILLED], spans=spans))

    assert died(95.0) == ["unexplained unknown"]
    assert died(105.0) == []
    assert died(125.0) == ["unexplained unknown"]
    # Its way to the database was broken when it wanted to tell: it had longer, and died meanwhile.
    assert died(125.0, Span(kind="http.stall", target="second http", began=110.0, ended=118.0)) == []
    assert died(125.0, Span(kind="http.stall", target="first http", began=110.0, ended=118.0)) == [
        "unexplained unknown"
    ]
    assert died(125.0, Span(kind="database.crash", target="database", began=110.0, ended=112.0)) == []


def test_a_call_that_the_pbx_took_and_the_carrier_never_saw_has_a_witness_too() -> None:
    row = _row(BUSY, "unknown", ended_reason="the PBX had taken the call")
    assert _kinds(_evidence(row, names=PAIR, blind=[FIRST_KILLED])) == ["unexplained unknown"]


def test_a_take_over_explains_no_unknown_of_a_call_that_was_seen() -> None:
    row, call = _row(BUSY, "unknown", ended_at=190.0), _call(BUSY, 100.1, 100.7)
    gone = Blind(adapter="first", cause="adapter.gone", began=105.0, ended=185.0)
    assert _kinds(_evidence(row, call, names=PAIR, blind=[gone])) == ["unexplained unknown"]


def test_sight_that_ended_without_a_fault_explains_nothing() -> None:
    row, call = _row(BUSY, "unknown"), _call(BUSY, 100.1, 100.7)
    blind = [Blind(adapter="first", cause=NO_FAULT, began=100.2, ended=102.0)]
    assert _kinds(_evidence(row, call, blind=blind)) == ["unexplained unknown"]


@pytest.mark.parametrize(("reason", "kinds"), [("the PBX had taken the call", []), ("", ["unexplained unknown"])])
def test_what_the_carrier_never_saw_is_for_the_journal_to_tell(reason: str, kinds: list[str]) -> None:
    row = _row(BUSY, "unknown", ended_reason=reason)
    blind = [Blind(adapter="first", cause="ami.cut", began=100.2, ended=102.0)]
    assert _kinds(_evidence(row, blind=blind)) == kinds
    assert _kinds(_evidence(row, spans=[Span(kind="pbx.kill", target="pbx", began=120.0, ended=121.0)])) == []


def test_sight_ends_with_the_fault_and_not_when_it_is_noticed() -> None:
    said = [Said(at=10.0, event="pbx.up"), Said(at=42.0, event="pbx.down"), Said(at=45.0, event="pbx.up")]
    spans = [
        Span(kind="ami.stall", target="first ami", began=30.0, ended=41.0),
        Span(kind="ami.cut", target="second ami", began=41.5, ended=41.6),
    ]
    found = blind_times("first", said, spans, 60.0)
    assert [(blind.cause, blind.began, blind.ended) for blind in found] == [
        ("not started yet", 0.0, 10.0),
        ("ami.stall", 30.0, 45.0),
    ]


def test_the_earliest_fault_at_work_took_the_sight_and_none_from_before_the_session() -> None:
    said = [Said(at=10.0, event="pbx.up"), Said(at=20.0, event="pbx.down"), Said(at=22.0, event="pbx.up")]
    spans = [
        Span(kind="pbx.kill", target="pbx", began=3.0, ended=5.0),
        Span(kind="ami.swallow_down", target="first ami", began=16.0, ended=20.0),
        Span(kind="pbx.restart", target="pbx", began=19.5, ended=21.0),
    ]
    found = blind_times("first", [*said, Said(at=40.0, event="pbx.down")], spans, 60.0)
    assert [(blind.cause, blind.began) for blind in found][1:] == [
        ("ami.swallow_down", 16.0),
        ("no fault of ours", 40.0),
    ]


def test_what_a_frozen_pbx_held_back_is_lost_with_the_line() -> None:
    spans = [
        Span(kind="pbx.freeze", target="pbx", began=30.0, ended=35.0),
        Span(kind="ami.stall", target="first ami", began=34.0, ended=45.0),
        Span(kind="adapter.kill", target="first", began=41.0, ended=42.0),
    ]
    found = blind_times("first", [Said(at=10.0, event="pbx.up")], spans, 60.0)
    assert [(blind.cause, blind.began) for blind in found][1:] == [("ami.stall", 30.0)]


def test_a_killed_adapter_sees_nothing_until_it_is_back() -> None:
    spans = [Span(kind="adapter.kill", target="first", began=20.0, ended=21.0)]
    found = blind_times("first", [Said(at=10.0, event="pbx.up")], spans, 60.0)
    assert [(blind.cause, blind.began, blind.ended) for blind in found][1:] == [("adapter.kill", 20.0, 60.0)]


def test_a_line_that_a_kill_cut_off_is_left_out() -> None:
    text = '{"at": "2026-01-01T00:00:00.500Z", "event": "pbx.up"}\nTraceback\n{"at": "2026-01-'
    assert [line.event for line in log_lines(text)] == ["pbx.up"]
