"""The commands that a running sandbox prints for a second window, exactly as they stand there."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapter import settings
from adapter.sandbox import envfile, howto

ROOT = Path(__file__).parents[2]

STRANGERS = {"SUPABASE_URL": "http://127.0.0.1:1", "MIKOPBX_HOST": "192.0.2.1", "STATE_DIR_FILE": "/nowhere"}
"""What the visitor's own shell may hold: none of it may be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What it printed, by the command in it."""

    process: subprocess.Popen[str]
    commands: dict[str, str]
    folder: Path


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One that runs, its folder named as awkwardly as a person may."""
    folder = tmp_path_factory.mktemp("kept") / "it's mine"
    command = [sys.executable, "-m", "adapter.cli", "sandbox", "--calls", "0", "--speed", "4", "--keep", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            printed: list[str] = []
            assert process.stdout
            for line in process.stdout:
                printed.append(line.strip())
                if "example calls are queued" in line:
                    break
            found = [line for line in printed if "mikopbx-adapter " in line and "--env-file" in line]
            names = ("status", "call", "doctor")
            commands = {name: line for name in names for line in found if f"mikopbx-adapter {name} " in line}
            assert len(commands) == len(found) == 3, printed
            # Nobody types as fast as this: the adapter may still be starting.
            for _ in range(30):
                if typed(commands["status"]).returncode == 0:
                    break
                time.sleep(0.2)
            yield Sandbox(process=process, commands=commands, folder=folder)
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
    assert process.returncode == 0
    assert not (folder / envfile.NAME).exists()
    assert (folder / "daemon.log").exists()


def typed(command: str, *more: str) -> subprocess.CompletedProcess[str]:
    """As in a second window whose shell has settings of another project."""
    return subprocess.run(
        ["bash", "-c", " ".join((command, *more))],
        cwd=ROOT,
        env={**os.environ, **STRANGERS},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_only_its_owner_reads_the_file(sandbox: Sandbox) -> None:
    assert stat.S_IMODE((sandbox.folder / envfile.NAME).stat().st_mode) == 0o600


def test_doctor_finds_it_sound(sandbox: Sandbox) -> None:
    done = typed(sandbox.commands["doctor"], "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    odd = {check["check"]: check["verdict"] for check in json.loads(done.stdout)["checks"] if check["verdict"] != "ok"}
    assert odd == {"pbx.ai.number": "warning", "supabase.anon": "not checked"}
    plain = typed(sandbox.commands["doctor"])
    assert plain.returncode == 0
    assert "Calls can be placed" in plain.stdout


def test_a_call_is_followed_to_its_answer_and_status_shows_it(sandbox: Sandbox) -> None:
    before = typed(sandbox.commands["status"])
    assert before.returncode == 0, before.stdout + before.stderr
    called = typed(sandbox.commands["call"])
    assert called.returncode == 0, called.stdout + called.stderr
    assert "answered" in called.stdout
    after = typed(sandbox.commands["status"], "--json")
    assert after.returncode == 0
    assert "answered" in after.stdout


@pytest.mark.parametrize("value", ["plain", "with 'quotes'", 'and "double" $HOME ${X} #1', "back\\slash\\", "\\'", ""])
def test_every_value_is_read_as_it_was(value: str, tmp_path: Path) -> None:
    given = {"TRUNK": "SIP-TRUNK-1", "CALLER_ID": "", "MIKOPBX_AMI_PASSWORD": value or "x", "PBX_NAME": "sandbox"}
    with envfile.written(tmp_path, given) as path:
        wanted = frozenset({"TRUNK", "MIKOPBX_AMI_PASSWORD"})
        read = settings.read({}, path, need=wanted)
        assert read.values["MIKOPBX_AMI_PASSWORD"] == given["MIKOPBX_AMI_PASSWORD"]
        assert read.values["TRUNK"] == "SIP-TRUNK-1"
    assert list(tmp_path.iterdir()) == []


def test_a_file_or_link_that_was_left_behind_is_not_written_through(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    (tmp_path / envfile.NAME).symlink_to(elsewhere)
    with envfile.written(tmp_path, {"TRUNK": "SIP-TRUNK-1"}) as path:
        assert not path.is_symlink()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert elsewhere.read_text() == "mine"


def test_the_program_is_named_as_it_can_be_typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.chdir(tmp_path)
    assert howto.program() == ".venv/bin/mikopbx-adapter"
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "executable", "/opt/adapter/bin/python")
    assert howto.program() == "opt/adapter/bin/mikopbx-adapter"
    monkeypatch.chdir(tmp_path)
    assert howto.program() == "/opt/adapter/bin/mikopbx-adapter"
