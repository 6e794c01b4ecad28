"""The doorbell: it rings when rows were inserted, and knows how far it can be trusted.

It carries no data and no promise. Whatever Realtime does, rows are found by the sweep; the bell only makes them early.
One supervisor makes one line after the other (line.py), waits between them with full jitter, and takes three things
apart: a line that is lost (again soon), a key that is refused (an alarm, at most one try a minute), and a way of
ringing that this project does not have (the other way is taken, this one is tried again later).

A joined channel can be dead for ever while its socket is well; only rows that the sweep found without a ring prove it.
The ticker tells of them (`missed`), the line is made anew, and not more often than helps.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random, wait_random_exponential

from adapter.log import say
from adapter.supabase_io import library
from adapter.supabase_io.config import DoorbellMode, SupabaseConfig
from adapter.supabase_io.line import Fault, Heard, LibraryLog, Line, LineEnded, Plan

log = logging.getLogger(__name__)


class BellState(StrEnum):
    """Where the doorbell stands."""

    OFF = "off"
    """DOORBELL=off, or not running."""

    CONNECTING = "connecting"
    JOINED = "joined"
    """Broadcasts are heard; the server has not yet said that changes flow."""

    LIVE = "live"
    """Everything that is listened for is in force, as the server says."""

    WAITING = "waiting"
    """Between two tries."""

    REFUSED = "refused"
    """The key or the project is refused; tried again about once a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BellStatus:
    """One look at the doorbell, for the health page, metrics and `status`."""

    state: BellState
    since: float
    """Epoch seconds of the last change of `state`."""

    listens: str
    """`broadcast+changes`, `broadcast`, `changes`, or empty: what the current or last line listens for."""

    joined: bool
    changes_live: bool
    deaf: bool
    """Rows were missed while joined, and nothing has rung since."""

    rings: int
    missed: int
    """Rows that the sweep found while the bell was joined and silent."""

    connects: int
    """Lines that were tried."""

    rebuilds: int
    """Lines that were given up because the bell was deaf."""

    unreadable: int
    """Frames that the library could not read."""

    problem: str | None
    """What is wrong, in words an operator can act on."""

    @property
    def live(self) -> bool:
        """The server says that it rings."""
        return self.state is BellState.LIVE


