"""Trunks as the database tells them: what is read, and what an unreadable one costs."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.core.model import Form, NumberStyle, Way
from adapter.supabase_io.records import Unfit, decode_row, decode_way
from adapter.supabase_io.replies import synced
from tests.supabase_io.samples import reply, row

TRUNK = "SIP-TRUNK-0123ABCD"


def told(**changes: Any) -> dict[str, Any]:
    """A trunk as `call_sync_v1` tells it."""
    return {
        "id": TRUNK,
        "form": "trunk",
        "number_style": "e164",
        "strip": "60",
        "add": "0",
        "calls_per_second": 2.5,
        "max_channels": 30,
        **changes,
    }


def test_a_row_tells_its_trunk() -> None:
    got = decode_row(row(trunk=told(caller_id="+60312345670"))).way
    assert got == Way(
        id=TRUNK,
        form=Form.TRUNK,
        number_style=NumberStyle.E164,
        strip="60",
        add="0",
        caller_id="+60312345670",
        calls_per_second=2.5,
        max_channels=30,
    )


def test_a_row_without_one_goes_through_the_trunk_of_the_settings() -> None:
    assert decode_row(row()).way is None
    assert decode_row(row(trunk=None)).way is None


HOSTILE = (
    {"id": "SIP-TRUNK\r\nAction: Command"},
    {"id": "a/b"},
    {"id": "a@b"},
    {"id": ""},
    {"id": "x" * 65},
    {"id": None},
    {"form": "agent-first"},
    {"form": None},
    {"number_style": "local"},
    {"strip": "6o"},
    {"strip": "0" * 16},
    {"add": "99,DB(x/y)=1"},
    {"add": "\u0660"},
    {"add": 99},
    {"caller_id": "<script>"},
    {"caller_id": "12"},
    {"caller_id": "0123456700\n"},
    {"calls_per_second": 0},
    {"calls_per_second": -1},
    {"calls_per_second": "5"},
    {"calls_per_second": True},
    {"calls_per_second": float("nan")},
    {"calls_per_second": float("inf")},
    {"max_channels": 0},
    {"max_channels": 2.5},
)


@pytest.mark.parametrize("change", HOSTILE, ids=str)
def test_an_unreadable_trunk_makes_its_row_unreadable_and_no_other(change: dict[str, Any]) -> None:
    bad, good = row(trunk=told(**change)), row(trunk=told())
    with pytest.raises(Unfit):
        decode_row(bad)
    got = synced(reply(rows=[bad, good]))
    assert [item.call_id for item in got.rows] == [good["call_id"]]
    assert [(item.where, item.call_id) for item in got.unreadable] == [("rows", bad["call_id"])]


@pytest.mark.parametrize("change", HOSTILE, ids=str)
def test_a_bad_definition_is_a_problem_of_that_trunk_alone(change: dict[str, Any]) -> None:
    bad = told(**change)
    got = synced(reply(trunks=[bad, told(id="SIP-TRUNK-GOOD")], trunks_version=4))
    assert got.ways is not None
    assert [way.id for way in got.ways] == ["SIP-TRUNK-GOOD"]
    assert [item.where for item in got.unreadable] == ["trunks"]
    named = isinstance(bad["id"], str) and 0 < len(bad["id"]) <= 64
    assert list(got.bad_ways) == ([bad["id"]] if named else [])
    assert all("call_trunks" in words for words in got.bad_ways.values())


def test_a_database_that_tells_nothing_of_trunks_changes_nothing() -> None:
    for answer in (reply(), reply(trunks=None, trunks_version=3)):
        got = synced(answer)
        assert (got.ways, got.bad_ways) == (None, {})
    assert synced(reply()).trunks_version is None
    assert synced(reply(trunks_version=3)).trunks_version == 3


def test_no_trunk_in_the_table_is_not_the_same_as_not_told() -> None:
    assert synced(reply(trunks=[])).ways == ()


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_whatever_stands_there_the_answer_can_be_read(value: Any) -> None:
    got = synced(reply(trunks=value))
    assert got.ways in (None, ())
    assert got.claim_number == 41


@given(st.fixed_dictionaries({}, optional={key: st.none() | st.text() | st.integers() for key in told()}))
def test_a_way_that_can_be_read_can_stand_in_an_action(changes: dict[str, Any]) -> None:
    try:
        way = decode_way(told(**changes))
    except Unfit:
        return
    for value in (way.id, way.strip, way.add, way.caller_id or ""):
        assert value.isascii()
        assert not set(value) & set("\r\n,@/()<>& ")
