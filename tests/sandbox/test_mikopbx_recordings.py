"""The simulated PBX against recordings of a real Asterisk: names, order, headers, states and causes of each message."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from adapter.pbx.questions import VOID
from adapter.sandbox.mikopbx import SimulatedPbx, TrunkState
from adapter.sandbox.scenarios import number
from tests.sandbox.mikopbx_client import Client, Message, connected, value

FACTS = json.loads((Path(__file__).parent / "recordings.json").read_text())
RIGHTS = {"call", "system", "user", "dialplan"}
SPEED = 20.0
CALLER = ("CallerID", "AI <60312345670>")
IDS = {"A": "aaaaaaaa-0000-4000-8000-000000000001", "B": "bbbbbbbb-0000-4000-8000-000000000002"}
IDS["C"] = "cccccccc-0000-4000-8000-000000000003"
TOLD = {key for values in FACTS["values"] for key in values}
"""Headers whose values are compared; the others are ids, numbers and times."""


class Seen(NamedTuple):
    """One message, reduced to what a recording keeps."""

    name: str
    of: str
    headers: tuple[str, ...]
    values: dict[str, str]


def recorded(name: str) -> list[Seen]:
    """A recording as the fixture has it."""
    return [
        Seen(event, of, tuple(FACTS["shapes"][shape]), FACTS["values"][values])
        for event, of, shape, values in FACTS["recordings"][name]
    ]


def reduced(message: Message, trunk: str, ids: dict[str, str]) -> Seen:
    """A message of the simulator in the same form; `ids` maps ids to letters."""
    link = value(message, "Linkedid") or value(message, "DestLinkedid")
    name = value(message, "Event") or "Response"
    if name in {"OriginateResponse", "Response"}:
        of = ids.get(value(message, "ActionID"), "")
    else:
        of = "spool" if link.startswith("mikopbx-") else ids.get(link, "")
    headers = []
    for key, same in groupby(re.sub(r"ChanVariable\(.*\)", "ChanVariable(*)", k) for k, _ in message):
        times = len(list(same))
        headers.append(f"{key}*x{times}" if times > 1 else key)
    skip = {"Context", "Exten"} if name == "OriginateResponse" else set()
    values = {
        key: value(message, key).replace(trunk, "<trunk>") for key in TOLD if key in dict(message) and key not in skip
    }
    return Seen(name, of, tuple(headers), values)


Lines = dict[str, list[Seen]]


def lines(seen: list[Seen]) -> Lines:
    """Messages by whose they are. What varies from run to run is a line of its own: a failed OriginateResponse and the
    spool channel come before or after the Hangup; everything of one line has a fixed order."""
    out: Lines = {}
    for one in seen:
        failed = one.name == "OriginateResponse" and one.values["Response"] == "Failure"
        out.setdefault(f"{one.of} failed" if failed else one.of, []).append(one)
    return out


Play = Callable[[SimulatedPbx, Client], Awaitable[None]]


def call(code: str, *pairs: tuple[str, str], letter: str = "A", exten: str = "999") -> Play:
    """Place one call and wait for its end."""

    async def play(pbx: SimulatedPbx, client: Client) -> None:
        timeout = ("Timeout", dict(pairs).get("Timeout", "30000"))
        pbx.applications.add(exten)
        await client.originate(pbx, number(code, 1)[1:], IDS[letter], CALLER, timeout, exten=exten)
        await client.event("OriginateResponse", ActionID=IDS[letter])
        if pbx.calls:
            await client.event("Hangup", Linkedid=IDS[letter])

    return play


async def hang_up_ringing(pbx: SimulatedPbx, client: Client) -> None:
    await client.originate(pbx, number("20", 1)[1:], IDS["A"], CALLER)
    state = await client.event("DialState", DestLinkedid=IDS["A"])
    await client.ask("Hangup", ("Channel", value(state, "DestChannel")), ("Cause", "16"))
    await client.event("OriginateResponse", ActionID=IDS["A"])
    await client.event("Hangup", Linkedid=IDS["A"])


async def nobody(_pbx: SimulatedPbx, client: Client) -> None:
    """The call by which doctor learns what it hears (`adapter.pbx.questions.VOID`)."""
    await client.ask(
        "Originate",
        ("Channel", VOID),
        ("Application", "Hangup"),
        ("Timeout", "1000"),
        ("Async", "true"),
        ("ChannelId", IDS["A"]),
        action_id=IDS["A"],
    )
    await client.event("OriginateResponse", ActionID=IDS["A"])


async def no_contact(pbx: SimulatedPbx, client: Client) -> None:
    pbx.trunk_state = TrunkState.NO_CONTACT
    await call("10")(pbx, client)


async def three(pbx: SimulatedPbx, client: Client) -> None:
    plays = [call("10"), call("30", letter="B"), call("20", ("Timeout", "6000"), letter="C")]
    await asyncio.gather(*(play(pbx, client) for play in plays))


async def duplicate(pbx: SimulatedPbx, client: Client) -> None:
    """A second Originate with a living ChannelId, and a third one after its end."""
    await client.originate(pbx, number("10", 1)[1:], IDS["A"], CALLER)
    await client.event("DialState", DestLinkedid=IDS["A"])
    for letter, code in (("B", "10"), ("C", "30")):
        await client.ask(
            "Originate",
            ("Channel", f"PJSIP/{number(code, 2)[1:]}@{pbx.trunk}"),
            ("Context", "all_peers"),
            ("Exten", "999"),
            ("Priority", "1"),
            CALLER,
            ("Async", "true"),
            ("ChannelId", IDS["A"]),
            action_id=IDS[letter],
        )
        refused = await client.event("OriginateResponse", ActionID=IDS[letter])
        assert value(refused, "Uniqueid") == IDS["A"]
        if letter == "B":
            await client.event("Hangup", Linkedid=IDS["A"])
    assert [invite.scenario for invite in pbx.calls] == ["10", "30"]


async def restart(pbx: SimulatedPbx, client: Client) -> None:
    for letter, code in (("A", "10"), ("B", "20")):
        await client.originate(pbx, number(code, 1)[1:], IDS[letter], CALLER)
    await client.event("OriginateResponse", ActionID=IDS["A"])
    await pbx.restart()
    await asyncio.wait_for(client.closed.wait(), 5)


async def reconcile(pbx: SimulatedPbx, client: Client) -> None:
    """The first connection goes away while the callee rings; a second one finds the call."""
    async with connected(pbx) as first:
        await first.originate(pbx, number("10", 1)[1:], IDS["A"], CALLER)
        await first.event("DialState", DestLinkedid=IDS["A"])
    client.messages.clear()
    await client.ask("CoreShowChannels", action_id=IDS["A"])
    await client.ask("Status", ("Channel", IDS["A"]), action_id=IDS["A"] + "-2")
    await client.event("Hangup", Linkedid=IDS["A"])
    await client.ask("Status", ("Channel", IDS["A"]), action_id=IDS["A"] + "-3")


PLAYS: dict[str, Play] = {
    "answer-callee-hangup": call("10"),
    "answer-ai-hangup": call("12", exten="996"),
    "answer-immediate-no-ringing": call("11"),
    "ai-backend-down": call("14", exten="998"),
    "noanswer-originate-timeout": call("20", ("Timeout", "8000")),
    "daemon-hangup-ringing": hang_up_ringing,
    "earlymedia-then-480": call("22"),
    "declined-603": call("40"),
    "congestion-503": call("70"),
    "carrier-forbidden-403": call("60"),
    "carrier-no-reply-timeout30": call("80"),
    "carrier-port-closed": call("80"),
    "trunk-no-contact": no_contact,
    "three-interleaved": three,
    "duplicate-channelid": duplicate,
    "pbx-core-restart-now": restart,
    "disconnect-reconcile.2": reconcile,
    "call-to-nobody": nobody,
}


def test_every_recording_is_played() -> None:
    assert PLAYS.keys() == FACTS["recordings"].keys()


@pytest.mark.parametrize("name", PLAYS)
async def test_messages_are_those_of_a_real_asterisk(name: str) -> None:
    async with SimulatedPbx.started(speed=SPEED, read=RIGHTS) as pbx, connected(pbx) as client:
        begin = len(client.messages)
        await PLAYS[name](pbx, client)
        await _settled(client, pbx)
        messages = client.messages[begin:] if name != "disconnect-reconcile.2" else client.messages
        ids = {call_id: letter for letter, call_id in IDS.items()}
        mine = [reduced(message, pbx.trunk, ids) for message in messages]
    compare(lines(_as_recorded(name, mine)), lines(_as_recorded(name, recorded(name))))


async def _settled(client: Client, pbx: SimulatedPbx) -> None:
    """Wait until the PBX has no more to say about its calls."""
    await pbx.idle()
    if not client.closed.is_set():
        await client.ask("Ping")
        client.messages.pop()


def _as_recorded(name: str, seen: list[Seen]) -> list[Seen]:
    """Put aside what a recording cannot tell apart: FullyBooted of the login; the third call of `duplicate-channelid`
    bears the first one's id; ids of list items in `disconnect-reconcile.2` are the asker's own."""
    kept = [one for one in seen if one.name != "FullyBooted"]
    if name == "duplicate-channelid":
        by_id = {"OriginateResponse", "Response"}
        kept = [one._replace(of="A") if one.of == "C" and one.name not in by_id else one for one in kept]
    if name == "disconnect-reconcile.2":
        kept = [one._replace(of="A") for one in kept]
    return kept


def compare(mine: Lines, real: Lines) -> None:
    """Same messages, in the same order on each line, each with the same headers and telling values."""
    assert {of: [one.name for one in seen] for of, seen in mine.items()} == {
        of: [one.name for one in seen] for of, seen in real.items()
    }
    for of, seen in real.items():
        for ours, theirs in zip(mine[of], seen, strict=True):
            what: tuple[Any, ...] = (of, theirs.name)
            assert (*what, ours.headers) == (*what, theirs.headers)
            assert (*what, ours.values) == (*what, theirs.values)
