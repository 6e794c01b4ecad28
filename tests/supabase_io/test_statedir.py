"""STATE_DIR: one process, one identity, nothing half written."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from adapter.supabase_io import statedir
from adapter.supabase_io.statedir import StateDir, StateDirBusy, StateDirError, file_system, move_aside


def test_a_new_folder_is_private_and_gets_an_identity(tmp_path: Path) -> None:
    path = tmp_path / "a" / "state"
    with StateDir.open(path) as state:
        assert path.stat().st_mode & 0o777 == 0o700
        assert state.identity.incarnation == 0
        assert (path / "identity.json").stat().st_mode & 0o777 == 0o600
        assert state.outbox_path.parent == path
        first = state.identity
    with StateDir.open(path) as state:
        assert state.identity == first


def test_a_second_process_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    with StateDir.open(tmp_path):
        code = (
            "import sys; from pathlib import Path\n"
            "from adapter.supabase_io.statedir import StateDir, StateDirBusy\n"
            "try: StateDir.open(Path(sys.argv[1]))\n"
            "except StateDirBusy as busy: print(busy); sys.exit(3)\n"
        )
        other = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
        assert other.returncode == 3, other.stderr
        assert f"process {os.getpid()}" in other.stdout
        with pytest.raises(StateDirBusy, match="one folder serves one process"):
            StateDir.open(tmp_path)
    StateDir.open(tmp_path).close()


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from adapter.supabase_io.statedir import StateDir\n"
        "state = StateDir.open(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StateDirBusy):
            StateDir.open(tmp_path)
        holder.kill()
    StateDir.open(tmp_path).close()


def test_an_incarnation_begun_is_begun_again_after_a_crash(tmp_path: Path) -> None:
    with StateDir.open(tmp_path) as state:
        asked = state.begin_incarnation()
        assert asked[1] == 0
        assert state.begin_incarnation() == asked
    with StateDir.open(tmp_path) as state:
        assert state.begin_incarnation() == asked
        state.confirm(1)
        assert state.identity.nonce is None
    with StateDir.open(tmp_path) as state:
        adapter, expected, nonce = state.begin_incarnation()
        assert (adapter, expected) == (asked[0], 1)
        assert nonce != asked[2]


def test_only_the_incarnation_asked_for_is_confirmed(tmp_path: Path) -> None:
    with StateDir.open(tmp_path) as state:
        with pytest.raises(ValueError, match="not asked for"):
            state.confirm(1)
        state.begin_incarnation()
        with pytest.raises(ValueError, match="not asked for"):
            state.confirm(2)


def test_the_identity_is_synced_before_and_after_its_name_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    real_sync, real_rename = os.fsync, Path.rename

    def sync(fd: int) -> None:
        steps.append("sync " + Path(f"/proc/self/fd/{fd}").readlink().name)
        real_sync(fd)

    def rename(self: Path, target: Path) -> Path:
        steps.append("rename")
        return real_rename(self, target)

    with StateDir.open(tmp_path) as state:
        monkeypatch.setattr(os, "fsync", sync)
        monkeypatch.setattr(Path, "rename", rename)
        state.begin_incarnation()
    assert steps == ["sync identity.json.new", "rename", f"sync {tmp_path.name}"]


def test_a_write_that_fails_leaves_the_old_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with StateDir.open(tmp_path) as state:
        before = (tmp_path / "identity.json").read_text()
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(StateDirError, match="No space left"):
            state.begin_incarnation()
        assert state.identity.nonce is None
        assert (tmp_path / "identity.json").read_text() == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"adapter": "x", "incarnation": 1, "nonce": null}', "\x00" * 200])
def test_a_damaged_identity_is_moved_aside_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    with StateDir.open(tmp_path) as state:
        old = state.identity.adapter
    (tmp_path / "identity.json").write_text(text)
    with StateDir.open(tmp_path) as state:
        assert state.identity.adapter != old
        assert state.identity.incarnation == 0
    (aside,) = tmp_path.glob("identity.json.damaged-*")
    assert aside.read_text() == text
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_a_folder_that_cannot_be_used_says_what_it_must_be(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StateDirError, match="must be a folder on a disk with free space"):
        StateDir.open(file / "state")
    (tmp_path / "lock").mkdir()
    with pytest.raises(StateDirError, match="may write to"):
        StateDir.open(tmp_path)


def test_moving_aside_overwrites_nothing(tmp_path: Path) -> None:
    names = set()
    for number in range(3):
        for suffix in ("", "-wal"):
            (tmp_path / f"box{suffix}").write_text(str(number))
        names.add(move_aside(tmp_path / "box", ("", "-wal", "-shm"), clock=lambda: 0.0))
    assert len(names) == 3
    assert sorted(name.read_text() for name in names) == ["0", "1", "2"]
    assert len(list(tmp_path.glob("*-wal"))) == 3


MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 27 0:50 / /srv/with\\040space rw,relatime shared:9 master:2 - nfs4 192.0.2.9:/x rw
41 27 0:51 / /srv rw,relatime - xfs /dev/vdb rw
nonsense
"""


def test_a_network_file_system_is_recognized_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTS)
    assert file_system(Path("/srv/with space/a"), table) == "nfs4"
    assert file_system(Path("/srv/other"), table) == "xfs"
    assert file_system(Path("/var/lib/x"), table) == "ext4"
    assert file_system(Path("/var"), tmp_path / "absent") == ""
    monkeypatch.setattr(statedir, "file_system", lambda path: "nfs4")
    StateDir.open(tmp_path / "state").close()
    assert "network file system" in caplog.text


def test_the_identity_file_is_readable_by_a_person(tmp_path: Path) -> None:
    with StateDir.open(tmp_path) as state:
        assert json.loads((tmp_path / "identity.json").read_text()) == {
            "adapter": state.identity.adapter,
            "incarnation": 0,
            "nonce": None,
        }
