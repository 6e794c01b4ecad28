"""The folder in which one pair of Asterisks lives, and the end of those that were left behind."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "mikopbx-adapter-"


@contextmanager
def made(parent: Path, *, keep: bool = False) -> Iterator[Path]:
    """A new folder under `parent`, removed at the end, or with `keep` when the next one is made.

    Folders without an owner are removed first. Each is held by a lock on its own file `lock`, which the kernel lets go
    when the owner dies. The gate makes "new folder, then its lock" one step for whoever cleans up.
    """
    gate = parent / f"{PREFIX}{os.geteuid()}.lock"
    with gate.open("w") as gatekeeper:
        fcntl.flock(gatekeeper, fcntl.LOCK_EX)
        for folder in parent.glob(f"{PREFIX}{os.geteuid()}-*/"):
            _remove_if_dead(folder)
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.geteuid()}-", dir=parent))
        owner = (folder / "lock").open("w")
        fcntl.flock(owner, fcntl.LOCK_EX)
    with owner:
        try:
            yield folder
        finally:
            if not keep:
                shutil.rmtree(folder)


def _remove_if_dead(folder: Path) -> None:
    with (folder / "lock").open("a") as owner:
        try:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        shutil.rmtree(folder)
