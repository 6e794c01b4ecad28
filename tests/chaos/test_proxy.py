"""The faulty line does what it says: else the chaos run would attack nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.chaos.proxy import Proxy


@asynccontextmanager
async def _line() -> AsyncIterator[tuple[Proxy, asyncio.StreamReader, asyncio.StreamWriter, list[bytes]]]:
    """A proxy before a server that sends everything back, one connection through it, and what the server heard."""
    heard: list[bytes] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(100):
                heard.append(chunk)
                writer.write(chunk)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Proxy.started(server.sockets[0].getsockname()[1]) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"GET /realtime/v1/websocket HTTP/1.1\r\n")
        assert await reader.read(100)
        yield proxy, reader, writer, heard
        writer.close()


async def _silent(reader: asyncio.StreamReader, seconds: float = 0.15) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await reader.read(100)
    except TimeoutError:
        return True
    return False


async def test_kinds_are_told_apart() -> None:
    async with _line() as (proxy, *_):
        assert len(proxy.open()) == len(proxy.open("realtime")) == 1
        assert proxy.open("http") == []


async def test_a_cut_is_a_goodbye_and_a_reset_is_none() -> None:
    async with _line() as (proxy, reader, _, _):
        await proxy.cut("", 0)
        assert await asyncio.wait_for(reader.read(), 2) == b""
    async with _line() as (proxy, reader, _, _):
        await proxy.reset("", 0)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 2)


async def test_while_it_resets_nobody_gets_in() -> None:
    async with _line() as (proxy, *_):
        task = asyncio.create_task(proxy.reset("", 0.3))
        await asyncio.sleep(0.05)
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises(asyncio.IncompleteReadError):
            await asyncio.wait_for(reader.readexactly(1), 2)
        writer.close()
        await task


async def test_what_was_stalled_arrives_afterwards() -> None:
    async with _line() as (proxy, reader, writer, heard):
        task = asyncio.create_task(proxy.stall("", 0.4))
        await asyncio.sleep(0.05)
        writer.write(b"late")
        assert await _silent(reader)
        assert b"late" not in heard
        assert await asyncio.wait_for(reader.read(100), 2) == b"late"
        await task


async def test_one_direction_may_stall_alone() -> None:
    async with _line() as (proxy, reader, writer, heard):
        task = asyncio.create_task(proxy.stall_down("", 0.4))
        await asyncio.sleep(0.05)
        writer.write(b"heard")
        assert await _silent(reader)
        assert heard[-1] == b"heard"
        assert await asyncio.wait_for(reader.read(100), 2) == b"heard"
        await task


async def test_what_was_swallowed_never_arrives() -> None:
    async with _line() as (proxy, reader, writer, heard):
        task = asyncio.create_task(proxy.swallow_down("", 0.3))
        await asyncio.sleep(0.05)
        writer.write(b"heard")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 2)
        assert heard[-1] == b"heard"
        await task


async def test_a_half_open_connection_says_nothing() -> None:
    async with _line() as (proxy, reader, writer, heard):
        await proxy.half_open("", 0)
        writer.write(b"anybody?")
        assert await _silent(reader, 0.3)
        assert b"anybody?" not in heard


async def test_a_slow_network_is_slow() -> None:
    async with _line() as (proxy, reader, writer, _):
        task = asyncio.create_task(proxy.delay("", 1.0))
        await asyncio.sleep(0.05)
        writer.write(b"slowly")
        assert await _silent(reader, 0.3)
        assert await asyncio.wait_for(reader.read(100), 2) == b"slowly"
        await task
