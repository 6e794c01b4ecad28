"""The life of one simulated call: what the callee does, told as events in the order of a real Asterisk.

A call keeps a clock of its own: with `speed` 10 its seconds pass ten times faster, and so do the timestamps of its
events, so that a talk of 3 s is still 3 s long for whoever reads them. At speed 1 the clock is the machine's.
"""

import asyncio
import math
import re
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from adapter.sandbox.mikopbx.leg import CAUSES, NOBODY, Leg, Pairs
from adapter.sandbox.scenarios import Scenario

MISSING_AI_SECONDS = 4.7
"""An answered callee whose extension is no application hears an announcement of this length, then our side ends."""

SPOOL = "OutgoingSpoolFailed"
"""Short-lived channel with ids of its own that appears when an Originate into a context with `failed` fails."""

LATE_HANGUP = 28
"""One failed call in this many tells its OriginateResponse before the Hangup of its leg (1 of 28 recordings)."""

DIAL_STATUS = {17: "BUSY", 34: "CONGESTION"}
"""Q.850 cause of a refusal → DialStatus of the DialEnd; all other refusals say NOANSWER."""

SHUTDOWN_FLAG = "4"
APPLICATION_FLAG = "16"
"""`Cause` of a SoftHangupRequest is not Q.850 but the reason of the soft hang-up: PBX stops; dialplan is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A checked Originate. `timeout` is seconds; `caller` is number and name, None where no CallerID was given."""

    action_id: str
    channel: str
    number: str
    context: str
    exten: str
    priority: str
    timeout: float
    caller: tuple[str, str] | None
    call_id: str
    other_id: str = ""
    """OtherChannelId: of the second half of a Local pair."""

    application: str = ""
    """Instead of `context` and `exten`: what an answered callee gets."""

    data: str = ""
    """Of the application."""

    variables: tuple[tuple[str, str], ...]


@dataclass(slots=True, kw_only=True)
class Invite:
    """What the carrier saw: one entry per INVITE that left the PBX. Times are epoch seconds of this machine."""

    number: str
    call_id: str
    scenario: str
    started: float
    trunk: str = ""
    """Provider through which it went; empty: a route chose the first."""

    rang: float | None = None
    """A 180 or 183 went back."""

    answered: float | None = None
    ended: float | None = None
    variables: dict[str, str] = field(default_factory=dict)
    """Channel variables that the Originate had set."""


class Why(Enum):
    """What can end a call from our side of the trunk."""

    TIMEOUT = "the Originate's Timeout ran out"
    ABSOLUTE = "TIMEOUT(absolute) ran out"
    HANGUP = "an AMI Hangup"
    SHUTDOWN = "the PBX stops"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """An end from our side. `cause` is the one that a Hangup action gave, else 0."""

    why: Why
    cause: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How a call that was not answered ends on the wire."""

    cause: int
    reason: int = 0
    sip_code: int | None = None
    dial_status: str | None = "NOANSWER"
    far_end: bool = False
    spooled: bool = True


class Exchange(Protocol):
    """What a call needs of the PBX around it."""

    speed: float

    async def awake(self) -> None:
        """Return when the PBX is not frozen."""

    def emit(self, event: str, rights: str, pairs: Pairs, at: float | None = None) -> None:
        """Send an event to every connection that may and wants to hear it; `at` is its timestamp."""

    def next_uniqueid(self) -> str:
        """An id of the PBX's own."""

    def store(self, path: str, value: str) -> None:
        """Write `family/key` of the PBX's database."""

    def has_application(self, context: str, exten: str) -> bool:
        """True if the answered callee reaches an AI handler there."""


