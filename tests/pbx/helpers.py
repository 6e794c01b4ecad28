"""One link against one server, with waits short enough for tests."""

import asyncio
import contextlib
import dataclasses
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from adapter.pbx import Event, PbxConfig, PbxLink, PbxMessage, Timings, Up
from tests.support.ami_server import TRUNK, AmiServer, call_event

# Deadlines a busy machine still keeps; a test about one of them shortens that one.
FAST = Timings(
    connect=3.0,
    login=3.0,
    booted=3.0,
    answer=3.0,
    channels=3.0,
    response=3.0,
    pong=3.0,
    first_event=0.1,
    stable=60.0,
    backoff_first=0.02,
    backoff_most=0.05,
    refused=0.3,
)


@dataclass(frozen=True, slots=True)
class Order:
    """An Originate as the core hands it over."""

    call_id: str
    headers: tuple[tuple[str, str], ...]


def order(call_id: str | None = None, **changed: str | None) -> Order:
    """A good Originate; `changed` replaces headers, None leaves one out."""
    own_id = call_id or str(uuid.uuid4())
    headers: dict[str, str | None] = {
        "Channel": f"PJSIP/60123456700@{TRUNK}",
        "Context": "all_peers",
        "Exten": "999",
        "Priority": "1",
        "Timeout": "30000",
        "Async": "true",
        "ChannelId": own_id,
        **changed,
    }
    variables = (("Variable", f"CALL_ID={own_id}"), ("Variable", "TIMEOUT(absolute)=930"))
    plain = tuple((name, value) for name, value in headers.items() if value is not None)
    return Order(own_id, plain + variables)


def config(pbx: AmiServer, **changed: Any) -> PbxConfig:
    base = PbxConfig(
        host="127.0.0.1",
        port=pbx.port,
        username=pbx.username,
        password=pbx.password,
        trunk=TRUNK,
        ai_context="all_peers",
        ai_extension="999",
        ping_seconds=0.2,
        guard_seconds=0.1,
    )
    return dataclasses.replace(base, **changed)


@contextlib.asynccontextmanager
async def running(pbx: AmiServer, *, timings: Timings = FAST, **changed: Any) -> AsyncIterator[PbxLink]:
    """A link whose `run()` goes on, up or not."""
    link = PbxLink(config(pbx, **changed), timings)
    task = asyncio.create_task(link.run())
    try:
        yield link
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def linked(
    pbx: AmiServer, *, timings: Timings = FAST, hears: bool = True, **changed: Any
) -> AsyncIterator[PbxLink]:
    """A link that is up and ready; its Up is taken. `hears`: it was told about a call of somebody else, too."""
    async with running(pbx, timings=timings, **changed) as link:
        assert isinstance(await link.messages.get(), Up)
        await until(lambda: link.status.ready)
        if hears:
            await pbx.emit(call_event("Newchannel", "somebody-else"))
            await events(link, 1, "Newchannel")
        yield link


async def until(met: Callable[[], bool], seconds: float = 5.0) -> None:
    """Poll a status that has no event of its own."""
    async with asyncio.timeout(seconds):
        while not met():
            await asyncio.sleep(0.005)


async def next_of(link: PbxLink, kind: type[Any], seconds: float = 5.0) -> Any:
    """The next message of this kind; events before it are passed over."""
    async with asyncio.timeout(seconds):
        while True:
            message: PbxMessage = await link.messages.get()
            if isinstance(message, kind):
                return message


async def events(link: PbxLink, count: int, name: str | None = None, seconds: float = 5.0) -> list[Event]:
    """The next so many events (of this name)."""
    out: list[Event] = []
    async with asyncio.timeout(seconds):
        while len(out) < count:
            message = await link.messages.get()
            if isinstance(message, Event) and name in {None, message.event.name}:
                out.append(message)
    return out
