"""A Realtime server on a real socket that does what a test wants, in the frames of the real one.

It speaks vsn 1.0.0 as Realtime 2.129 does: no `join_ref` in what it sends, `ref` null for pushes, an ok to any join and
the system message "Subscribed to PostgreSQL" later. `on_join`, `refuse` and the methods of `Session` make it misbehave.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

BINDING_ID = 24817293

SUBSCRIBED = "Subscribed to PostgreSQL"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP answer instead of the upgrade."""

    status: int
    body: str = ""


@dataclass(slots=True)
class Session:
    """One websocket, seen from the server."""

    socket: ServerConnection
    key: str
    joins: list[dict[str, Any]] = field(default_factory=list)
    heartbeats: int = 0
    mute: bool = False
    """Answer nothing any more, though the socket lives (RT-12)."""

    @property
    def topic(self) -> str:
        """Topic of the last join."""
        return str(self.joins[-1]["topic"])

    async def send(self, event: str, payload: object, *, ref: str | None = None, topic: str | None = None) -> None:
        """One frame."""
        frame = {"ref": ref, "event": event, "topic": topic or self.topic, "payload": payload}
        await self.raw(json.dumps(frame))

    async def raw(self, frame: str | bytes) -> None:
        """Anything at all."""
        with contextlib.suppress(ConnectionClosed):
            await self.socket.send(frame)

    async def accept(self, join: dict[str, Any], **changes: Any) -> None:
        """The ok to a join, with the bindings echoed."""
        bindings = [
            {"id": BINDING_ID, **binding, **changes} for binding in join["payload"]["config"]["postgres_changes"]
        ]
        await self.send("phx_reply", {"status": "ok", "response": {"postgres_changes": bindings}}, ref=join["ref"])

    async def reject(self, join: dict[str, Any], reason: str) -> None:
        """The error to a join."""
        await self.send("phx_reply", {"status": "error", "response": {"reason": reason}}, ref=join["ref"])

    async def system(self, message: str, status: str = "ok", extension: str = "postgres_changes") -> None:
        """A system message."""
        channel = self.topic.removeprefix("realtime:")
        await self.send("system", {"message": message, "status": status, "extension": extension, "channel": channel})

    async def insert(self, **changes: Any) -> None:
        """A row was inserted."""
        data: dict[str, object] = {
            "schema": "public",
            "table": "call_queue",
            "type": "INSERT",
            "commit_timestamp": "2026-11-23T03:24:06.184Z",
            "record": {"id": 2, "phone_number": "+60 12-345 6701"},
            "columns": [{"name": "id", "type": "int8"}, {"name": "phone_number", "type": "text"}],
            "errors": None,
        }
        await self.send("postgres_changes", {"ids": [BINDING_ID], "data": data | changes})

    async def broadcast(self, event: str = "rows") -> None:
        """`realtime.send` was called."""
        await self.send("broadcast", {"event": event, "meta": {"id": "m"}, "payload": {"id": "m"}, "type": "broadcast"})

    async def shut(self) -> None:
        """The server closes the channel, not the socket."""
        await self.send("phx_close", {}, ref=self.joins[-1]["ref"])


async def welcome(session: Session, join: dict[str, Any]) -> None:
    """What a healthy server does with a join."""
    await session.accept(join)
    if join["payload"]["config"]["postgres_changes"]:
        await session.system(SUBSCRIBED)


OnJoin = Callable[[Session, dict[str, Any]], Awaitable[None]]


@dataclass(slots=True)
class RealtimeServer:
    """The server: what it saw, and how it behaves."""

    port: int = 0
    on_join: OnJoin = welcome
    on_upgrade: Callable[[Session], Awaitable[None]] | None = None
    refuse: Refusal | None = None
    upgrades: list[float] = field(default_factory=list)
    """Loop times of all upgrade requests, refused ones too."""

    sessions: list[Session] = field(default_factory=list)
    _server: Server | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """As SUPABASE_URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def last(self) -> Session:
        """The newest session."""
        return self.sessions[-1]

    @property
    def joins(self) -> list[dict[str, Any]]:
        """All joins, in order."""
        return [join for session in self.sessions for join in session.joins]

    async def start(self) -> None:
        """Listen; on the same port again after `stop`."""
        self._server = await serve(
            self._serve, "127.0.0.1", self.port, process_request=self._upgrade, compression=None, close_timeout=0.1
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Close everything with code 1012, as a restarting server does."""
        if self._server is not None:
            for session in self.sessions:
                await session.socket.close(1012)
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until `condition` holds after something that came from the client."""
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def _upgrade(self, connection: ServerConnection, request: Request) -> Response | None:
        self.upgrades.append(asyncio.get_running_loop().time())
        self._changed.set()
        if self.refuse is None:
            return None
        return connection.respond(HTTPStatus(self.refuse.status), self.refuse.body)

    async def _serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        query = parse_qs(urlsplit(socket.request.path).query)
        session = Session(socket, key=query.get("apikey", [""])[0])
        self.sessions.append(session)
        with contextlib.suppress(ConnectionClosed):
            if self.on_upgrade is not None:
                await self.on_upgrade(session)
            async for text in socket:
                await self._take(session, json.loads(text))

    async def _take(self, session: Session, frame: dict[str, Any]) -> None:
        match frame["event"]:
            case "phx_join":
                session.joins.append(frame)
                if not session.mute:
                    await self.on_join(session, frame)
            case "heartbeat":
                session.heartbeats += 1
                if not session.mute:
                    await session.send("phx_reply", {"status": "ok", "response": {}}, ref=frame["ref"], topic="phoenix")
        self._changed.set()


async def settle() -> None:
    """Let connections that are half made arrive, so that closing the server closes them too."""
    for _ in range(10):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def realtime_server() -> AsyncIterator[RealtimeServer]:
    """A running server."""
    server = RealtimeServer()
    await server.start()
    try:
        yield server
    finally:
        await settle()
        await server.stop()
