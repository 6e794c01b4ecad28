"""The life of one call: a small machine fed with AMI events, replies and the passing of time.

Theory of operation
===================
One Originate makes one call. Its id is the ActionID of the action, the ChannelId of the first leg and the
Linkedid of every leg that belongs to it, so the machine believes an event only if it carries that id:
OriginateResponse by ActionID (its Uniqueid may be somebody else's), everything about legs by Linkedid. The
leg that matters is the *trunk leg*; legs of the AI side share our Linkedid but say nothing about the callee. In form
`trunk` it is the first channel named `PJSIP/<trunk>-…`.

In form `route` the first leg is a Local pair whose ;2 half runs MikoPBX's routes, and the provider is not known
beforehand: the trunk leg is a channel named after a provider, or whatever else a ;2 half of ours dials. The halves
themselves are never believed: they ring before anybody was dialed, their causes are blurred, and an announcement of
the PBX's own can answer them. When a provider fails MikoPBX may try the next route, so a call can have several trunk
legs, one after the other: the last one is judged, but never as less than what an earlier one may have done to a phone
(`floor`), and the call is not over while a half lives.

What is believed, and what is not:

- `Response: Success` says "queued" and nothing more; `Response: Error` says that nothing was dialed.
- The callee answered when the trunk leg is Up (Newstate, DialEnd ANSWER, or OriginateResponse Success:
  EarlyMedia, which makes all three lie, is never asked for).
- A phone rang when an 18x came: Newstate Ringing, DialState RINGING or PROGRESS.
- How the call ended is the trunk leg's Hangup: Cause, and TechCause where the PBX tells it.
  OriginateResponse's Reason is used for one thing, "our Timeout ran out" (3). On a leg that our own side
  ended TechCause is made up and is dropped.
- HangupRequest on the trunk leg is the far end hanging up; a Hangup without it is our side.
- SoftHangupRequest with Cause 4 (Asterisk's flag for a shutdown) is the PBX stopping.

The machine has two halves. *Evidence* is noted on the `Call` as it arrives, first word counts, repeats
change nothing. Each new piece is also an `Input` that moves the `Phase` by the table `NEXT`; an input that
the table does not list for a phase changes nothing, so late, repeated and foreign events are harmless. In
`CLOSING` the call waits for the other half of its end (OriginateResponse and the Hangup of every leg come in
any order) for at most `PATIENCE`. `ENDED` is terminal, its row is empty, and `Call.ending` is set exactly
then. A Failure that reaches a call whose trunk leg goes on living was the refusal of a duplicate: the next
sign of life takes the call back out of `CLOSING`.

Events can be missed only across a loss of the link (`on_lost`, `on_seen`); from then on "nothing rang" is
not known, and an outcome that lets the person be called again without spending a try is no longer given: the
call ends `unknown`.

Clocks: `now` is the daemon's clock, which nobody sets (`clock.steady`), event times are the PBX's; `skew` is the
difference at the last event, so a PBX whose clock is wrong, or is set during a call, changes no wait that
began with an event.
All instants kept here are the PBX's, apart from `started_at` and `closing_since`, which only measure
waiting.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from adapter.core.model import AmiEvent, CallTimes, Channel, Ending, Form, OpenCall, Outcome
from adapter.core.outcomes import FORWARDED, RULES, Retry, reason, refusal_outcome, sense_of, spends_attempt

PATIENCE = 5.0
"""Seconds to wait for the other half of an end. Seen: 10 ms (design section 5 and outcomes section 3 name 5 s)."""

OVERTIME = 120.0
"""Seconds after the PBX's own bound (ring limit + longest call) at which a call without an end is given up."""

AI_FAILED_WITHIN = 2.0
"""Seconds: a call that our side drops faster after the answer was never a conversation."""

TIMEOUT_REASON = 3
"""OriginateResponse's Reason when our own Timeout ran out."""

PROVIDERS = ("PJSIP/SIP-", "IAX2/IAX-")
"""Beginnings of the names of MikoPBX's provider channels (mikopbx/facts section 5); extensions are numbers."""

MAY_HAVE_RUNG = frozenset({Outcome.NO_ANSWER, Outcome.BUSY, Outcome.DECLINED, Outcome.NO_REPLY, Outcome.UNKNOWN})
"""Outcomes of one trunk leg after which a later route's refusal does not undo that a phone may have rung."""

_CODE = re.compile(r"[0-9]{1,4}")
"""A Q.850 cause, SIP code or Reason. More digits are none, and Python reads no number of thousands of them."""

