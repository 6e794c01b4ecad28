"""`call` and `status` as processes, beside the real daemon, a real PostgreSQL and a simulated MikoPBX."""

import asyncio
import json
import os
import pty
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from adapter.commands.view.codes import Code
from adapter.sandbox.gateway.faults import Forward, lose
from adapter.sandbox.process import KEPT_ENVIRONMENT
from adapter.sandbox.scenarios import number
from adapter.sandbox.world import World

USER = "00000000-0000-4000-8000-00000000aaaa"
CAMPAIGN = "00000000-0000-4000-8000-00000000cccc"

pytestmark = pytest.mark.timeout(120)


@asynccontextmanager
async def _world(tmp_path: Path, *, daemon: bool = True, speed: float = 5.0) -> AsyncIterator[World]:
    async with World.started(speed=speed, directory=tmp_path, daemon=daemon) as world:
        if daemon:
            await _ready(world)
        hasty = asyncio.create_task(_hasten(world))
        try:
            yield world
        finally:
            hasty.cancel()


async def _hasten(world: World) -> None:
    """The ten seconds in which the AI may still have its say have tests of their own (tests/supabase)."""
    while True:
        await world.pool.execute("update call_queue set settle_at = now() where settle_at > now()")
        await asyncio.sleep(0.3)


async def _ready(world: World) -> None:
    async with asyncio.timeout(30):
        # It holds the PBX, and nothing is wrong any more: `status` would tell.
        well = "select count(*) from call_pbx x join call_adapters a on a.adapter = x.holder where "
        while not await world.pool.fetchval(well + "a.status ->> 'ready' = 'true' and a.status ->> 'problem' is null"):
            await asyncio.sleep(0.05)


