"""Frozen values ↔ the JSON of the SQL functions."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.core.model import CallTimes, ClaimedRow, Ending, Outcome, OutcomeRecord
from adapter.supabase_io.records import Unfit, decode_open, decode_row, encode, instant, iso, sanitize
from tests.supabase_io.samples import mark, outcome, release, row


def test_records_have_the_keys_of_the_functions() -> None:
    answered, ended, released = mark(), outcome(), release()
    assert encode(answered) == {
        "kind": "answered",
        "call_id": answered.call_id,
        "originated_at": "1970-01-01T00:00:01.500000+00:00",
        "ringing_at": None,
        "answered_at": "1970-01-01T00:00:03.250000+00:00",
    }
    assert encode(ended) == {
        "kind": "outcome",
        "call_id": ended.call_id,
        "outcome": "no_answer",
        "log_status": "no_answered",
        "reason": "nobody answered",
        "hangup_cause": 19,
        "sip_code": None,
        "originated_at": "2026-11-23T03:24:06.250000+00:00",
        "ringing_at": None,
        "answered_at": None,
        "ended_at": "2026-11-23T03:24:36.500000+00:00",
        "talk_seconds": 0,
        "estimated": False,
        "trunk": "SIP-TRUNK-0123ABCD",
        "watched": True,
    }
    assert encode(released) == {
        "kind": "release",
        "call_id": released.call_id,
        "cause": "not_sent",
        "reason": "shutting down",
    }


@pytest.mark.parametrize("at", [math.nan, math.inf, -math.inf, -1.0, 1e18])
def test_pg_19_an_instant_that_no_calendar_has_does_not_cost_the_outcome(at: float) -> None:
    sent = encode(outcome(answered_at=at))
    assert sent["answered_at"] is None
    assert sent["outcome"] == "no_answer"


@given(
    st.recursive(
        st.none() | st.floats() | st.text(st.characters()) | st.integers(),
        lambda s: st.lists(s) | st.dictionaries(st.text(st.characters()), s),
    )
)
def test_pg_19_whatever_is_sent_is_json_that_jsonb_takes(value: Any) -> None:
    sent = json.dumps(sanitize(value), ensure_ascii=False, allow_nan=False)
    assert "\\u0000" not in sent
    sent.encode("utf-8")


def test_words_of_the_pbx_keep_their_letters() -> None:
    record = OutcomeRecord(
        call_id="c",
        ending=Ending(outcome=Outcome.REJECTED, reason="Łukasz \x00\ud800 日本", times=CallTimes()),
        log_status="failed",
        trunk="t",
    )
    assert encode(record)["reason"] == "Łukasz \N{REPLACEMENT CHARACTER}? 日本"


@given(st.floats(min_value=0, max_value=4_102_444_800))
def test_instants_survive_the_way_there_and_back(at: float) -> None:
    assert abs(instant({"t": iso(at)}, "t") - at) < 1e-6 + 1e-9


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-23T03:24:06.18407+00:00", 1795404246.18407),
        ("2026-11-23T11:24:06.1+08:00", 1795404246.1),
        ("2026-11-23T03:24:06Z", 1795404246.0),
        ("2026-11-23T03:24:06.184069+00:00", 1795404246.184069),
    ],
)
def test_timestamps_as_postgresql_prints_them(text: str, at: float) -> None:
    assert instant({"t": text}, "t") == pytest.approx(at, abs=1e-6)


def test_a_row_in_full() -> None:
    given_row = row()
    decoded = decode_row(given_row)
    assert decoded == ClaimedRow(
        row_id=7,
        call_id=given_row["call_id"],
        claim_number=41,
        attempt=1,
        user_id=given_row["user_id"],
        phone_number="012-345 6701",
        e164="+60123456701",
        customer_name="Any Body",
        ring_seconds=25,
        variables={"LANG": "ms"},
        claimed_at=decoded.claimed_at,
        pbx_boot="2026-11-20 10:00:00",
    )
    assert decoded.claimed_at == pytest.approx(1795404246.18407, abs=1e-6)
    assert decode_row(row(variables=None)).variables == {}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"call_id": "0F0E0D0C-0000-4000-8000-000000000000"}, "call_id"),
        ({"call_id": "{0f0e0d0c-0000-4000-8000-000000000000}"}, "call_id"),
        ({"call_id": None}, "call_id is missing"),
        ({"row_id": True}, "row_id"),
        ({"row_id": "7"}, "row_id"),
        ({"claim_number": 2**63}, "bigint"),
        ({"e164": 60123456701}, "e164"),
        ({"variables": ["LANG"]}, "variables"),
        ({"claimed_at": "2026-11-23T03:24:06"}, "zone"),
        ({"claimed_at": "infinity"}, "timestamp"),
        ({"ring_seconds": 2.5}, "ring_seconds"),
    ],
)
def test_a_row_of_another_shape_names_the_field(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Unfit, match=words):
        decode_row(row(**changes))


def test_an_open_call() -> None:
    found = decode_open(
        {
            "row": row(),
            "incarnation": 3,
            "originated_at": "2026-11-23T03:24:06Z",
            "answered_at": None,
            "cancel_requested": True,
        }
    )
    assert (found.incarnation, found.originated_at, found.answered_at) == (3, 1795404246.0, None)
    assert found.cancel_requested
    with pytest.raises(Unfit, match="row is missing"):
        decode_open({"incarnation": 3, "cancel_requested": False})
