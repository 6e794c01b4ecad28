"""STATE_DIR, sound and with each thing broken in turn; nothing is left behind and no lock is kept."""

import fcntl
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adapter.doctor import machine
from adapter.doctor.findings import Finding, Verdict
from adapter.supabase_io.statedir import StateDir

NAMES = ["state.folder", "state.lock", "state.durable", "state.space", "state.identity"]


def looked(path: Path) -> dict[str, Finding]:
    found = list(machine.look(path))
    assert [finding.check for finding in found] == NAMES
    return {finding.check: finding for finding in found}


def verdicts(found: dict[str, Finding]) -> Sequence[Verdict]:
    return [found[name].verdict for name in NAMES]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    StateDir.open(path).close()
    return path


@pytest.fixture
def stranger() -> Iterator[None]:
    """A user who may write nowhere here: root may write everywhere."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


@pytest.fixture(autouse=True)
def _a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run on a container's own layer, which is a warning of its own."""
    monkeypatch.setattr(machine, "file_system", lambda path: "ext4")


def test_a_sound_folder_is_left_as_it_was(folder: Path) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    found = looked(folder)
    assert verdicts(found) == [Verdict.OK] * 5
    assert "no adapter is running" in found["state.lock"].found
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_running_adapter_is_named_and_not_disturbed(folder: Path) -> None:
    with StateDir.open(folder):
        found = looked(folder)
        assert found["state.lock"].verdict is Verdict.OK
        assert f"process {os.getpid()}" in found["state.lock"].found
        assert "locks work" in found["state.lock"].found
    StateDir.open(folder).close()


def test_an_adapter_that_starts_during_a_look_waits_it_out(folder: Path) -> None:
    gate = os.open(folder / "lock", os.O_RDONLY)
    try:
        fcntl.flock(gate, fcntl.LOCK_SH)
        threading.Timer(0.1, fcntl.flock, (gate, fcntl.LOCK_UN)).start()
        StateDir.open(folder).close()
    finally:
        os.close(gate)


def test_a_folder_not_made_yet_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    found = looked(path)
    assert verdicts(found) == [Verdict.OK] + [Verdict.SKIPPED] * 4
    assert str(tmp_path) in found["state.folder"].found
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_fails(tmp_path: Path, stranger: None) -> None:
    assert looked(Path("/proc/none/state"))["state.folder"].verdict is Verdict.FAIL


def test_a_file_in_its_place_fails(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    assert looked(tmp_path / "state")["state.folder"].verdict is Verdict.FAIL
    assert looked(tmp_path / "state" / "deeper")["state.folder"].verdict is Verdict.FAIL


def test_a_folder_of_another_user_fails(tmp_path: Path, stranger: None) -> None:
    found = looked(Path("/usr"))
    assert verdicts(found) == [Verdict.FAIL] + [Verdict.SKIPPED] * 4
    assert str(os.geteuid()) in found["state.folder"].found


def test_a_folder_open_to_others_warns(folder: Path) -> None:
    folder.chmod(0o755)
    found = looked(folder)["state.folder"]
    assert found.verdict is Verdict.WARN
    assert "0755" in found.found
    assert "chmod 700" in found.mend


def test_a_lock_that_keeps_nobody_out_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    assert looked(folder)["state.lock"].verdict is Verdict.FAIL


def test_a_disk_without_locks_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    found = looked(folder)["state.lock"]
    assert found.verdict is Verdict.FAIL
    assert "No locks available" in found.found


@pytest.mark.parametrize(
    ("kind", "check"), [("nfs4", "state.lock"), ("tmpfs", "state.durable"), ("overlay", "state.durable")]
)
def test_a_file_system_that_forgets_or_shares_warns(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, check: str
) -> None:
    monkeypatch.setattr(machine, "file_system", lambda path: kind)
    found = looked(folder)
    assert {name for name in NAMES if found[name].verdict is not Verdict.OK} == {check}
    assert found[check].verdict is Verdict.WARN
    assert kind in found[check].found


def test_a_full_disk_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    found = looked(folder)["state.durable"]
    assert found.verdict is Verdict.FAIL
    assert "No space left" in found.found
    assert not [file for file in folder.iterdir() if file.name.startswith(".")]


def test_a_slow_disk_warns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "sync_directory", lambda path: time.sleep(machine.SLOW_SYNC_SECONDS))
    found = looked(folder)["state.durable"]
    assert found.verdict is Verdict.WARN
    assert "0.2" in found.found


@pytest.mark.parametrize(("free", "verdict"), [(5, Verdict.FAIL), (50, Verdict.WARN), (500, Verdict.OK)])
def test_space(folder: Path, monkeypatch: pytest.MonkeyPatch, free: int, verdict: Verdict) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free * 1024**2))
    found = looked(folder)["state.space"]
    assert found.verdict is verdict
    assert f"{free} MiB" in found.found


@pytest.mark.parametrize(("files", "left", "verdict"), [(1000, 3, Verdict.WARN), (0, 0, Verdict.OK)])
def test_files_that_can_still_be_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch, files: int, left: int, verdict: Verdict
) -> None:
    real: Any = os.statvfs
    monkeypatch.setattr(os, "statvfs", lambda path: real(path) and SimpleNamespace(f_files=files, f_favail=left))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1024**3))
    assert looked(folder)["state.space"].verdict is verdict


@pytest.mark.parametrize("content", ["{", "[]", '{"adapter": "x", "incarnation": 1, "nonce": null}'])
def test_a_damaged_identity_warns_and_stays(folder: Path, content: str) -> None:
    (folder / "identity.json").write_text(content)
    found = looked(folder)["state.identity"]
    assert found.verdict is Verdict.WARN
    assert (folder / "identity.json").read_text() == content


def test_the_identity_is_told(folder: Path) -> None:
    with StateDir.open(folder) as state:
        adapter = state.identity.adapter
    assert f"adapter {adapter}, its last start was number 0" in looked(folder)["state.identity"].found
    (folder / "identity.json").unlink()
    assert "nobody yet" in looked(folder)["state.identity"].found
