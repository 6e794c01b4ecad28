"""A REST server on a real socket that answers what a test wants, well or badly."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `after` seconds late; `drop` resets the connection instead; `drip` sends a byte every 20 ms."""

    status: int = 200
    body: object = None
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    after: float = 0.0
    drop: bool = False
    drip: bool = False


@dataclass(slots=True)
class FaultyRest:
    """Requests seen, connections made, and what to answer."""

    url: str = ""
    answer: Callable[[Request], Answer] = lambda _: Answer(body={})
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    """Connections open now."""

    under_way: int = 0
    most_under_way: int = 0
    """Requests read and not answered yet, now and at most."""

    idle_close: float | None = None
    """Seconds after which an idle connection is closed by the server."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while (request := await self._read(reader)) is not None:
                self.requests.append(request)
                self.under_way += 1
                self.most_under_way = max(self.most_under_way, self.under_way)
                try:
                    again = await self._reply(writer, self.answer(request))
                finally:
                    self.under_way -= 1
                if not again:
                    break
        except (ConnectionError, TimeoutError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Request | None:
        try:
            async with asyncio.timeout(self.idle_close):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.decode().split("\r\n")
        headers = dict(_header(line) for line in lines if line)
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        method, path, _ = first.split(" ", 2)
        return Request(method, path, headers, json.loads(body) if body else None)

    async def _reply(self, writer: asyncio.StreamWriter, answer: Answer) -> bool:
        await asyncio.sleep(answer.after)
        if answer.drop:
            writer.transport.abort()
            return False
        body = answer.body.encode() if isinstance(answer.body, str) else json.dumps(answer.body).encode()
        lines = [
            f"HTTP/1.1 {answer.status} Any",
            f"content-type: {answer.content_type}",
            f"content-length: {len(body)}",
            *(f"{name}: {value}" for name, value in answer.headers),
        ]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        if answer.drip:
            for byte in body:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.02)
            return True
        writer.write(body)
        await writer.drain()
        return True


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), value.strip()


@contextlib.asynccontextmanager
async def faulty_rest() -> AsyncIterator[FaultyRest]:
    """A running server; everything is gone afterwards."""
    rest = FaultyRest()
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(rest.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    rest.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield rest
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
