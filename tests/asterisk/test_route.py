"""Form route on a real Asterisk: MikoPBX's dialplan chooses the provider, the carrier is the witness."""

import asyncio
import json
import uuid
from collections import Counter
from pathlib import Path

import pytest

from adapter.core import call as life
from adapter.core.calls import Board, Ended
from adapter.core.model import ClaimedRow, Ending, Form, Outcome
from adapter.core.originate import NO_ANNOUNCEMENT, DialPlan, Originate, build
from adapter.sandbox.asterisk import RealPbx
from adapter.sandbox.scenarios import SCENARIOS, number
from adapter.sandbox.world import World
from tests.asterisk.ami import Ami
from tests.asterisk.test_calls import _carrier, _events
from tests.e2e.test_daemon import ALL_DONE, USER, _logs, _queue, _rows, _until

pytestmark = [pytest.mark.asterisk, pytest.mark.timeout(180)]

TWICE = "+60123456701"
"""Two routes of the pair's PBX take it (adapter/sandbox/asterisk/conf/pbx/extensions.conf)."""

NOWHERE = "+6531234567"
"""No route takes it."""


async def test_every_outcome_by_route_with_one_invite_for_each_call(tmp_path: Path) -> None:
    settings = {"LOG_FORMAT": "json", "SWEEP_SECONDS": "1", "DIAL_FORM": "route", "TRUNK": ""}
    settings["ALLOWED_COUNTRIES"] = "MY,SG"
    async with World.started(pbx="asterisk", directory=tmp_path, settings=settings) as world:
        numbers = [*(number(s.code, 1) for s in SCENARIOS), TWICE, NOWHERE]
        await world.queue([{"user_id": USER, "phone_number": each} for each in numbers])
        await _until(world, ALL_DONE, 120)
        rows, logs = await _rows(world), await _logs(world)
        assert isinstance(world.pbx, RealPbx)
        got = {s.name: row["outcome"] for s, row in zip(SCENARIOS, rows, strict=False)}
        reasons = [row["ended_reason"] for row in rows]
        assert got == {s.name: str(s.outcome) for s in SCENARIOS}, reasons
        calls = Counter(event["call"] for event in _events(world) if event["event"] == "call.sent")
        assert set(calls.values()) == {1}, "a call id was sent twice"
        seen = _carrier(world)
        assert sum(seen.values()) == len(calls), "one INVITE for each Originate"
        for scenario, row in zip(SCENARIOS, rows, strict=False):
            tries = row["attempts"] + sum(json.loads(row["faults"]).values())
            assert seen[row["e164"].lstrip("+")] == tries, scenario.name
        twice, nowhere = rows[-2:]
        assert (twice["outcome"], nowhere["outcome"]) == ("blocked", "blocked")
        assert "2 outgoing routes" in twice["ended_reason"]
        assert "no outgoing route" in nowhere["ended_reason"]
        assert seen[TWICE[1:]] == seen[NOWHERE[1:]] == 0
        by_call = {log["call_id"]: log for log in logs}
        for scenario, row in zip(SCENARIOS, rows, strict=False):
            log = by_call[str(row["call_id"])]
            talked = round(scenario.talk) if row["outcome"] == "answered" else 0
            assert abs(log["duration"] - talked) <= 1, (scenario.name, log["duration"])
            assert log["metadata"]["trunk"] == world.pbx.trunk, "found in the leg's name"


async def test_the_pbx_shows_its_routes_to_our_rights(pbx: RealPbx) -> None:
    async with Ami.logged_in(pbx) as ami:
        ami.write("ShowDialPlan", ("ActionID", "plan"), ("Context", "outgoing"))
        last = await ami.until(lambda message: message.name == "ShowDialPlanComplete")
        lines = [message for message in ami.heard if message.name == "ListDialplan"]
        assert last.get("ListItems") == str(len(lines))
        assert sum("-outgoing," in line.get("AppData") for line in lines) == 2


def _order(e164: str) -> Originate:
    """The action as the daemon builds it; nobody asks the guard here."""
    call_id, user_id = str(uuid.uuid4()), str(uuid.uuid4())
    row = ClaimedRow(
        row_id=1, call_id=call_id, claim_number=1, attempt=1, user_id=user_id, phone_number=e164, e164=e164
    )
    return build(row, DialPlan(trunk="", form=Form.ROUTE, ring_seconds=8, max_call_seconds=60))