MAX_LEGS = 100
"""Legs that are remembered of one call. A call of ours has one, by a route some ten; thousands under our Linkedid would
make each event slower than the one before."""

SHUTDOWN_FLAG = "4"
"""SoftHangupRequest's Cause is Asterisk's soft-hangup flag, not a Q.850 cause; this one is the PBX stopping."""


class Phase(StrEnum):
    """Where a call stands."""

    SENT = "sent"
    ACCEPTED = "accepted"
    DIALING = "dialing"
    RINGING = "ringing"
    TALKING = "talking"
    CLOSING = "closing"
    ENDED = "ended"


class Input(StrEnum):
    """What a new piece of evidence means to the machine."""

    ACCEPTED = "accepted"
    """Response: Success."""

    REFUSED = "refused"
    """Response: Error."""

    LEG = "leg"
    """The trunk leg exists."""

    RANG = "rang"
    """First 18x."""

    ANSWERED = "answered"
    """The trunk leg is up."""

    ANOTHER = "another"
    """MikoPBX dials the person once more, by its next route."""

    FAILED = "failed"
    """OriginateResponse Failure."""

    DOWN = "down"
    """Hangup of the trunk leg, or (form route) of the last leg there was."""

    SETTLED = "settled"
    """Both halves of the end are in, or `PATIENCE` is over."""

    LOST = "lost"
    """The end will not be seen: the leg is gone from the PBX, or the last bound has passed."""