class Doorbell:
    """`run` it as a task; wait for `rung`, clear it, claim; call `missed` for rows that came without a ring."""

    def __init__(self, config: SupabaseConfig, *, wall: Callable[[], float] = time.time) -> None:
        library.quiet()
        self.rung = asyncio.Event()
        """Set by each ring, and when a line begins to hear: what was inserted before it is not announced (RT-06)."""

        self._config = config
        self._timings = config.bell
        self._wall = wall
        self._state = BellState.OFF
        self._since = wall()
        self._line: Line | None = None
        self._listens = ""
        self._rings = self._missed = self._connects = self._rebuilds = self._unreadable = 0
        self._trouble: LineEnded | None = None
        self._told: set[str] = set()
        self._without: dict[Fault, tuple[float, str]] = {}
        """Ways of ringing that were refused: loop time from which each is tried again, and the server's words."""

        self._deaf = False
        self._rebuild = asyncio.Event()
        self._deaf_pause = self._timings.deaf_floor
        self._no_rebuild_before = float("-inf")
        self._backoff = wait_random_exponential(multiplier=self._timings.backoff_first, max=self._timings.backoff_most)
        self._refused = wait_random(min=self._timings.refused, max=2 * self._timings.refused)
        self._limited = wait_random(min=self._timings.limited, max=2 * self._timings.limited)

    @property
    def status(self) -> BellStatus:
        """How the doorbell is now."""
        line = self._line
        return BellStatus(
            state=self._state,
            since=self._since,
            listens=self._listens,
            joined=line is not None and line.joined and not line.ended.done(),
            changes_live=self._state is BellState.LIVE and line is not None and line.plan.changes,
            deaf=self._deaf,
            rings=self._rings,
            missed=self._missed,
            connects=self._connects,
            rebuilds=self._rebuilds,
            unreadable=self._unreadable,
            problem=self._problem(),
        )

    async def run(self) -> None:
        """Keep a line alive until canceled. Raises only what is an error of this program."""
        if self._config.doorbell is DoorbellMode.OFF:
            say(log, logging.INFO, "bell.off", "The doorbell is off; rows are found by the sweep")
            await asyncio.Event().wait()
        with LibraryLog(self._on_unreadable).attached():
            try:
                while True:
                    # A line that was good for long, or given up on purpose, returns: the next series starts afresh.
                    async for attempt in AsyncRetrying(
                        retry=retry_if_exception_type(LineEnded), wait=self._wait, reraise=True
                    ):
                        with attempt:
                            await self._one_line()
            finally:
                self._go(BellState.OFF)

    def missed(self, rows: int) -> None:
        """The sweep found `rows` rows that were inserted while we were joined, and nothing rang for them."""
        if not self.status.joined or self._rebuild.is_set():
            return
        self._missed += rows
        if not self._deaf:
            self._deaf = True
            say(
                log,
                logging.WARNING,
                "bell.deaf",
                "The doorbell is connected but did not ring for rows that the sweep found; connecting it anew",
                rows=rows,
                listens=self._listens,
            )
        now = asyncio.get_running_loop().time()
        if now >= self._no_rebuild_before:
            # While no rebuild brings a ring, each waits twice as long as the one before.
            self._no_rebuild_before = now + self._deaf_pause
            self._deaf_pause = min(2 * self._deaf_pause, self._timings.deaf_most)
            self._rebuilds += 1
            self._rebuild.set()

    # -- one line

    async def _one_line(self) -> None:
        plan = self._plan()
        self._listens = str(plan)
        self._connects += 1
        self._rebuild.clear()
        self._go(BellState.CONNECTING)
        line = self._line = Line(self._config, plan, self._ring)
        loop = asyncio.get_running_loop()
        live_at = float("inf")
        try:
            await line.open()
            self._go(BellState.JOINED)
            self.rung.set()
            await self._until_live(line)
            live_at = loop.time()
            self._hears()
            await _first(line.ended, self._rebuild, within=self._second_try())
            if line.ended.done():
                raise line.ended.result()
        except LineEnded as ended:
            self._failed(ended, plan)
            if loop.time() - live_at < self._timings.stable:
                raise
        finally:
            self._line = None
            await line.close()

    async def _until_live(self, line: Line) -> None:
        await _first(line.ended, line.live, within=self._timings.subscribed)
        if line.ended.done():
            raise line.ended.result()
        if not line.live.is_set():
            limit = self._timings.subscribed
            raise LineEnded(Fault.LOST, f"the server did not say within {limit:g} s that changes of call_queue flow")

    def _plan(self) -> Plan:
        """What to listen for now: in mode auto everything that was not refused lately."""
        now = asyncio.get_running_loop().time()
        self._without = {fault: until for fault, until in self._without.items() if until[0] > now}
        match self._config.doorbell:
            case DoorbellMode.BROADCAST:
                return Plan(private=True, broadcast=True, changes=False)
            case DoorbellMode.AUTO if Fault.PRIVATE not in self._without:
                return Plan(private=True, broadcast=True, changes=Fault.CHANGES not in self._without)
            case _:
                # Anybody with the public key may ring a public channel, so broadcasts are not listened for there.
                return Plan(private=False, broadcast=False, changes=True)

    def _second_try(self) -> float | None:
        """Seconds until a way of ringing that was refused is tried again."""
        if not self._without:
            return None
        return max(0.0, min(until for until, _ in self._without.values()) - asyncio.get_running_loop().time())

    # -- what happens to it

    def _ring(self, heard: Heard) -> None:
        self._rings += 1
        self.rung.set()
        self._deaf_pause = self._timings.deaf_floor
        if self._deaf:
            self._deaf = False
            say(log, logging.INFO, "bell.hears", "The doorbell rings again", by=heard.value)

    def _on_unreadable(self, frame: str) -> None:
        self._unreadable += 1
        if self._line is not None:
            self._line.unreadable(frame)

    def _hears(self) -> None:
        self._go(BellState.LIVE)
        self._trouble = None
        self._told.clear()
        self.rung.set()
        say(log, logging.INFO, "bell.live", "The doorbell is live", listens=self._listens, without=self._lacks())

    def _failed(self, ended: LineEnded, plan: Plan) -> None:
        self._trouble = ended
        alarm = self._alarming(ended.fault)
        if not alarm and ended.fault in (Fault.PRIVATE, Fault.CHANGES):
            again = asyncio.get_running_loop().time() + self._timings.second_try
            self._without[ended.fault] = again, str(ended)
        self._go(BellState.REFUSED if alarm else BellState.WAITING)
        if str(ended) in self._told:
            return
        self._told.add(str(ended))
        if alarm:
            say(
                log,
                logging.ERROR,
                "bell.refused",
                "Realtime refuses the doorbell; rows are found by the sweep only",
                problem=ended,
            )
        else:
            say(
                log,
                logging.WARNING,
                "bell.down",
                "The doorbell is down; rows are found by the sweep meanwhile",
                problem=ended,
                listens=plan,
            )

    def _alarming(self, fault: Fault) -> bool:
        """True when nothing but a person can help: no other way of ringing is left."""
        match fault:
            case Fault.KEY:
                return True
            case Fault.PRIVATE:
                return self._config.doorbell is not DoorbellMode.AUTO
            case Fault.CHANGES:
                return self._config.doorbell is not DoorbellMode.AUTO or Fault.PRIVATE in self._without
            case _:
                return False

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        fault = error.fault if isinstance(error, LineEnded) else Fault.LOST
        if self._alarming(fault):
            return self._refused(state)
        return self._limited(state) if fault is Fault.LIMITED else self._backoff(state)

    def _go(self, state: BellState) -> None:
        if state is not self._state:
            self._state = state
            self._since = self._wall()

    def _lacks(self) -> str | None:
        return "; ".join(words for _, words in self._without.values()) or None

    def _problem(self) -> str | None:
        if self._trouble is not None:
            return str(self._trouble)
        if self._deaf:
            return f"connected, but silent: {self._missed} rows were found by the sweep only"
        return self._lacks()


async def _first(ended: asyncio.Future[LineEnded], event: asyncio.Event, *, within: float | None) -> None:
    """Wait until one of the two happens, or `within` seconds are over."""
    waiter = asyncio.create_task(event.wait())
    either: set[asyncio.Future[Any]] = {ended, waiter}
    try:
        await asyncio.wait(either, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiter.cancel()
