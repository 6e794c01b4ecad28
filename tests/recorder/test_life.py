"""The record of a whole run: bounded, masked, and a call of it plays again to the outcome that was stored."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from adapter.core.model import Outcome
from adapter.recorder.replay import play
from adapter.sandbox.scenarios import SCENARIOS, number
from adapter.sandbox.world import STATE, World
from tests.core import replay
from tests.e2e.test_daemon import ALL_DONE, USER, _logs, _rows, _until
from tests.support import transcripts

pytestmark = pytest.mark.timeout(180)

NAME = "Aminah binti Someone"
VARIABLE = "her dog is called Bello"


@asynccontextmanager
async def _world(kind: str, directory: Path, *, speed: float = 5.0, **settings: str) -> AsyncIterator[World]:
    defaults = {"SWEEP_SECONDS": "1", "LOG_FORMAT": "json", **settings}
    async with World.started(pbx=kind, speed=speed, directory=directory, settings=defaults) as world:
        yield world


def _bundle(world: World, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "adapter.cli", "bundle", *arguments]
    environ = {"STATE_DIR": str(world.directory / STATE), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


def _record(world: World) -> str:
    files = sorted((world.directory / STATE / "flight").glob("*.jsonl"))
    assert files
    return "".join(file.read_text() for file in files)


def _person(code: str, serial: int, **more: Any) -> dict[str, Any]:
    return {
        "user_id": USER,
        "phone_number": number(code, serial),
        "customer_name": NAME,
        "variables": {"note": VARIABLE},
        **more,
    }


def _spellings(e164: str) -> tuple[str, ...]:
    """A number as it is stored, as it is dialed, as people write it at home."""
    digits = e164.lstrip("+")
    return digits, "0" + digits[2:], digits[2:]


def _assert_nothing_private(world: World, text: str, numbers: list[str]) -> None:
    for secret in (world.pbx.password, world.gateway.service_role_key, world.gateway.anon_key, NAME, VARIABLE, USER):
        assert secret not in text
        assert json.dumps(secret)[1:-1] not in text
    assert not re.search(r"eyJ[\w-]{10}|(?i:bearer )|Secret|authorization", text)
    squeezed = re.sub(r"[ \-()./]", "", text)
    for e164 in numbers:
        for spelling in _spellings(e164):
            assert spelling not in squeezed, spelling


@pytest.mark.parametrize("kind", ["simulated", pytest.param("asterisk", marks=pytest.mark.asterisk)])
async def test_a_bundled_call_plays_again_to_the_stored_outcome(tmp_path: Path, kind: str) -> None:
    scenarios = [s for s in SCENARIOS if s.outcome not in (Outcome.CONGESTION, Outcome.TRUNK_UNAVAILABLE)]
    async with _world(kind, tmp_path) as world:
        people = [_person(s.code, 7) for s in scenarios]
        await world.queue(people)
        await _until(world, ALL_DONE, 120)
        numbers = [person["phone_number"] for person in people]
        _assert_nothing_private(world, _record(world), numbers)
        played = 0
        for log in await _logs(world):
            file = tmp_path / f"{log['call_id']}.jsonl"
            done = _bundle(world, log["call_id"], "--output", str(file))
            assert done.returncode == 0, done.stderr
            assert file.stat().st_mode & 0o777 == 0o600
            text = file.read_text()
            _assert_nothing_private(world, text, numbers)
            outcome, talk = log["metadata"]["outcome"], int(log["metadata"].get("talk_seconds") or 0)
            (call,) = play(text)
            assert call.ending is not None, log
            assert (call.ending.outcome, call.ending.talk_seconds) == (outcome, talk)
            assert call.agrees
            # The player of the tests, which knows nothing of bundles, comes to the same.
            story = replay.play(transcripts.read(file.stem, text))
            assert [(ending.outcome, ending.talk_seconds) for _, _, ending in story.ends] == [(outcome, talk)]
            played += 1
        assert played == len(scenarios)
        checked = _bundle(world, "--check", str(file))
        assert checked.returncode == 0
        assert checked.stdout.count("same") == 1


async def test_a_span_holds_every_call_and_each_number_has_one_stand_in(tmp_path: Path) -> None:
    async with _world("simulated", tmp_path) as world:
        people = [_person("10", 31), _person("30", 32, phone_number="011-3000 0032"), _person("40", 33)]
        await world.queue(people)
        await _until(world, ALL_DONE)
        done = _bundle(world, "--since", "1h")
        assert done.returncode == 0, done.stderr
        head, *lines = [json.loads(line) for line in done.stdout.splitlines()]
        calls = play(done.stdout)
        assert {call.call_id for call in calls} == set(head["calls"]) == {log["call_id"] for log in await _logs(world)}
        assert all(call.agrees for call in calls)
        assert head["lost"] == 0
        dialed = {m["ActionID"]: m["Channel"] for m in lines if m.get("Action") == "Originate"}
        claimed = {row["call_id"]: row for m in lines for row in (m.get("told") or {}).get("rows", ())}
        assert len(claimed) == 3
        stand_ins = set()
        for call_id, row in claimed.items():
            stand_in = row["e164"].lstrip("+")
            assert re.fullmatch(r"1[2-9]\d\d55501\d\d", stand_in)
            # As inserted, in E.164, as dialed: one person.
            assert row["phone_number"].lstrip("+") == stand_in
            assert dialed[call_id] == f"PJSIP/{stand_in}@{world.pbx.trunk}"
            stand_ins.add(stand_in)
        assert len(stand_ins) == 3
        _assert_nothing_private(world, done.stdout, ["+601110000031", "+601130000032", "+601140000033"])


async def test_a_call_that_outlives_a_killed_daemon_is_one_story(tmp_path: Path) -> None:
    async with _world("simulated", tmp_path, speed=1.0) as world:
        await world.queue([_person("12", 41)])
        await _until(world, "exists (select from call_queue where status = 'talking')")
        await world.daemon.kill()
        await world.daemon.start()
        await _until(world, ALL_DONE)
        ((log,), (row,)) = await _logs(world), await _rows(world)
        assert row["outcome"] == "answered"
        done = _bundle(world, log["call_id"])
        head, *lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(head["runs"]) == 2
        assert len({line["session"] for line in lines if "session" in line}) == 2
        assert [line["Closed"] for line in lines if "Closed" in line] == ["the adapter's process ended"]
        (call,) = play(done.stdout)
        assert call.ending is not None
        assert call.ending.outcome is Outcome.ANSWERED
        assert call.agrees, (call, done.stdout)


async def test_a_call_whose_end_nobody_saw_ends_as_the_follower_ended_it(tmp_path: Path) -> None:
    async with _world("simulated", tmp_path) as world:
        await world.queue([_person("12", 61)])
        await _until(world, "exists (select from call_logs where status = 'answered')")
        await world.daemon.kill()
        await asyncio.sleep(1.5)
        await world.daemon.start()
        await _until(world, ALL_DONE)
        (log,) = await _logs(world)
        (call,) = play(_bundle(world, log["call_id"]).stdout)
        assert call.ending is not None
        assert call.ending.estimated
        assert (call.ending.outcome, call.agrees) == (Outcome.ANSWERED, True)


async def test_what_is_not_there_is_said_in_words(tmp_path: Path) -> None:
    async with _world("simulated", tmp_path, FLIGHT_MB="0") as world:
        await world.queue([_person("30", 51)])
        await _until(world, ALL_DONE)
        assert not (tmp_path / STATE / "flight").exists()
        nothing = _bundle(world, "--since", "1h")
        assert nothing.returncode == 1
        assert "FLIGHT_MB is 0" in nothing.stderr
        assert nothing.stdout == ""
