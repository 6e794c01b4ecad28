"""/realtime/v1: websockets, broadcasts from the database and between clients, and the faults tests ask for."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from aiohttp import WSCloseCode, web

from adapter.log import say
from adapter.sandbox.gateway import frames
from adapter.sandbox.gateway.changes import Changes, become
from adapter.sandbox.gateway.frames import dumps
from adapter.sandbox.gateway.keys import BadToken, Claims, Keys
from adapter.sandbox.gateway.limits import Delays, Limits, RateWindow
from adapter.sandbox.gateway.sockets import CLAIMS_MISSING, NOT_A_JWT, Channel, Socket, realtime_claims

log = logging.getLogger(__name__)

BROADCASTS = "sandbox_broadcast"
"""Notification of a new row in realtime.messages (sql/project.sql); the payload is its id."""

SCHEMA_CHANGES = "pgrst"
"""Notification of DDL, PostgREST's own name for it."""

LISTEN_AGAIN_SECONDS = 0.5
"""Between a lost listening connection and the next try."""

CLOSE_SECONDS = 1.0
"""How long a closed client may take to say goodbye, too."""

_TRIED_MESSAGE = "insert into realtime.messages (topic, extension, private) values ($1, 'broadcast', true)"

_HANDSHAKE_REFUSALS: Mapping[str, str] = {
    "signature": "Failed to validate JWT signature",
    "malformed": NOT_A_JWT,
    "expired": "Token has expired",
    "claims": CLAIMS_MISSING,
}


