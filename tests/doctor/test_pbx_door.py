"""The way into a PBX that is not there, is silent, is something else, or stops answering: each wait has an end."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from adapter.core.model import Form, NumberStyle
from adapter.doctor.findings import Finding, Verdict
from adapter.doctor.pbx import CHECKS, look
from adapter.doctor.pbx.scene import TIMINGS
from adapter.pbx import PbxConfig, Timings
from tests.pbx.helpers import config, until
from tests.support.ami_server import TRUNK, AmiServer

NAMES = [check.name for check in CHECKS]

SHORT = replace(TIMINGS, connect=0.3, login=0.3, booted=0.2, answer=0.3, first_event=0.2, pong=0.2)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def at(port: int, **changed: Any) -> PbxConfig:
    base = PbxConfig(
        host="127.0.0.1",
        port=port,
        username="dialer",
        password="not-a-real-one",
        trunk=TRUNK,
        ai_context="all_peers",
        ai_extension="999",
    )
    return replace(base, **changed)


async def looked(wanted: PbxConfig, timings: Timings = SHORT) -> tuple[dict[str, Finding], float]:
    began = time.monotonic()
    found = [
        finding
        async for finding in look(
            wanted,
            region="MY",
            caller_id=None,
            number_style=NumberStyle.E164,
            max_calls=50,
            timings=timings,
        )
    ]
    assert [finding.check for finding in found] == NAMES
    assert all(wanted.password not in repr(finding) for finding in found)
    return {finding.check: finding for finding in found}, time.monotonic() - began


def failed_at(found: dict[str, Finding], name: str) -> Finding:
    """This one failed, those before are well, and nothing was tried after it."""
    index = NAMES.index(name)
    assert {found[each].verdict for each in NAMES[:index]} <= {Verdict.OK}
    assert found[name].verdict is Verdict.FAIL
    assert {found[each].verdict for each in NAMES[index + 1 :]} == {Verdict.SKIPPED}
    assert {found[each].tried for each in NAMES[index + 1 :]} == {"nothing"}
    return found[name]


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def closing(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    return


async def web(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    await writer.drain()


async def endless(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"\x00\xff" * 50)
        await writer.drain()


async def dripping(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"A")
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (silent, "then came nothing within 0.3 s"),
        (closing, "closed at once"),
        (web, "no AMI: 'SSH-2.0-OpenSSH_9.2"),
        (endless, "no AMI"),
        (dripping, "no AMI: 'AAAA"),
    ],
)
async def test_what_is_no_pbx(handler: Handler, words: str) -> None:
    async with serving(handler) as port:
        found, took = await looked(at(port))
    assert words in failed_at(found, "pbx.reach").found
    assert took < 2


async def test_a_closed_port() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        found, took = await looked(at(taken.getsockname()[1]))
    told = failed_at(found, "pbx.reach")
    assert "no connection" in told.found
    assert "MIKOPBX_AMI_PORT" in told.mend
    assert took < 1


async def test_packets_that_are_dropped_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_args: Any, **_options: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "open_connection", never)
    found, took = await looked(at(5038))
    told = failed_at(found, "pbx.reach")
    assert "packets are dropped on the way" in told.found
    assert "fail2ban" in told.mend
    assert took < 1


async def test_names_that_lead_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()

    async def unknown(*_args: Any, **_options: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def never(*_args: Any, **_options: Any) -> None:
        await asyncio.Event().wait()

    async def mixed(*_args: Any, **_options: Any) -> Any:
        return [(2, 1, 6, "", ("10.1.2.3", 5038)), (2, 1, 6, "", ("192.0.2.7", 5038))]

    for resolver, words in (
        (unknown, "Name or service not known"),
        (never, "no answer within 0.3 s"),
        (mixed, "192.0.2.7"),
    ):
        monkeypatch.setattr(loop, "getaddrinfo", resolver)
        found, took = await looked(at(5038, host="pbx.example.com"))
        assert words in failed_at(found, "pbx.address").found
        assert took < 1
    monkeypatch.undo()
    found, _ = await looked(at(5038, host="a" * 70 + ".example.com"))
    assert "cannot be resolved" in failed_at(found, "pbx.address").found


@pytest.mark.parametrize(("mode", "words"), [("silent", "did not answer the login"), ("close", "no login")])
async def test_a_login_without_an_answer(mode: str, words: str) -> None:
    async with AmiServer.started() as pbx:
        pbx.faults.login = mode
        found, took = await looked(config(pbx))
        assert words in failed_at(found, "pbx.login").found
        assert len(pbx.seen("Login")) == 1
        await until(lambda: not pbx._handlers)  # Both connections are closed from our side.
        assert took < 2


async def test_a_pbx_that_is_still_starting() -> None:
    """AMI lets us in before the dialplan is loaded; then nothing can be judged."""
    async with AmiServer.started() as pbx:
        pbx.faults.booted_after = None
        found, took = await looked(config(pbx))
        told = failed_at(found, "pbx.events")
        assert "has not finished its start" in told.found
        assert pbx.originates() == []
        assert took < 3


@pytest.mark.parametrize("form", [Form.TRUNK, Form.ROUTE])
async def test_questions_that_get_no_answer_end_the_visit(form: Form) -> None:
    """Whatever the PBX stops answering at, doctor comes to its end."""
    for action in ("ListCommands", "Getvar", "Originate", "CoreSettings", "Ping", "ShowDialPlan"):
        async with AmiServer.started() as pbx:
            pbx.faults.mute = {action, "Ping"}
            wanted = config(pbx, form=form, ping_seconds=100.0)
            found, took = await looked(wanted)
            assert Verdict.FAIL not in {f.verdict for name, f in found.items() if name != "pbx.events"}, action
            assert found["pbx.ai"].verdict is Verdict.SKIPPED, action
            assert took < 3, action


async def test_answers_that_make_no_sense() -> None:
    async with AmiServer.started() as pbx:
        pbx.variables["DIALPLAN_EXISTS(all_peers,failed,1)"] = "1"
        for raw in (
            b"Response: Success\r\nActionID: {id}\r\n\r\n",
            b"Response: Error\r\nActionID: {id}\r\nMessage: Out of order\r\n\r\n",
        ):
            pbx.faults.raw = dict.fromkeys(
                ("ListCommands", "CoreSettings", "Ping", "ShowDialPlan", "PJSIPShowRegistrationsOutbound"), raw
            )
            found, _ = await looked(config(pbx))
            assert found["pbx.version"].verdict in {Verdict.WARN, Verdict.SKIPPED}
            assert found["pbx.clock"].verdict is Verdict.SKIPPED
            assert found["pbx.ai"].verdict is Verdict.OK, "one question without an answer does not end the visit"
