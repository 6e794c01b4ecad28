"""AMI is clear text: nothing is sent to a public address, and a private one is never complained about."""

import asyncio
import logging
import socket
from typing import Any

import pytest

from adapter.pbx import PbxConfig, PbxLink
from adapter.pbx.networks import public
from tests.pbx.helpers import FAST, running, until
from tests.support.ami_server import AmiServer


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.9.10", "::1", "10.1.2.3", "172.16.0.1", "172.31.255.254", "192.168.1.1", "169.254.1.1"),
        *("100.64.0.1", "100.127.255.254", "fd00::1", "fe80::1", "::ffff:192.168.1.1"),
    ],
)
def test_private_addresses(address: str) -> None:
    assert not public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("192.0.2.1", "198.51.100.1", "203.0.113.1", "172.15.0.1", "172.32.0.1", "192.169.0.1", "100.63.0.1"),
        *("100.128.0.1", "2001:db8::1", "::ffff:192.0.2.1"),
    ],
)
def test_public_addresses(address: str) -> None:
    assert public(address)


async def test_nothing_goes_to_a_public_address(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A name with a private and a public address: either may be taken by the next connect. Said once, for ever."""
    caplog.set_level(logging.WARNING, logger="adapter")
    async with AmiServer.started() as pbx:
        asked = 0

        async def getaddrinfo(host: str, port: int, **_more: Any) -> list[tuple[Any, ...]]:
            nonlocal asked
            asked += 1
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("127.0.0.1", "192.0.2.7")
            ]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        async with running(pbx, host="pbx.example.com", timings=FAST) as link:
            await until(lambda: asked >= 2)
            problem = link.status.problem or ""
            assert "pbx.example.com (192.0.2.7) is a public address" in problem
            assert "VPN" in problem
            assert not link.status.ready
        assert pbx.connections == []
        assert [record.getMessage() for record in caplog.records] == [problem]


async def test_a_numeric_public_address_is_refused_without_a_connect() -> None:
    link = PbxLink(
        PbxConfig(host="192.0.2.7", username="u", password="p", trunk="T", ai_context="all_peers", ai_extension="999"),
        FAST,
    )
    task = asyncio.create_task(link.run())
    await until(lambda: "192.0.2.7 is a public address" in (link.status.problem or ""))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
