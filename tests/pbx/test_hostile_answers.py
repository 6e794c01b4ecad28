"""Answers that a garbled stream, a patched PBX or another client of it could make: only the clear ones count."""

import asyncio
import uuid

import pytest

from adapter.core.model import AmiEvent
from adapter.pbx import Accepted, Down, Refused, Unsure, Up
from adapter.pbx import link as link_module
from adapter.pbx import wire as wire_module
from adapter.pbx.link import MAX_WORDS
from adapter.pbx.session import LATEST, event_of
from tests.pbx.helpers import events, linked, next_of, order, until
from tests.support.ami_server import AmiServer, call_event, event, leg

END = b"\r\n\r\n"
OWN = b"\r\nActionID: {id}"


@pytest.mark.parametrize(
    "said",
    [
        b"Response: Failure" + OWN,
        b"Response: " + OWN,
        b"Response: Success\r\nResponse: Error" + OWN,
        b"Response: Error\r\nResponse: Error" + OWN,
        b"Response: Error\r\nEvent: Hangup" + OWN,
        b"Event: UserEvent\r\nUserEvent: any" + OWN,
        # What is left of an OriginateResponse whose first line was lost.
        b"Response: Failure" + OWN + b"\r\nReason: 5\r\nUniqueid: {id}",
        b"Response: Goodbye" + OWN + b"\r\nMessage: Permission denied",
    ],
)
async def test_only_a_clear_error_says_that_a_call_was_not_executed(said: bytes) -> None:
    """Anything else releases nothing: its row would be dialed a second time."""
    async with AmiServer.started() as pbx, linked(pbx) as link:
        pbx.faults.raw["Originate"] = said + END
        assert isinstance(await link.originate(order()), Unsure)


@pytest.mark.parametrize("message", ["Extension does not exist.", "Permission denied", ""])
async def test_a_clear_error_is_a_refusal_and_a_success_is_none_whatever_it_says(message: str) -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        tail = OWN + b"\r\nMessage: " + message.encode() + END
        pbx.faults.raw["Originate"] = b"Response: Error" + tail
        assert isinstance(await link.originate(order()), Refused)
        pbx.faults.raw["Originate"] = b"Response: Success" + tail
        assert await link.originate(order()) == Accepted()


async def test_the_words_of_a_refusal_are_bounded() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        pbx.faults.raw["Originate"] = b"Response: Error" + OWN + b"\r\nMessage: " + b"x" * 100_000 + END
        refused = await link.originate(order())
        assert isinstance(refused, Refused)
        assert len(refused.message) == MAX_WORDS


@pytest.mark.parametrize("duration", ["9" * 5000, "00:00:" + "9" * 4000, "-1:00:00", "\u0661:00:00", "::", ""])
async def test_a_duration_that_is_no_time_costs_nothing(duration: str) -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        pbx.channels = [leg("a-call", duration=duration), leg("another", number=8)]
        first, second = await link.channels()
        assert (first.duration, second.duration) == (0, 65)
        assert float(first.duration) == first.duration


@pytest.mark.parametrize("told", ["nan", "inf", "-inf", "1e400", "-1", "9" * 5000, str(LATEST * 2), "yesterday", ""])
def test_a_time_that_no_clock_shows_is_no_time(told: str) -> None:
    assert event_of({"Event": "Newstate", "Timestamp": told}).at is None


def test_names_of_headers_are_shared_and_not_kept() -> None:
    """`sys.intern` keeps every name for ever on Python 3.12."""
    first, second = (event_of({"Event": "x", f"Unique{'id' * 1}": "1"}) for _ in range(2))
    assert next(iter(first.fields)) is next(iter(second.fields))
    made_up, again = (event_of({"Event": "x", f"Made-{'up' * 9}": "1"}) for _ in range(2))
    assert next(iter(made_up.fields)) is not next(iter(again.fields))


async def test_huge_events_that_nobody_takes_end_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "MAX_WAITING", 1_000_000)
    async with AmiServer.started() as pbx, linked(pbx) as link:
        assert link.messages.weight == 0
        await pbx.emit(*(event("UserEvent", ("Blob", "x" * 100_000)) for _ in range(50)))
        await until(lambda: not link.status.connected)
        assert link.messages.weight < 1_200_000
        assert "characters wait" in (await next_of(link, Down)).reason
        assert isinstance(await next_of(link, Up), Up)
        assert link.messages.weight < 1000, "what was taken weighs nothing"


async def test_huge_events_before_the_list_of_channels_end_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "MAX_WAITING", 1_000_000)
    async with AmiServer.started() as pbx, linked(pbx) as link:
        pbx.faults.with_list = [event("UserEvent", ("Blob", "x" * 100_000)) for _ in range(50)]
        pbx.connections[-1].reset()
        await until(lambda: "characters wait" in (link.status.problem or ""))
        pbx.faults.with_list = []
        await next_of(link, Up)


async def test_a_list_without_end_ends_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_module, "MAX_ANSWERS", 1_000_000)
    async with AmiServer.started() as pbx, linked(pbx) as link:
        item = b"Event: CoreShowChannel" + OWN + b"\r\nChannel: " + b"x" * 10_000 + END
        pbx.faults.raw["CoreShowChannels"] = b"Response: Success\r\nEventList: start" + OWN + END + item * 200
        asking = asyncio.create_task(link.channels())
        assert "without an end" in (await next_of(link, Down)).reason
        with pytest.raises(Exception, match="the connection to the PBX was lost"):
            await asking


async def test_lists_one_after_the_other_add_up_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_module, "MAX_ANSWERS", 20_000)
    async with AmiServer.started() as pbx, linked(pbx) as link:
        pbx.channels = [leg(str(uuid.uuid4()), number=i) for i in range(5)]
        for _ in range(20):
            assert len(await link.channels()) == 5
        await pbx.emit(call_event("Newchannel", "somebody-else"))
        assert (await events(link, 1, "Newchannel"))[0].event == AmiEvent(
            name="Newchannel",
            fields={"Privilege": "call,all", "Timestamp": "1795404032.209935", "SystemName": "mikopbx"}
            | {"Uniqueid": "somebody-else", "Linkedid": "somebody-else"},
            at=1795404032.209935,
        )
