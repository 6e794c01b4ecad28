"""The supervised PBX link: a fresh session per attempt, everything it sees in order to one consumer."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random, wait_random_exponential

from adapter import clock as clocks
from adapter.core.legs import Legs
from adapter.core.model import AmiEvent, Channel, Form
from adapter.core.routes import Routes
from adapter.log import say
from adapter.pbx import questions, rights
from adapter.pbx.config import PbxConfig, Timings
from adapter.pbx.guards import NOT_LOOKED, Guards, look, own_ways
from adapter.pbx.headers import BadHeader, checked_originate
from adapter.pbx.messages import Down, Event, PbxMessage, Up
from adapter.pbx.replies import Accepted, Denied, LastCheck, LinkDown, NotSent, Order, Refused, Reply, Unsure
from adapter.pbx.session import DENIED, Answer, Session, SessionFailed
from adapter.pbx.status import LinkStatus
from adapter.pbx.stopwatch import Stopwatch
from adapter.pbx.wire import weight_of
from adapter.recorder import SILENT, Recorder

log = logging.getLogger(__name__)

DEAF = (
    "an accepted call was followed by no event: the AMI user lacks the read right 'call', or its event filter hides"
    " everything. Mend the user and restart the adapter; no calls until an event about calls is seen"
)

UNHEARD = "the first call of this connection was accepted, and the PBX has not told anything about it yet"
"""Lasts milliseconds, or `Timings.first_event` until it is `DEAF`: one call at most goes unheard, never a stream."""

STALE = "AI extension and trunk have not been looked at for a while: the machine slept, or the adapter stood still"
"""Over as soon as they are looked at again, which is at once."""

MAX_WORDS = 500
"""Characters kept of the PBX's words about a refusal: they are stored with the row."""

MAX_WAITING = 200_000_000
"""Characters of events that may wait; `queue_bound` common ones take less. A bound by number alone would let a few
thousand huge ones fill the memory."""

CLOSING = "the link is being closed"


class Mail(asyncio.Queue[PbxMessage]):
    """Messages for the one consumer, and how much memory they keep."""

    weight = 0
    received = 0
    """All that ever came: who was told of something at this count knows when all before it has been taken."""

    def _put(self, item: PbxMessage) -> None:
        self.received += 1
        self.weight += weight_of(item.event.fields) if isinstance(item, Event) else 0
        super()._put(item)

    def _get(self) -> PbxMessage:
        item: PbxMessage = super()._get()
        self.weight -= weight_of(item.event.fields) if isinstance(item, Event) else 0
        return item


