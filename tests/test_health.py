"""The health file: what it says of a daemon that lives, waits, hangs, was killed, or was refused."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from adapter import clock, health
from adapter.exits import EXIT_BUSY, EXIT_CONFIG
from adapter.health import NAME, STALE_SECONDS, WRITE_SECONDS, boot_id, judge, keep, look
from tests.test_settings import REQUIRED


def _content(*, written: float = 100.0, boot: str = "this", **status: Any) -> str:
    return json.dumps({"written": written, "boot": boot, "pid": 1, "status": status})


@pytest.mark.parametrize(
    ("content", "now", "alive", "ready", "words"),
    [
        (None, 100.0, False, False, "not running"),
        (_content(ready=True, problem=None), 100.0, True, True, "calls may be placed"),
        (_content(ready=False, problem="no PBX"), 101.0, True, False, "no calls now: no PBX"),
        (_content(ready=True, problem="the breaker is open"), 101.0, True, False, "the breaker is open"),
        (_content(ready=True), 100.0 + STALE_SECONDS, True, True, "calls may be placed"),
        (_content(ready=True), 101.0 + STALE_SECONDS, False, False, "no sign of life for 21 s"),
        (_content(ready=True), 99.0, False, False, "since this machine was started"),
        (_content(ready=True, boot="another"), 100.0, False, False, "since this machine was started"),
        ("", 100.0, False, False, "cannot be read"),
        ("[]", 100.0, False, False, "cannot be read"),
        ('{"written": "soon", "boot": "this", "status": {}}', 100.0, False, False, "cannot be read"),
    ],
)
def test_what_the_file_tells(content: str | None, now: float, alive: bool, ready: bool, words: str) -> None:
    found = judge(content, now=now, boot="this")
    assert (found.alive, found.ready) == (alive, ready)
    assert words in found.words


async def test_a_disk_that_fails_is_said_once_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(health, "WRITE_SECONDS", 0.01)
    monkeypatch.setattr(health, "LOOK_SECONDS", 0.01)
    place = tmp_path / "state"
    task = asyncio.create_task(keep(place, lambda: {"ready": True}))
    async with asyncio.timeout(5):
        while not caplog.records:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert len(caplog.records) == 1
    place.mkdir()
    async with asyncio.timeout(5):
        while not look(place).ready:
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert list(place.iterdir()) == []


async def test_a_change_is_in_the_file_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LOOK_SECONDS", 0.01)
    ready, writes = False, 0
    real = health._replace

    def counted(path: Path, text: str) -> None:
        nonlocal writes
        writes += 1
        real(path, text)

    monkeypatch.setattr(health, "_replace", counted)
    task = asyncio.create_task(keep(tmp_path, lambda: {"ready": ready}))
    async with asyncio.timeout(4):  # Less than WRITE_SECONDS.
        while not look(tmp_path).alive:
            await asyncio.sleep(0.01)
        ready = True
        while not look(tmp_path).ready:
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert writes == 2, "what has not changed is not written again so soon"


def _environment(state: Path, **more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    away = {"SUPABASE_URL": "http://127.0.0.1:9", "STATE_DIR": str(state), "LOG_FORMAT": "human"}
    return {**kept, **REQUIRED, **away, **more}


def _health(state: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "adapter.cli", "health", *arguments],
        env=_environment(state, **more),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@asynccontextmanager
async def _run(state: Path, *arguments: str, **more: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adapter.cli", "run", *arguments),
        env=_environment(state, **more),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _until_alive(state: Path) -> None:
    async with asyncio.timeout(20):
        while not look(state).alive:
            await asyncio.sleep(0.05)


async def test_a_daemon_that_waits_for_supabase_is_alive_and_not_ready(tmp_path: Path) -> None:
    async with _run(tmp_path) as process:
        await _until_alive(tmp_path)
        done = await asyncio.to_thread(_health, tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert "waiting for Supabase" in done.stdout
        assert (await asyncio.to_thread(_health, tmp_path, "--ready")).returncode == 1
        told = json.loads((await asyncio.to_thread(_health, tmp_path, "--json")).stdout)
        assert (told["alive"], told["ready"]) == (True, False)

        # Stopped by a debugger, a suspended machine, a disk that hangs: the file is not written any more.
        process.send_signal(signal.SIGSTOP)
        file = tmp_path / NAME
        content = json.loads(file.read_text())
        file.write_text(json.dumps({**content, "written": clock.boot() - STALE_SECONDS - 1}))
        await asyncio.sleep(WRITE_SECONDS + 1)
        assert "no sign of life" in look(tmp_path).words
        process.send_signal(signal.SIGCONT)
        await _until_alive(tmp_path)

        process.terminate()
        await process.wait()
        assert "stopped in order" in look(tmp_path).words


async def test_a_kill_shows_when_the_file_grows_old(tmp_path: Path) -> None:
    async with _run(tmp_path) as process:
        await _until_alive(tmp_path)
        process.kill()
        await process.wait()
    content = (tmp_path / NAME).read_text()
    later = judge(content, now=clock.boot() + STALE_SECONDS + 1, boot=boot_id())
    assert not later.alive
    assert boot_id()


def test_wrong_settings_are_not_healthy(tmp_path: Path) -> None:
    done = _health(tmp_path, MAX_CALLS="many")
    assert done.returncode == 1
    assert "MAX_CALLS" in done.stdout


@pytest.mark.parametrize(
    ("settings", "code"),
    [({"MAX_CALLS": "many"}, EXIT_CONFIG), ({}, EXIT_BUSY)],
    ids=["wrong setting", "folder in use"],
)
async def test_a_refusal_is_held_and_a_stop_ends_the_wait(tmp_path: Path, settings: dict[str, str], code: int) -> None:
    """What Docker restarts at once would otherwise be refused many times a minute."""
    async with _run(tmp_path):
        await _until_alive(tmp_path)
        async with _run(tmp_path, "--hold", "60", **settings) as refused:
            assert refused.stderr is not None
            async with asyncio.timeout(20):
                while b"leaving with code" not in await refused.stderr.readline():
                    pass
            await asyncio.sleep(0.5)
            assert refused.returncode is None
            refused.terminate()
            async with asyncio.timeout(2):
                assert await refused.wait() == code


async def test_the_wait_ends_by_itself(tmp_path: Path) -> None:
    began = time.monotonic()
    async with _run(tmp_path, "--hold", "1.5", MAX_CALLS="many") as refused:
        async with asyncio.timeout(20):
            assert await refused.wait() == EXIT_CONFIG
    assert time.monotonic() - began >= 1.5


@pytest.mark.parametrize("value", ["-1", "nan", "4000", "soon"])
async def test_a_wrong_wait_is_refused(tmp_path: Path, value: str) -> None:
    async with _run(tmp_path, f"--hold={value}") as process:
        async with asyncio.timeout(20):
            assert await process.wait() == 2