class Call:
    """One Originate for which a channel was made. `run` tells its life and returns True if it was answered."""

    def __init__(self, exchange: Exchange, order: Order, leg: Leg, scenario: Scenario, invite: Invite) -> None:
        self.order = order
        self.leg = leg
        self.answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Resolves when the first leg is answered (True) or has failed (False)."""

        self._exchange = exchange
        self._scenario = scenario
        self._invite = invite
        self._invited_at = 0.0
        """Moment of this call at which the INVITE left: the callee's delays count from it."""

        self._absolute = math.inf
        self._cut: asyncio.Future[Cut] = asyncio.get_running_loop().create_future()
        self._loop_start = asyncio.get_running_loop().time()

    @property
    def legs(self) -> list[Leg]:
        """Its channels, the first one first."""
        return [self.leg]

    def clock(self) -> float:
        """Epoch of the PBX as this call lives it."""
        return self.legs[0].born + self._moment()

    def cut(self, why: Why, cause: int = 0) -> None:
        """End the call from our side; later cuts change nothing."""
        if not self._cut.done():
            self._cut.set_result(Cut(why=why, cause=cause))

    async def run(self) -> None:
        """Tell the whole life of the call."""
        await asyncio.sleep(0.001)  # The thread that dials starts about a millisecond after the Response.
        await self._exchange.awake()
        self._dial()
        failure = await self._ring()
        if failure:
            self._fail(failure)
        else:
            self._answer()
            await self._talk()
        self._invite.ended = time.time()

    def _moment(self) -> float:
        return (asyncio.get_running_loop().time() - self._loop_start) * self._exchange.speed

    async def _until(self, moment: float, *, answer_by: float = math.inf) -> Cut | None:
        """Wait until `moment` of this call; the cut that came first, or None."""
        limits = {Why.TIMEOUT: answer_by, Why.ABSOLUTE: self._absolute}
        first = min(limits, key=lambda why: limits[why])
        end = min(moment, limits[first])
        seconds = None if math.isinf(end) else max(0.0, end - self._moment()) / self._exchange.speed
        done, _ = await asyncio.wait({self._cut}, timeout=seconds)
        await self._exchange.awake()
        if done:
            return self._cut.result()
        return Cut(why=first) if limits[first] < moment else None

    def _tell(self, event: str, *extra: tuple[str, str], rights: str = "call") -> None:
        self._exchange.emit(event, rights, [*self.leg.source(), *extra], self.clock())

    def _tell_dial(self, event: str, *extra: tuple[str, str]) -> None:
        self._exchange.emit(event, "call", [*self.leg.target(), *extra], self.clock())

    def _dial(self) -> None:
        leg, order = self.leg, self.order
        self._tell("Newchannel")
        self._set_variables()
        leg.application, leg.cdr_channel, leg.cdr_target = "AppDial2", leg.name, leg.exten
        if order.caller:
            leg.caller = order.caller
            self._tell("NewCallerid", ("CID-CallingPres", "0 (Presentation Allowed, Not Screened)"))
            leg.line, leg.cdr_source = order.caller, order.caller[0]
            self._tell("NewConnectedLine")
        self._tell_dial("DialBegin", ("DialString", order.channel.partition("/")[2]))

    def _set_variables(self) -> None:
        """Set what the `Variable` headers say; functions are executed, so the journal is written before dialing."""
        for name, value in self.order.variables:
            entry = re.fullmatch(r"DB\(([^/()]+/[^()]+)\)", name)
            if entry:
                self._exchange.store(entry.group(1), value)
            elif name == "TIMEOUT(absolute)":
                self._absolute = float(value) if re.fullmatch(r"\d+(\.\d+)?", value) else math.inf
            else:
                self._invite.variables[name] = value

    async def _ring(self) -> Failure | None:
        scenario, answer_by = self._scenario, self.order.timeout
        cut = None
        if scenario.ring_after is not None:
            cut = await self._until(self._invited_at + scenario.ring_after, answer_by=answer_by)
            if cut is None:
                self._progress()
        last = scenario.refuse_after if scenario.answers_after is None else scenario.answers_after
        end = math.inf if last is None else self._invited_at + last
        cut = cut or await self._until(end, answer_by=answer_by)
        if cut:
            return cut_failure(cut)
        if scenario.answers_after is not None:
            return None
        cause = scenario.cause or 0
        return Failure(
            cause=cause,
            sip_code=scenario.sip_code,
            dial_status=DIAL_STATUS.get(cause, "NOANSWER"),
            far_end=True,
        )

    def _progress(self) -> None:
        self._invite.rang = time.time()
        if self._scenario.early_media:
            self._tell_dial("DialState", ("DialStatus", "PROGRESS"))
            return
        self.leg.state = 5
        self._tell("Newstate")
        self._tell_dial("DialState", ("DialStatus", "RINGING"))

    def _fail(self, failure: Failure) -> None:
        tech = [("TechCause", str(failure.sip_code))] if failure.sip_code else []
        cause = ("Cause", str(failure.cause))
        if failure.far_end:
            self._tell("HangupRequest", cause, *tech)
        if failure.dial_status:
            self._tell_dial("DialEnd", ("DialStatus", failure.dial_status))
        self.answered.set_result(False)
        report_failure(
            self._exchange,
            self.order,
            uniqueid=self.leg.uniqueid,
            clock=self.clock,
            reason=failure.reason,
            spooled=failure.spooled,
            hangup=lambda: self._tell("Hangup", cause, ("Cause-txt", CAUSES[failure.cause]), *tech),
        )

    def _answer(self) -> None:
        leg, order = self.leg, self.order
        self._invite.answered = time.time()
        leg.state = 6
        self._tell("Newstate")
        self._tell_dial("DialEnd", ("DialStatus", "ANSWER"))
        leg.application, leg.cdr_target = "ExecIf", order.exten
        self.answered.set_result(True)
        variables = leg.variables(f"ChanVariable({leg.name})")
        pairs = response(order, "Success", leg.name, 4, leg.uniqueid) + variables
        self._exchange.emit("OriginateResponse", "call", pairs, self.clock())

    async def _talk(self) -> None:
        """The callee talks to the AI handler until one of them, or the PBX, ends it."""
        leg, order, scenario = self.leg, self.order, self._scenario
        handler = ("Handler", "hangup_handler,s,1")
        leg.context, leg.exten, leg.priority = order.context, order.exten, 14
        self._tell("HangupHandlerPush", handler, rights="dialplan")
        callee_ends, talk, cause = scenario.ends_by == "callee", scenario.talk, 16
        if scenario.ends_by == "ai" and talk < 1:
            cause = 0  # The handler's program failed: nobody chose a cause (recording: its backend refuses).
        if not self._exchange.has_application(order.context, order.exten):
            callee_ends, talk, cause = False, MISSING_AI_SECONDS, 16
        else:
            leg.context, leg.priority, leg.application = "applications", 2, "Answer"
            if callee_ends:
                self._tell("HangupHandlerPop", handler, rights="dialplan")
                self._tell("HangupHandlerPush", handler, rights="dialplan")
            if cause:
                leg.priority, leg.application = 3, "Milliwatt" if callee_ends else "Wait"
        cut = await self._until(self._moment() + talk)
        if cut:
            callee_ends, cause = False, cut.cause
        if callee_ends:
            self._tell("HangupRequest", ("Cause", "16"))
        self._tell("SoftHangupRequest", ("Cause", APPLICATION_FLAG))
        self._tell("HangupHandlerRun", handler, rights="dialplan")
        self._tell("Hangup", ("Cause", str(cause)), ("Cause-txt", CAUSES.get(cause, "Unknown")))


