"""A bare AMI client for tests: it sends what it is told, byte by byte, and keeps every message it gets."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from adapter.sandbox.mikopbx import SimulatedPbx

Message = list[tuple[str, str]]


def value(message: Message, key: str) -> str:
    """First value of a header, or an empty string."""
    return next((v for k, v in message if k == key), "")


@dataclass
class Client:
    """One connection. `messages` has everything since the banner, `closed` is set when the server closed."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    banner: str = ""

    def __post_init__(self) -> None:
        self.messages: list[Message] = []
        self.closed = asyncio.Event()
        self._news = asyncio.Condition()
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            self.banner = (await self.reader.readuntil(b"\r\n")).decode().strip()
            while True:
                raw = await self.reader.readuntil(b"\r\n\r\n")
                lines = raw.decode("utf-8", "surrogateescape").split("\r\n")
                pairs = [line.partition(":") for line in lines if ":" in line]
                self.messages.append([(k, v.removeprefix(" ")) for k, _, v in pairs])
                async with self._news:
                    self._news.notify_all()
        self.closed.set()
        async with self._news:
            self._news.notify_all()

    def send(self, *pairs: tuple[str, str]) -> None:
        """Write one action."""
        self.raw("".join(f"{k}: {v}\r\n" for k, v in pairs) + "\r\n")

    def raw(self, text: str) -> None:
        """Write text as it is."""
        self.writer.write(text.encode("utf-8", "surrogateescape"))

    async def until(self, found: Callable[[Message], bool], *, seconds: float = 10, since: int = 0) -> Message:
        """The first message from `since` on for which `found` is true."""
        async with asyncio.timeout(seconds), self._news:
            while True:
                for message in self.messages[since:]:
                    if found(message):
                        return message
                if self.closed.is_set():
                    raise ConnectionError("the server closed the connection")
                await self._news.wait()

    async def event(self, name: str, *, seconds: float = 10, **fields: str) -> Message:
        """The first event of this name with these fields."""

        def found(message: Message) -> bool:
            return value(message, "Event") == name and all(value(message, k) == v for k, v in fields.items())

        return await self.until(found, seconds=seconds)

    async def ask(self, name: str, *pairs: tuple[str, str], action_id: str = "") -> Message:
        """Send an action and await its Response."""
        action_id = action_id or f"{name}-{len(self.messages)}"
        self.send(("Action", name), ("ActionID", action_id), *pairs)
        return await self.until(lambda m: m[0][0] == "Response" and value(m, "ActionID") == action_id)

    async def login(self, pbx: SimulatedPbx, *pairs: tuple[str, str]) -> Message:
        """Log in with the right secret."""
        return await self.ask("Login", ("Username", pbx.username), ("Secret", pbx.password), *pairs)

    async def originate(
        self, pbx: SimulatedPbx, number: str, call_id: str, *pairs: tuple[str, str], exten: str = "999"
    ) -> Message:
        """Place a call as the adapter does, with optional further headers."""
        return await self.ask(
            "Originate",
            ("Channel", f"PJSIP/{number}@{pbx.trunk}"),
            ("Context", "all_peers"),
            ("Exten", exten),
            ("Priority", "1"),
            ("Async", "true"),
            ("ChannelId", call_id),
            *pairs,
            action_id=call_id,
        )

    def events(self, call_id: str) -> list[str]:
        """Names of the events about a call, in order."""
        return [
            value(m, "Event")
            for m in self.messages
            if value(m, "Event") and call_id in {value(m, "Linkedid"), value(m, "DestLinkedid"), value(m, "ActionID")}
        ]

    async def close(self) -> None:
        """Close the connection."""
        self.writer.close()
        await self._task
        with suppress(ConnectionError):
            await self.writer.wait_closed()


@asynccontextmanager
async def connected(pbx: SimulatedPbx, *, login: bool = True) -> AsyncIterator[Client]:
    """A client on `pbx`, logged in unless told otherwise."""
    client = Client(*await asyncio.open_connection(pbx.host, pbx.port))
    try:
        if login:
            await client.login(pbx)
        yield client
    finally:
        await client.close()
