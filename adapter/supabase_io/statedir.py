"""STATE_DIR: one process at a time (flock), and who this adapter is (adapter id, incarnation), synced to disk.

The lock is what lets the next incarnation say "the process that claimed these rows is dead" (design, release rule c).
A registration that was begun is remembered with its nonce, so a crash between asking and hearing asks the same again.
"""

import fcntl
import json
import logging
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from adapter.log import say

log = logging.getLogger(__name__)

NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "fuse.sshfs", "9p"})
"""Here a lock or a sync may mean less than it says."""


LOCK_SECONDS = 0.5
"""How long a taken lock is asked for: doctor's look takes it for microseconds, and a killed process lets go of it only
when the kernel has torn it down."""


IDENTITY = "identity.json"


class StateDirError(Exception):
    """STATE_DIR cannot be used; the text tells the operator what to do."""


class StateDirBusy(StateDirError):
    """Another process holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Contents of the identity file."""

    adapter: str
    """Lower-case UUID, made once."""

    incarnation: int
    """Last incarnation that the database accepted; 0 before the first."""

    nonce: str | None = None
    """Set while a registration of `incarnation + 1` is under way."""


class StateDir:
    """The locked folder. Make it with `StateDir.open`; `close` gives the lock back."""

    def __init__(self, path: Path, lock: int, identity: Identity) -> None:
        self.path = path
        self._lock: int | None = lock
        self._identity = identity

    @classmethod
    def open(cls, path: Path) -> Self:
        """Make the folder if it is missing (0700), lock it, read or make the identity; raises StateDirError."""
        try:
            _make(path)
            lock = _take_lock(path)
        except OSError as error:
            raise _unusable(path, error) from None
        try:
            if (kind := file_system(path)) in NETWORK_FILE_SYSTEMS:
                say(
                    log,
                    logging.WARNING,
                    "statedir.network",
                    "STATE_DIR is on a network file system, where a lock may not keep a second process out; "
                    "use a local disk",
                    path=path,
                    kind=kind,
                )
            return cls(path, lock, _read_or_make(path))
        except OSError as error:
            os.close(lock)
            raise _unusable(path, error) from None
        except BaseException:
            os.close(lock)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def identity(self) -> Identity:
        """Who we are."""
        return self._identity

    @property
    def outbox_path(self) -> Path:
        """Where the outbox lives."""
        return self.path / "outbox.sqlite3"

    def begin_incarnation(self) -> tuple[str, int, str]:
        """`(adapter id, expected incarnation, nonce)` for `call_register_v1`; the same after a crash in between.

        Blocks for two syncs; raises StateDirError.
        """
        nonce = self._identity.nonce
        if nonce is None:
            nonce = str(uuid.uuid4())
            self._write(Identity(adapter=self._identity.adapter, incarnation=self._identity.incarnation, nonce=nonce))
        return self._identity.adapter, self._identity.incarnation, nonce

    def confirm(self, incarnation: int) -> None:
        """The database accepted `incarnation`; raises ValueError if that was not asked for, StateDirError."""
        if self._identity.nonce is None or incarnation != self._identity.incarnation + 1:
            raise ValueError(f"incarnation {incarnation} was not asked for")
        self._write(Identity(adapter=self._identity.adapter, incarnation=incarnation))

    def close(self) -> None:
        """Give the lock back; safe to call twice."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _write(self, identity: Identity) -> None:
        try:
            _write_identity(self.path, identity)
        except OSError as error:
            raise _unusable(self.path, error) from None
        self._identity = identity


def sync_directory(path: Path) -> None:
    """Make names in `path` durable: a synced file whose name is lost is lost."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def move_aside(path: Path, suffixes: tuple[str, ...] = ("",), clock: Callable[[], float] = time.time) -> Path:
    """Rename a damaged file, and its companions such as `-wal`, over nothing; returns the new name."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(clock()))
    target, number = path.with_name(f"{path.name}.damaged-{stamp}"), 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    for suffix in suffixes:
        source = path.with_name(path.name + suffix)
        if source.exists():
            source.rename(target.with_name(target.name + suffix))
    sync_directory(path.parent)
    return target


def file_system(path: Path, table: Path = Path("/proc/self/mountinfo")) -> str:
    """Type of the file system that holds `path`, such as `ext4`; empty where the system does not tell."""
    try:
        lines = table.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    where, best = path.resolve(), ("", -1)
    for line in lines:
        # "36 35 98:0 /root /mount/point rw - ext4 /dev/sda rw": the fields before the hyphen vary in number.
        head, _, tail = line.partition(" - ")
        fields = head.split()
        if len(fields) < 5 or not tail:
            continue
        mount = Path(fields[4].replace("\\040", " "))
        if where.is_relative_to(mount) and len(mount.parts) >= best[1]:
            best = tail.split()[0], len(mount.parts)
    return best[0]


def _make(path: Path) -> None:
    if not path.is_dir():
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_directory(path.parent)


def _take_lock(path: Path) -> int:
    fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _wait_for(fd)
    except BlockingIOError:
        holder = _holder(fd)
        os.close(fd)
        raise StateDirBusy(
            f"another adapter (process {holder}) uses STATE_DIR {path}; one folder serves one process. "
            "Stop the other one, or give this one a folder of its own"
        ) from None
    except BaseException:
        os.close(fd)
        raise
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def _wait_for(fd: int) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _holder(fd: int) -> str:
    return os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"


def held_by(path: Path) -> str | None:
    """The process that holds the folder, as it wrote itself down, or None. For a look: it changes nothing, and an
    adapter that starts in this very moment waits it out. Raises OSError."""
    try:
        fd = os.open(path / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        # Shared, so two looks at once do not see each other.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(fd)
    finally:
        os.close(fd)
    return None


def identity_in(path: Path) -> Identity | None:
    """Who the folder belongs to; None in a new one. Raises ValueError when the file is damaged, OSError."""
    try:
        return _parsed(json.loads((path / IDENTITY).read_bytes()))
    except FileNotFoundError:
        return None
    except (KeyError, TypeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _read_or_make(path: Path) -> Identity:
    try:
        if (found := identity_in(path)) is not None:
            return found
    except ValueError as error:
        aside = move_aside(path / IDENTITY)
        say(
            log,
            logging.ERROR,
            "statedir.damaged",
            "The adapter's identity file is damaged; it was moved aside and this adapter starts under a new id. "
            "Calls of the old id are ended by the database when its lease is over",
            moved_to=aside,
            problem=error,
        )
    identity = Identity(adapter=str(uuid.uuid4()), incarnation=0)
    _write_identity(path, identity)
    return identity


def _parsed(found: Any) -> Identity:
    incarnation, nonce = found["incarnation"], found["nonce"]
    if not isinstance(incarnation, int) or incarnation < 0:
        raise ValueError("incarnation is no whole number")
    return Identity(
        adapter=str(uuid.UUID(found["adapter"])),
        incarnation=incarnation,
        nonce=None if nonce is None else str(uuid.UUID(nonce)),
    )


def _write_identity(path: Path, identity: Identity) -> None:
    text = json.dumps(
        {"adapter": identity.adapter, "incarnation": identity.incarnation, "nonce": identity.nonce}, indent=1
    )
    temporary = path / f"{IDENTITY}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path / IDENTITY)
    sync_directory(path)


def _unusable(path: Path, error: OSError) -> StateDirError:
    return StateDirError(
        f"STATE_DIR {path} cannot be used ({error.strerror or error}); it must be a folder on a disk with free space "
        f"that user id {os.geteuid()} may write to"
    )
