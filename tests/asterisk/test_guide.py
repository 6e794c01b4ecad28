"""The lines that the guide gives to paste into a MikoPBX, run on a real Asterisk by a call that the daemon places."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import cast

import pytest

from adapter.core.originate import exact
from adapter.sandbox.asterisk import RealPbx
from adapter.sandbox.world import World
from tests.e2e.test_daemon import ALL_DONE, USER, _until
from tests.test_guide import blocks, page

pytestmark = [pytest.mark.asterisk, pytest.mark.timeout(120)]

LINES = {match[1]: text for text in blocks(page("ai.md"), "dialplan") if (match := re.search(r"n,(\w+)\(", text))}
"""By the application that the block hands the call to: its second line."""

(EXTENSION,) = set(re.findall(r"`AI_EXTENSION=(\d+)`", page("ai.md")))

CALLEE = "+601199000010"
"""Talks (a tone) until the other side hangs up. Scenario 99 is of those tests alone that write its callee."""

STAYS = "exten => 1199,1,Ringing()\n same => n,Answer(,i)\n same => n,Milliwatt()\n"

NAME = "Aminah, Siti"
GIFT = {"customer_name": NAME, "variables": {"offer": "A"}}

VARIABLES = ("CALL_ID", "call_id", "USER_ID", "user_id", "CUSTOMER_NAME", "customer_name", "CUSTOMER_NAME_B64", "offer")

FRAME = 320
"""Bytes of 20 ms: 8000 samples a second, 16 bits, mono."""

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def as_mikopbx_writes_it(extension: str, lines: str) -> str:
    """What MikoPBX makes of a dialplan application of type "Asterisk Dialplan" (DialplanApplicationConf.php)."""
    first, *rest = [line for line in lines.splitlines() if line.strip()]
    return "\n".join([f"exten => _{extension},{first}", *(f"\tsame => {line}" for line in rest)]) + "\n"


@asynccontextmanager
async def _talking(tmp_path: Path, lines: str, serve: Serve, modules: Iterable[str]) -> AsyncIterator[World]:
    """A world in which the extension of the page exists as the page says, and `serve` is the AI program behind it."""
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        here, places = re.subn(r"192\.0\.2\.20:\d+", f"127.0.0.1:{port}", lines)
        assert places == 1
        async with _world(tmp_path, here, modules) as world:
            await _call(world)
            yield world


async def _call(world: World) -> None:
    await world.daemon.start()
    await world.queue([{"user_id": USER, "phone_number": CALLEE, **GIFT}])


@asynccontextmanager
async def _world(tmp_path: Path, lines: str, modules: Iterable[str]) -> AsyncIterator[World]:
    """A world without its daemon, in whose PBX the extension of the page holds these lines."""
    settings = {"AI_EXTENSION": EXTENSION, "LOG_FORMAT": "json"}
    async with World.started(pbx="asterisk", directory=tmp_path, settings=settings, daemon=False) as world:
        pbx = cast("RealPbx", world.pbx)
        plan = pbx.folder / "pbx" / "etc" / "extensions.conf"
        application = as_mikopbx_writes_it(EXTENSION, lines)
        plan.write_text(plan.read_text().replace("[applications]\n", f"[applications]\n{application}\n"))
        for module in modules:
            assert f"Loaded {module}" in await pbx.cli(f"module load {module}"), pbx.logs()
        await pbx.cli("dialplan reload")
        callee = pbx._carrier_folder / "etc" / "extensions.conf"
        callee.write_text(f"{callee.read_text()}\n{STAYS}")
        await pbx._carrier.cli("module load app_milliwatt.so")
        await pbx._carrier.cli("dialplan reload")
        yield world


async def _frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Kind and payload of one frame of the AudioSocket protocol."""
    kind, *length = await reader.readexactly(3)
    return kind, await reader.readexactly(int.from_bytes(bytes(length), "big"))


