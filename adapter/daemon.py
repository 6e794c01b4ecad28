"""One page of life: start, links, resync, tick, dial, follow, drain. One owner for each task.

start   lock STATE_DIR, open the outbox, register this incarnation in the database
run     link (AMI), doorbell (Realtime), follower (events → records), dialer (rows → Originates),
        ticker (records out, rows in), watchdog; the first one that dies ends the process with code 70
drain   on SIGTERM: claim no more, give back what was surely not sent, store outcomes, leave with code 0;
        calls in the air go on at the PBX and are found again by the next start
"""

import asyncio
import logging
import os
import signal
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from adapter import __version__, clock, shadow
from adapter.core.model import ClaimedRow, Ending, Form, NumberStyle, OpenCall, Record, Way
from adapter.core.originate import DialPlan
from adapter.core.policy import AiBreaker, room
from adapter.dialer import Dialer
from adapter.exits import EXIT_BUSY, EXIT_CONFIG, EXIT_INSISTED, EXIT_WEDGED
from adapter.follower import Follower
from adapter.health import keep
from adapter.log import hide, say, set_up
from adapter.pacer import Pacer
from adapter.pbx import PbxLink
from adapter.recorder import SILENT
from adapter.settings import Settings
from adapter.supabase_io.database import Database, DatabaseAway, DatabaseRefused
from adapter.supabase_io.doorbell import Doorbell
from adapter.supabase_io.outbox import Outbox, OutboxUnusable
from adapter.supabase_io.statedir import StateDir, StateDirBusy, StateDirError
from adapter.ticker import LEASE_SECONDS, Fenced, Tick, Ticker
from adapter.watchdog import Watchdog
from adapter.wiring import configs, flight_recorder

log = logging.getLogger(__name__)

STOPPING = "the adapter was stopping"

WHO_CHARGES = {
    "off": "BILLING=off: the adapter charges no minutes, the AI handler must",
    "minutes": "BILLING=minutes: the adapter charges the talk of answered calls; the AI handler must not",
}
"""Said at the start, for money is the one thing that two may do and both be wrong."""

SIGNAL_SECONDS = 0.01
"""In which the loop sees a signal that is there: two turns of it."""

DISK_SECONDS = 1.0
"""How long a disk may take for a record before Supabase is asked to take it instead: a slow one takes a tenth of it."""

TESTIFY_SECONDS = 2.0
"""How often a witness looks whether it has something to ask (`core/witness.py`): a fifth of its patience of 10 s."""

UNASKED_SECONDS = 15.0
"""How long it then waits when the database did not take the question: as long as the ticker at most."""

READINESS_SECONDS = 0.1
"""How often the link is asked whether calls may be placed: a claim after start or repair waits no longer than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What is opened before the tasks start, and closed after they have ended."""

    outbox: Outbox
    database: Database
    link: PbxLink
    doorbell: Doorbell
    locked_at: float = field(default_factory=clock.boot)
    """Boot clock when the lock of STATE_DIR was ours: no earlier process of this folder dialed after that."""


@dataclass(slots=True)
class Told:
    """What the health file says: until the daemon itself can tell, that it waits for the database."""

    status: Callable[[], Mapping[str, object]] = lambda: {
        "ready": False,
        "problem": "waiting for Supabase, where this adapter must register before it may dial",
    }

    def now(self) -> Mapping[str, object]:
        """The status at this moment."""
        return self.status()


