"""A raw AMI client: writes what it is told and keeps everything it hears, in order."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Self

from adapter.core.model import AmiEvent
from adapter.sandbox.asterisk import RealPbx

Pairs = tuple[tuple[str, str], ...]


class Message:
    """One message as it came, with repeated headers kept."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs

    def get(self, name: str) -> str:
        return next((value for key, value in self.pairs if key == name), "")

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.pairs if key == name]

    @property
    def name(self) -> str:
        return self.get("Event")

    @property
    def at(self) -> float:
        return float(self.get("Timestamp"))

    def event(self) -> AmiEvent:
        """The value that the core takes."""
        at = self.get("Timestamp")
        return AmiEvent(name=self.name, fields=dict(self.pairs), at=float(at) if at else None)

    def __repr__(self) -> str:
        return " | ".join(f"{key}: {value}" for key, value in self.pairs if "Variable" not in key)


class Ami:
    """A connection. `heard` grows by every event and Response."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard: list[Message] = []
        self.closed = False
        self._reader = reader
        self._writer = writer
        self._news = asyncio.Condition()

    @classmethod
    @asynccontextmanager
    async def logged_in(cls, pbx: RealPbx, username: str | None = None) -> AsyncIterator[Self]:
        """Logged in as this user (the daemon's by default)."""
        reader, writer = await asyncio.open_connection(pbx.host, pbx.port)
        ami = cls(reader, writer)
        await reader.readline()
        listening = asyncio.create_task(ami._listen())
        try:
            user = ("Username", username or pbx.username)
            reply = await ami.ask("Login", user, ("Secret", pbx.password))
            assert reply.get("Response") == "Success", reply
            yield ami
        finally:
            listening.cancel()
            writer.close()
            await asyncio.gather(listening, return_exceptions=True)

    def write(self, action: str, *headers: tuple[str, str]) -> str:
        """Write an action; its ActionID."""
        pairs: list[tuple[str, str]] = [("Action", action), *headers]
        action_id = next((value for key, value in headers if key == "ActionID"), "")
        if not action_id:
            action_id = f"test-{uuid.uuid4()}"
            pairs.append(("ActionID", action_id))
        text = "".join(f"{key}: {value}\r\n" for key, value in pairs) + "\r\n"
        self._writer.write(text.encode())
        return action_id

    async def ask(self, action: str, *headers: tuple[str, str]) -> Message:
        """Write an action and return its Response."""
        action_id = self.write(action, *headers)
        return await self.until(lambda message: bool(message.get("Response")) and message.get("ActionID") == action_id)

    async def getvar(self, expression: str) -> str:
        """Value of a global function."""
        return (await self.ask("Getvar", ("Variable", expression))).get("Value")

    async def journal(self, slot: int) -> str | None:
        """What the PBX database holds for a slot of ours, or None."""
        action_id = self.write("DBGet", ("Family", "mikopbx-adapter"), ("Key", str(slot)))
        answer = await self.until(
            lambda message: (
                message.get("ActionID") == action_id
                and (message.get("Response") == "Error" or message.name == "DBGetResponse")
            )
        )
        return answer.get("Val") or None

    async def until(self, wanted: Callable[[Message], bool], *, since: int = 0, seconds: float = 40) -> Message:
        """The first message heard that is wanted; waits for it. Raises TimeoutError."""
        looked = since
        async with asyncio.timeout(seconds), self._news:
            while True:
                for message in self.heard[looked:]:
                    if wanted(message):
                        return message
                looked = len(self.heard)
                assert not self.closed, "the PBX closed the connection"
                await self._news.wait()

    async def event(self, name: str, *, linkedid: str, seconds: float = 40) -> Message:
        """An event about the call with this id."""
        return await self.until(
            lambda message: message.name == name and message.get("Linkedid") == linkedid, seconds=seconds
        )

    async def until_closed(self) -> None:
        """Return when the PBX has closed the connection."""
        async with self._news:
            await self._news.wait_for(lambda: self.closed)

    async def originate_response(self, action_id: str) -> Message:
        """How the PBX thinks that the first leg went."""
        return await self.until(
            lambda message: message.name == "OriginateResponse" and message.get("ActionID") == action_id
        )

    def about(self, call_id: str) -> list[Message]:
        """All events of this call so far."""
        ids = ("Linkedid", "DestLinkedid", "ActionID")
        return [message for message in self.heard if call_id in {message.get(key) for key in ids}]

    async def _listen(self) -> None:
        pairs: list[tuple[str, str]] = []
        while line := await self._reader.readline():
            text = line.decode(errors="replace").rstrip("\r\n")
            if text:
                key, _, value = text.partition(":")
                pairs.append((key, value.strip()))
            elif pairs:
                await self._take(Message(tuple(pairs)))
                pairs = []
        async with self._news:
            self.closed = True
            self._news.notify_all()

    async def _take(self, message: Message) -> None:
        async with self._news:
            self.heard.append(message)
            self._news.notify_all()


def words(messages: Iterable[Message]) -> str:
    """For the output of a test that failed."""
    return "\n".join(repr(message) for message in messages)