def report_failure(
    exchange: Exchange,
    order: Order,
    *,
    uniqueid: str,
    clock: Callable[[], float],
    reason: int = 0,
    spooled: bool = True,
    hangup: Callable[[], None] | None = None,
) -> None:
    """Tell that an Originate failed: the leg's `hangup` if it had a leg, the spool channel, the OriginateResponse.

    The order of these varies on a real PBX; here it hangs on the call id, so that each run of it is the same.
    """
    dice = zlib.crc32(order.call_id.encode("utf-8", "surrogateescape"))

    def respond() -> None:
        pairs = response(order, "Failure", order.channel, reason, uniqueid)
        exchange.emit("OriginateResponse", "call", pairs, clock())

    steps: list[Callable[[], None]] = [respond]
    if hangup and dice % LATE_HANGUP == 0:
        steps.append(hangup)
    elif hangup:
        steps.insert(0, hangup)
    if spooled and order.context == "all_peers":
        begin, end = _spool(exchange, order, clock)
        at = len(steps) if steps[-1] is hangup else len(steps) - 1
        steps.insert(at, begin)
        steps.insert(at + 1 if dice & 1 else len(steps), end)
    for step in steps:
        step()


def _spool(
    exchange: Exchange, order: Order, clock: Callable[[], float]
) -> tuple[Callable[[], None], Callable[[], None]]:
    leg = Leg(name=SPOOL, uniqueid=exchange.next_uniqueid(), context=order.context, exten="failed", born=clock())

    def begin() -> None:
        exchange.emit("Newchannel", "call", leg.source(), clock())
        leg.cdr_channel, leg.cdr_target = SPOOL, "failed"
        exchange.emit("SoftHangupRequest", "call", [*leg.source(), ("Cause", APPLICATION_FLAG)], clock())

    def end() -> None:
        leg.exten, leg.application = "h", "Hangup"
        pairs = [*leg.source(), ("Cause", "16"), ("Cause-txt", CAUSES[16])]
        exchange.emit("Hangup", "call", pairs, clock())

    return begin, end


def cut_failure(cut: Cut) -> Failure:
    """How a call looks that we ended before it was answered."""
    match cut.why:
        case Why.TIMEOUT:
            # No DialEnd at all; the SIP code is derived from the cause, nobody sent it.
            return Failure(cause=19, sip_code=480, reason=3, dial_status=None)
        case Why.HANGUP:
            return Failure(cause=cut.cause)
        case Why.ABSOLUTE:
            return Failure(cause=0)
        case Why.SHUTDOWN:
            return Failure(cause=0, spooled=False)


def response(order: Order, word: str, channel: str, reason: int, uniqueid: str) -> Pairs:
    caller = order.caller or (NOBODY, NOBODY)
    place = (
        [("Application", order.application), ("Data", order.data)]
        if order.application
        else [("Context", order.context), ("Exten", order.exten)]
    )
    return [
        *([("ActionID", order.action_id)] if order.action_id else []),
        ("Response", word),
        ("Channel", channel),
        *place,
        ("Reason", str(reason)),
        ("Uniqueid", uniqueid),
        ("CallerIDNum", caller[0]),
        ("CallerIDName", caller[1]),
    ]