@dataclass(slots=True, kw_only=True, eq=False)
class Realtime:
    """The hub of all websockets of one project."""

    dsn: str
    pool: "asyncpg.Pool[asyncpg.Record]"
    keys: Keys
    delays: Delays
    limits: Limits
    paused: bool = False
    deaf: bool = False
    changes: Changes = field(init=False)
    _sockets: set[Socket] = field(default_factory=set)
    _rate: RateWindow = field(init=False)
    _over_rate: bool = False
    _messages: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    _ear: "asyncpg.Connection[asyncpg.Record] | None" = None
    _closing: set[asyncio.Task[bool]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.changes = Changes(dsn=self.dsn, pool=self.pool, delays=self.delays, limits=self.limits)
        self._rate = RateWindow(self.limits.events_per_second, self.limits.rate_seconds)

    @property
    def joined(self) -> int:
        """Channels joined now."""
        return sum(len(socket.channels) for socket in self._sockets)

    @property
    def polling(self) -> bool:
        """Whether the slot is being read."""
        return self.changes.running

    def drops(self) -> bool:
        """Count one message: True if it must be dropped, untold."""
        if self.deaf:
            return True
        over = not self._rate.allows(time.monotonic())
        if over and not self._over_rate:
            say(log, logging.WARNING, "gateway.too_many_events", "Over the message rate: subscribers hear nothing")
        self._over_rate = over
        return over

    # ------------------------------------------------------------ life

    @asynccontextmanager
    async def running(self, schema_changed: Callable[..., None]) -> AsyncIterator[None]:
        """Listen to the database until the block ends; `schema_changed` is called after DDL."""
        listening = asyncio.Event()
        tasks = [
            asyncio.create_task(self._listen(schema_changed, listening), name="sandbox listener"),
            asyncio.create_task(self._relay(), name="sandbox broadcasts"),
        ]
        try:
            await listening.wait()
            yield
        finally:
            await self.changes.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def goodbye(self) -> None:
        """Close every websocket as a server does that stops."""
        self.pause()
        if self._closing:
            await asyncio.wait(self._closing, timeout=2 * CLOSE_SECONDS)

    def pause(self) -> None:
        """Close every websocket with 1012; refuse new ones while `paused`."""
        self.paused = True
        for socket in list(self._sockets):
            task = asyncio.create_task(socket.ws.close(code=WSCloseCode.SERVICE_RESTART))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def reload(self) -> None:
        """Say goodbye to every channel and close with 1012, as an operator's reload of the project does."""
        for socket in list(self._sockets):
            for channel in socket.channels.values():
                payload = {"message": "Server requested disconnect", "status": "ok", "extension": "system"}
                socket.push(topic=channel.topic, event="system", payload=dumps(payload), join_ref=channel.join_ref)
            task = asyncio.create_task(self._flush_and_close(socket))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _flush_and_close(self, socket: Socket) -> bool:
        await socket.flushed()
        return await socket.ws.close(code=WSCloseCode.SERVICE_RESTART)

    def cut(self) -> int:
        """Cut every connection without a goodbye."""
        sockets = list(self._sockets)
        for socket in sockets:
            if socket.request.transport:
                socket.request.transport.abort()
        return len(sockets)

    # ------------------------------------------------------------ requests

    async def websocket(self, request: web.Request) -> web.StreamResponse:
        """The handshake, and then the connection's whole life."""
        if self.paused:
            return web.json_response({"error": "Realtime is paused by the test"}, status=503)
        version = request.query.get("vsn", "1.0.0")
        if version not in frames.VERSIONS:
            return web.Response(status=403)
        key = request.headers.get("x-api-key", request.query.get("apikey"))
        if key is None:
            return await self._refuse("API key is missing")
        token = self.keys.translated(key)
        try:
            realtime_claims(self.keys, token)
        except BadToken as bad:
            return await self._refuse(_HANDSHAKE_REFUSALS[bad.kind])
        ws = web.WebSocketResponse(
            timeout=CLOSE_SECONDS, autoping=False, compress=False, max_msg_size=self.limits.frame_bytes
        )
        await ws.prepare(request)
        socket = Socket(hub=self, request=request, ws=ws, version=version, token=token)
        self._sockets.add(socket)
        try:
            await socket.serve()
        finally:
            self._sockets.discard(socket)
        return ws

    async def _refuse(self, error: str) -> web.Response:
        await asyncio.sleep(self.delays.refusal)
        return web.json_response({"error": error}, status=401)

    async def http_broadcasts(self, request: web.Request) -> web.StreamResponse:
        """POST /api/broadcast: what clients send before they have joined. 202 and no body."""
        return await self._http_broadcast(request, (await request.json())["messages"])

    async def http_broadcast(self, request: web.Request) -> web.StreamResponse:
        """POST /api/broadcast/<topic>/events/<event>: the newer form, one message, the body is its payload."""
        message = {
            **request.match_info,
            "payload": await request.json(),
            "private": request.query.get("private") == "true",
        }
        return await self._http_broadcast(request, [message])

    async def _http_broadcast(self, request: web.Request, messages: Sequence[Mapping[str, Any]]) -> web.Response:
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            claims = realtime_claims(self.keys, self.keys.translated(bearer or request.headers.get("apikey", "")))
        except BadToken as bad:
            return await self._refuse(_HANDSHAKE_REFUSALS[bad.kind])
        for message in messages:
            topic, private = str(message["topic"]), message.get("private") is True
            if private and not await self.may("write", topic, claims):
                continue
            payload = dumps({"type": "broadcast", "event": message["event"], "payload": message["payload"]})
            self.broadcast(f"realtime:{topic}", private=private, payload=payload, sender=None)
        return web.Response(status=202)

    # ------------------------------------------------------------ broadcasts

    def broadcast(self, topic: str, *, private: bool, payload: str, sender: Channel | None) -> None:
        """Deliver to every channel of the topic and the same privacy; to the sender only if it wants that."""
        for socket in self._sockets:
            channel = socket.channels.get(topic)
            if channel is None or channel.private != private or (channel is sender and not channel.hears_itself):
                continue
            if not self.drops():
                socket.push(topic=topic, event="broadcast", payload=payload)

    async def may(self, action: str, topic: str, claims: Claims) -> bool:
        """Ask the policies of realtime.messages: a message is tried (written, or put there to be read) and undone."""
        connection = await asyncpg.connect(self.dsn, statement_cache_size=0)
        try:
            attempt = connection.transaction()
            await attempt.start()
            if action == "read":
                await connection.execute(_TRIED_MESSAGE, topic)
            await become(connection, claims)
            await connection.execute("select set_config('realtime.topic', $1, true)", topic)
            if action == "write":
                await connection.execute(_TRIED_MESSAGE, topic)
                return True
            return bool(
                await connection.fetchval("select exists (select from realtime.messages where topic = $1)", topic)
            )
        except asyncpg.PostgresError:
            return False
        finally:
            connection.terminate()  # Undoes the transaction, whatever state it is in.

    async def _listen(self, schema_changed: Callable[..., None], listening: asyncio.Event) -> None:
        """Keep one connection that hears of broadcasts and of DDL; what is sent while it is down is lost."""
        while True:
            with suppress(OSError, asyncpg.InterfaceError, asyncpg.PostgresError):
                connection = await asyncpg.connect(self.dsn)
                self._ear, lost = connection, asyncio.Event()
                connection.add_termination_listener(lambda *_: lost.set())  # noqa: B023 - set before the next round
                try:
                    await connection.add_listener(BROADCASTS, lambda *told: self._messages.put_nowait(str(told[-1])))
                    await connection.add_listener(SCHEMA_CHANGES, schema_changed)
                    schema_changed()
                    listening.set()
                    await lost.wait()
                finally:
                    self._ear = None
                    connection.terminate()
            await asyncio.sleep(LISTEN_AGAIN_SECONDS)

    async def _relay(self) -> None:
        """Deliver the messages that the database told of."""
        while True:
            message_id = await self._messages.get()
            with suppress(OSError, asyncpg.InterfaceError, asyncpg.PostgresError):
                await self._relay_one(message_id)

    async def _relay_one(self, message_id: str) -> None:
        if self._ear is None:
            return  # Lost with the connection that told of it.
        row = await self._ear.fetchrow(
            "select topic, event, payload::text as payload, private from realtime.messages where id = $1::text::uuid",
            message_id,
        )
        if row:
            event, meta = dumps(row["event"]), dumps({"id": message_id})
            payload = f'{{"event":{event},"meta":{meta},"payload":{row["payload"]},"type":"broadcast"}}'
            self.broadcast(f"realtime:{row['topic']}", private=bool(row["private"]), payload=payload, sender=None)