class Daemon:
    """The running adapter. `run` returns the exit code."""

    def __init__(
        self,
        settings: Settings,
        parts: Parts,
        incarnation: int,
        opened: Sequence[OpenCall],
        process: str | None = None,
    ) -> None:
        """`process`: what this process called itself when it registered; two may have the number of one run."""
        self._settings = settings
        self._parts = parts
        self._opened = opened
        self._process = process
        self._incarnation = incarnation
        self._stopping = False
        self._now = clock.steady()
        self._ai = AiBreaker()
        self._watchdog = Watchdog()
        self._hang_ups: set[asyncio.Task[None]] = set()
        by_route = settings["DIAL_FORM"] is Form.ROUTE
        self._own_trunk: str = "" if by_route else settings["TRUNK"]
        """Empty in form route, where MikoPBX chooses."""

        self._ways: tuple[Way, ...] = ()
        """Trunks that `call_trunks` has for our PBX; none of them: that of the settings."""

        self._plan = DialPlan(
            form=settings["DIAL_FORM"],
            trunk=self._own_trunk,
            ai_context=settings["AI_CONTEXT"],
            ai_extension=settings["AI_EXTENSION"],
            caller_id=settings["CALLER_ID"] or None,
            region=settings["DEFAULT_REGION"],
            number_style=NumberStyle(settings["NUMBER_STYLE"]),
            ring_seconds=settings["RING_SECONDS"],
            max_call_seconds=settings["MAX_CALL_SECONDS"],
        )
        self._follower = Follower(
            link=parts.link,
            store=self._store,
            ended=self._ended,
            now=self._now,
            clock=clock.boot,
            form=settings["DIAL_FORM"],
            trunk=self._own_trunk,
            ring_seconds=settings["RING_SECONDS"],
            max_call_seconds=settings["MAX_CALL_SECONDS"],
            no_answer_word=settings["NO_ANSWER_WORD"],
            incarnation=incarnation,
            beat=lambda: self._watchdog.beat("follower"),
        )
        self._pacer = Pacer(
            calls_per_second=settings["CALLS_PER_SECOND"],
            stopwatch=parts.link.stopwatch,
            clock=clock.boot,
            since=parts.locked_at,
        )
        self._dialer = Dialer(
            link=parts.link,
            follower=self._follower,
            plan=self._plan,
            store=self._store,
            may_dial=self._may_dial,
            keeps=parts.outbox.keeps,
            clock=clock.boot,
            pacer=self._pacer,
            taken=self._taken_in_hand,
        )
        self._ticker = Ticker(
            database=parts.database,
            outbox=parts.outbox,
            doorbell=parts.doorbell,
            status=self.heartbeat,
            room=self._room,
            tick=Tick(
                dial=self._dial,
                hang_up=self._hang_up,
                block=self._dialer.block_unreadable,
                adopt=lambda calls: self._adopt(calls, ours=False),
                know=self._know,
                beat=lambda: self._watchdog.beat("ticker"),
            ),
            clock=clock.boot,
            sweep_seconds=settings["SWEEP_SECONDS"],
        )

    async def run(self, stopped: asyncio.Event) -> int:
        """Run until `stopped` is set or a part dies; returns the exit code."""
        self._adopt(self._opened, ours=True)
        ticker = asyncio.create_task(self._ticker.run(), name="ticker")
        tasks = {
            ticker,
            asyncio.create_task(self._parts.link.run(), name="pbx link"),
            asyncio.create_task(self._parts.doorbell.run(), name="doorbell"),
            asyncio.create_task(self._follower.run(), name="follower"),
            asyncio.create_task(self._follower.breathe(), name="follower's clock"),
            asyncio.create_task(self._dialer.run(), name="dialer"),
            asyncio.create_task(self._watch_readiness(), name="readiness"),
            asyncio.create_task(self._testify(), name="witness"),
            asyncio.create_task(self._watchdog.run(), name="watchdog"),
        }
        stop = asyncio.create_task(stopped.wait(), name="stop")
        try:
            ended, _ = await asyncio.wait({stop, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            dead = ended - {stop}
            if dead:
                return _explain(dead.pop())
            await self._drain(ticker)
            return 0
        finally:
            for task in (stop, *tasks):
                task.cancel()
            await asyncio.gather(stop, *tasks, return_exceptions=True)

    async def _drain(self, ticker: asyncio.Task[None]) -> None:
        """Everything that must be done before we leave, within `DRAIN_SECONDS`. Live calls stay alive."""
        say(log, logging.INFO, "daemon.draining", "Stopping: no new calls, live ones go on", live=self._follower.in_air)
        self._stopping = True
        self._ticker.stop()
        flushed = False
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings["DRAIN_SECONDS"]):
                await self._dialer.give_back(STOPPING)
                # The answer to a claim that was under way may bring rows; they go back too.
                await asyncio.wait({ticker})
                await self._dialer.give_back(STOPPING)
                await self._dialer.drained()
                await self._ticker.flush()
                flushed = True
        say(
            log,
            logging.INFO if flushed else logging.WARNING,
            "daemon.drained",
            "All outcomes are stored" if flushed else "Leaving; what Supabase did not take yet waits in the outbox",
            waiting=self._parts.outbox.count,
            live=self._follower.in_air,
        )

    # Between the parts

    async def _store(self, records: Sequence[Record]) -> None:
        puts = [asyncio.ensure_future(self._parts.outbox.put(record)) for record in records]
        try:
            _, late = await asyncio.wait(puts, timeout=DISK_SECONDS)
            if late:
                self._ticker.want()
            await asyncio.gather(*puts)
        finally:
            for put in puts:
                put.cancel()  # That takes no record back; it only leaves nobody waiting.
        self._ticker.want()

    def _ended(self, ending: Ending) -> None:
        self._ai = self._ai.after(ending)
        self._ticker.room_appeared()

    async def _testify(self) -> None:
        """Tell of other adapters' calls on our PBX what the database does not know of them."""
        told = ""
        while True:
            await asyncio.sleep(TESTIFY_SECONDS)
            asked = self._follower.unsure_of()
            if not asked or self._ticker.database_problem is not None:
                continue
            try:
                wanted = await self._parts.database.witness(asked)
            except (DatabaseAway, DatabaseRefused) as error:
                # Nothing is forgotten by it: it is asked again, and a take-over uses the same knowledge.
                if str(error) != told:
                    told = str(error)
                    say(log, logging.WARNING, "witness.unasked", "What was seen cannot be told yet", problem=told)
                await asyncio.sleep(UNASKED_SECONDS)
            else:
                await self._follower.testify(wanted)

    def _adopt(self, calls: Sequence[OpenCall], *, ours: bool) -> None:
        settled = self._parts.outbox.settled()
        self._follower.adopt([call for call in calls if call.row.call_id not in settled], ours=ours)

    def _dial(self, rows: tuple[ClaimedRow, ...], since: float) -> None:
        self._ai = self._ai.probing(self._now())
        self._dialer.take(rows, since)

    def _hang_up(self, call_ids: tuple[str, ...]) -> None:
        for call_id in call_ids:
            task = asyncio.create_task(self._end_call(call_id), name=f"hang up {call_id}")
            self._hang_ups.add(task)
            task.add_done_callback(self._hang_ups.discard)

    async def _end_call(self, call_id: str) -> None:
        """A canceled call: not dialed if it is still ours to keep, else hung up."""
        if not await self._dialer.withdraw(call_id, "canceled before it was dialed"):
            await self._follower.hang_up(call_id)

    def _may_dial(self) -> str | None:
        """Asked right before an Originate is written: why not, or None."""
        if self._stopping:
            return STOPPING
        if self._ticker.went_back:
            return "the database was restored to an earlier time"
        if not self._ticker.lease_valid:
            return "the heartbeat in the database had lapsed"
        return None

    def _room(self) -> int:
        """How many rows to claim now."""
        status = self._parts.link.status
        if not status.ready or self._stopping or self._parts.outbox.problem or self._dialer.holding_off:
            return 0
        now = self._now()
        unsent = self._dialer.backlog + self._dialer.sending
        return room(
            self._ai.allowance(now),
            max_calls=self._settings["MAX_CALLS"],
            in_air=self._follower.in_air + self._dialer.backlog,
            # Only what can be sent within a second is claimed (design section 4).
            window=self._pacer.room(),
            unsent=unsent,
            max_setup=self._settings["MAX_CALLS_IN_SETUP"],
            in_setup=self._follower.in_setup + self._dialer.backlog,
        )

    def _taken_in_hand(self) -> None:
        """Half of what may wait has gone: time to claim what the next second can send."""
        if 2 * self._dialer.backlog <= self._pacer.room():
            self._ticker.room_appeared()

    def status(self) -> dict[str, object]:
        """What the health file shows: the heartbeat, and also that the database cannot hear it."""
        return self._status(self._ticker.went_back or self._parts.outbox.problem or self._ticker.database_problem)

    def heartbeat(self) -> dict[str, object]:
        """What the claim must know, and what an operator sees in `call_adapters`. Who reads it there knows that
        Supabase answers again, so it does not say the contrary until the next one."""
        return self._status(self._ticker.went_back or self._parts.outbox.problem)

    def _status(self, problem: str | None) -> dict[str, object]:
        """`problem`: why no calls are placed now, in words, where it is not the PBX or a breaker."""
        status = self._parts.link.status
        problem = problem or status.problem or self._ai.problem
        return {
            "pbx": self._settings.pbx_name,
            "ready": status.ready and not self._stopping,
            "pbx_boot": status.boot,
            "trunk": self._own_trunk or None,
            "form": self._settings["DIAL_FORM"].value,
            "trunks": self._trunks(),
            "reserved": self._settings["RESERVED_CHANNELS"],
            "live": self._follower.in_air,
            "version": __version__,
            "process": self._process,
            "limits": {
                "pbx": self._settings["MAX_CALLS"],
                "user": self._settings["MAX_CALLS_PER_USER"],
                "campaign": None,
            },
            "region": self._settings["DEFAULT_REGION"],
            "countries": list(self._settings.countries),
            "caps": dict(self._settings.caps),
            "agent_id": self._settings["AGENT_ID"],
            "pace": self._pace(),
            "billing": self._settings["BILLING"],
            "billing_step": self._settings["BILLING_STEP"],
            "log_rows": self._settings["LOG_ROWS"],
            "problem": problem,
            "doorbell": self._bell(),
            "outbox": {"waiting": self._parts.outbox.count, "refused": self._parts.outbox.refused_count},
            "epoch": self._ticker.epoch,
            "lease_seconds": int(LEASE_SECONDS),
            "max_call_seconds": self._settings["MAX_CALL_SECONDS"],
            "ring_seconds": self._settings["RING_SECONDS"],
            "orphan_seconds": self._settings["ORPHAN_AFTER"],
        }

    def _pace(self) -> dict[str, object]:
        """How fast calls are begun now; being slowed down is no `problem` above, for calls are placed."""
        pace = self._pacer.pace
        return {
            "limit": pace.limit,
            "now": round(pace.rate, 3),
            "max_setup": self._settings["MAX_CALLS_IN_SETUP"],
            "in_setup": self._follower.in_setup,
            "slowed": pace.words,
        }

    def _say_pace(self, before: float | None) -> float | None:
        """One line when the pace is lowered, one when it is whole again; returns when it was lowered last, if it is."""
        pace = self._pacer.pace
        slowed_at = None if pace.words is None else pace.slowed_at
        if slowed_at != before:
            back = f"The PBX answers in time again: {pace.limit:g} calls a second"
            say(log, logging.INFO if pace.words is None else logging.WARNING, "pace", pace.words or back)
        return slowed_at

    def _know(self, ways: tuple[Way, ...], bad: Mapping[str, str]) -> None:
        """The list of trunks has changed."""
        self._ways = ways
        self._parts.link.know({way.id: way.form for way in ways}, bad)

    def _trunks(self) -> dict[str, dict[str, object]]:
        """Each trunk that was looked at: what speaks against it, how many calls may be claimed for it by pace, and how
        many legs on it are not ours."""
        link, rooms = self._parts.link, self._dialer.trunk_rooms(self._ways)
        forms = {way.id: way.form for way in self._ways} or {self._own_trunk: self._settings["DIAL_FORM"]}
        foreign = link.legs.foreign(self._follower)
        by_route = link.routes.providers if link.routes is not None else ()
        out: dict[str, dict[str, object]] = {}
        for trunk, problem in link.status.trunks.items():
            peers = by_route if forms.get(trunk) is Form.ROUTE else (trunk,)
            out[trunk] = {
                "problem": problem,
                "room": rooms.get(trunk, 0),
                "foreign": sum(foreign[peer] for peer in peers),
            }
            if trunk == self._own_trunk and (channels := self._settings["TRUNK_CHANNELS"]):
                out[trunk]["max_channels"] = channels
        return out

    def _bell(self) -> dict[str, object]:
        """Whether inserts are heard at once; rows are dialed by the sweep in any case, so it is no `problem` above."""
        bell = self._parts.doorbell.status
        return {
            "state": bell.state.value,
            "listens": bell.listens,
            "deaf": bell.deaf,
            "missed": bell.missed,
            "problem": bell.problem,
        }

    async def _watch_readiness(self) -> None:
        """Tick at once when the PBX becomes ready, and say once when a breaker opens or closes."""
        ready = False
        open_before = False
        slowed_at: float | None = None
        while True:
            await asyncio.sleep(READINESS_SECONDS)
            slowed_at = self._say_pace(slowed_at)
            if (ready_now := self._parts.link.status.ready) != ready:
                ready = ready_now
                self._ticker.want()
            if (open_now := self._ai.open) != open_before:
                open_before = open_now
                words = self._ai.problem
                level = logging.ERROR if words else logging.INFO
                say(log, level, "breaker", words or "Calls end as they should again; dialing goes on")


def _explain(task: "asyncio.Task[object]") -> int:
    """A task has ended by itself: say why, and return the exit code."""
    error = task.exception() if not task.cancelled() else None
    if isinstance(error, Fenced):
        say(log, logging.CRITICAL, "daemon.fenced", str(error))
        return EXIT_BUSY
    log.critical(
        "The %s has stopped; leaving so that a restart can help. Live calls go on, outcomes are in the outbox.",
        task.get_name(),
        exc_info=error,
    )
    return EXIT_WEDGED


def main(settings: Settings, *, shadowed: bool = False) -> int:
    """Run the daemon; returns the exit code. `shadowed`: it shows what it would dial (`adapter/shadow.py`)."""
    set_up(level=settings["LOG_LEVEL"], style=settings["LOG_FORMAT"], numbers=settings["LOG_NUMBERS"])
    for secret in settings.secrets:
        hide(secret)
    with shadow.folder() if shadowed else nullcontext(settings["STATE_DIR"]) as state_dir:
        return asyncio.run(_main(settings, state_dir, shadowed=shadowed))


async def _main(settings: Settings, state_dir: Path, *, shadowed: bool) -> int:
    stop = asyncio.Event()
    _listen_for_signals(stop)
    code = await (_shadow if shadowed else _open_and_run)(settings, state_dir, stop)
    if code in {EXIT_BUSY, EXIT_CONFIG}:
        # A signal that came while the lock was asked for has not been seen yet; `run --hold` must not wait for another.
        await asyncio.sleep(SIGNAL_SECONDS)
    return 0 if stop.is_set() and code in {EXIT_BUSY, EXIT_CONFIG} else code


async def _shadow(settings: Settings, state_dir: Path, stop: asyncio.Event) -> int:
    """The daemon beside a living one, or beside another carrier."""
    shadow.announce()
    try:
        link_config, supabase_config = configs(settings)
        with StateDir.open(state_dir) as state:
            outbox = Outbox(state.outbox_path)
            try:
                async with shadow.ShadowDatabase(supabase_config) as database:
                    parts = Parts(
                        outbox=outbox,
                        database=database,
                        link=shadow.ShadowLink(link_config, database.shade),
                        doorbell=Doorbell(supabase_config),
                        locked_at=clock.boot(),
                    )
                    return await Daemon(settings, parts, state.identity.incarnation, ()).run(stop)
            finally:
                await outbox.close()
    except (StateDirError, OutboxUnusable, ValueError) as error:
        return _refuse(EXIT_CONFIG, error)


async def _open_and_run(settings: Settings, state_dir: Path, stop: asyncio.Event) -> int:
    try:
        link_config, supabase_config = configs(settings)
        for warning in settings.warnings:
            say(log, logging.WARNING, "settings.countries", warning)
        for warning in supabase_config.warnings(clock.wall()):
            say(log, logging.WARNING, "settings.key", warning)
        billing = settings["BILLING"]
        say(log, logging.INFO, "settings.billing", WHO_CHARGES[billing], billing=billing, step=settings["BILLING_STEP"])
        with StateDir.open(state_dir) as state:
            locked_at = clock.boot()
            outbox = Outbox(state.outbox_path)
            told = Told()
            health = asyncio.create_task(keep(state.path, told.now), name="health")
            flight = flight_recorder(settings, state.path)
            recorder = flight or SILENT
            try:
                process = str(uuid.uuid4())
                async with Database(supabase_config, recorder=recorder) as database:
                    opened = await _register(settings, state, outbox, database, process=process, stop=stop)
                    if opened is None:
                        return 0
                    parts = Parts(
                        outbox=outbox,
                        database=database,
                        link=PbxLink(link_config, recorder=recorder),
                        doorbell=Doorbell(supabase_config),
                        locked_at=locked_at,
                    )
                    daemon = Daemon(settings, parts, state.identity.incarnation, opened, process)
                    told.status = daemon.status
                    return await daemon.run(stop)
            finally:
                health.cancel()
                await asyncio.gather(health, return_exceptions=True)
                await outbox.close()
                if flight is not None:
                    await asyncio.to_thread(flight.close)
    except StateDirBusy as error:
        return _refuse(EXIT_BUSY, error)
    except Fenced as error:
        return _refuse(EXIT_BUSY, error)
    except (StateDirError, OutboxUnusable, ValueError) as error:
        return _refuse(EXIT_CONFIG, error)


def _refuse(code: int, error: Exception) -> int:
    say(log, logging.CRITICAL, "daemon.refused", str(error), code=code)
    return code


def _listen_for_signals(stop: asyncio.Event) -> None:
    """The first SIGTERM or Ctrl-C asks, the second insists."""

    def asked() -> None:
        if stop.is_set():
            # Nothing is lost by leaving at once: outcomes are in the outbox, unsent rows are found by the next start.
            os._exit(EXIT_INSISTED)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked)


