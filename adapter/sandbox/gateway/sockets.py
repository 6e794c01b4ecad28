"""One websocket and its channels: the Phoenix side of Realtime.

Not imitated: presence, the old join without `config`, replay, and the crash of a channel.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from adapter.sandbox.gateway import bindings, frames
from adapter.sandbox.gateway.bindings import BadBinding, Binding
from adapter.sandbox.gateway.changes import Changes
from adapter.sandbox.gateway.frames import Frame, dumps
from adapter.sandbox.gateway.keys import BadToken, Claims, Keys
from adapter.sandbox.gateway.limits import Delays

CHANNELS = 100
"""Most channels on one websocket."""

RETRY_SECONDS = 5.0
"""The server tries a subscription again by itself when the database was in trouble."""

FLUSH_SECONDS = 1.0
"""A client that does not read for this long hears no last words."""

CLAIMS_MISSING = "Fields `role` and `exp` are required in JWT"
NOT_A_JWT = "The token provided is not a valid JWT"


class Hub(Protocol):
    """What a socket needs of the server around it."""

    keys: Keys
    delays: Delays
    changes: Changes

    async def may(self, action: str, topic: str, claims: Claims) -> bool:
        """Whether these claims may `read` or `write` messages of a private topic."""

    def broadcast(self, topic: str, *, private: bool, payload: str, sender: "Channel | None") -> None:
        """Deliver one broadcast payload (JSON text) to the channels of a topic."""

    def drops(self) -> bool:
        """Count one message; True if it must be dropped, untold (the test's fault, or the rate limit)."""


def realtime_claims(keys: Keys, token: str) -> Claims:
    """The claims of a token that Realtime accepts: not expired to the second, with role and exp. Else BadToken."""
    claims = keys.claims(token)
    if not isinstance(claims.get("exp"), int | float) or not isinstance(claims.get("role"), str):
        raise BadToken("claims")
    return keys.valid_claims(token)


@dataclass(slots=True, kw_only=True, eq=False)
class Channel:
    """A joined channel."""

    socket: "Socket"
    topic: str
    join_ref: Any
    private: bool
    hears_itself: bool
    acknowledges: bool
    bindings: tuple[Binding, ...]
    token: str
    claims: Claims
    _expiry: asyncio.TimerHandle | None = None
    _subscription: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The topic without its prefix."""
        return self.topic.removeprefix("realtime:")

    @property
    def role(self) -> str:
        """The database role whose rights count."""
        return str(self.claims["role"])

    def open(self, former: "Channel | None") -> None:
        """After the join's reply: watch the token's end, subscribe to changes if asked to."""
        self._watch_expiry()
        self._subscribe(0.0, former)

    def close(self) -> None:
        """Take the subscription down; says nothing to the client."""
        for running in (self._expiry, self._subscription):
            if running:
                running.cancel()
        self.socket.hub.changes.leave(self)

    def end(self, reason: str | None = None) -> None:
        """Close it from our side: the reason, if any, then phx_close with the join's ref."""
        if reason is not None:
            self.system("error", reason, extension="system")
        self.close()
        self.socket.channels.pop(self.topic, None)
        self.socket.push(topic=self.topic, event="phx_close", payload="{}", ref=self.join_ref, join_ref=self.join_ref)

    def renew(self, token: str, claims: Claims) -> None:
        """Go on with another token: what is in force stays so, and is said again a little later."""
        self.token, self.claims = token, claims
        self._watch_expiry()
        self._subscribe(self.socket.hub.delays.resubscribe)

    def system(self, status: str, message: str, *, extension: str = "postgres_changes") -> None:
        """Push a `system` message."""
        payload = {"message": message, "status": status, "extension": extension, "channel": self.name}
        self.socket.push(topic=self.topic, event="system", payload=dumps(payload), join_ref=self.join_ref)

    def changed(self, payload: str) -> None:
        """One row change."""
        if not self.socket.hub.drops():
            self.socket.push(topic=self.topic, event="postgres_changes", payload=payload)

    def lost_table(self, message: str) -> None:
        """A table of ours left the publication: said once, and the channel stays joined."""
        self.system("error", message)

    def _watch_expiry(self) -> None:
        if self._expiry:
            self._expiry.cancel()
        left = float(self.claims["exp"]) - time.time()
        self._expiry = asyncio.get_running_loop().call_later(left, self.end, "Token has expired 0 seconds ago")

    def _subscribe(self, delay: float, former: "Channel | None" = None) -> None:
        if self._subscription:
            self._subscription.cancel()
        if self.bindings:
            self.socket.hub.changes.enter(self, after=former)
            self._subscription = asyncio.create_task(self._subscribed(delay), name=f"subscribe {self.topic}")

    async def _subscribed(self, delay: float) -> None:
        await asyncio.sleep(delay)
        changes = self.socket.hub.changes
        error = bindings.unsubscribable(self.bindings) or await changes.confirm(self)
        while error and error.startswith("{:error"):  # Database trouble is tried again, a wrong subscription is not.
            self.system("error", error)
            await asyncio.sleep(RETRY_SECONDS)
            changes.enter(self)
            error = await changes.confirm(self)
        if error:
            changes.leave(self)
        self.system("error", error) if error else self.system("ok", "Subscribed to PostgreSQL")


@dataclass(slots=True, kw_only=True, eq=False)
class Socket:
    """One connection. `token`: the JWT it was opened with, the channels' own unless they bring one."""

    hub: Hub
    request: web.Request
    ws: web.WebSocketResponse
    version: str
    token: str
    channels: dict[str, Channel] = field(default_factory=dict)
    _out: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    def push(self, *, topic: str, event: str, payload: str, ref: Any = None, join_ref: Any = None) -> None:
        """Queue one frame; never waits for a slow client."""
        text = frames.encode(self.version, topic=topic, event=event, payload=payload, ref=ref, join_ref=join_ref)
        self._out.put_nowait(text)

    def reply(self, frame: Frame, status: str, response: Mapping[str, Any]) -> None:
        """Answer a frame."""
        payload = dumps({"status": status, "response": response})
        self.push(topic=frame.topic, event="phx_reply", payload=payload, ref=frame.ref, join_ref=frame.join_ref)

    async def flushed(self) -> None:
        """Wait, but not long, until everything queued is written."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._out.join(), FLUSH_SECONDS)

    async def serve(self) -> None:
        """Until the connection ends."""
        writer = asyncio.create_task(self._write(), name="sandbox websocket writer")
        try:
            while True:
                try:
                    message = await self.ws.receive(self.hub.delays.idle)
                except TimeoutError:
                    await self.ws.close(code=WSCloseCode.OK)
                    return
                if not await self._received(message):
                    return
        except ConnectionError:
            return  # Cut.
        finally:
            writer.cancel()
            for channel in self.channels.values():
                channel.close()
            self.channels.clear()

    async def _write(self) -> None:
        with suppress(ConnectionError, RuntimeError):  # Closed under our hands: the reader ends the connection.
            while True:
                await self.ws.send_str(await self._out.get())
                self._out.task_done()

    async def _received(self, message: WSMessage) -> bool:
        if message.type is WSMsgType.PING:
            await self.ws.pong(message.data)
        elif message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            frame = frames.decode(self.version, message.data)
            if frame:
                await self._handle(frame)
        return message.type not in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)

    async def _handle(self, frame: Frame) -> None:
        if frame.topic == "phoenix":
            if frame.event == "heartbeat":
                self.reply(frame, "ok", {})
        elif frame.event == "phx_join":
            await self._join(frame)
        elif frame.event == "phx_leave":
            self.reply(frame, "ok", {})
            if frame.topic in self.channels:
                self.channels[frame.topic].end()
        elif frame.topic not in self.channels:
            self.reply(frame, "error", {"reason": "unmatched topic"})
        elif frame.event == "access_token":
            self._new_token(self.channels[frame.topic], frame)
        elif frame.event == "broadcast":
            await self._broadcast(self.channels[frame.topic], frame)

    # ------------------------------------------------------------ joining

    async def _join(self, frame: Frame) -> None:
        if not frame.topic.startswith("realtime:"):
            self.reply(frame, "error", {"reason": "unmatched topic"})
            return
        try:
            channel = await self._channel(frame)
        except _Refused as refused:
            # The real server waits here, and with it the whole socket: so do we.
            await asyncio.sleep(self.hub.delays.join_error)
            self.reply(frame, "error", {"reason": str(refused)})
            return
        former = self.channels.get(frame.topic)
        self.reply(frame, "ok", {"postgres_changes": bindings.reply(channel.bindings)})
        channel.open(former)
        if former:
            former.end()
        self.channels[frame.topic] = channel

    async def _channel(self, frame: Frame) -> Channel:
        payload = frame.payload if isinstance(frame.payload, Mapping) else {}
        config = payload.get("config")
        config = config if isinstance(config, Mapping) else {}
        broadcast = config.get("broadcast")
        broadcast = broadcast if isinstance(broadcast, Mapping) else {}
        name = frame.topic.removeprefix("realtime:")
        if not name:
            raise _Refused("TopicNameRequired: You must provide a topic name")
        if len(self.channels) >= CHANNELS and frame.topic not in self.channels:
            raise _Refused("ChannelRateLimitReached: Too many channels")
        given = payload.get("access_token")
        token = given if isinstance(given, str) and not given.startswith("sb_") else self.token
        try:
            claims = realtime_claims(self.hub.keys, token)
        except BadToken as bad:
            raise _Refused(_JOIN_REFUSALS[bad.kind].format(seconds=bad.seconds)) from None
        private = config.get("private") is True
        if private and not await self.hub.may("read", name, claims):
            raise _Refused(f"Unauthorized: You do not have permissions to read from this Channel topic: {name}")
        try:
            wanted = bindings.read_bindings(config)
        except BadBinding as bad_binding:
            raise _Refused(str(bad_binding)) from None
        return Channel(
            socket=self,
            topic=frame.topic,
            join_ref=frame.join_ref if frame.join_ref is not None else frame.ref,
            private=private,
            hears_itself=broadcast.get("self") is True,
            acknowledges=broadcast.get("ack") is True,
            bindings=wanted,
            token=token,
            claims=claims,
        )

    # ------------------------------------------------------------ on a joined channel

    def _new_token(self, channel: Channel, frame: Frame) -> None:
        token = frame.payload.get("access_token") if isinstance(frame.payload, Mapping) else None
        if not isinstance(token, str) or token.startswith("sb_") or token == channel.token:
            return  # Ignored without a word.
        try:
            claims = realtime_claims(self.hub.keys, token)
        except BadToken as bad:
            channel.end(_TOKEN_REFUSALS[bad.kind].format(seconds=bad.seconds))
            return
        channel.renew(token, claims)

    async def _broadcast(self, channel: Channel, frame: Frame) -> None:
        if channel.private and not await self.hub.may("write", channel.name, channel.claims):
            return
        self.hub.broadcast(channel.topic, private=channel.private, payload=dumps(frame.payload), sender=channel)
        if channel.acknowledges:
            self.reply(frame, "ok", {})


class _Refused(Exception):
    """The join is refused; the text is the reason."""


_JOIN_REFUSALS: Mapping[str, str] = {
    "signature": "JwtSignatureError: Failed to validate JWT signature",
    "malformed": f"MalformedJWT: {NOT_A_JWT}",
    "expired": "InvalidJWTToken: Token has expired {seconds} seconds ago",
    "claims": f"InvalidJWTToken: {CLAIMS_MISSING}",
}

_TOKEN_REFUSALS: Mapping[str, str] = {
    "signature": ":signature_error",
    "malformed": NOT_A_JWT,
    "expired": "Token has expired {seconds} seconds ago",
    "claims": CLAIMS_MISSING,
}
