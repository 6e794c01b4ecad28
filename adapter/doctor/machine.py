"""This machine: can STATE_DIR keep what must not be lost, and keep a second adapter out?

Everything that is written for a look is taken away again, and the lock of a running adapter is left alone.
"""

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from adapter.doctor.findings import Finding, fail, ok, skipped, warn
from adapter.supabase_io.statedir import NETWORK_FILE_SYSTEMS, file_system, held_by, identity_in, sync_directory

MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})
"""Gone after a reboot; a sync means nothing here."""

CONTAINER_FILE_SYSTEMS = frozenset({"overlay", "aufs", "fuse-overlayfs"})
"""The container's own layer: gone when the container is made anew, as every update does."""

LITTLE_SPACE = 100 * 1024 * 1024
"""An outbox of a whole day at ten calls a second needs more; and a disk this full will be full soon."""

NO_SPACE = 10 * 1024 * 1024
"""The outbox, its write-ahead log and the flight of one hour do not fit any more."""

FEW_FILES = 100
"""Free inodes. The adapter makes a handful of files; others fill this disk."""

SLOW_SYNC_SECONDS = 0.25
"""Each claim and outcome waits for one sync (in groups). SSDs need 1 to 10 ms, a tired SD card 100."""

LATER = ("state.lock", "state.durable", "state.space", "state.identity")


def look(path: Path) -> Iterator[Finding]:
    """Each check once. Blocks for a few syncs; leaves the folder as it was, also when it was not there."""
    folder, missing = _folder(path)
    yield folder
    if missing:
        for check in LATER:
            yield skipped(check, "nothing", missing)
        return
    yield _lock(path)
    yield _durable(path)
    yield _space(path)
    yield _identity(path)


def _folder(path: Path) -> tuple[Finding, str]:
    """The finding, and why nothing more can be looked at (empty: go on)."""
    check, tried = "state.folder", f"looked at STATE_DIR {path}"
    mend = f"STATE_DIR must be a folder that user id {os.geteuid()} may write to, on a local disk"
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return _to_be_made(path, check, tried, mend), "there is no folder yet"
    except OSError as error:
        return fail(check, tried, f"it cannot be looked at: {error.strerror}", mend), "STATE_DIR cannot be used"
    if not path.is_dir():
        return fail(check, tried, "it is no folder", mend), "STATE_DIR is no folder"
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        return fail(check, tried, f"user id {os.geteuid()} may not write there", mend), "STATE_DIR cannot be used"
    if mode & 0o077:
        told = f"others on this machine may look into it (mode {mode & 0o777:04o}); the outbox holds phone numbers"
        return warn(check, tried, told, f"chmod 700 {path}"), ""
    return ok(check, tried, "it is there, and only this user may look into it"), ""


def _to_be_made(path: Path, check: str, tried: str, mend: str) -> Finding:
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK, effective_ids=True):
        return ok(check, tried, f"it is not there; run will make it, in {above}")
    return fail(check, tried, f"it is not there, and user id {os.geteuid()} cannot make it in {above}", mend)


def _lock(path: Path) -> Finding:
    check, tried = "state.lock", "locked a file there twice, and asked who holds the folder"
    mend = "use a local disk: with this one a second adapter could not be kept out"
    try:
        if not _keeps_out(path):
            return fail(check, tried, "the second lock on the same file was given too", mend)
        holder = held_by(path)
    except OSError as error:
        return fail(check, tried, f"no lock: {error.strerror or error}", mend)
    if (kind := file_system(path)) in NETWORK_FILE_SYSTEMS:
        return warn(check, tried, f"a lock works on this machine; on {kind} it may not keep another machine out", mend)
    if holder is not None:
        return ok(check, tried, f"locks work; a running adapter (process {holder}) holds the folder")
    return ok(check, tried, "locks work; no adapter is running on this folder")


def _keeps_out(path: Path) -> bool:
    probe = _probe(path)
    try:
        first = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        second = os.open(probe, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(BlockingIOError):
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return False
            return True
        finally:
            os.close(second)
            os.close(first)
    finally:
        probe.unlink(missing_ok=True)


def _durable(path: Path) -> Finding:
    check, tried = "state.durable", "wrote a file, synced it and its name, read it back"
    probe = _probe(path)
    began = time.monotonic()
    try:
        content = os.urandom(4096)
        fd = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, content)
            os.fsync(fd)
            same = os.pread(fd, len(content) + 1, 0) == content
        finally:
            os.close(fd)
        sync_directory(path)
    except OSError as error:
        mend = "free space, or use another disk: no call is placed that could not be remembered"
        return fail(check, tried, f"it cannot be written: {error.strerror or error}", mend)
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    seconds = time.monotonic() - began
    if not same:
        return fail(check, tried, "other bytes came back", "use another disk; this one loses data")
    kind = file_system(path)
    lost = "what was not yet delivered is lost, and calls that were in the air end as unknown"
    if kind in MEMORY_FILE_SYSTEMS:
        return warn(check, tried, f"{kind} lives in memory: after a reboot {lost}", "put STATE_DIR on a disk")
    if kind in CONTAINER_FILE_SYSTEMS:
        told = f"{kind} is the container's own layer: when it is made anew {lost}"
        return warn(check, tried, told, "mount a volume at STATE_DIR (see compose.yaml)")
    if seconds > SLOW_SYNC_SECONDS:
        mend = "use a faster disk, or find what else writes to it; calls start and end later by this time"
        return warn(check, tried, f"it is kept ({kind or 'disk'}), but a sync took {seconds:.2f} s", mend)
    return ok(check, tried, f"it is kept ({kind or 'disk'}), within {seconds * 1000:.0f} ms", seconds=seconds)


def _space(path: Path) -> Finding:
    check, tried = "state.space", f"asked how much is free at {path}"
    mend = "free space: while the disk is full no call is placed, and outcomes wait in memory"
    try:
        free, disk = shutil.disk_usage(path).free, os.statvfs(path)
    except OSError as error:
        return fail(check, tried, f"it does not tell: {error.strerror or error}", mend)
    told = f"{free / 1024**2:,.0f} MiB"
    # A file system that makes inodes as it goes, such as btrfs, says 0 of 0.
    if disk.f_files and disk.f_favail < FEW_FILES:
        return warn(check, tried, f"{told}, but only {disk.f_favail} more files can be made", mend)
    if free < NO_SPACE:
        return fail(check, tried, f"only {told}", mend)
    if free < LITTLE_SPACE:
        return warn(check, tried, f"only {told}", mend)
    return ok(check, tried, told)


def _identity(path: Path) -> Finding:
    check, tried = "state.identity", "read who this folder belongs to"
    try:
        identity = identity_in(path)
    except (OSError, ValueError) as error:
        mend = (
            "nothing to mend by hand: run moves the file aside and starts as a new adapter; calls of the old one that "
            "were in the air end as unknown. Find out what damaged it"
        )
        return warn(check, tried, f"the file is damaged ({error})", mend)
    if identity is None:
        return ok(check, tried, "nobody yet; run makes a new adapter id")
    return ok(check, tried, f"adapter {identity.adapter}, its last start was number {identity.incarnation}")


def _probe(path: Path) -> Path:
    return path / f".doctor-{uuid.uuid4()}"