async def _register(
    settings: Settings, state: StateDir, outbox: Outbox, database: Database, *, process: str, stop: asyncio.Event
) -> tuple[OpenCall, ...] | None:
    """Register this incarnation, trying until Supabase answers; the calls it holds open for us, or None if stopped."""
    adapter, expected, nonce = state.begin_incarnation()
    told = ""
    # Full jitter up to 15 s: a wrong key or a missing install.sql is mended by hand, and then we start by ourselves.
    waits = AsyncRetrying(
        retry=retry_if_exception_type((DatabaseAway, DatabaseRefused)),
        wait=wait_random_exponential(multiplier=1, max=15),
        sleep=lambda seconds: _sleep_or_stop(seconds, stop),
        reraise=True,
    )
    async for attempt in waits:
        if stop.is_set():
            return None
        with attempt:
            try:
                reply = await database.register(
                    adapter=adapter,
                    expected=expected,
                    nonce=nonce,
                    pbx=settings.pbx_name,
                    info={"version": __version__, "pid": os.getpid(), "process": process},
                )
            except (DatabaseAway, DatabaseRefused) as error:
                if str(error) != told:
                    told = str(error)
                    say(log, logging.WARNING, "database.away", "Waiting for Supabase before dialing", problem=told)
                raise
    if not reply.accepted:
        raise Fenced(
            f"The database knows incarnation {reply.incarnation} of this adapter, this folder {expected}: STATE_DIR "
            "was copied, or restored from a backup, or another process uses a copy of it. Stop the other one; if there "
            "is none, move STATE_DIR away, and the adapter starts afresh under a new identity"
        )
    state.confirm(reply.incarnation)
    say(
        log,
        logging.INFO,
        "daemon.registered",
        "Registered in the database",
        adapter=adapter,
        incarnation=reply.incarnation,
        open_calls=len(reply.open),
        waiting=outbox.count,
    )
    return reply.open


async def _sleep_or_stop(seconds: float, stop: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
