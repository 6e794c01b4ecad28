"""The sandbox command and its world, whole: PostgreSQL, gateway, simulated PBX, and the real daemon as a process."""

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapter.core.model import Outcome
from adapter.sandbox import app, howto, world
from adapter.sandbox.scenarios import BY_CODE, Scenario, number
from adapter.sandbox.world import World

QUICK = ("30", "50", "24", "60", "31")
"""Scenarios that end within a second; an answered row stays `talking` for ten more."""


@pytest.fixture(autouse=True)
def own_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a failed run keeps stays in the test's own folder."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def quick(count: int) -> list[Scenario]:
    """In the place of the mix: only calls that end soon."""
    return [BY_CODE[QUICK[turn % len(QUICK)]] for turn in range(count)]


def alive(pids: Sequence[int]) -> list[int]:
    """Which of these processes still run (a zombie does not)."""
    return [pid for pid in pids if (status := Path(f"/proc/{pid}/stat")).exists() and " Z " not in status.read_text()]


def test_every_row_as_expected_gives_code_0_and_one_object_last(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(app, "mix", quick)
    code = app.main(["--calls", "10", "--exit", "--json", "--speed", "2", "--keep", str(tmp_path)])
    out, err = capfd.readouterr()
    assert code == 0, err + (tmp_path / "daemon.log").read_text()
    (line,) = out.splitlines()
    result = json.loads(line)
    assert result.pop("seconds") < 60
    assert result == {
        "rows": 10,
        "final": 10,
        "as_expected": 10,
        "rings": 4,
        "outcomes": {"busy": 4, "invalid_number": 2, "no_answer": 2, "rejected": 2},
        "pbx": "simulated",
    }
    assert "Simulated: the PBX" in err
    assert "All outcomes are stored" in (tmp_path / "daemon.log").read_text()


def test_a_row_that_ends_otherwise_gives_code_1_and_is_named(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    lie = replace(BY_CODE["30"], outcome=Outcome.DECLINED)
    monkeypatch.setattr(app, "mix", lambda _count: [lie, BY_CODE["50"]])
    assert app.main(["--calls", "2", "--exit", "--json"]) == 1
    out, err = capfd.readouterr()
    assert "row 1 (busy): it ended as busy" in err
    assert json.loads(out)["as_expected"] == 1


def test_rows_that_do_not_end_in_time_are_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(app, "mix", lambda _count: [BY_CODE["20"]])
    monkeypatch.setattr(app, "DEADLINE_SECONDS", 1.0)
    assert app.main(["--calls", "1", "--exit"]) == 1
    out, _ = capfd.readouterr()
    assert "1 rows had not ended after 2 s; the first is row 1" in out
    assert "row 1 (rings for ever): it is still" in out


def test_a_daemon_that_ends_by_itself_is_told_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(world, "SETTINGS", {**world.SETTINGS, "RING_SECONDS": "soon"})
    assert app.main(["--calls", "1", "--exit"]) == 1
    out, _ = capfd.readouterr()
    assert "The adapter ended by itself with code 78" in out
    assert "RING_SECONDS must be a whole number" in out
    (kept,) = tmp_path.glob("mikopbx-adapter-sandbox-*")
    assert f"kept in {kept}" in out
    assert "RING_SECONDS" in (kept / "daemon.log").read_text()


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["--exit"], app.INTERRUPTED)])
def test_ctrl_c_stops_everything_in_order(arguments: list[str], code: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "adapter.cli", "sandbox", "--calls", "3", "--keep", str(tmp_path), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as sandbox:
        said = []
        assert sandbox.stdout
        for line in sandbox.stdout:
            said.append(line)
            if "example calls are queued" in line:
                break
        children = Path(f"/proc/{sandbox.pid}/task/{sandbox.pid}/children").read_text().split()
        assert children
        sandbox.send_signal(signal.SIGINT)
        rest, _ = sandbox.communicate(timeout=30)
    assert sandbox.returncode == code, "".join(said) + rest
    assert "Traceback" not in rest
    assert alive([int(pid) for pid in children]) == []
    assert ("supabase-js" in "".join(said)) == (not arguments)


def test_a_killed_sandbox_leaves_no_process_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "adapter.cli", "sandbox", "--calls", "1", "--keep", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sandbox:
        assert sandbox.stdout
        next(line for line in sandbox.stdout if "example calls are queued" in line)
        children = Path(f"/proc/{sandbox.pid}/task/{sandbox.pid}/children").read_text().split()
        sandbox.kill()
    assert children
    for _ in range(200):
        if not (left := alive([int(pid) for pid in children])):
            break
        time.sleep(0.05)
    assert left == []


async def test_what_the_howto_prints_works() -> None:
    async with World.started(daemon=False) as sandbox:
        gateway = sandbox.gateway
        text = howto.own_row(url=gateway.url, key=gateway.secret_key, dsn=sandbox.dsn)
        sql = text.partition("  SQL ")[2].partition("\n\n")[0].replace("\\\n", " ")
        done = await asyncio.to_thread(subprocess.run, shlex.split(sql), check=True, capture_output=True, text=True)
        assert done.stdout.strip() == "INSERT 0 1"
        python = text.partition("  supabase-py ")[2].partition("\n\n")[0]
        program = "\n".join(line.strip() for line in python.splitlines())
        await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", program], check=True, env={"PATH": os.environ["PATH"]}
        )
        rows = await sandbox.rows()
    assert [(row.status, row.e164) for row in rows] == [("queued", number("10", 777_000))] * 2


async def test_world_tells_its_rows_and_rings_and_leaves_nothing_behind() -> None:
    rows: list[dict[str, Any]] = [{"user_id": str(uuid.uuid4()), "phone_number": number("30", 5)}]
    async with World.started(daemon=False, settings={"AGENT_ID": "somebody"}) as sandbox:
        ids = await sandbox.queue(rows)
        with pytest.raises(world.SandboxError, match="the daemon ended while 1 rows were open"):
            await sandbox.settled(ids)
        await sandbox.daemon.start()
        with pytest.raises(world.SandboxError, match="1 rows were not final after 0 s"):
            await sandbox.settled(ids, seconds=0)
        (row,) = await sandbox.settled(ids)
        assert (row.outcome, row.log_status, row.calls) == ("busy", "no_answered", 1)
        assert [len(rings) for rings in sandbox.rings.values()] == [1]
        assert await sandbox.pool.fetchval("select agent_id from public.call_logs") == "somebody"
        pid, directory = sandbox.daemon.pid, sandbox.directory
        with pytest.raises(world.SandboxError, match="refused: 400"):
            await sandbox.queue([{"user_id": str(uuid.uuid4())}])
    assert pid
    assert alive([pid]) == []
    assert not directory.exists()