async def test_audiosocket(tmp_path: Path) -> None:
    told: list[str] = []
    sound: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """An AI that listens for three seconds (less would be a dropped call), talks all the while, and hangs up."""
        with closing(writer):
            kind, payload = await _frame(reader)
            assert kind == 0x01
            told.append(str(uuid.UUID(bytes=payload)))
            while len(sound) < 150:
                kind, payload = await _frame(reader)
                assert kind == 0x10
                sound.append(payload)
                writer.write(b"\x10" + FRAME.to_bytes(2, "big") + bytes(FRAME))
            writer.write(b"\x00\x00\x00")
            await writer.drain()

    modules = re.findall(r"^load => (\S+)$", page("ai.md"), re.MULTILINE)
    async with _talking(tmp_path, LINES["AudioSocket"], serve, modules) as world:
        await _until(world, ALL_DONE)
        row = await world.pool.fetchrow("select call_id::text, outcome from call_queue")
        log = await world.pool.fetchrow("select call_id, status, metadata::text from call_logs")
    assert row is not None
    assert log is not None
    assert told == [row["call_id"]] == [log["call_id"]]
    assert (row["outcome"], log["status"]) == ("answered", "answered"), log["metadata"]
    assert {len(payload) for payload in sound} == {FRAME}
    assert any(payload.strip(b"\x00") for payload in sound)


async def test_fastagi(tmp_path: Path) -> None:
    heard: dict[str, str] = {}
    asked: dict[str, str] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """An AI that asks for what the page says it can know, and leaves after three seconds."""
        with closing(writer):
            while (line := (await reader.readline()).decode().strip()) != "":
                name, _, value = line.partition(": ")
                heard[name] = value
            for name in VARIABLES:
                writer.write(f"GET VARIABLE {name}\n".encode())
                answer = (await reader.readline()).decode().strip()
                assert answer.startswith("200 result=1"), (name, answer)
                asked[name] = answer.partition("(")[2].removesuffix(")")
            await asyncio.sleep(3)

    # MikoPBX has both of these loaded.
    async with _talking(tmp_path, LINES["AGI"], serve, ["res_speech.so", "res_agi.so"]) as world:
        await _until(world, ALL_DONE)
        row = await world.pool.fetchrow("select call_id::text, outcome, user_id::text from call_queue")
    assert row is not None
    assert row["outcome"] == "answered"
    assert heard["agi_arg_1"] == asked["CALL_ID"] == asked["call_id"] == row["call_id"]
    assert heard["agi_network_script"] == "call"
    assert asked["USER_ID"] == asked["user_id"] == row["user_id"]
    assert (asked["CUSTOMER_NAME"], asked["CUSTOMER_NAME_B64"]) == (NAME.replace(",", ""), exact(NAME))
    assert asked["offer"] == "A"


async def test_sip_client(tmp_path: Path) -> None:
    """The carrier plays the AI as well: extension 201 of the PBX is registered at an address of its."""
    async with _world(tmp_path, LINES["Dial"], ["res_pjsip_header_funcs.so"]) as world:
        pbx = cast("RealPbx", world.pbx)
        peer = pbx.folder / "pbx" / "etc" / "pjsip.conf"
        contact = f"sip:1198000000@127.0.0.1:{pbx.ports.carrier_sip}"
        endpoint = "[201](provider)\ncontext = all_peers\naors = 201\n"
        peer.write_text(f"{peer.read_text()}\n{endpoint}\n[201]\ntype = aor\ncontact = {contact}\n")
        await pbx.cli("module reload res_pjsip.so")

        told = pbx._carrier_folder / "told"
        told.touch(mode=0o666)
        told.chmod(0o666)
        seen = pbx._places["carrier"].seen / "carrier" / "told"
        steps = (
            "exten => 1198,1,Answer(,i)",
            f" same => n,Set(FILE({seen},,,al,u)=${{PJSIP_HEADER(read,X-Call-Id)}})",
            " same => n,Wait(3)",
            " same => n,Hangup()",
        )
        plan = pbx._carrier_folder / "etc" / "extensions.conf"
        plan.write_text(plan.read_text() + "\n".join(steps) + "\n")
        await pbx._carrier.cli("module load res_pjsip_header_funcs.so")
        await pbx._carrier.cli("dialplan reload")

        await _call(world)
        await _until(world, ALL_DONE)
        row = await world.pool.fetchrow("select call_id::text, outcome from call_queue")
        assert row is not None
        assert (row["outcome"], told.read_text().split()) == ("answered", [row["call_id"]]), pbx.logs()
