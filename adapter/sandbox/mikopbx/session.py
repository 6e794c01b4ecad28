"""One AMI connection of the simulated PBX: login, rights, event mask, and actions one after the other."""

import asyncio
from typing import TYPE_CHECKING

from adapter.sandbox.mikopbx.wire import BANNER, Action, Reader

if TYPE_CHECKING:
    from adapter.sandbox.mikopbx.pbx import SimulatedPbx

SLOW_READER = 3_000_000
"""Bytes that wait for a client that does not read before it is cut off (measured on a real one: about 3 MB)."""

ALL_EVENTS = frozenset({"call", "system", "user", "dialplan", "reporting", "cdr", "agent", "dtmf", "log", "command"})


def event_mask(text: str) -> frozenset[str]:
    """Classes that `Events` or `EventMask` asks for: `on`, `off` or a list of classes."""
    word = text.strip().lower()
    if word in {"on", "yes", "true", "1", "all"}:
        return ALL_EVENTS
    if word in {"off", "no", "false", "0"}:
        return frozenset()
    return ALL_EVENTS & {part.strip() for part in word.split(",")}


class Session(asyncio.Protocol):
    """One connection. Bytes are taken as they come, actions are executed in order by a task of the PBX.

    What was read is executed even if the client has gone since, as a real PBX does.
    """

    def __init__(self, pbx: "SimulatedPbx") -> None:
        self.logged_in = False
        self.mask = ALL_EVENTS
        self._pbx = pbx
        self._reader = Reader()
        self._inbox: asyncio.Queue[Action | None] = asyncio.Queue()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet as soon as the PBX is awake, then serve."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("the simulated PBX listens on stream sockets only")
        self._transport = transport
        self._pbx.adopt(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes; nothing is executed here."""
        for action in self._reader.feed(data):
            self._inbox.put_nowait(action)

    def eof_received(self) -> bool:
        """Execute what has come, then close."""
        self._inbox.put_nowait(None)
        return True

    def connection_lost(self, _exc: Exception | None) -> None:
        """Hear no more events; what was read is still executed."""
        self._transport = None
        self._pbx.forget(self)
        self._inbox.put_nowait(None)

    def hears(self, rights: str) -> bool:
        """True if an event of this class goes to this connection."""
        return self.logged_in and rights in self.mask and rights in self._pbx.read

    def write(self, data: bytes) -> None:
        """Send bytes, unless the client is gone or has stopped reading."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() > SLOW_READER:
            self._transport.abort()
            return
        self._transport.write(data)

    def close(self, *, hard: bool = False) -> None:
        """Close the connection; `hard` drops what was not sent yet."""
        if self._transport is not None:
            if hard:
                self._transport.abort()
            else:
                self._transport.close()

    async def serve(self) -> None:
        """Greet and execute actions until the client leaves or is thrown out."""
        await self._pbx.awake()
        self.write(BANNER)
        while (action := await self._inbox.get()) is not None:
            await self._pbx.awake()
            if not await self._pbx.answer(self, action):
                break
        self.close()
