"""The recorder that writes: the loop hands over, a thread of its own masks and writes.

The loop pays for one append to a queue. A disk that is slow, full or gone costs lines of the record and nothing else:
the queue is bounded, what does not fit is counted and the number written down as soon as that is possible.
"""

import json
import logging
import secrets as random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from adapter import clock
from adapter.log import say
from adapter.recorder import Exchange
from adapter.recorder.masks import HEADERS, Masks
from adapter.recorder.ring import SEGMENTS, Ring, key_in

log = logging.getLogger(__name__)

LINGER = 0.05
"""Seconds for which lines gather before they are written: one write for many, and SIGKILL costs no more than this."""

MOST_WAITING = 20_000
"""Lines in memory while the disk does not take them: half a minute of a busy PBX, some 20 MB."""

MOST_LINE = 96 << 10
"""Bytes of one line; 200 records of one tick are below 80 kB. A longer one loses its bodies."""

CHUNK = 32 << 10
"""Bytes of one write, where the lines are not longer by themselves."""

AGAIN_SECONDS = 60.0
"""From a failed write to the next try."""

CLOSE_SECONDS = 2.0
"""Longest wait for the last lines at the end; a disk that hangs is left alone."""

FORMAT = 1
"""Of the lines and of the bundles."""

SYNC = "/rest/v1/rpc/call_sync_v1"

_Render = Callable[[Masks], dict[str, Any]]
"""Makes the line out of what was handed over; it is called in the thread."""


class FlightRecorder:
    """A `Recorder` into a ring of files. Call `close` at the end; after it everything is let pass."""

    def __init__(
        self,
        folder: Path,
        size: int,
        *,
        version: str,
        settings: Mapping[str, Any],
        secrets: tuple[str, ...] = (),
        region: str = "MY",
        ring: Callable[[Path, int, Callable[[], bytes]], Ring] = lambda folder, size, head: Ring(
            folder, size, head=head
        ),
    ) -> None:
        """`size` in bytes; `settings`: those that may be shown to anybody."""
        self._folder = folder
        self._limit = min(MOST_LINE, size // SEGMENTS // 2)
        self._about = {"dir": "R", "format": FORMAT, "run": random.token_hex(4), "version": version, **settings}
        self._secrets = secrets
        self._region = region
        self._ring = ring(folder, size, self._head)
        self._masks: Masks | None = None  # Its key is read in the thread: the disk may hang.
        self._waiting: deque[tuple[float, float, _Render]] = deque()
        self._lost = 0
        self._failing = False
        self._try_at = 0.0
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flight recorder", daemon=True)
        self._thread.start()

    # -- called in the loop

    def ami(self, session: int, *, sent: bool, headers: Mapping[str, Any]) -> None:
        """One AMI message."""
        if sent:  # The login's secret does not even reach the queue.
            headers = {name: value for name, value in headers.items() if name in HEADERS}
        start = {"dir": "C" if sent else "S", "session": session}
        self._put(lambda masks: {**start, **masks.headers(headers)})

    def closed(self, session: int, reason: str) -> None:
        """A connection is over."""
        self._put(lambda masks: {"dir": "S", "session": session, "Closed": masks.text(reason)})

    def http(self, exchange: Exchange) -> None:
        """One request is over."""
        self._put(partial(_exchange, exchange))

    def _put(self, render: _Render) -> None:
        if self._closing.is_set():
            return
        if len(self._waiting) >= MOST_WAITING:
            self._lost += 1
            return
        self._waiting.append((clock.wall(), clock.boot(), render))
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Write what waits, for `CLOSE_SECONDS` at most. Blocks."""
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_SECONDS)

    # -- the thread

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._closing.wait(LINGER)
            self._wake.clear()
            last = self._closing.is_set()
            try:
                self._write_all()
            except OSError as error:
                self._failed(error)
            except Exception:
                # An error of this program, in a part that nothing hangs on: said once, and that was the record.
                log.exception("The flight recorder has stopped; calls go on without it")
                return
            if last:
                self._ring.close()
                return

    def _write_all(self) -> None:
        if time.monotonic() < self._try_at:
            self._drop()
            return
        if self._masks is None:
            self._masks = Masks(key_in(self._folder), secrets=self._secrets, region=self._region)
        chunk: list[bytes] = []
        size = 0
        while self._waiting:
            at, mono, render = self._waiting.popleft()
            line = self._line(at, mono, partial(render, self._masks))
            if chunk and size + len(line) > min(CHUNK, self._limit):
                self._write(chunk)
                chunk, size = [], 0
            chunk.append(line)
            size += len(line)
        if chunk:
            self._write(chunk)

    def _write(self, chunk: list[bytes]) -> None:
        lost, before = self._lost, []
        if lost:
            before = [_dumped({"at": round(clock.wall(), 6), "mono": round(clock.boot(), 6), "dir": "L", "lost": lost})]
        try:
            self._ring.write(b"".join(before + chunk))
        except OSError:
            self._lost += len(chunk)
            raise
        self._lost -= lost
        if self._failing:
            self._failing = False
            say(log, logging.INFO, "flight.again", "The flight recorder writes again")

    def _line(self, at: float, mono: float, render: Callable[[], dict[str, Any]]) -> bytes:
        stamp = {"at": round(at, 6), "mono": round(mono, 6)}
        try:
            told = render()
            line = _dumped({**stamp, **told})
            if len(line) > self._limit:
                line = _dumped({**stamp, **{k: v for k, v in told.items() if k not in {"asked", "told"}}, "cut": True})
        except (TypeError, ValueError, RecursionError) as error:
            line = _dumped({**stamp, "dir": "L", "lost": 1, "why": type(error).__name__})
        return line

    def _failed(self, error: OSError) -> None:
        self._try_at = time.monotonic() + AGAIN_SECONDS
        self._drop()
        if not self._failing:
            self._failing = True
            say(
                log,
                logging.WARNING,
                "flight.failing",
                "The flight recorder cannot write; calls go on, only their record is lost. Make room on the disk of "
                "STATE_DIR, or set FLIGHT_MB lower; it is tried again every minute",
                problem=error.strerror or str(error),
            )

    def _drop(self) -> None:
        self._lost += len(self._waiting)
        self._waiting.clear()

    def _head(self) -> bytes:
        return _dumped({"at": round(clock.wall(), 6), "mono": round(clock.boot(), 6), **self._about})


def _exchange(exchange: Exchange, masks: Masks) -> dict[str, Any]:
    out: dict[str, Any] = {
        "dir": "H",
        "method": exchange.method,
        "path": exchange.path,
        "status": exchange.status,
        "seconds": round(exchange.seconds, 6),
    }
    if exchange.problem:
        out["problem"] = masks.text(exchange.problem)
    elif _idle(exchange):
        return {**out, "idle": True}  # Twelve a minute, day and night: they would push the calls out of the ring.
    return {**out, "asked": masks.body(exchange.asked), "told": masks.body(exchange.told)}


def _idle(exchange: Exchange) -> bool:
    """A tick in which nothing happened."""
    if exchange.path != SYNC or not isinstance(exchange.asked, Mapping) or not isinstance(exchange.told, Mapping):
        return False
    happened = ("rows", "commands", "recorded", "refused", "takeover", "notes", "fenced")
    return not exchange.asked.get("p_records") and not any(exchange.told.get(key) for key in happened)


def _dumped(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"
