"""A small file in STATE_DIR that says how the running daemon is; Docker's HEALTHCHECK and people read it.

A file works on every volume, needs no port and no Supabase, and can still be read when the process is gone. Freshness
is measured on the clock that all processes of a machine share and nobody sets; the boot id tells a file of before a
reboot.
"""

import asyncio
import json
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapter import clock
from adapter.log import say

log = logging.getLogger(__name__)

NAME = "health.json"
"""In STATE_DIR."""

WRITE_SECONDS = 5.0
"""Often enough for a look by hand; not synced, so it costs the disk next to nothing."""

LOOK_SECONDS = 0.5
"""A change of the status is in the file after this: people look at it right after a start."""

STALE_SECONDS = 20.0
"""Four writes missed: far above any pause of a sound process, and well below the watchdog's own limit of 120 s."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What the file tells."""

    alive: bool
    """The daemon runs and its loop turns."""

    ready: bool
    """Calls could be placed right now."""

    words: str
    status: Mapping[str, Any] = field(default_factory=dict)
    """The heartbeat as it was last written; empty where there is none."""


def boot_id(path: Path = BOOT_ID) -> str:
    """Names this run of the kernel; empty where the system does not tell."""
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeError):
        return ""


def judge(content: str | None, *, now: float, boot: str) -> Health:
    """Read the content of the file (None: there is no file) at `now`, seconds of the boot clock."""
    if content is None:
        return _dead(
            "not running: nothing was ever written here, or the adapter was stopped in order or refused to start"
        )
    try:
        found = json.loads(content)
        written, status = float(found["written"]), dict(found["status"])
        ready, problem = bool(status.get("ready")), status.get("problem")
        same_boot = found["boot"] == boot
    except (ValueError, KeyError, TypeError):
        return _dead("the health file cannot be read; it is written anew while the adapter runs")
    age = now - written
    if not same_boot or age < 0:
        return _dead("not running since this machine was started")
    if age > STALE_SECONDS:
        return _dead(f"no sign of life for {age:.0f} s: the adapter died, hangs, or cannot write to STATE_DIR")
    words = "calls may be placed" if ready else f"alive, but no calls now: {problem or 'not ready'}"
    if ready and problem:
        words = f"alive, but: {problem}"
    return Health(alive=True, ready=ready and not problem, words=words, status=status)


def look(state_dir: Path) -> Health:
    """How the daemon of this STATE_DIR is now."""
    try:
        content = (state_dir / NAME).read_text("utf-8")
    except FileNotFoundError:
        content = None
    except (OSError, UnicodeError) as error:
        return _dead(f"{state_dir / NAME} cannot be read ({error})")
    return judge(content, now=clock.boot(), boot=boot_id())


async def keep(state_dir: Path, status: Callable[[], Mapping[str, object]]) -> None:
    """Write the file until canceled, then remove it. A disk that fails is said once; calls do not depend on this."""
    path, failing = state_dir / NAME, False
    written, told = float("-inf"), dict[str, object]()
    try:
        while True:
            now, found = clock.boot(), dict(status())
            if found != told or now >= written + WRITE_SECONDS:
                written, told = now, found
                text = json.dumps({"written": now, "boot": boot_id(), "pid": os.getpid(), "status": found})
                try:
                    # In a thread: a disk that hangs must not stop the loop that follows calls.
                    await asyncio.to_thread(_replace, path, text)
                    failing = False
                except OSError as error:
                    if not failing:
                        failing = True
                        words = "The health file cannot be written"
                        say(log, logging.WARNING, "health.unwritten", words, problem=error)
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def _dead(words: str) -> Health:
    return Health(alive=False, ready=False, words=words)
