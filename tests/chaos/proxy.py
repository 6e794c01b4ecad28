"""A TCP proxy with faults: what a network does to a connection, on purpose.

Whoever connects to `port` is passed on to the target. Each connection is of a kind: the Realtime socket and ordinary
requests share one port and are told apart by their first line; everything else has no kind.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

CHUNK = 65536
"""Bytes passed on at once."""

LINGER_ZERO = struct.pack("ii", 1, 0)
"""SO_LINGER with which a close is an RST."""

LATENCY = 0.3
"""Seconds that a slow network adds to each chunk; AMI and HTTP both have patience for more."""


@dataclass(slots=True, eq=False)
class Connection:
    """Two sockets and what happens between them. `up` is towards the target."""

    kind: str
    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    gates: Mapping[str, asyncio.Event] = field(default_factory=lambda: {"up": asyncio.Event(), "down": asyncio.Event()})
    swallow: set[str] = field(default_factory=set)
    delay: float = 0.0

    def __post_init__(self) -> None:
        for gate in self.gates.values():
            gate.set()

    def cut(self) -> None:
        """Say goodbye to both sides in the middle of whatever they were saying."""
        for writer in (self.near, self.far):
            writer.close()

    def reset(self) -> None:
        """RST to both sides."""
        for writer in (self.near, self.far):
            plain = writer.get_extra_info("socket")
            if plain is not None:
                with contextlib.suppress(OSError):  # Gone this very moment.
                    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
            writer.transport.abort()

    def lose_far(self) -> None:
        """The target's side goes; ours stays open and says nothing more."""
        self.gates["down"].clear()
        self.swallow.add("up")
        self.far.transport.abort()


class Proxy:
    """Use `async with Proxy.started(port) as proxy`; the faults return when they are over."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._refusing = False
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def started(cls, target: int) -> AsyncIterator[Self]:
        """Listen on a free port of loopback and pass on to this one."""
        proxy = cls(target)
        server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            server.close()
            for connection in list(proxy._connections):
                connection.reset()
            for task in list(proxy._tasks):
                task.cancel()
            await asyncio.gather(*proxy._tasks, return_exceptions=True)

    def open(self, kind: str = "") -> list[Connection]:
        """The connections of one kind, or all."""
        return [connection for connection in self._connections if not kind or connection.kind == kind]

    # -- faults

    async def cut(self, kind: str, seconds: float) -> None:
        """Close what is open; a new connection is taken at once."""
        for connection in self.open(kind):
            connection.cut()

    async def reset(self, kind: str, seconds: float) -> None:
        """RST, and new connections are reset too until it is over."""
        self._refusing = True
        try:
            for connection in self.open(kind):
                connection.reset()
            await asyncio.sleep(seconds)
        finally:
            self._refusing = False

    async def stall(self, kind: str, seconds: float) -> None:
        """Nothing passes in either direction; everything that was said arrives afterwards."""
        await self._hold(self.open(kind), ("up", "down"), seconds)

    async def stall_up(self, kind: str, seconds: float) -> None:
        """The target hears nothing; what it says arrives."""
        await self._hold(self.open(kind), ("up",), seconds)

    async def stall_down(self, kind: str, seconds: float) -> None:
        """The target hears everything; nothing that it says arrives until it is over."""
        await self._hold(self.open(kind), ("down",), seconds)

    async def swallow_down(self, kind: str, seconds: float) -> None:
        """What the target says is lost: the network takes one direction away, and the connection dies of it."""
        hit = self.open(kind)
        for connection in hit:
            connection.swallow.add("down")
        await asyncio.sleep(seconds)
        for connection in hit:
            connection.reset()

    async def half_open(self, kind: str, seconds: float) -> None:
        """The target is gone and nobody says so; the connection ends when its owner gives it up."""
        for connection in self.open(kind):
            connection.lose_far()

    async def delay(self, kind: str, seconds: float) -> None:
        """Each chunk comes late."""
        hit = self.open(kind)
        for connection in hit:
            connection.delay = LATENCY
        await asyncio.sleep(seconds)
        for connection in hit:
            connection.delay = 0.0

    async def _hold(self, hit: list[Connection], ways: tuple[str, ...], seconds: float) -> None:
        for connection in hit:
            for way in ways:
                connection.gates[way].clear()
        await asyncio.sleep(seconds)
        for connection in hit:
            for way in ways:
                connection.gates[way].set()

    # -- passing on

    async def _accept(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._connect(reader, near)
        finally:
            self._tasks.discard(task)
            near.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        if self._refusing:
            return
        far_reader, far = await asyncio.open_connection("127.0.0.1", self._target)
        connection = Connection("", near, far)
        self._connections.add(connection)
        try:
            up = asyncio.create_task(self._pump(connection, "up", reader, far))
            down = asyncio.create_task(self._pump(connection, "down", far_reader, near))
            try:
                await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
                # Half-open: the target went silently, and whoever is near must find out by itself.
                if "up" in connection.swallow and not up.done():
                    await up
            finally:
                for pump in (up, down):
                    pump.cancel()
                await asyncio.gather(up, down, return_exceptions=True)
        finally:
            self._connections.discard(connection)
            far.transport.abort()

    async def _pump(
        self, connection: Connection, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        first = way == "up"
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK):
                if first:
                    connection.kind = _kind(chunk)
                    first = False
                if connection.delay:
                    await asyncio.sleep(connection.delay)
                await connection.gates[way].wait()
                if way not in connection.swallow:
                    writer.write(chunk)
                    await writer.drain()


def _kind(chunk: bytes) -> str:
    line = chunk.split(b"\r\n", 1)[0]
    if b"/realtime/" in line:
        return "realtime"
    return "http" if b" HTTP/1." in line else ""


Line = Callable[[Proxy, str, float], Awaitable[None]]
"""One of the faults above, unbound."""
