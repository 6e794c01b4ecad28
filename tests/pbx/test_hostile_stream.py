"""Whole sessions with a stream that was spoiled on its way: the link goes on or ends the session in words, the loop
keeps turning, nothing grows, and a call nobody spoiled ends as recorded.

The spoiled stream tells of one call, the clean one of another; both come over one socket, in random segments, into the
link, the follower and its board.
"""

import asyncio
import contextlib
import random
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import pytest

from adapter.core.model import Outcome, OutcomeRecord, Record
from adapter.core.originate import DialPlan, build
from adapter.follower import Follower
from adapter.pbx import PbxLink
from adapter.pbx.wire import MAX_MESSAGE
from tests.core.replay import play
from tests.pbx.helpers import running, until
from tests.support.ami_server import TRUNK, AmiServer, event
from tests.support.doubles import row
from tests.support.transcripts import Transcript, load

SPOILED = ("pjsip-answer-ai-hangup", "pjsip-congestion-503", "pjsip-declined-603", "pjsip-noanswer-originate-timeout")
CLEAN = "pjsip-carrier-forbidden-403"

FILLER = event("UserEvent", ("UserEvent", "filler"))
"""Behind each spoiled message, so that one that lost its end swallows this and not the clean call's news."""

ROUNDS = 120

LAG = 1.0
"""Seconds the loop may stand, on a busy machine; a message of the greatest size is read in a few milliseconds."""


def _blocks(transcript: Transcript, call_id: str) -> list[bytes]:
    """The events of a recording as bytes, about our call and our trunk."""
    (recorded,) = {m.get("ChannelId") for m in transcript.messages if m.get("ChannelId")}
    trunk = next(m.get("Channel").partition("@")[2] for m in transcript.messages if m.get("Action") == "Originate")
    names = {m.get("ActionID") for m in transcript.messages if m.get("Action") == "Originate"}
    blocks = []
    for message in transcript.messages:
        if message.event is not None and message.get("Event") != "FullyBooted":
            fields = {
                k: call_id if v == recorded or (k == "ActionID" and v in names) else v.replace(trunk, TRUNK)
                for k, v in message.fields.items()
            }
            blocks.append(event(fields.pop("Event"), ("Privilege", "call,all"), *fields.items()))
    return blocks


def _spoil(block: bytes, chance: random.Random) -> bytes:
    """One message, damaged somewhere."""
    at = chance.randrange(len(block))
    end = at + chance.randrange(1, 40)
    lines = block.split(b"\r\n")
    line = chance.randrange(len(lines) - 2)
    ways: tuple[Callable[[], bytes], ...] = (
        lambda: block[:at] + block[end:],
        lambda: block[:at] + bytes(chance.randrange(256) for _ in range(20)) + block[at:],
        lambda: block[:at] + b"\x00\xff\xfe\xc3" + block[at:],
        lambda: block[:at] + b"\r\n" + block[at:],
        lambda: block[:at] + b"\r\n\r\n" + block[at:],
        lambda: block.removesuffix(b"\r\n"),
        lambda: block.removesuffix(b"\r\n\r\n"),
        lambda: block.replace(b"\r\n", b"\n", 3),
        lambda: b"\r\n".join([*lines[: line + 1], *lines[line:]]),
        lambda: b"\r\n".join([*lines[:line], *lines[line + 1 :]]),
        lambda: b"\r\n".join([*chance.sample(lines[:-2], len(lines) - 2), b"", b""]),
        lambda: b"\r\n".join([*lines[:-2], b"X: " + b"y" * 200_000, b"", b""]),
        lambda: b"\r\n".join([*lines[:-2], *(b"H%d: y" % i for i in range(5000)), b"", b""]),
        lambda: block.replace(b"Event: ", chance.choice([b"event: ", b"Event:", b"Response: ", b"Event: Event: "])),
        lambda: block.replace(b"Timestamp: ", b"Timestamp: " + chance.choice([b"-", b"9" * 400, b"inf", b"nan "])),
        lambda: block.replace(b"Cause: ", b"Cause: " + chance.choice([b"-", b"9" * 5000, b"\xd9\xa3"])),
        lambda: block * chance.randrange(2, 50),
        lambda: b"\r\n\r\n" * chance.randrange(1, 50) + block,
        lambda: b"",
    )
    return chance.choice(ways)()


@dataclass
class Desk:
    """A follower on a real link, and what it stored."""

    link: PbxLink
    records: list[Record] = field(default_factory=list)
    worst_lag: float = 0.0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.follower = Follower(
            link=self.link,
            store=self._store,
            ended=lambda _: None,
            now=lambda: 1_795_404_000.0,
            clock=asyncio.get_running_loop().time,
            trunk=TRUNK,
            ring_seconds=30,
            max_call_seconds=900,
            no_answer_word="no_answered",
            incarnation=1,
            beat=lambda: None,
        )

    async def _store(self, records: Sequence[Record]) -> None:
        self.records.extend(records)

    def outcome(self, call_id: str) -> OutcomeRecord | None:
        """How this call ended, if it did."""
        found = [r for r in self.records if isinstance(r, OutcomeRecord) and r.call_id == call_id]
        assert len(found) <= 1, "a call ends once"
        return found[0] if found else None

    def has_ended(self, call_id: str) -> bool:
        """Whether it did."""
        return self.outcome(call_id) is not None

    async def watch(self) -> None:
        """How long the loop stood."""
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(0.01)
            self.worst_lag = max(self.worst_lag, loop.time() - before - 0.01)


