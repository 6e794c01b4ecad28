"""Any JSON in any field of a claimed row: it is dialed as it stands or ends in words, and no other row notices."""

import asyncio
import contextlib
import json
import time
from collections.abc import Coroutine
from typing import Any, cast

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from adapter.core.model import Form, Outcome, OutcomeRecord, Record
from adapter.core.originate import MAX_LINE_BYTES, DialPlan, Originate, RowRefused, build
from adapter.dialer import Dialer
from adapter.follower import Follower
from adapter.pacer import Pacer
from adapter.pbx import PbxLink
from adapter.pbx.headers import checked_originate
from adapter.pbx.library import Action
from adapter.supabase_io.config import SupabaseConfig
from adapter.supabase_io.database import Database, DatabaseAway, DatabaseRefused, SyncRequest
from adapter.supabase_io.replies import registered, synced
from tests.supabase_io.samples import accepted, jwt, new_id, reply, row
from tests.support.doubles import TRUNK, HandLink

PLAN = DialPlan(trunk=TRUNK)
ROUTE = DialPlan(trunk="", form=Form.ROUTE)

NASTY: tuple[Any, ...] = (
    *("", "\x00", "\r\n\r\nAction: Command\r\nCommand: core stop now\r\n\r\n", "a\nVariable: X=1", "\x85", "\u2028"),
    *("\ud800", "+60123456701", "0123456701\r\nX: y", "9" * 5000, "${SHELL(id)}", "a,b", "١٢٣", "null", "NaN"),
    *(0, -1, 2**63, -(2**63), 10**3000, 1e308, float("nan"), float("inf"), True, None, [], {}, [[]], {"a": {"b": []}}),
    *({"X\r\nY": "1"}, {"X": "1\r\n2"}, {"X": 10**3000}, {"CALLERID(num)": "1"}, {"X": "\ud800"}, {"X": [1]}),
)
"""What an attacker would write; `any_json` finds the rest."""


def any_json() -> SearchStrategy[Any]:
    """Values as a JSON parser makes them, and the nasty ones more often."""
    plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
    nested = st.recursive(plain, lambda s: st.lists(s, max_size=3) | st.dictionaries(st.text(), s, max_size=3))
    return st.sampled_from(NASTY) | nested


def changed_rows() -> SearchStrategy[dict[str, Any]]:
    """A good row with up to three of its fields replaced, and perhaps one left out."""
    names = st.sampled_from(sorted(row()))

    def make(changes: dict[str, Any], gone: str | None) -> dict[str, Any]:
        return {name: value for name, value in row(**changes).items() if name != gone}

    return st.builds(make, st.dictionaries(names, any_json(), min_size=1, max_size=3), st.none() | names)


@settings(max_examples=300, deadline=None)
@given(bad=changed_rows() | any_json(), where=st.integers(0, 2))
def test_one_row_of_any_shape_leaves_the_others_as_they_are(bad: Any, where: int) -> None:
    good = [row(row_id=1), row(row_id=2)]
    for key, wrap in (("rows", False), ("takeover", True)):
        items: list[Any] = [_opened(item) if wrap else item for item in good]
        items.insert(where, _opened(bad) if wrap else bad)
        read = synced(reply(**{key: items}))
        got = [getattr(item, "row", item) for item in getattr(read, key)]
        assert [item.row_id for item in got if item.call_id in {g["call_id"] for g in good}] == [1, 2]
        assert len(got) + len(read.unreadable) == 3
        assert all(item.where == key and item.problem for item in read.unreadable)
    assert len(registered(accepted(open=[_opened(good[0]), _opened(bad)])).open) in {1, 2}


def _opened(item: Any) -> dict[str, Any]:
    return {"row": item, "incarnation": 1, "originated_at": None, "answered_at": None, "cancel_requested": False}


@settings(max_examples=400, deadline=None)
@given(changed=changed_rows(), plan=st.sampled_from([PLAN, ROUTE]))
def test_what_is_written_is_one_action_of_ours_and_nothing_else(changed: dict[str, Any], plan: DialPlan) -> None:
    read = synced(reply(rows=[changed]))
    for claimed in read.rows:
        try:
            originate = build(claimed, plan)
        except RowRefused:
            continue
        _turn(_is_one_action(originate))


def _turn(work: Coroutine[Any, Any, None]) -> None:
    """Run in a loop of its own, which is never the current one of this thread."""
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(work)