class PbxLink:
    """`run()` in a task of its own; take `messages` in one consumer; ask and originate from anywhere in the loop."""

    def __init__(
        self,
        config: PbxConfig,
        timings: Timings | None = None,
        *,
        clock: Callable[[], float] = time.time,
        recorder: Recorder = SILENT,
    ) -> None:
        self.config = config
        self._recorder = recorder
        self.messages = Mail()
        """Bounded by `config.queue_bound` and `MAX_WAITING`: a consumer further behind costs the session, no event."""

        self.stopwatch = Stopwatch(clocks.boot)
        """Tells how late the PBX is."""

        self._timings = timings or Timings()
        self._clock = clock
        self._window = asyncio.Semaphore(config.window)
        self._awaiting = 0
        self._number = 0
        self._session: Session | None = None
        """The session that is up, after resync."""

        self._early: list[AmiEvent] = []
        """Events of a session that is not up yet: they follow its Up."""

        self._early_weight = 0

        self.legs = Legs()
        """Live legs of the PBX, as far as it has told; those of the last session while none is up."""

        self._listed_at = 0.0
        """Loop time of the last list of them."""

        self._ways = own_ways(config)
        self._bad_ways: Mapping[str, str] = {}
        self._guards: Guards = NOT_LOOKED
        self._looked_at = 0.0
        """Boot clock at which the last look began: it goes on while the machine sleeps, the loop's clock does not."""

        self._look_now = asyncio.Event()
        self._hears_calls = False
        self._deaf_from: float | None = None
        """Loop time from which silence after an accepted Originate means that events about calls are kept from us."""

        self._deaf = False
        self._boot: str | None = None
        self._version: str | None = None
        self._problem: str | None = "not connected to the PBX yet"
        self._excess: str | None = None
        """Rights that the user of this session must not have."""

        self._was_ready = False
        self._since = clock()
        self._unreadable = 0
        self._backoff = wait_random_exponential(multiplier=self._timings.backoff_first, max=self._timings.backoff_most)
        self._long_wait = wait_random(min=self._timings.refused, max=2 * self._timings.refused)

    # -- what the daemon sees

    @property
    def status(self) -> LinkStatus:
        """How the link is now."""
        session = self._session
        problem = self._why_not()
        return LinkStatus(
            connected=session is not None,
            ready=problem is None,
            problem=problem,
            boot=self._boot,
            version=self._version,
            session=self._number,
            since=self._since,
            ai_problem=self._guards.ai if session else None,
            trunk_problem=self._guards.trunk if session else None,
            trunks=self._guards.trunks if session else {},
            awaiting=self._awaiting,
            queued=self.messages.qsize(),
            lost_messages=self._unreadable + (session.unreadable if session else 0),
        )

    @property
    def routes(self) -> Routes | None:
        """The outgoing routes as they were at the last look (login, Reload, every `guard_seconds`); None outside form
        route, and while they cannot be judged."""
        return self._guards.routes if self._session is not None else None

    def know(self, ways: Mapping[str, Form], bad: Mapping[str, str]) -> None:
        """The trunks that there are, id → form, looked at from now on; none: that of the settings alone. `bad`: those
        that are there and cannot be used, id → why."""
        wanted = ways if ways or bad else own_ways(self.config)
        if (wanted, bad) != (self._ways, self._bad_ways):
            self._ways, self._bad_ways = dict(wanted), dict(bad)
            self._look_now.set()

    async def run(self) -> None:
        """Keep a session alive until canceled. Raises only what is an error of this program."""
        while True:
            # A session that lived for `stable` seconds returns, and a new series starts with no wait.
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(SessionFailed), wait=self._wait, reraise=True
            ):
                with attempt:
                    await self._one_session()

    async def originate(self, order: Order, last_check: LastCheck | None = None) -> Reply:
        """Send one Originate, at most once in the life of its call id, and return what became of it.

        `last_check` is called right before the bytes are written, after any wait for the window; a text from it
        means NotSent with that reason, a number that the place in the window is left and everything looked at again so
        many seconds later. A caller that is canceled before its `last_check` was content has certainly sent nothing;
        canceled later, it has sent, and what follows comes as events.
        """
        try:
            headers = checked_originate(order.call_id, order.headers)
        except BadHeader as error:
            return Refused(f"not sent: {error}")
        while True:
            future = await self._write(order.call_id, headers, last_check)
            if not isinstance(future, float):
                break
            await asyncio.sleep(future)
        return future if isinstance(future, NotSent) else await self._response(order.call_id, future)

    async def journal(self, slot: int) -> str | None:
        """The PBX journal at this slot, `<claim number>:<call id>`; None: no entry. Raises LinkDown."""
        return await questions.journal(self._up(), self._timings, slot)

    async def channels(self) -> tuple[Channel, ...]:
        """All live legs of the PBX. Raises LinkDown."""
        return await questions.channels(self._up(), self._timings)

    async def hangup(self, uniqueid: str, cause: int = 16) -> bool:
        """End exactly this leg; False: there is none. Raises LinkDown, ValueError for a pattern or an empty id."""
        if not uniqueid or uniqueid.startswith("/"):
            raise ValueError("a Hangup of ours names exactly one channel")  # `/…/` would be a regular expression.
        return await questions.hangup(self._up(), self._timings, uniqueid, cause)

    # -- sessions

    async def _one_session(self) -> None:
        await self._consumer_ready()
        self._number += 1
        session = Session(self._number, self.config, self._timings, on_event=self._take, recorder=self._recorder)
        self._early.clear()
        self._early_weight = 0
        started = asyncio.get_running_loop().time()
        try:
            await session.open()
            await self._resync(session)
            await self._live(session)
        except SessionFailed as failure:
            self._failed(failure.problem)
            raise
        finally:
            session.end(CLOSING)
            self._unreadable += session.unreadable
            if self._session is session:
                self._go_down(session)
        if asyncio.get_running_loop().time() - started < self._timings.stable:
            raise SessionFailed(session.lost.result())

    async def _resync(self, session: Session) -> None:
        try:
            await self._check_rights(session)
            boot = await questions.boot(session, self._timings)
            version = await questions.version(session, self._timings)
            channels = await questions.channels(session, self._timings)
        except Denied as error:
            raise SessionFailed(str(error), patient=True) from None
        except LinkDown as error:
            # Why it was lost says more than that it was.
            raise SessionFailed(session.lost.result() if session.lost.done() else str(error)) from None
        if session.lost.done():
            raise SessionFailed(session.lost.result())
        self._boot, self._version = boot, version
        self._guards = NOT_LOOKED
        self._look_now.clear()
        self._session = session
        self.stopwatch.begin(session.number)
        self._listed_at = asyncio.get_running_loop().time()
        self.legs.on_list(channels)
        for event in self._early:
            self.legs.on_event(event)
        self.messages.put_nowait(Up(session.number, boot, version, channels))
        for event in self._early:
            self.messages.put_nowait(Event(event))
        self._early.clear()
        self._early_weight = 0
        say(
            log,
            logging.INFO,
            "pbx.up",
            "PBX link is up",
            pbx=self.config.name,
            session=session.number,
            version=version,
            boot=boot,
            legs=len(channels),
        )

    async def _check_rights(self, session: Session) -> None:
        allowed = await questions.allowed(session, self._timings)
        self._excess = None
        if allowed is None:
            return  # Then each action tells for itself.
        if lacking := rights.missing(allowed):
            raise SessionFailed(lacking, patient=True)
        # This session stays, so that calls in the air are followed; a user's rights are fixed at its login.
        self._excess = rights.excess(allowed)

    async def _live(self, session: Session) -> None:
        tasks = [asyncio.create_task(session.watch(self.stopwatch)), asyncio.create_task(self._guard(session))]
        ends: set[asyncio.Future[Any]] = {session.lost, *tasks}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()  # An error of this program goes up.
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _go_down(self, session: Session) -> None:
        reason = session.lost.result()
        self._session = None
        self._failed(f"connection to the PBX lost: {reason}")
        if not self._deaf:
            self._deaf_from = None  # What followed the last Originate was lost with the session.
        self._hears_calls = False
        self.messages.put_nowait(Down(session.number, reason))
        self._note_readiness()

    def _failed(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            level = logging.INFO if problem.endswith(CLOSING) else logging.WARNING
            say(log, level, "pbx.down", problem, pbx=self.config.name, session=self._number)

    def _wait(self, state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        if isinstance(failure, SessionFailed) and failure.patient:
            return self._long_wait(state)
        return self._backoff(state)

    # -- events

    def _take(self, session: Session, event: AmiEvent) -> None:
        """Called by the wire for each event, in order; never waits, never drops."""
        up = session is self._session
        if len(self._early) + self.messages.qsize() >= self.config.queue_bound:
            session.end(f"{self.config.queue_bound} events wait for a consumer that does not take them")
            return
        if self._early_weight + self.messages.weight >= MAX_WAITING:
            session.end(f"events of {MAX_WAITING} characters wait for a consumer that does not take them")
            return
        if up:
            self.legs.on_event(event)
            self.messages.put_nowait(Event(event))
            self.stopwatch.heard(event)
        else:
            self._early.append(event)
            self._early_weight += weight_of(event.fields)
        if event.get("Privilege").startswith("call,"):
            self._hears_calls = True
            self._deaf_from, self._deaf = None, False
        if self._excess and up and event.name == "Reload" and event.get("Module") in {"manager", "All"}:
            session.end("the PBX reloaded: the rights of the AMI user are looked at again")
        elif event.name == "Reload" or (event.name == "ContactStatus" and event.get("AOR") in self._ways):
            self._look_now.set()

    async def _consumer_ready(self) -> None:
        """Do not connect while the consumer stands: the events of the last sessions still wait for it."""
        while self.messages.qsize() > self.config.queue_bound // 2:
            self._failed("the events of the PBX are not being consumed: the adapter itself stands still")
            await asyncio.sleep(0.2)

    # -- guards

    async def _guard(self, session: Session) -> None:
        getvar = partial(questions.getvar, session, self._timings)
        show = partial(questions.dialplan, session, self._timings)
        while not session.lost.done():
            self._look_now.clear()
            asked_at, began = asyncio.get_running_loop().time(), clocks.boot()
            seen = await look(getvar, show, self.config, self._ways)
            seen = replace(seen, trunks={**seen.trunks, **self._bad_ways})
            if session.lost.done():
                return
            # The answers came after everything the PBX had said before them, so silence is silence.
            if self._deaf_from is not None and asked_at >= self._deaf_from:
                self._deaf = True
            before, self._guards, self._looked_at = self._guards, seen, began
            self._note_readiness()
            self._note_trunks(before, seen)
            await self._list_legs(session)
            try:
                async with asyncio.timeout(self.config.guard_seconds):
                    await self._look_now.wait()
            except TimeoutError:
                continue

    async def _list_legs(self, session: Session) -> None:
        """What the events since the last list may have missed. Without a list the legs stay as they are."""
        now = asyncio.get_running_loop().time()
        if now - self._listed_at >= self._timings.legs:
            self._listed_at = now
            with suppress(LinkDown):
                self.legs.on_list(await questions.channels(session, self._timings))

    def _note_trunks(self, before: Guards, seen: Guards) -> None:
        """One line per change of one trunk, while another one works; of the only one `_note_readiness` tells."""
        if len(seen.trunks) < 2 or seen.trunk is not None:
            return
        for trunk, problem in seen.trunks.items():
            if problem != before.trunks.get(trunk):
                level = logging.INFO if problem is None else logging.WARNING
                words = problem or f"trunk {trunk} can be used again"
                say(log, level, "pbx.trunk", words, pbx=self.config.name, trunk=trunk)

    def _why_not(self) -> str | None:
        if self._session is None:
            return self._problem
        if self._deaf:
            return DEAF
        if self._deaf_from is not None:
            return UNHEARD
        problems = [problem for problem in (self._excess, self._guards.ai, self._guards.trunk) if problem]
        if not problems and clocks.boot() - self._looked_at > self._timings.looked:
            self._look_now.set()
            return STALE
        return "; ".join(problems) or None

    def _note_readiness(self) -> None:
        """One line per change: ready, or why not."""
        problem = self._why_not()
        if problem in {UNHEARD, STALE}:
            return  # Over in a moment, one way or the other.
        if problem is None:
            if not self._was_ready:
                say(log, logging.INFO, "pbx.ready", "calls may be placed", pbx=self.config.name, session=self._number)
        elif self._session is not None and problem != self._problem:
            say(log, logging.WARNING, "pbx.guard", problem, pbx=self.config.name, session=self._number)
        if self._session is not None:
            self._problem = problem
        if self._was_ready is not (problem is None):
            self._was_ready = problem is None
            self._since = self._clock()

    # -- sending

    async def _write(
        self, call_id: str, headers: Mapping[str, Any], last_check: LastCheck | None
    ) -> "asyncio.Future[Answer] | NotSent | float":
        """Wait for a place in the window, look once more, write. No await between the last look and the bytes.

        A number: not yet, but after so many seconds; nobody waits for his turn in a place that others could use.
        """
        await self._window.acquire()
        future: asyncio.Future[Answer] | None = None
        try:
            session = self._session
            reason = self._why_not() or self._stuck() or (last_check() if last_check else None)
            if isinstance(reason, float):
                return reason
            if reason is not None or session is None:
                return NotSent(reason or "there is no connection to the PBX")
            try:
                future = session.send(headers)
            except ConnectionError as error:
                return NotSent(str(error))
            self.stopwatch.wrote(call_id)
        finally:
            if future is None:
                self._window.release()
        # From here on bytes may be under way. The place in the window is held until the Response or the end of the
        # session, not until our deadline: the window bounds how many calls are in doubt.
        self._awaiting += 1
        future.add_done_callback(self._answered)
        return future

    async def _response(self, call_id: str, future: "asyncio.Future[Answer]") -> Reply:
        seconds = self._timings.response
        try:
            async with asyncio.timeout(seconds):
                answer = await asyncio.shield(future)
        except TimeoutError:
            return Unsure(f"the PBX did not answer the Originate within {seconds:g} s")
        except ConnectionError:
            return Unsure("the connection was lost before the PBX answered the Originate")
        if answer.refused:
            self.stopwatch.refused(call_id)
            words = rights.denied("Originate") if answer.message == DENIED else answer.message[:MAX_WORDS]
            return Refused(words or "Response: Error without a message")
        if not answer.ok:
            # Garbled on the way, or another message under this id: only `Error` proves that nothing was executed.
            return Unsure("the PBX's answer to the Originate was neither Success nor Error")
        if not self._hears_calls and self._deaf_from is None:
            self._deaf_from = asyncio.get_running_loop().time() + self._timings.first_event
        return Accepted()

    def _answered(self, _future: "asyncio.Future[Answer]") -> None:
        self._awaiting -= 1
        self._window.release()

    def _stuck(self) -> str | None:
        if self._session is not None and self._session.backlog > 0:
            return f"the PBX does not read: {self._session.backlog} bytes wait to be sent"
        return None

    def _up(self) -> Session:
        if self._session is None:
            raise LinkDown(self._problem or "there is no connection to the PBX")
        return self._session