NEXT: Mapping[Phase, Mapping[Input, Phase]] = {
    Phase.SENT: {
        Input.ACCEPTED: Phase.ACCEPTED,
        Input.REFUSED: Phase.ENDED,
        Input.LEG: Phase.DIALING,
        Input.RANG: Phase.RINGING,
        Input.ANSWERED: Phase.TALKING,
        Input.FAILED: Phase.CLOSING,
        Input.DOWN: Phase.CLOSING,
        Input.LOST: Phase.ENDED,
    },
    Phase.ACCEPTED: {
        Input.LEG: Phase.DIALING,
        Input.RANG: Phase.RINGING,
        Input.ANSWERED: Phase.TALKING,
        Input.FAILED: Phase.CLOSING,
        Input.DOWN: Phase.CLOSING,
        Input.LOST: Phase.ENDED,
    },
    Phase.DIALING: {
        Input.RANG: Phase.RINGING,
        Input.ANSWERED: Phase.TALKING,
        Input.FAILED: Phase.CLOSING,
        Input.DOWN: Phase.CLOSING,
        Input.LOST: Phase.ENDED,
    },
    Phase.RINGING: {
        Input.ANSWERED: Phase.TALKING,
        Input.FAILED: Phase.CLOSING,
        Input.DOWN: Phase.CLOSING,
        Input.LOST: Phase.ENDED,
    },
    Phase.TALKING: {Input.DOWN: Phase.CLOSING, Input.LOST: Phase.ENDED},
    Phase.CLOSING: {
        Input.ANOTHER: Phase.DIALING,
        Input.RANG: Phase.RINGING,
        Input.ANSWERED: Phase.TALKING,
        Input.SETTLED: Phase.ENDED,
        Input.LOST: Phase.ENDED,
    },
    Phase.ENDED: {},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call and everything known about it. Made by `start` or `resume`, changed only by the functions below."""

    call_id: str
    trunk: str
    """Provider id. Form route: empty until the trunk leg's name tells it."""

    ring_seconds: int
    max_call_seconds: int
    started_at: float
    """Daemon's clock, when the Originate was (about to be) written."""

    form: Form = Form.TRUNK
    phase: Phase = Phase.SENT
    originated_at: float | None = None
    ringing_at: float | None = None
    answered_at: float | None = None
    ended_at: float | None = None

    trunk_leg: str = ""
    """Uniqueid of the trunk leg; empty until one was seen."""

    tried: frozenset[str] = frozenset()
    """Uniqueids of all trunk legs so far; more than one only where MikoPBX went on to its next route."""

    floor: Outcome | None = None
    """Form route: outcome of an earlier trunk leg that may have rung a phone."""

    living: frozenset[str] = frozenset()
    """Uniqueids of the legs that are there."""

    down: frozenset[str] = frozenset()
    """Uniqueids of the legs whose Hangup was seen; they never come back."""

    cause: int | None = None
    """Q.850 cause of the trunk leg, from HangupRequest at first, then from Hangup."""

    tech_cause: int | None = None
    dial_status: str = ""
    failure: int | None = None
    """Reason of an OriginateResponse Failure."""

    joined: bool = False
    """Form route: OriginateResponse Success came. The ;2 half is up, which proves nothing about the callee."""

    far_end: bool = False
    """The far end hung up (HangupRequest on the trunk leg)."""

    pbx_stopping: bool = False
    canceled: bool = False
    gap: bool = False
    """Events may have been missed: the link was lost while the call was open, or it was found again after a restart."""

    answer_estimated: bool = False
    closing_since: float | None = None
    skew: float | None = None
    """PBX's clock minus the daemon's; None until the first event that carries a time."""

    guessed: frozenset[str] = frozenset()
    """Which of `originated_at`, `answered_at`, `last_alive` were taken from the daemon's clock for want of that."""

    last_alive: float | None = None
    """Last proof of life, PBX's clock."""

    ending: Ending | None = None

    @property
    def times(self) -> CallTimes:
        """The four instants, PBX's clock."""
        return CallTimes(
            originated_at=self.originated_at,
            ringing_at=self.ringing_at,
            answered_at=self.answered_at,
            ended_at=self.ended_at,
        )

    @property
    def in_setup(self) -> bool:
        """True while the call is neither talking nor over: it counts against the cap on calls in set-up."""
        return self.phase is not Phase.ENDED and self.answered_at is None

    @property
    def hangup_id(self) -> str:
        """What to hang up to end this call: the trunk leg's Uniqueid, which is the call id where it was not seen.

        Form route: the first half, while it lives. With only the trunk leg gone MikoPBX would ring the person again
        by its next route.
        """
        if self.form is Form.ROUTE and self.call_id not in self.down:
            return self.call_id
        return self.trunk_leg or self.call_id

    @property
    def deadline(self) -> float:
        """Daemon's clock at which `on_tick` has something to do if nothing else happens before."""
        if self.closing_since is not None and not (self.form is Form.ROUTE and self.living):
            return self.closing_since + PATIENCE
        return self.started_at + self.ring_seconds + self.max_call_seconds + OVERTIME


# Making a call


def start(
    call_id: str, *, trunk: str, ring_seconds: int, max_call_seconds: int, now: float, form: Form = Form.TRUNK
) -> Call:
    """A call whose Originate is about to be written. `trunk` is empty in form route."""
    return Call(
        call_id=call_id,
        trunk=trunk,
        form=form,
        ring_seconds=ring_seconds,
        max_call_seconds=max_call_seconds,
        started_at=now,
    )


def resume(
    open_call: OpenCall,
    *,
    trunk: str,
    ring_seconds: int,
    max_call_seconds: int,
    now: float,
    form: Form = Form.TRUNK,
) -> Call:
    """A call found in the database and alive on the PBX, after a restart or a take-over: feed it `on_seen` next."""
    answered = open_call.answered_at
    return Call(
        call_id=open_call.row.call_id,
        trunk=trunk,
        form=form,
        ring_seconds=ring_seconds,
        max_call_seconds=max_call_seconds,
        started_at=now,  # Its age on our own clock is told by the list of legs: the database has PBX times.
        phase=Phase.ACCEPTED if answered is None else Phase.TALKING,
        originated_at=open_call.originated_at,
        answered_at=answered,
        canceled=open_call.cancel_requested,
        gap=True,
        last_alive=answered,
    )


# What moves it


def on_event(call: Call, event: AmiEvent, now: float) -> Call:
    """Take in one AMI event; an event that is foreign, late or repeated changes nothing."""
    hear = _HANDLERS.get(event.name)
    if hear is None or call.phase is Phase.ENDED or not concerns(call, event):
        return call
    if event.at is not None:
        call = _on_pbx_clock(call, event.at - now)
    heard, moved = hear(call, event, _pbx_time(call, now))
    return _move(heard, moved, now)


def on_reply(call: Call, ok: bool, message: str, now: float) -> Call:
    """Take in the Response to our Originate: `ok` = Success; else `message` is the PBX's reason."""
    return _move(call, Input.ACCEPTED, now) if ok else _refuse(call, message, now)


def on_canceled(call: Call, now: float) -> Call:
    """Note that somebody asked for this call to be ended and that we hang it up; it ends with its legs as ever."""
    del now  # Same shape as its siblings; nothing here depends on the time.
    return call if call.phase is Phase.ENDED else replace(call, canceled=True)


def on_tick(call: Call, now: float) -> Call:
    """Let time pass: ends a call whose other half never came, or whose last bound has passed (see `deadline`)."""
    if call.phase is Phase.ENDED or now < call.deadline:
        return call
    if call.phase is Phase.CLOSING:
        return _move(call, Input.SETTLED, now)
    return on_gone(call, now, "no end was seen within the longest time a call can take")


def on_lost(call: Call, now: float, *, alive_at: float | None = None) -> Call:
    """The link is lost: events may be missed from here on. `alive_at` = the PBX's last word about anything,
    its clock; a stream in order that did not tell the end of this call proves that it lived then."""
    del now
    if call.phase is Phase.ENDED:
        return call
    known = [t for t in (call.last_alive, alive_at) if t is not None]
    return replace(call, gap=True, last_alive=max(known) if known and call.living else call.last_alive)


def on_seen(call: Call, channels: Iterable[Channel], now: float) -> Call:
    """Take in a list of live legs (`CoreShowChannels`); those of other calls are ignored.

    A list without our trunk leg proves nothing yet, for a leg just made is not listed: the caller decides
    when a call is called absent (`is_listed`) and says `on_gone`.
    """
    if call.phase is Phase.ENDED:
        return call
    ours = _legs_of(call, channels)
    kept = call.living & {call.trunk_leg}
    call = replace(call, gap=True, living=kept | {c.uniqueid for c in ours})
    trunk = _trunk_leg_among(call, ours)
    if trunk is None:
        return call
    at = _pbx_time(call, now)
    before = call
    call, moved = _take_trunk_leg(call, trunk.name, trunk.uniqueid)
    call = replace(
        call,
        started_at=min(call.started_at, now - trunk.duration),
        originated_at=call.originated_at if call.originated_at is not None else at - trunk.duration,
        last_alive=at,
    )
    if call.skew is None:
        guesses = {"originated_at": before.originated_at is None, "answered_at": before.answered_at is None}
        call = replace(call, guessed=call.guessed | {"last_alive", *(name for name, new in guesses.items() if new)})
    if trunk.up and call.answered_at is None:
        return _move(replace(call, answered_at=at, answer_estimated=True), Input.ANSWERED, now)
    if trunk.ringing:
        call, rang = _ring(call, at)
        moved = rang or moved
    return _move(call, moved or Input.LEG, now)


def is_listed(call: Call, channels: Iterable[Channel]) -> bool:
    """Does this list of live legs show the call alive? Other legs of ours without a trunk leg that was known mean that
    the callee is gone, if MikoPBX cannot be about to try its next route."""
    ours = _legs_of(call, channels)
    if call.trunk_leg and (call.form is Form.TRUNK or call.answered_at is not None):
        return _trunk_leg_among(call, ours) is not None
    return bool(ours)


def on_gone(call: Call, now: float, why: str) -> Call:
    """No leg of this call is on the PBX any more and its end was not seen; `why` goes into the reason if
    that matters.

    What was seen before still counts: an end that waited for its other half is judged, an answered call is
    `answered` up to its last proof of life, everything else is `unknown`.
    """
    if call.phase is Phase.ENDED:
        return call
    if call.phase is Phase.CLOSING:
        return _move(call, Input.SETTLED, now)
    at = _pbx_time(call, now)
    if call.answered_at is not None:
        end = max(call.answered_at, call.last_alive or call.answered_at)
        call = replace(call, ended_at=end)
        outcome = Outcome.CANCELED if call.canceled else Outcome.ANSWERED
        detail = f"{RULES[outcome].words}, end not seen: {why}"
        ending = _ending(call, outcome, detail, estimated=True)
    else:
        call = replace(call, ended_at=at)
        outcome = Outcome.CANCELED if call.canceled else Outcome.UNKNOWN
        ending = _ending(call, outcome, f"{RULES[outcome].words}: {why}", estimated=True)
    return _end(call, Input.LOST, ending)


def testimony(call: Call, *, ring_seconds: int, canceled: bool) -> Call:
    """A call that a witness saw end, judged once more with what only its row knows: its ring limit (the words name
    it), and whether somebody had asked for its end, which then came from our side."""
    if call.ending is None or call.ending.estimated:
        return call
    call = replace(call, ring_seconds=ring_seconds, canceled=call.canceled or (canceled and not call.far_end))
    return replace(call, ending=_judge(call))


def concerns(call: Call, event: AmiEvent) -> bool:
    """True if this event speaks of this call (or of the whole PBX)."""
    if event.name == "Shutdown":
        return True
    return call_id_of(event) == call.call_id


def call_id_of(event: AmiEvent) -> str:
    """Id of the call an event speaks of, or an empty string: ActionID of OriginateResponse, else the Linkedid."""
    if event.name == "OriginateResponse":
        return event.get("ActionID")
    return event.get("DestLinkedid") or event.get("Linkedid")


# Evidence: one function per event. Each notes what is new and says what it means to the machine.

_Heard = tuple[Call, Input | None]


def _new_channel(call: Call, event: AmiEvent, at: float) -> _Heard:
    uniqueid = event.get("Uniqueid")
    if uniqueid in call.down:
        return call, None
    if len(call.living) + len(call.down) < MAX_LEGS:
        call = replace(call, living=call.living | {uniqueid})
    return _leg(call, event.get("Channel"), uniqueid, at)


def _new_state(call: Call, event: AmiEvent, at: float) -> _Heard:
    call, found = _leg(call, event.get("Channel"), event.get("Uniqueid"), at)
    state = event.get("ChannelStateDesc")
    if state == "Up":
        return _answer_by(call, event.get("Uniqueid"), at, found)
    if not _is_live_trunk(call, event.get("Uniqueid")):
        return call, found
    return _ring(call, at) if state == "Ringing" else (call, found)


def _dial_begin(call: Call, event: AmiEvent, at: float) -> _Heard:
    return _dialed(call, event, at)


def _dial_state(call: Call, event: AmiEvent, at: float) -> _Heard:
    call, found = _dialed(call, event, at)
    if _is_live_trunk(call, event.get("DestUniqueid")) and event.get("DialStatus") in {"RINGING", "PROGRESS"}:
        return _ring(call, at)
    return call, found


def _dial_end(call: Call, event: AmiEvent, at: float) -> _Heard:
    call, found = _dialed(call, event, at)
    if event.get("DialStatus") == "ANSWER":
        return _answer_by(call, event.get("DestUniqueid"), at, found)
    if not _is_live_trunk(call, event.get("DestUniqueid")):
        return call, found
    # Before 20 the PBX calls a redirection CANCEL, as what we end ourselves, and tells no cause with it.
    status = FORWARDED if event.get("Forward") else event.get("DialStatus")
    return replace(call, dial_status=call.dial_status or status), found


def _hangup_request(call: Call, event: AmiEvent, at: float) -> _Heard:
    call, found = _leg(call, event.get("Channel"), event.get("Uniqueid"), at)
    if not _is_live_trunk(call, event.get("Uniqueid")):
        return call, found
    return (
        replace(call, far_end=True, cause=_code(event, "Cause"), tech_cause=_code(event, "TechCause")),
        found,
    )


def _soft_hangup_request(call: Call, event: AmiEvent, at: float) -> _Heard:
    call, found = _leg(call, event.get("Channel"), event.get("Uniqueid"), at)
    if _is_live_trunk(call, event.get("Uniqueid")) and event.get("Cause") == SHUTDOWN_FLAG:
        return replace(call, pbx_stopping=True), found
    return call, found


def _hangup(call: Call, event: AmiEvent, at: float) -> _Heard:
    uniqueid = event.get("Uniqueid")
    ours = uniqueid == call.trunk_leg or uniqueid in call.living or uniqueid == call.call_id
    if uniqueid in call.down or not (ours or len(call.down) < MAX_LEGS):
        return call, None
    alive = call.last_alive
    call, _ = _leg(call, event.get("Channel"), uniqueid, at)
    call = replace(call, living=call.living - {uniqueid}, down=call.down | {uniqueid}, last_alive=alive)
    if call.form is Form.ROUTE and call.closing_since is not None:
        call = replace(
            call, closing_since=at - (call.skew or 0.0)
        )  # The other half of the end is due after the last leg.
    if uniqueid != call.trunk_leg:
        return call, Input.DOWN if call.form is Form.ROUTE and not call.living else None
    if event.get("ChannelStateDesc") == "Up" and call.answered_at is None:
        # It came up unseen, across a loss of the link. In every recording a leg ends as Up if it was answered.
        call = replace(call, answered_at=at, answer_estimated=True)
    cause, tech = _code(event, "Cause"), _code(event, "TechCause")
    return (
        replace(
            call,
            ended_at=at,
            cause=cause if cause is not None else call.cause,
            tech_cause=tech if tech is not None else call.tech_cause,
        ),
        Input.DOWN,
    )


def _originate_response(call: Call, event: AmiEvent, at: float) -> _Heard:
    if event.get("Response") == "Success":
        return (replace(call, joined=True), None) if call.form is Form.ROUTE else _answer(call, at)
    if call.answered_at is not None or call.failure is not None:
        return call, None  # The refusal of a duplicate, or a repeat.
    return replace(call, failure=_code(event, "Reason") or 0), Input.FAILED


def _shutdown(call: Call, event: AmiEvent, at: float) -> _Heard:
    del event, at
    return replace(call, pbx_stopping=True), None


_HANDLERS: Mapping[str, Callable[[Call, AmiEvent, float], _Heard]] = {
    "Newchannel": _new_channel,
    "Newstate": _new_state,
    "DialBegin": _dial_begin,
    "DialState": _dial_state,
    "DialEnd": _dial_end,
    "HangupRequest": _hangup_request,
    "SoftHangupRequest": _soft_hangup_request,
    "Hangup": _hangup,
    "OriginateResponse": _originate_response,
    "Shutdown": _shutdown,
}

EVENTS = frozenset(_HANDLERS)
"""Names of the events the machine uses; a link may drop all others."""


def _is_trunk_name(call: Call, name: str) -> bool:
    """True if a channel of this name leads to a provider (form trunk: to ours)."""
    if call.form is Form.ROUTE:
        return name.startswith(PROVIDERS)
    return name.startswith(f"PJSIP/{call.trunk}-")


def _legs_of(call: Call, channels: Iterable[Channel]) -> list[Channel]:
    return [c for c in channels if c.linkedid == call.call_id and c.uniqueid not in call.down]


def _trunk_leg_among(call: Call, ours: Sequence[Channel]) -> Channel | None:
    known = (c for c in ours if c.uniqueid == call.trunk_leg)
    named = (c for c in ours if _is_trunk_name(call, c.name))
    return next(known, None) or next(named, None)


def _leg(call: Call, name: str, uniqueid: str, at: float, *, routed: bool = False) -> _Heard:
    """Note a live leg that an event speaks of; the first one named after the trunk becomes the trunk leg. `routed`:
    a ;2 half dialed it, so it leads to the callee whatever its name."""
    if not uniqueid or uniqueid in call.down:
        return call, None
    call = replace(call, last_alive=max(at, call.last_alive or at))
    if not (routed or _is_trunk_name(call, name)):
        return call, None
    call, moved = _take_trunk_leg(call, name, uniqueid)
    if moved is None:
        return call, None
    started = call.originated_at if call.originated_at is not None else at
    return replace(call, living=call.living | {uniqueid}, originated_at=started), moved


def _dialed(call: Call, event: AmiEvent, at: float) -> _Heard:
    """The leg that a Dial event speaks of. Of an originated first leg the event names no caller."""
    name, caller = event.get("DestChannel"), event.get("Channel")
    routed = (
        call.form is Form.ROUTE
        and caller.startswith("Local/")
        and caller.endswith(";2")
        and not name.startswith("Local/")
    )
    return _leg(call, name, event.get("DestUniqueid"), at, routed=routed)


def _take_trunk_leg(call: Call, name: str, uniqueid: str) -> _Heard:
    """Make this leg the trunk leg if it is a new one. A second one only before the answer, and only by a route:
    what the AI side dials later, through whatever provider, is not the callee."""
    if uniqueid in call.tried:
        return call, None
    if not call.trunk_leg:
        return _with_trunk_leg(call, name, uniqueid), Input.LEG
    if call.form is Form.TRUNK or call.answered_at is not None or len(call.tried) >= MAX_LEGS:
        return call, None
    earlier = _leg_outcome(call)
    return (
        replace(
            _with_trunk_leg(call, name, uniqueid),
            floor=earlier if earlier in MAY_HAVE_RUNG else call.floor,
            ended_at=None,
            cause=None,
            tech_cause=None,
            dial_status="",
            far_end=False,
        ),
        Input.ANOTHER,
    )


def _with_trunk_leg(call: Call, name: str, uniqueid: str) -> Call:
    trunk = call.trunk if call.form is Form.TRUNK else name.partition("/")[2].rpartition("-")[0]
    return replace(call, trunk_leg=uniqueid, tried=call.tried | {uniqueid}, trunk=trunk)


def _leg_outcome(call: Call) -> Outcome:
    """Outcome of the present trunk leg, before MikoPBX goes on to its next route."""
    if call.trunk_leg in call.down:
        return _refused(call).outcome
    return Outcome.NO_ANSWER if call.ringing_at is not None else Outcome.UNKNOWN


def _is_live_trunk(call: Call, uniqueid: str) -> bool:
    return bool(uniqueid) and uniqueid == call.trunk_leg and uniqueid not in call.down


def _ring(call: Call, at: float) -> _Heard:
    if call.ringing_at is not None or call.answered_at is not None:
        return call, None
    return replace(call, ringing_at=at, failure=None), Input.RANG


def _answer_by(call: Call, uniqueid: str, at: float, found: Input | None) -> _Heard:
    """A leg is up: the callee has answered if it is a trunk leg (of several, this one then is the one)."""
    if uniqueid not in call.tried or uniqueid in call.down:
        return call, found
    return _answer(replace(call, trunk_leg=uniqueid), at)


def _answer(call: Call, at: float) -> _Heard:
    if call.answered_at is not None:
        return call, None
    if call.ended_at is not None and call.trunk_leg in call.down:
        # Only across a loss of the link: the leg came up and went down unseen, and this is OriginateResponse's Success.
        return replace(call, answered_at=call.ended_at, answer_estimated=True), None
    return replace(call, answered_at=at, failure=None), Input.ANSWERED


def _code(event: AmiEvent, key: str) -> int | None:
    """A number in a header; None where it is missing or no code (an old or patched PBX must not stop us)."""
    text = event.get(key)
    return int(text) if _CODE.fullmatch(text) else None


# The machine


def _move(call: Call, moved: Input | None, now: float) -> Call:
    """Apply one input, then whatever follows from it."""
    phase = NEXT[call.phase].get(moved) if moved is not None else None
    if moved is not None and phase is Phase.ENDED:
        return _end(call, moved, _judge(_closed(call, now)))
    if phase is not None:
        call = replace(call, phase=phase, closing_since=now if phase is Phase.CLOSING else None)
    return _end(call, Input.SETTLED, _judge(_closed(call, now))) if _is_settled(call) else call


def _end(call: Call, moved: Input, ending: Ending) -> Call:
    """Step into the terminal phase, by the table like every other step."""
    if NEXT[call.phase].get(moved) is not Phase.ENDED:
        return call
    return replace(call, phase=Phase.ENDED, closing_since=None, ended_at=ending.times.ended_at, ending=ending)


def _closed(call: Call, now: float) -> Call:
    """The call with an instant of its end: the Hangup's, else the first word of the end, else now."""
    if call.ended_at is not None:
        return call
    return replace(call, ended_at=_pbx_time(call, now if call.closing_since is None else call.closing_since))


def _pbx_time(call: Call, now: float) -> float:
    """An instant of the daemon's clock on the PBX's, as far as the difference is known."""
    return now + (call.skew or 0.0)


def _on_pbx_clock(call: Call, skew: float) -> Call:
    """The PBX's clock is known: what was written down by ours before is set right, once. A daemon whose clock is an
    hour wrong would else find a call after its restart and end it with an hour of talk."""

    def right(name: str, at: float | None) -> float | None:
        return at + skew if at is not None and name in call.guessed else at

    return replace(
        call,
        skew=skew,
        guessed=frozenset(),
        originated_at=right("originated_at", call.originated_at),
        answered_at=right("answered_at", call.answered_at),
        last_alive=right("last_alive", call.last_alive),
    )


def _is_settled(call: Call) -> bool:
    """True if nothing more has to come before the end can be judged."""
    if call.phase is not Phase.CLOSING:
        return False
    if call.answered_at is not None:
        return call.trunk_leg in call.down
    return (call.failure is not None or call.joined) and not call.living


def _refuse(call: Call, message: str, now: float) -> Call:
    call = _closed(call, now)
    detail = f"{RULES[Outcome.PBX_ERROR].words}: {message.strip() or 'no reason given'}"
    return _end(call, Input.REFUSED, _ending(call, Outcome.PBX_ERROR, detail))


# Judgment: evidence → ending


def _judge(call: Call) -> Ending:
    if call.answered_at is not None:
        return _judge_answered(call)
    for applies, judge in _UNANSWERED:
        if applies(call):
            ending = judge(call)
            break
    else:
        ending = _ending(call, Outcome.UNKNOWN, "the end of the callee's leg was not seen")
    if call.floor is not None and (ending.outcome is Outcome.INVALID_NUMBER or not spends_attempt(ending)):
        words = f"{RULES[call.floor].words}; then the next route failed: {ending.reason}"
        return _ending(call, call.floor, words)
    if call.gap and call.joined:
        return _ending(call, Outcome.UNKNOWN, f"the link was down while the call was put through: {ending.reason}")
    if call.gap and ending.outcome is Outcome.NO_REPLY:
        # It may have rung while nobody looked: then it was no silence of the carrier.
        return _ending(
            call, Outcome.NO_ANSWER, "nobody answered; whether the phone rang was not seen: the link was down"
        )
    if call.gap and call.ringing_at is None and RULES[ending.outcome].retry is Retry.OWN_BOUND:
        return _ending(call, Outcome.UNKNOWN, f"the link was down during the call; its last word was: {ending.reason}")
    return ending


def _judge_answered(call: Call) -> Ending:
    talk = _talk(call)
    ours = not call.far_end
    if call.canceled:
        return _ending(call, Outcome.CANCELED, "canceled during the conversation", ours=ours)
    if call.pbx_stopping:
        return _ending(call, Outcome.ANSWERED, "answered; the PBX stopped during the conversation", estimated=True)
    if ours and talk < AI_FAILED_WITHIN and not call.answer_estimated:
        return _ending(call, Outcome.AI_FAILED, ours=ours)
    detail = "answered; the callee hung up"
    if ours:
        bound = call.ring_seconds + call.max_call_seconds - 1
        longest = call.originated_at is not None and (call.ended_at or 0.0) - call.originated_at >= bound
        detail = "answered; ended by the PBX at the longest time allowed" if longest else "answered; our side hung up"
    return _ending(call, Outcome.ANSWERED, detail, ours=ours, estimated=call.answer_estimated)


def _is_timed_out(call: Call) -> bool:
    """Our Timeout ended it: Reason 3, or (that word missing) cause 19 without anything from the far end."""
    if call.failure is not None:
        return call.failure == TIMEOUT_REASON
    silent = call.dial_status in {"", "CANCEL"}
    return call.cause == 19 and not call.far_end and silent and call.trunk_leg in call.down


def _timed_out(call: Call) -> Ending:
    if call.ringing_at is not None:
        return _ending(call, Outcome.NO_ANSWER, f"nobody answered within {call.ring_seconds} s")
    return _ending(
        call, Outcome.NO_REPLY, f"the carrier said nothing within {call.ring_seconds} s, not even that it rang"
    )


def _hung_up_on_pbx(call: Call) -> Ending:
    if call.ringing_at is not None:
        return _ending(call, Outcome.NO_ANSWER, "ended on the PBX while the phone rang")
    return _ending(call, Outcome.UNKNOWN, "ended on the PBX before anything was heard of the callee")


def _refused(call: Call) -> Ending:
    sense = sense_of(call.cause, _sip_code(call), call.dial_status)
    if sense is None:
        return _ending(call, Outcome.UNKNOWN, "the PBX ended the call and told no cause")
    after = (call.ended_at or 0.0) - (call.originated_at or 0.0)
    outcome = refusal_outcome(sense, rang=call.ringing_at is not None, after=after)
    return _ending(call, outcome)


def _without_a_trunk_leg(call: Call) -> Ending:
    if call.form is Form.TRUNK:
        return _ending(call, Outcome.TRUNK_UNAVAILABLE)
    if call.joined:
        return _ending(call, Outcome.UNKNOWN, "the PBX itself took the call: no provider was dialed")
    return _ending(
        call, Outcome.TRUNK_UNAVAILABLE, "no outgoing route took the number, or the provider of the route is down"
    )


_UNANSWERED: tuple[tuple[Callable[[Call], bool], Callable[[Call], Ending]], ...] = (
    (lambda call: call.canceled, lambda call: _ending(call, Outcome.CANCELED)),
    (
        lambda call: call.pbx_stopping,
        lambda call: _ending(call, Outcome.UNKNOWN, "the PBX stopped before the call ended"),
    ),
    (lambda call: not call.trunk_leg, _without_a_trunk_leg),
    (_is_timed_out, _timed_out),
    (lambda call: call.cause == 16 and not call.far_end, _hung_up_on_pbx),
    (lambda call: bool(call.cause) or bool(call.dial_status) or call.trunk_leg in call.down, _refused),
)
"""The end of a call nobody answered: the first line that applies decides."""


def _sip_code(call: Call) -> int | None:
    """The carrier's SIP code. On a leg that our side ended the PBX makes one up, and it is dropped."""
    ours = call.canceled or _is_timed_out(call)
    return None if ours else call.tech_cause


def _talk(call: Call) -> float:
    if call.answered_at is None or call.ended_at is None:
        return 0.0
    # A PBX whose clock is set during a call would tell of years; nothing is followed for longer than this.
    return min(max(0.0, call.ended_at - call.answered_at), call.ring_seconds + call.max_call_seconds + OVERTIME)


def _ending(call: Call, outcome: Outcome, detail: str = "", *, estimated: bool = False, ours: bool = False) -> Ending:
    sip_code = _sip_code(call)
    return Ending(
        outcome=outcome,
        reason=reason(outcome, cause=call.cause, sip_code=sip_code, detail=detail),
        times=call.times,
        hangup_cause=call.cause,
        sip_code=sip_code,
        talk_seconds=int(_talk(call)),
        estimated=estimated,
        ended_by_us=ours,
        watched=not call.gap or call.ringing_at is not None or call.answered_at is not None,
    )
