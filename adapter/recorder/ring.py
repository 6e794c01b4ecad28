"""The ring on disk: segments `00000001.jsonl`, `00000002.jsonl`, …, the oldest of which goes when the bound is reached.

A line is written by one call and never changed, so what was written is there after SIGKILL; a line that a crash or a
full disk cut off is ended by the next write, and readers pass over it. Nothing is synced: the record is not evidence
that anything hangs on, and a sync per line would cost more than the daemon's own.
"""

import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SEGMENTS = 8
"""An eighth of the record goes at a time."""

RESERVE = 32 << 20
"""Free bytes that are left to the outbox on the same disk: outcomes come first; a thousand fit into one megabyte."""

LOOK_SECONDS = 1.0
"""How often the free space is asked for while there is something to write."""

KEY_BYTES = 32


class DiskTight(OSError):
    """The disk has room, and it is left to the outbox."""


def folder_of(state_dir: Path) -> Path:
    """Where the record of this adapter is."""
    return state_dir / "flight"


def key_in(folder: Path) -> bytes:
    """The key of the tokens, made at first use. Raises OSError."""
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "key"
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = b""
    if len(key) != KEY_BYTES:
        key = secrets.token_bytes(KEY_BYTES)
        fresh = folder / "key.new"
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(key)
        fresh.rename(path)
    return key


def segments(folder: Path) -> list[Path]:
    """The files of the record, oldest first."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".jsonl" and path.stem.isdecimal())
    except FileNotFoundError:
        return []


def lines(folder: Path) -> Iterator[bytes]:
    """Every whole line, oldest first; also while the daemon writes. A segment that goes meanwhile is passed over."""
    for path in segments(folder):
        try:
            with path.open("rb") as file:
                yield from (line for line in file if line.endswith(b"\n") and line != b"\n")
        except FileNotFoundError:
            continue


class Ring:
    """The writing side, for one thread. Every method may raise OSError; the next `write` starts afresh."""

    def __init__(
        self,
        folder: Path,
        size: int,
        *,
        head: Callable[[], bytes],
        free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`size`: bytes of all segments together. `head`: the line that each segment begins with."""
        self._folder = folder
        self._segment = size // SEGMENTS
        self._head = head
        self._free = free
        self._clock = clock
        self._fd: int | None = None
        self._used = 0
        self._looked_at = -LOOK_SECONDS

    def write(self, data: bytes) -> None:
        """Append whole lines, no longer together than a segment."""
        now = self._clock()
        if now - self._looked_at >= LOOK_SECONDS:
            if self._free(self._folder) < RESERVE:
                raise DiskTight(f"less than {RESERVE >> 20} MB are free")
            self._looked_at = now
        try:
            if self._fd is None:
                self._open()
            if self._used + len(data) > self._segment:
                self._turn()
            self._append(data)
        except OSError:
            self._looked_at = -LOOK_SECONDS
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file; safe to call twice."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> None:
        """Go on where the last process, or the last error, has left off."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        found = segments(self._folder)
        self._prune(found, keep=SEGMENTS)
        self._take(found[-1] if found else self._folder / f"{1:08}.jsonl")
        if self._used:
            self._append(b"\n")  # Ends a line that was cut off; an empty one is passed over.
        head = self._head()
        if self._used + len(head) > self._segment:
            self._turn()
        else:
            self._append(head)

    def _turn(self) -> None:
        """The next segment; the oldest one goes first, so that the bound holds at every moment."""
        found = segments(self._folder)
        self.close()
        self._prune(found, keep=SEGMENTS - 1)
        number = int(found[-1].stem) + 1 if found else 1
        self._take(self._folder / f"{number:08}.jsonl")
        self._append(self._head())

    def _prune(self, found: list[Path], *, keep: int) -> None:
        # Also those of a time when the bound was another one.
        sizes = {path: path.stat().st_size for path in found}
        while len(found) > keep or (len(found) > 1 and sum(sizes.values()) > keep * self._segment):
            oldest = found.pop(0)
            del sizes[oldest]
            oldest.unlink(missing_ok=True)
        if found and sizes[found[-1]] > self._segment and keep < SEGMENTS:
            found[-1].unlink(missing_ok=True)

    def _take(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._used = os.fstat(self._fd).st_size

    def _append(self, data: bytes) -> None:
        assert self._fd is not None  # noqa: S101  Every path here has opened it.
        rest = memoryview(data)
        while rest:
            written = os.write(self._fd, rest)
            self._used += written
            rest = rest[written:]