@dataclass
class Run:
    """A command of ours at work. What it said is complete once it has ended."""

    process: asyncio.subprocess.Process
    out: str = ""
    err: str = ""
    _readers: list["asyncio.Task[None]"] = field(default_factory=list)

    @classmethod
    async def started(cls, world: World, *arguments: str, **environment: str) -> "Run":
        kept = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
        # The Supabase settings are all that these commands need.
        needed = {name: world.daemon.settings[name] for name in ("SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "adapter.cli", *arguments),
            env={**kept, **needed, **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        run = cls(process)
        run._readers = [asyncio.create_task(run._read("out")), asyncio.create_task(run._read("err"))]
        return run

    async def _read(self, name: str) -> None:
        stream = getattr(self.process, f"std{name}")
        while chunk := await stream.read(4096):
            setattr(self, name, getattr(self, name) + chunk.decode())

    async def said(self, pattern: str, seconds: float = 30.0) -> None:
        """Wait until it has said this."""
        try:
            async with asyncio.timeout(seconds):
                while not re.search(pattern, self.out + self.err):
                    assert self.process.returncode is None, f"it ended: {self.out}{self.err}"
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"it never said {pattern!r}: {self.out}{self.err}") from None

    async def ended(self, seconds: float = 60.0) -> int:
        """Its exit code."""
        async with asyncio.timeout(seconds):
            code = await self.process.wait()
            await asyncio.gather(*self._readers)
        return code


async def _run(world: World, *arguments: str) -> tuple[int, str]:
    run = await Run.started(world, *arguments)
    code = await run.ended()
    assert run.err == "", run.err
    return code, run.out


async def _call(world: World, code: str, *more: str, serial: int = 1) -> Run:
    return await Run.started(world, "call", number(code, serial), "--user", USER, *more)


def _steps(text: str) -> list[str]:
    """Names of the steps that were told."""
    return [line[10:].split("  ")[0] for line in text.splitlines() if re.match(r"\d\d:\d\d:\d\d  \w", line)]


async def _queued(world: World) -> list[Mapping[str, Any]]:
    return [dict(row) for row in await world.pool.fetch("select * from call_queue order by id")]


async def test_calls_are_followed_to_their_outcome(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        runs = {
            "answered": await _call(world, "10", "--name", "Aminah", "--variable", "offer=A", "--priority", "9"),
            "busy": await _call(world, "30"),
            "no_answer": await _call(world, "20"),
            "congestion": await _call(world, "70", "--json"),
        }
        codes = {name: await run.ended() for name, run in runs.items()}
        assert codes == {"answered": 0, "busy": 1, "no_answer": 1, "congestion": 1}
        texts = {name: run.out for name, run in runs.items()}
        assert _steps(texts["answered"]) == ["queued", "claimed", "dialing", "ringing", "answered", "ended", "answered"]
        assert _steps(texts["busy"]) == ["queued", "claimed", "dialing", "busy"]
        assert _steps(texts["no_answer"]) == ["queued", "claimed", "dialing", "ringing", "no_answer"]
        assert texts["answered"].startswith(f"Calling {number('10', 1)} …\n")
        assert re.fullmatch(
            r"Answered: [34] s of talk\. Row \d+, call [0-9a-f-]{36}", texts["answered"].splitlines()[-1]
        )
        assert texts["busy"].splitlines()[-1].startswith("Not answered: the line was busy (")
        # It was tried again, and each call is told.
        found = json.loads(texts["congestion"])
        assert (found["code"], found["row"]["outcome"]) == (1, "congestion")
        told = [step["name"] for step in found["steps"]]
        assert told == ["queued", "claimed", "dialing", "congestion", "claimed", "dialing", "congestion"]
        assert _steps(runs["congestion"].err) == told
        rows = {row["phone_number"]: row for row in await _queued(world)}
        row = rows[number("10", 1)]
        assert (row["customer_name"], row["priority"], json.loads(row["variables"])) == ("Aminah", 9, {"offer": "A"})
        assert all(run.err == "" for name, run in runs.items() if name != "congestion")


async def test_a_number_that_cannot_be_dialed_is_not_queued(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        code, text = await _run(world, "call", "12", "--user", USER)
        assert code == Code.NOT_CALLED
        assert text.splitlines()[-1].startswith("Not called, nothing was queued: the phone number is too short")
        assert await _queued(world) == []
        # What only the row itself shows is refused there, and said as well.
        code, text = await _run(world, "call", number("10", 1), "--user", USER, "--caller-id", "x" * 99)
        assert code == Code.NOT_CALLED
        assert "Not called: caller_id is not a number" in text
        assert len(world.pbx.calls) == 0


async def test_nobody_dials(tmp_path: Path) -> None:
    async with _world(tmp_path, daemon=False) as world:
        code, text = await _run(world, "status")
        assert code == 1
        assert "no adapter was ever started" in text
        settings = tmp_path / "our settings.env"
        settings.write_text("# all in the environment\n")
        arguments = ("--user", USER, "--timeout", "3", "--env-file", str(settings))
        code, text = await _run(world, "call", number("10", 1), *arguments)
        assert code == Code.STILL_GOING
        assert _steps(text) == ["queued", "waits"]
        assert "no adapter was ever started on this project; start one with: mikopbx-adapter run" in text
        (row,) = await _queued(world)
        assert text.splitlines()[-1] == f"To cancel it: mikopbx-adapter cancel {row['id']} --env-file '{settings}'"
        code, text = await _run(world, "cancel", str(row["id"]))
        assert (code, text) == (0, f"Row {row['id']} is canceled; it will not be dialed\n")
        code, text = await _run(world, "follow", str(row["id"]))
        assert code == Code.NOT_ANSWERED
        assert text.splitlines()[-1] == f"Canceled: canceled at a terminal. Row {row['id']}"
        code, text = await _run(world, "status", "--json")
        assert code == 1
        assert json.loads(text)["last"][0]["outcome"] == "canceled"


async def test_why_it_waits(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        await world.pool.execute("insert into call_tenants (user_id, paused) values ($1, true)", USER)
        run = await _call(world, "30")
        await run.said("this user is paused")
        await world.pool.execute("update call_tenants set paused = false")
        assert await run.ended() == Code.NOT_ANSWERED
        assert _steps(run.out) == ["queued", "waits", "claimed", "dialing", "busy"]
        await world.daemon.kill()
        await world.pool.execute("update call_adapters set seen_at = now() - interval '5 minutes'")
        run = await _call(world, "30", serial=2)
        await run.said("no adapter is running: [0-9a-f]{8} was heard of last, 5 min")
        await world.daemon.start()
        assert await run.ended() == Code.NOT_ANSWERED


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
async def test_who_leaves_leaves_the_call_alone(tmp_path: Path, sent: signal.Signals) -> None:
    async with _world(tmp_path) as world:
        run = await _call(world, "12")
        await run.said("answered")
        run.process.send_signal(sent)
        assert await run.ended(5) == Code.STILL_GOING
        (row,) = await _queued(world)
        assert row["status"] == "talking"
        last = run.out.splitlines()[-3:]
        assert last[0].startswith(f"Left. Row {row['id']} goes on without this command")
        assert last[1:] == [
            f"To look again: mikopbx-adapter follow {row['id']}",
            f"To cancel it: mikopbx-adapter cancel {row['id']}",
        ]
        assert "Traceback" not in run.err
        again = await Run.started(world, "follow", str(row["id"]))
        assert await again.ended() == Code.ANSWERED
        assert _steps(again.out) == [*_steps(run.out), "ended", "answered"]
        code, text = await _run(world, "cancel", str(row["id"]))
        assert code == 1
        assert text.startswith("Too late, it was over: Answered: ")


async def test_a_live_call_is_hung_up(tmp_path: Path) -> None:
    async with _world(tmp_path, speed=0.5) as world:
        run = await _call(world, "12")
        await run.said("answered")
        (row,) = await _queued(world)
        code, text = await _run(world, "cancel", str(row["id"]))
        assert (code, text) == (0, f"Row {row['id']} is in a call, which is being hung up\n")
        await run.ended()
        assert world.pbx.calls[0].ended is not None
        code, text = await _run(world, "cancel", "4711")
        assert code == Code.NOT_QUEUED
        assert "call_queue has no row 4711" in text


async def test_pause_resume_and_cancel_at_a_terminal(tmp_path: Path) -> None:
    async with _world(tmp_path, speed=0.5) as world:
        code, text = await _run(world, "pause", "user", USER)
        assert code == Code.NOT_QUEUED
        assert "Not paused, or not known to be; it may be asked again: " in text
        assert f"no user {USER} is known" in text
        run = await _call(world, "20")
        await run.said("claimed")
        code, text = await _run(world, "pause", "user", USER, "--reason", "ask +60123456789 first")
        assert code == 0
        assert text.splitlines()[1] == (f"1 call that lives goes on; to hang up: mikopbx-adapter cancel user {USER}")
        await world.pool.execute(
            "insert into call_queue (user_id, phone_number) "
            "select $1::uuid, '+6011200' || (10000 + i) from generate_series(1, 1300) i",
            USER,
        )
        code, text = await _run(world, "status")
        assert code == 0
        assert re.search(rf"user {USER} +paused +\d+ s +ask \+…789 first", text), text
        waiting = await Run.started(world, "follow", str((await _queued(world))[-1]["id"]))
        await waiting.said(r"this user is paused by command: ask \+60123456789 first")
        code, text = await _run(world, "cancel", "user", USER, "--reason", "over")
        assert code == 0
        assert text.splitlines() == [
            "0 rows that waited canceled, 1 live call is being hung up …",
            "1,000 rows that waited canceled, 1 live call is being hung up …",
            f"Canceled, user {USER}: 1,300 rows that waited; 1 live call is being hung up",
            "It stays paused: this user is paused by command: ask +60123456789 first",
        ]
        assert await waiting.ended() == Code.NOT_ANSWERED
        assert "Canceled: over" in waiting.out
        await run.ended()
        assert world.pbx.calls[0].ended is not None
        assert await _run(world, "resume", "user", USER) == (0, f"User {USER} goes on\n")
        code, text = await _run(world, "resume", "user", USER)
        assert (code, text) == (1, f"User {USER} was not paused by command\n")
        code, text = await _run(world, "cancel", "all", "--yes")
        assert (code, text.splitlines()[-1][:22]) == (1, "Canceled, everything: ")
        for wrong, words in (
            (("cancel", "all"), "confirm it with --yes"),
            (("pause", "42"), 'there is no "42": say row'),
            (("resume", "campaign", "Spring"), "give its id"),
        ):
            refused = await Run.started(world, *wrong)
            assert await refused.ended() == 2
            assert words in refused.err


async def test_hours_are_seen_and_set_at_a_terminal(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        none = "There are no calling hours here: people are called at any time\n"
        assert await _run(world, "hours") == (0, none)
        expected = (0, f"User {USER}: Mon-Fri 09:00-18:00; Sat 10:00-14:00\n")
        windows = "mon-fri 09:00-18:00; Sat 10:00-14:00"
        assert await _run(world, "hours", "user", USER, "--set", windows) == expected
        assert await _run(world, "hours") == expected
        code, text = await _run(world, "hours", "all", "--set", "22:00-06:00")
        assert code == Code.NOT_QUEUED
        assert '"22:00-06:00" goes over midnight or is empty: make it two windows' in text
        assert await _run(world, "hours", "user", USER, "--clear") == (0, none)
        dates = (0, f"{none}Campaign {CAMPAIGN} begins 2026-12-01T01:00:00+00:00 and ends 2026-12-20T10:00:00+00:00\n")
        begins, ends = ("--starts", "2026-12-01T09:00+08:00"), ("--ends", "2026-12-20T18:00+08:00")
        assert (await _run(world, "hours", "campaign", CAMPAIGN, *ends))[0] == 0
        assert await _run(world, "hours", "campaign", CAMPAIGN, *begins) == dates
        code, text = await _run(world, "hours", "campaign", CAMPAIGN, "--ends", "2026-11-30T18:00+08:00")
        assert (code, "cannot end (2026-11-30 10:00:00+00) before it begins" in text) == (Code.NOT_QUEUED, True)
        none_left = ("--starts", "none", "--ends", "none")
        assert await _run(world, "hours", "campaign", CAMPAIGN, *none_left) == (0, none)
        zone = (0, f"{none}Where a number tells no time zone, user {USER}: Asia/Kuala_Lumpur\n")
        assert await _run(world, "hours", "user", USER, "--zone", "Asia/Kuala_Lumpur") == zone
        code, text = await _run(world, "hours", "user", USER, "--zone", "UTC+8")
        assert (code, '"UTC+8" is no time zone' in text) == (Code.NOT_QUEUED, True)
        assert await _run(world, "hours", "user", USER, "--zone", "none") == (0, none)
        refused = await Run.started(world, "hours", "--clear")
        assert await refused.ended() == 2
        assert "whose hours?" in refused.err


async def test_a_lost_answer_makes_no_second_row_but_a_second_run_does(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        lost = 0

        async def fault(request: web.Request, forward: Forward) -> web.StreamResponse:
            nonlocal lost
            if request.path.endswith("call_wish_v1") and lost < 2:
                lost += 1
                await forward()
                return lose(request)
            return await forward()

        world.gateway.http_fault = fault
        run = await _call(world, "30")
        assert await run.ended() == Code.NOT_ANSWERED
        assert lost == 2
        assert run.out.count("Trying again: ") == 1
        assert len(await _queued(world)) == 1
        assert await (await _call(world, "30")).ended() == Code.NOT_ANSWERED
        assert len(await _queued(world)) == 2


async def test_supabase_goes_away_while_it_is_followed(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        run = await _call(world, "12")
        await run.said("claimed")

        async def fault(request: web.Request, forward: Forward) -> web.StreamResponse:
            return lose(request)

        world.gateway.http_fault = fault
        await run.said("not seen now, but the call goes on by itself")
        world.gateway.http_fault = None
        assert await run.ended() == Code.ANSWERED
        assert run.out.count("not seen now") == 1


async def test_what_is_refused_is_said(tmp_path: Path) -> None:
    async with _world(tmp_path, daemon=False) as world:
        stranger = {"SUPABASE_SERVICE_ROLE_KEY": world.gateway.secret_key[:-1] + "x"}
        run = await Run.started(world, "call", number("10", 1), "--user", USER, **stranger)
        assert await run.ended() == Code.NOT_QUEUED
        assert "the key is not accepted" in run.out
        run = await Run.started(world, "status", **stranger)
        assert await run.ended() == 1
        assert "the key is not accepted" in run.out
        run = await Run.started(world, "status", "--json", **stranger)
        assert await run.ended() == 1
        assert json.loads(run.out)["well"] is False
        run = await Run.started(world, "status", SUPABASE_URL="")
        assert await run.ended() == 78
        assert "SUPABASE_URL is missing" in run.err
        run = await Run.started(world, "call", "1", "--user", "me")
        assert await run.ended() == 2


async def test_status_tells_how_everything_is(tmp_path: Path) -> None:
    # A call of eight seconds, in which three commands must be answered.
    async with _world(tmp_path, speed=0.5) as world:
        await world.queue([{"user_id": USER, "phone_number": number("12", i)} for i in range(3)])
        await world.queue([{"user_id": USER, "phone_number": "12"}])
        async with asyncio.timeout(30):
            while await world.pool.fetchval("select count(*) from call_queue where status = 'talking'") < 3:
                await asyncio.sleep(0.02)
        code, text = await _run(world, "status")
        assert code == 0, text
        for part in ("all well", "sandbox  dials", world.pbx.trunk, "3 talking", "1 row ended: 1 blocked", "…002"):
            assert part in text, text
        assert number("12", 2).lstrip("+") not in text
        assert number("12", 2) in (await _run(world, "status", "--numbers", "full"))[1]
        code, text = await _run(world, "status", "--json", "--limit", "1")
        found = json.loads(text)
        assert (code, found["well"], found["air"]["talking"], len(found["calls"])) == (0, True, 3, 1)
        await world.daemon.kill()
        await world.pool.execute("update call_adapters set seen_at = now() - interval '5 minutes'")
        await world.queue([{"user_id": USER, "phone_number": number("12", 9)}])
        code, text = await _run(world, "status")
        assert code == 1
        assert re.search(r"PBX sandbox: adapter [0-9a-f]{8} is silent, heard of 5 min 0\d s ago; 1 row is due", text)


async def test_watching_goes_on_until_it_is_left(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        run = await Run.started(world, "status", "--watch", "0.3", "--json")
        async with asyncio.timeout(20):
            while run.out.count("\n") < 3:
                await asyncio.sleep(0.05)
        world.gateway.http_fault = _gone
        async with asyncio.timeout(20):
            while '"well": false' not in run.out:
                await asyncio.sleep(0.05)
        world.gateway.http_fault = None
        # The adapter was away from Supabase too, and its first heartbeat after that still says so.
        async with asyncio.timeout(20):
            while '"well": true' not in run.out.splitlines()[-1]:
                await asyncio.sleep(0.05)
        run.process.send_signal(signal.SIGINT)
        assert await run.ended(5) == 0
        assert all(json.loads(line)["problems"] is not None for line in run.out.splitlines())
        assert run.err == ""


async def _gone(request: web.Request, _forward: Forward) -> web.StreamResponse:
    return lose(request)


@pytest.mark.parametrize(
    "arguments", [["call", number("30", 1), "--user", USER], ["status"], ["status", "--watch", "0.3"]]
)
async def test_on_a_terminal(tmp_path: Path, arguments: list[str]) -> None:
    """It draws in place, leaves the cursor visible, and the last words stay."""
    async with _world(tmp_path) as world:
        ours, theirs = pty.openpty()
        kept = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
        needed = {name: world.daemon.settings[name] for name in ("SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "adapter.cli", *arguments),
            env={**kept, **needed, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        drawn = asyncio.create_task(asyncio.to_thread(_everything, ours))
        if "--watch" in arguments:
            await asyncio.sleep(3)
            process.send_signal(signal.SIGINT)
        code = await asyncio.wait_for(process.wait(), 60)
        text = await drawn
        os.close(ours)
        assert "Traceback" not in text
        assert text.count("\x1b[?25l") == text.count("\x1b[?25h")
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
        if arguments[0] == "call":
            assert code == Code.NOT_ANSWERED
            assert plain.rstrip().splitlines()[-1].startswith("Not answered: the line was busy")
            assert "held by adapter" in plain
        else:
            assert code == 0
            assert "all well" in plain
            assert text.count("\x1b[?1049h") == text.count("\x1b[?1049l") == int("--watch" in arguments)


def _everything(descriptor: int) -> str:
    """What comes from a terminal until nobody has it open any more."""
    out = b""
    while True:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:  # EIO: the other side is closed.
            break
        if not chunk:
            break
        out += chunk
    return out.decode()