async def _ended(ami: Ami, order: Originate, *, without: tuple[str, str] | None = None) -> Ending:
    """Place it, and judge what is heard up to the Hangup of its last half."""
    headers = [header for header in order.headers if header != without]
    ami.write("Originate", ("ActionID", order.call_id), *headers)
    await ami.originate_response(order.call_id)
    await ami.until(
        lambda message: (
            message.name == "Hangup"
            and message.get("Linkedid") == order.call_id
            and message.get("Channel").endswith(";2")
        )
    )
    board = Board()
    board.add(life.start(order.call_id, form=Form.ROUTE, trunk="", ring_seconds=8, max_call_seconds=60, now=0.0))
    for message in ami.about(order.call_id):
        for change in board.on_event(message.event(), message.at) if message.name else ():
            if isinstance(change, Ended):
                return change.ending
    raise AssertionError("the core saw no end")


async def test_a_number_that_two_routes_take_rings_twice_in_one_call(pbx: RealPbx) -> None:
    """Why the guard refuses it: one Originate, two INVITEs, and still one outcome."""
    async with Ami.logged_in(pbx) as ami:
        order = _order(TWICE)
        ending = await _ended(ami, order)
        assert ending.outcome is Outcome.INVALID_NUMBER
        legs = [m for m in ami.about(order.call_id) if m.name == "Newchannel" and m.get("Channel").startswith("PJSIP/")]
        assert len(legs) == len(pbx.invites(TWICE)) == 2


@pytest.mark.parametrize(("without", "seconds"), [(None, 0.0), (("Variable", "=".join(NO_ANNOUNCEMENT)), 6.0)])
async def test_a_refused_call_is_over_at_once_thanks_to_our_variable(
    pbx: RealPbx, without: tuple[str, str] | None, seconds: float
) -> None:
    async with Ami.logged_in(pbx) as ami:
        order = _order(number("50", 901))
        ending = await _ended(ami, order, without=without)
        assert ending.outcome is Outcome.INVALID_NUMBER
        last = max(m.at for m in ami.about(order.call_id) if m.name == "Hangup")
        assert ending.times.ended_at is not None
        assert last - ending.times.ended_at == pytest.approx(seconds, abs=0.8)


async def test_hanging_up_the_first_half_ends_a_ringing_call_at_once(pbx: RealPbx) -> None:
    async with Ami.logged_in(pbx) as ami:
        order = _order(number("20", 900))
        call = life.start(order.call_id, form=Form.ROUTE, trunk="", ring_seconds=8, max_call_seconds=60, now=0.0)
        ami.write("Originate", ("ActionID", order.call_id), *order.headers)
        await ami.until(
            lambda message: (
                message.name == "Newstate"
                and message.get("Linkedid") == order.call_id
                and message.get("Channel").startswith("PJSIP/")
            )
        )
        answer = await ami.ask("Hangup", ("Channel", call.hangup_id), ("Cause", "16"))
        assert answer.get("Response") == "Success"
        await pbx.idle()
        assert len(pbx.invites(number("20", 900))) == 1
        canceled = life.on_canceled(call, 0.0)
        async with asyncio.timeout(10):
            # What it tells may come some moments after it is idle.
            while (call := _heard(canceled, ami)).ending is None:
                await asyncio.sleep(0.05)
        assert call.ending.outcome is Outcome.CANCELED
        assert call.ending.times.ringing_at is not None


def _heard(call: life.Call, ami: Ami) -> life.Call:
    """The call after all that was told of it so far."""
    for message in ami.about(call.call_id):
        if message.name:
            call = life.on_event(call, message.event(), message.at)
    return call


async def test_sigkill_of_the_daemon_ends_no_call_by_route_and_rings_nobody_twice(tmp_path: Path) -> None:
    settings = {"LOG_FORMAT": "json", "SWEEP_SECONDS": "1", "DIAL_FORM": "route", "TRUNK": ""}
    async with World.started(pbx="asterisk", directory=tmp_path, settings=settings) as world:
        await _queue(world, "10", 8, first=700)
        await _queue(world, "20", 4, first=700)
        for _ in range(2):
            async with asyncio.timeout(30):
                while not _carrier(world):
                    await asyncio.sleep(0.02)
            await asyncio.sleep(1.2)
            await world.daemon.kill()
            await world.daemon.start()
        await _until(world, ALL_DONE, 120)
        rows = await _rows(world)
        seen = _carrier(world)
        assert set(seen.values()) == {1}, "nobody rang twice"
        # The 180 of a call that rings on may have come while nobody listened.
        assert {row["outcome"] for row in rows} <= {"answered", "no_answer", "no_reply", "unknown"}
        assert sum(row["outcome"] != "unknown" for row in rows) >= 6, "calls were found again and followed"
        assert any(event["event"] == "call.alive" for event in _events(world)), "found by the pair's Linkedid"
