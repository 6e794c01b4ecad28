"""Form route on the simulated PBX: the recordings of a real one, and the real daemon."""

import json
from collections import Counter
from pathlib import Path

import pytest

from adapter.core.model import ClaimedRow, Form
from adapter.core.originate import DialPlan, Originate, build
from adapter.sandbox.mikopbx import SimulatedPbx
from adapter.sandbox.scenarios import SCENARIOS, number
from adapter.sandbox.world import World
from tests.e2e.test_daemon import ALL_DONE, USER, _logs, _rows, _until
from tests.sandbox.mikopbx_client import Client, Message, connected, value
from tests.support import transcripts

CALL = "aaaaaaaa-0000-4000-8000-000000000001"
NOISE = {"FullyBooted"}
"""Not about the call."""


def _order(code: str) -> Originate:
    e164 = number(code, 1)
    row = ClaimedRow(row_id=1, call_id=CALL, claim_number=1, attempt=1, user_id=USER, phone_number=e164, e164=e164)
    return build(row, DialPlan(trunk="", form=Form.ROUTE))


def _short(name: str) -> str:
    """Which leg a channel name means."""
    if not name or name == "OutgoingSpoolFailed":
        return name
    return name[-2:] if name.endswith((";1", ";2")) else ("trunk" if name.startswith("PJSIP/") else "requested")


Line = tuple[str, ...]
KEYS = ("ChannelStateDesc", "DestChannelStateDesc", "DialStatus", "Cause", "TechCause", "Reason", "Response")


def _recorded(name: str) -> list[Line]:
    return [
        (m.get("Event"), _short(m.get("Channel")), _short(m.get("DestChannel")), *(m.get(key) for key in KEYS))
        for m in transcripts.load(name).messages
        if m.get("Event") and m.get("Event") not in NOISE
    ]


def _simulated(messages: list[Message]) -> list[Line]:
    return [
        (
            value(m, "Event"),
            _short(value(m, "Channel")),
            _short(value(m, "DestChannel")),
            *(value(m, key) for key in KEYS),
        )
        for m in messages
        if value(m, "Event") and value(m, "Event") not in NOISE
    ]


def _settled(lines: list[Line]) -> tuple[list[Line], list[Line]]:
    """What has a fixed order, and what varies from run to run: the failed OriginateResponse and the spool channel."""
    varies = [line for line in lines if line[1] == "OutgoingSpoolFailed" or "Failure" in line]
    return [line for line in lines if line not in varies], sorted(varies)


async def _place(client: Client, order: Originate) -> None:
    await client.ask("Originate", *order.headers, action_id=CALL)
    await client.event("OriginateResponse", ActionID=CALL)
    await client.until(lambda m: value(m, "Event") == "Hangup" and value(m, "Channel").endswith(";2"))


@pytest.mark.parametrize(("code", "name"), [("10", "localout-answer-callee-hangup"), ("30", "localout-busy-486")])
async def test_it_tells_what_a_real_one_told(code: str, name: str) -> None:
    async with SimulatedPbx.started(speed=20.0) as pbx, connected(pbx) as client:
        await _place(client, _order(code))
        await pbx.idle()
        await client.ask("Ping")
        assert _settled(_simulated(client.messages)) == _settled(_recorded(name))
        assert [invite.number for invite in pbx.calls] == [number(code, 1)[1:]]
        ids = {value(m, "Uniqueid") for m in client.messages if value(m, "Linkedid") == CALL}
        assert {CALL, dict(_order(code).headers)["OtherChannelId"]} < ids


async def test_the_first_half_is_hung_up_by_its_id() -> None:
    async with SimulatedPbx.started(speed=20.0) as pbx, connected(pbx) as client:
        await client.ask("Originate", *_order("20").headers, action_id=CALL)
        await client.until(lambda m: value(m, "Event") == "Newstate" and value(m, "Channel").startswith("PJSIP/"))
        await client.ask("Hangup", ("Channel", CALL), ("Cause", "16"))
        canceled = await client.event("DialEnd", DialStatus="CANCEL")
        assert _short(value(canceled, "DestChannel")) == "trunk"
        await pbx.idle()
        assert len(pbx.calls) == 1


async def test_every_scenario_by_route_through_the_daemon(tmp_path: Path) -> None:
    settings = {"LOG_FORMAT": "json", "DIAL_FORM": "route", "TRUNK": "", "RING_SECONDS": "8", "ALLOWED_COUNTRIES": "*"}
    async with World.started(directory=tmp_path, speed=2.0, settings=settings) as world:
        twice = "+60123456701"
        numbers = [*(number(s.code, 1) for s in SCENARIOS), twice, "+6531234567"]
        await world.queue([{"user_id": USER, "phone_number": each} for each in numbers])
        await _until(world, ALL_DONE, 50)
        rows, logs = await _rows(world), await _logs(world)
        assert isinstance(world.pbx, SimulatedPbx)
        got = {s.name: row["outcome"] for s, row in zip(SCENARIOS, rows, strict=False)}
        assert got == {s.name: str(s.outcome) for s in SCENARIOS}
        assert [row["outcome"] for row in rows[-2:]] == ["blocked", "blocked"]
        seen = Counter(invite.number for invite in world.pbx.calls)
        assert seen[twice[1:]] == 0
        for scenario, row in zip(SCENARIOS, rows, strict=False):
            assert seen[row["e164"][1:]] == row["attempts"] + sum(json.loads(row["faults"]).values()), scenario.name
        trunks = {str(log["call_id"]): log["metadata"].get("trunk") for log in logs}
        assert {trunks[str(row["call_id"])] for row in rows[:-2]} == {world.pbx.trunk}