@contextlib.asynccontextmanager
async def _desk(pbx: AmiServer) -> AsyncIterator[Desk]:
    # No questions meanwhile: the server would write their answers into the midst of a stream in small segments.
    async with running(pbx, guard_seconds=600, ping_seconds=600) as link:
        desk = Desk(link)
        works: tuple[Callable[[], Awaitable[None]], ...] = (desk.follower.run, desk.watch)
        desk.tasks = [asyncio.ensure_future(work()) for work in works]
        await until(lambda: link.status.ready)
        try:
            yield desk
            for task in desk.tasks:
                if task.done():
                    task.result()  # Whatever came, it ended neither of them.
        finally:
            for task in desk.tasks:
                task.cancel()
            await asyncio.gather(*desk.tasks, return_exceptions=True)


async def test_a_stream_spoiled_anywhere_spoils_no_other_call() -> None:
    chance = random.Random(5)
    true = {name: next(iter(play(load(name)).endings.values())).outcome for name in (*SPOILED, CLEAN)}
    wrong: list[str] = []
    async with AmiServer.started() as pbx, _desk(pbx) as desk:
        for turn in range(ROUNDS):
            name = chance.choice(SPOILED)
            bad, good = (
                row(2 * turn + i, phone_number=f"012345{turn:03d}{i}", e164=f"+6012345{turn:03d}{i}") for i in (1, 2)
            )
            for claimed in (bad, good):
                desk.follower.expect(claimed, build(claimed, DialPlan(trunk=TRUNK)))
            spoiled, clean = _blocks(load(name), bad.call_id), _blocks(load(CLEAN), good.call_id)
            for place in chance.sample(range(len(spoiled)), chance.choice([1, 1, 2])):
                spoiled[place] = _spoil(spoiled[place], chance)
            stream = b""
            while spoiled or clean:
                stream += spoiled.pop(0) + FILLER if spoiled and (not clean or chance.random() < 0.5) else clean.pop(0)
            pbx.faults.chunk = chance.choice([None, None, 7, 333, 5000]) if len(stream) < 20_000 else None
            await pbx.emit(stream)
            sessions = desk.link.status.session
            with contextlib.suppress(TimeoutError):
                await until(partial(desk.has_ended, good.call_id), seconds=3)
            ending = desk.outcome(good.call_id)
            if ending is None or ending.ending.outcome is not true[CLEAN] or desk.link.status.session != sessions:
                wrong.append(f"{turn} {name}: the clean call ended as {ending and ending.ending.reason}")
            told = desk.outcome(bad.call_id)
            if told is not None and told.ending.outcome is Outcome.ANSWERED and true[name] is not Outcome.ANSWERED:
                wrong.append(f"{turn} {name}: an answer was made up")
            desk.follower.forget(bad.call_id)
            pbx.faults.chunk = None
        assert wrong == []
        assert desk.worst_lag < LAG
        assert desk.link.status.connected


async def test_a_flood_of_made_up_events_leaves_nothing_behind() -> None:
    """Thirty megabytes of them through a link whose consumer keeps up."""
    async with AmiServer.started() as pbx, _desk(pbx) as desk:

        async def flood(turn: int) -> None:
            names = (event("UserEvent", *((f"H{turn}-{i}-{j}", "x" * 500) for j in range(20))) for i in range(100))
            await pbx.emit(b"".join(names), event("Newchannel", ("Linkedid", f"foreign-{turn}"), ("Uniqueid", "\x00")))

        await flood(-1)
        await asyncio.sleep(0.3)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for turn in range(30):
                await flood(turn)
            await until(desk.link.messages.empty, seconds=20)
            await asyncio.sleep(0.3)
            kept = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert kept < 1_500_000
        assert desk.link.status.connected
        assert desk.link.messages.weight == 0
        assert desk.worst_lag < LAG


@pytest.mark.parametrize("head", [b"Event: x\r\nY: ", b"", b"\x00", b"\xff\xfe", b"Response: Follows\r\n", b"\r\n"])
async def test_a_line_without_end_ends_the_session_in_words_and_the_next_one_works(
    head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with AmiServer.started() as pbx, _desk(pbx) as desk:
        first = pbx.connections[-1].writer
        with contextlib.suppress(ConnectionError):
            first.write(head)
            for _ in range(MAX_MESSAGE // 100_000 + 2):
                first.write(b"z" * 100_000)
                await first.drain()
        await until(lambda: desk.link.status.session > 1 and desk.link.status.connected)
        assert "one message of more than" in caplog.text
        assert desk.worst_lag < LAG
        good = row(1)
        desk.follower.expect(good, build(good, DialPlan(trunk=TRUNK)))
        await pbx.emit(*_blocks(load(CLEAN), good.call_id))
        await until(lambda: desk.outcome(good.call_id) is not None)
