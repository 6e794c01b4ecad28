"""Questions to the PBX: what is no clear answer is an error, never an absence."""

from dataclasses import replace

import pytest

from adapter.pbx import Denied, LinkDown
from tests.pbx.helpers import FAST, linked, running, until
from tests.support.ami_server import AmiServer, leg

LIST_START = b"Response: Success\r\nActionID: {id}\r\nEventList: start\r\nMessage: It will follow\r\n\r\n"
LIST_END = b"Event: CoreShowChannelsComplete\r\nActionID: {id}\r\n"


async def test_journal_entry() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        pbx.database["mikopbx-adapter", "17"] = "4113:11111111-1111-4111-8111-111111111111"
        assert await link.journal(17) == "4113:11111111-1111-4111-8111-111111111111"


async def test_journal_without_entry() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        assert await link.journal(18) is None


@pytest.mark.parametrize(
    "answer",
    [
        b"Response: Error\r\nActionID: {id}\r\nMessage: Something else\r\n\r\n",
        LIST_START + b"Event: DBGetComplete\r\nActionID: {id}\r\nEventList: Complete\r\nListItems: 0\r\n\r\n",
        b"Response: Success\r\nActionID: {id}\r\nMessage: odd\r\n\r\n",
    ],
    ids=["error", "empty list", "no list"],
)
async def test_a_journal_that_cannot_be_read_is_not_an_empty_one(answer: bytes) -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        pbx.faults.raw["DBGet"] = answer
        with pytest.raises(LinkDown):
            await link.journal(18)


async def test_a_journal_that_may_not_be_read_names_the_right() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        pbx.faults.denied.add("DBGet")
        with pytest.raises(Denied, match="may not use DBGet: grant it the write right 'reporting'"):
            await link.journal(18)


async def test_a_journal_that_is_not_answered_is_not_an_empty_one() -> None:
    async with AmiServer.started() as pbx, linked(pbx, timings=replace(FAST, answer=0.05), guard_seconds=60) as link:
        pbx.faults.mute.add("DBGet")
        with pytest.raises(LinkDown, match="did not answer DBGet"):
            await link.journal(18)


async def test_channels_now() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        assert await link.channels() == ()
        pbx.channels = [leg("call-a")]
        (only,) = await link.channels()
        assert only.linkedid == "call-a"


@pytest.mark.parametrize(
    "answer",
    [
        LIST_START
        + b"Event: CoreShowChannelsComplete\r\nActionID: {id}\r\nEventList: Complete\r\nListItems: 2\r\n\r\n",
        LIST_START
        + b"Event: CoreShowChannelsComplete\r\nActionID: {id}\r\nEventList: cancelled\r\nListItems: 0\r\n\r\n",
        b"Response: Error\r\nActionID: {id}\r\nMessage: Could not get channels\r\n\r\n",
    ],
    ids=["two missing", "cut", "error"],
)
async def test_a_list_that_is_not_whole_is_no_list(answer: bytes) -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        pbx.faults.raw["CoreShowChannels"] = answer
        with pytest.raises(LinkDown):
            await link.channels()


async def test_hangup_ends_exactly_one_leg() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        pbx.channels = [leg("call-a"), leg("call-b", number=8)]
        assert await link.hangup("call-a", 21) is True
        assert await link.hangup("call-a") is False
        first, second = pbx.seen("Hangup")
        assert (first.get("Channel"), first.get("Cause"), second.get("Cause")) == ("call-a", "21", "16")
        assert [kept["Uniqueid"] for kept in pbx.channels] == ["call-b"]


@pytest.mark.parametrize("pattern", ["/^PJSIP/", "/", "", "a\r\nAction: Command"])
async def test_hangup_never_takes_a_pattern(pattern: str) -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        with pytest.raises(ValueError, match=r"exactly one channel|control character"):
            await link.hangup(pattern)
        assert pbx.seen("Hangup") == []


async def test_hangup_without_the_right_is_no_false() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        pbx.faults.denied.add("Hangup")
        with pytest.raises(Denied, match="write right 'call'"):
            await link.hangup("call-a")


async def test_a_pbx_that_does_not_say_when_it_started_is_not_taken() -> None:
    async with AmiServer.started() as pbx:
        pbx.boot = ("", "")
        async with running(pbx) as link:
            await until(lambda: "does not tell when it was started" in (link.status.problem or ""))
            assert not link.status.connected