async def _is_one_action(originate: Originate) -> None:
    """The bytes that the library would write, read as Asterisk reads them."""
    headers = checked_originate(originate.call_id, originate.headers)
    action = Action(headers, as_list=False)  # type: ignore[call-arg]  # The stub shows what adapter code may use.
    wire = str(action).encode()
    *lines, last, end = wire.split(b"\r\n")
    assert (last, end) == (b"", b""), "one empty line, at the end"
    assert all(0x20 <= byte != 0x7F for line in lines for byte in line)
    assert all(0 < len(line) <= MAX_LINE_BYTES for line in lines)
    names = [line.partition(b":")[0] for line in lines]
    assert names.count(b"Action") == names.count(b"ActionID") == names.count(b"ChannelId") == 1
    assert len(names) == len(originate.headers) + 2
    values = [value.encode() for name, value in originate.headers if name == "Variable"]
    assert not any(b"," in value or b"${" in value or b"$[" in value for value in values)
    assert originate.call_id.encode() in next(line for line in lines if line.startswith(b"ChannelId"))


@settings(max_examples=40, deadline=None)
@given(bad=st.lists(changed_rows(), min_size=1, max_size=8))
def test_the_dialer_sends_what_is_good_and_ends_the_rest_in_words(bad: list[dict[str, Any]]) -> None:
    _turn(_dial(bad))


async def _dial(bad: list[dict[str, Any]]) -> None:
    records: list[Record] = []

    async def store(more: Any) -> None:
        records.extend(more)

    async def kept(_number: int) -> bool:
        return True

    link = HandLink()
    follower = Follower(
        link=cast("PbxLink", link),
        store=store,
        ended=lambda _: None,
        now=lambda: 1000.0,
        clock=lambda: 1000.0,
        trunk=TRUNK,
        ring_seconds=30,
        max_call_seconds=900,
        no_answer_word="no_answered",
        incarnation=1,
        beat=lambda: None,
    )
    dialer = Dialer(
        link=cast("PbxLink", link),
        follower=follower,
        plan=PLAN,
        store=store,
        may_dial=lambda: None,
        keeps=kept,
        clock=lambda: 1000.0,
        pacer=Pacer(calls_per_second=1e9, stopwatch=link.stopwatch, clock=time.monotonic, since=float("-inf")),
    )
    good = [row(), row(), row()]
    read = synced(reply(rows=[good[0], *bad, *good[1:]]))
    running = asyncio.create_task(dialer.run())
    dialer.take(read.rows, 1000.0)
    for item in read.unreadable:
        if item.call_id is not None:
            await dialer.block_unreadable(item.call_id, item.problem)
    async with asyncio.timeout(5):
        while dialer.backlog or dialer.sending:
            await asyncio.sleep(0)
    assert not running.done(), "no row ends the dialer"
    running.cancel()
    await asyncio.wait([running])
    assert {g["call_id"] for g in good} <= set(link.sent)
    assert len(link.sent) == len(set(link.sent))
    blocked = {record.call_id: record for record in records if isinstance(record, OutcomeRecord)}
    assert len(records) == len(blocked)
    assert all(r.ending.outcome is Outcome.BLOCKED and r.ending.reason for r in blocked.values())
    assert {claimed.call_id for claimed in read.rows} == set(link.sent) | (
        set(blocked) - {item.call_id for item in read.unreadable}
    )


def _bodies() -> dict[str, str]:
    text = json.dumps(reply(rows=[row(variables={"X": "HERE"})]))
    return {
        "a number of 5,000 digits": text.replace('"HERE"', "9" * 5000),
        "lists in lists": text.replace('"HERE"', "[" * 100_000 + "]" * 100_000),
        "cut off": text[: len(text) // 2],
        "not UTF-8": text.replace("HERE", "\udcff"),
        "two answers": text * 2,
        "nothing": "",
    }


@pytest.mark.parametrize("body", _bodies().values(), ids=_bodies())
async def test_pg_10_an_answer_that_no_parser_reads_is_an_answer_that_did_not_come(body: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if b"p_nonce" in request.content:
            return httpx.Response(200, json=accepted())
        return httpx.Response(
            200, content=body.encode("utf-8", "surrogateescape"), headers={"content-type": "application/json"}
        )

    config = SupabaseConfig(url="http://127.0.0.1:9", key=jwt())
    async with Database(config, transport=httpx.MockTransport(answer)) as database:
        await database.register(adapter=new_id(), expected=0, nonce=new_id(), pbx="pbx", info={})
        with pytest.raises((DatabaseAway, DatabaseRefused)) as raised:
            await database.sync(SyncRequest())
        assert str(raised.value)
