"""A memory limit like a container's, and the kernel's own end of a process that meets it.

Both generations of control groups are known. Where none may be made (no root, a read-only tree) there is none, and the
caller sends the same signal that the kernel would: SIGKILL.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TREES = (
    (Path("/sys/fs/cgroup/memory"), ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"), "memory.oom_control"),
    (Path("/sys/fs/cgroup"), ("memory.max", "memory.swap.max"), "memory.events"),
)
"""The place of each generation, its files for the limits (memory; with swap), and the one that counts kills."""

BALLAST = """
import os, sys, time
group, victim = sys.argv[1], sys.argv[2]
with open(group + "/cgroup.procs", "w") as members:
    members.write(str(os.getpid()))
held, written = os.memfd_create("ballast"), 0
while os.path.exists("/proc/" + victim) and written < 4 << 30:
    written += os.write(held, bytes(1 << 20))
    time.sleep(0.002)
"""
"""Fills the group, 1 MB at a time, until the victim is gone. Into a file in memory: that counts for the group but not
for the process that writes, so the kernel ends the one that is large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A control group."""

    folder: Path
    counter: str

    @property
    def kills(self) -> int:
        """How many processes in it the kernel has ended for want of memory."""
        told = dict(line.split() for line in (self.folder / self.counter).read_text().splitlines())
        return int(told["oom_kill"])

    async def exhaust(self, victim: int) -> None:
        """Use up the memory of the group until the kernel has ended its process `victim`."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", BALLAST, str(self.folder), str(victim))
        )
        await process.wait()


@contextmanager
def limited(size: int) -> Iterator[Limit | None]:
    """A new group with so many bytes, or None where none may be made."""
    limit = _made(size)
    try:
        yield limit
    finally:
        if limit is not None:
            limit.folder.rmdir()


def _made(size: int) -> Limit | None:
    for tree, limits, counter in TREES:
        folder = tree / f"mikopbx-adapter-{os.getpid()}"
        with contextlib.suppress(OSError):
            folder.mkdir()
            try:
                for number, name in enumerate(limits):
                    if (folder / name).exists():
                        # The second one is the sum on the old tree, and what may be swapped on the new one.
                        value = 0 if number and name == "memory.swap.max" else size
                        (folder / name).write_text(str(value))
                limit = Limit(folder=folder, counter=counter)
                _ = limit.kills
            except (OSError, KeyError, ValueError):
                folder.rmdir()
                raise OSError from None
            return limit
    return None


SAME_SIGNAL = signal.SIGKILL
"""What the kernel sends."""
