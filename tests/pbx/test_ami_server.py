"""The server of our tests answers as a real Asterisk 22.10.1 does.

The facts below are header names in order, taken from recorded sessions with a real one (for DBGet, Getvar, CoreStatus
and CoreSettings: read off one by hand).
"""

import asyncio

import pytest

from tests.pbx.helpers import config, order
from tests.support.ami_server import AmiServer, leg

REAL: dict[str, list[list[str]]] = {
    "Ping": [["Response", "ActionID", "Ping", "Timestamp"]],
    "CoreStatus": [
        [
            "Response",
            "ActionID",
            "CoreStartupDate",
            "CoreStartupTime",
            "CoreReloadDate",
            "CoreReloadTime",
            "CoreCurrentCalls",
            "CoreProcessedCalls",
        ]
    ],
    "Getvar": [["Response", "ActionID", "Variable", "Value"]],
    "Hangup": [["Response", "ActionID", "Message"]],
    "Originate": [["Response", "ActionID", "Message"]],
    "DBGet": [
        ["Response", "ActionID", "EventList", "Message"],
        ["Event", "Family", "Key", "Val", "ActionID"],
        ["Event", "ActionID", "EventList", "ListItems"],
    ],
}

REAL_LEG = """
    Event ActionID Channel ChannelState ChannelStateDesc CallerIDNum CallerIDName ConnectedLineNum ConnectedLineName
    Language AccountCode Context Exten Priority Uniqueid Linkedid Application ApplicationData Duration BridgeId
"""

WORDS = {
    "Originate": "Originate successfully queued",
    "CoreShowChannels": "Channels will follow",
    "DBGet": "Result will follow",
    "Hangup": "No such channel",
}


async def _ask(pbx: AmiServer, *actions: str) -> list[list[tuple[str, str]]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", pbx.port)
    login = f"Action: Login\r\nActionID: in\r\nUsername: {pbx.username}\r\nSecret: {pbx.password}"
    writer.write("".join(f"{action}\r\n\r\n" for action in (login, *actions, "Action: Ping\r\nActionID: end")).encode())
    data = b""
    while b"ActionID: end" not in data and (more := await reader.read(65536)):
        data += more
    writer.close()
    text = data.decode().removeprefix("Asterisk Call Manager/11.0.0\r\n")
    pairs = [[line.partition(":") for line in block.split("\r\n")] for block in text.split("\r\n\r\n") if block]
    return [[(name, value.strip()) for name, _, value in block] for block in pairs]


async def test_login_and_fully_booted() -> None:
    async with AmiServer.started() as pbx:
        login, booted, *_ = await _ask(pbx)
        assert login == [("Response", "Success"), ("ActionID", "in"), ("Message", "Authentication accepted")]
        assert [name for name, _ in booted] == ["Event", "Privilege", "Uptime", "LastReload", "Status"]


async def test_a_refused_login_is_answered_and_closed() -> None:
    async with AmiServer.started() as pbx:
        pbx.faults.login = "refuse"
        (answer,) = await _ask(pbx)
        assert answer == [("Response", "Error"), ("ActionID", "in"), ("Message", "Authentication failed")]


@pytest.mark.parametrize("action", REAL)
async def test_answers_have_the_headers_of_the_real_ones(action: str) -> None:
    async with AmiServer.started() as pbx:
        pbx.database["f", "k"] = "v"
        more = "\r\nFamily: f\r\nKey: k\r\nVariable: X\r\nChannel: nobody"
        _, _, *answers, _ = await _ask(pbx, f"Action: {action}\r\nActionID: a{more}")
        assert [[name for name, _ in answer] for answer in answers] == REAL[action]
        if action in WORDS:
            assert dict(answers[0])["Message"] == WORDS[action]


async def test_list_of_channels() -> None:
    async with AmiServer.started() as pbx:
        pbx.channels = [leg("call-a")]
        _, _, start, item, complete, _ = await _ask(pbx, "Action: CoreShowChannels\r\nActionID: a")
        assert [name for name, _ in start] == ["Response", "ActionID", "EventList", "Message"]
        names = [name for name, _ in item]
        assert names == [name for name in REAL_LEG.split() if name in names]  # Fewer, in the same order.
        assert [name for name, _ in complete] == ["Event", "ActionID", "EventList", "ListItems"]
        assert dict(complete)["Event"] == "CoreShowChannelsComplete"


async def test_an_action_cut_before_its_blank_line_is_discarded() -> None:
    async with AmiServer.started() as pbx:
        _, writer = await asyncio.open_connection("127.0.0.1", pbx.port)
        writer.write(b"Action: Ping\r\nActionID: cut\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        await _ask(pbx)
        assert [r.get("ActionID") for r in pbx.seen("Ping")] == ["end"]


def test_helpers_make_what_they_say() -> None:
    made = dict(order("id", Exten="998").headers)
    assert (made["ChannelId"], made["Exten"]) == ("id", "998")
    assert config(AmiServer(username="u", password="p"), window=2).window == 2
