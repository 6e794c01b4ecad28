"""The life of one call of form `trunk`: a small machine fed with AMI events, replies and the passing of
time.

Theory of operation
===================
One Originate makes one call. Its id is the ActionID of the action, the ChannelId of the first leg and the
Linkedid of every leg that belongs to it, so the machine believes an event only if it carries that id:
OriginateResponse by ActionID (its Uniqueid may be somebody else's), everything about legs by Linkedid. The
leg that matters is the *trunk leg*, the first channel named `PJSIP/<trunk>-…`; legs of the AI side share our
Linkedid but say nothing about the callee.

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

Clocks: `now` is the daemon's clock, event times are the PBX's; `skew` is the difference at the last event.
All instants kept here are the PBX's, apart from `started_at` and `closing_since`, which only measure
waiting.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from adapter.core.model import AmiEvent, CallTimes, Channel, Ending, OpenCall, Outcome
from adapter.core.outcomes import RULES, Retry, reason, refusal_outcome, sense_of

PATIENCE = 5.0
"""Seconds to wait for the other half of an end. Seen: 10 ms (design section 5 and outcomes section 3 name 5 s)."""

OVERTIME = 120.0
"""Seconds after the PBX's own bound (ring limit + longest call) at which a call without an end is given up."""

AI_FAILED_WITHIN = 2.0
"""Seconds: a call that our side drops faster after the answer was never a conversation."""

TIMEOUT_REASON = 3
"""OriginateResponse's Reason when our own Timeout ran out."""

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

    FAILED = "failed"
    """OriginateResponse Failure."""

    DOWN = "down"
    """Hangup of the trunk leg."""

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
    ring_seconds: int
    max_call_seconds: int
    started_at: float
    """Daemon's clock, when the Originate was (about to be) written."""

    phase: Phase = Phase.SENT
    originated_at: float | None = None
    ringing_at: float | None = None
    answered_at: float | None = None
    ended_at: float | None = None

    trunk_leg: str = ""
    """Uniqueid of the trunk leg; empty until one was seen."""

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

    far_end: bool = False
    """The far end hung up (HangupRequest on the trunk leg)."""

    pbx_stopping: bool = False
    canceled: bool = False
    gap: bool = False
    """Events may have been missed: the link was lost while the call was open, or it was found again after a restart."""

    answer_estimated: bool = False
    closing_since: float | None = None
    skew: float = 0.0
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
        """What to hang up to end this call: the trunk leg's Uniqueid, which is the call id where it was not seen."""
        return self.trunk_leg or self.call_id

    @property
    def deadline(self) -> float:
        """Daemon's clock at which `on_tick` has something to do if nothing else happens before."""
        if self.closing_since is not None:
            return self.closing_since + PATIENCE
        return self.started_at + self.ring_seconds + self.max_call_seconds + OVERTIME


# Making a call


def start(call_id: str, *, trunk: str, ring_seconds: int, max_call_seconds: int, now: float) -> Call:
    """A call whose Originate is about to be written."""
    return Call(
        call_id=call_id,
        trunk=trunk,
        ring_seconds=ring_seconds,
        max_call_seconds=max_call_seconds,
        started_at=now,
    )


def resume(open_call: OpenCall, *, trunk: str, ring_seconds: int, max_call_seconds: int, now: float) -> Call:
    """A call found in the database and alive on the PBX, after a restart or a take-over: feed it `on_seen` next."""
    answered = open_call.answered_at
    return Call(
        call_id=open_call.row.call_id,
        trunk=trunk,
        ring_seconds=ring_seconds,
        max_call_seconds=max_call_seconds,
        started_at=min(now, open_call.originated_at or now),
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
        call = replace(call, skew=event.at - now)
    heard, moved = hear(call, event, now + call.skew)
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
    when a call is called absent and says `on_gone`. But a list with other legs of ours and without a trunk
    leg that was known means that the callee is gone.
    """
    if call.phase is Phase.ENDED:
        return call
    ours = [c for c in channels if c.linkedid == call.call_id and c.uniqueid not in call.down]
    call = replace(call, gap=True, living=frozenset(c.uniqueid for c in ours))
    trunk = next((c for c in ours if c.name.startswith(_prefix(call))), None)
    if trunk is None:
        if ours and call.trunk_leg:
            return on_gone(call, now, "the callee's leg was gone when the PBX was reached again")
        return call
    at = now + call.skew
    call = replace(
        call,
        trunk_leg=call.trunk_leg or trunk.uniqueid,
        originated_at=call.originated_at if call.originated_at is not None else at - trunk.duration,
        last_alive=at,
    )
    if trunk.up and call.answered_at is None:
        return _move(replace(call, answered_at=at, answer_estimated=True), Input.ANSWERED, now)
    return _move(call, Input.LEG, now)


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
    at = now + call.skew
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
    call = replace(call, living=call.living | {uniqueid})
    return _leg(call, event.get("Channel"), uniqueid, at)


def _new_state(call: Call, event: AmiEvent, at: float) -> _Heard:
    call, found = _leg(call, event.get("Channel"), event.get("Uniqueid"), at)
    if not _is_live_trunk(call, event.get("Uniqueid")):
        return call, found
    state = event.get("ChannelStateDesc")
    if state == "Up":
        return _answer(call, at)
    return _ring(call, at) if state == "Ringing" else (call, found)


def _dial_begin(call: Call, event: AmiEvent, at: float) -> _Heard:
    return _leg(call, event.get("DestChannel"), event.get("DestUniqueid"), at)


def _dial_state(call: Call, event: AmiEvent, at: float) -> _Heard:
    call, found = _leg(call, event.get("DestChannel"), event.get("DestUniqueid"), at)
    if _is_live_trunk(call, event.get("DestUniqueid")) and event.get("DialStatus") in {"RINGING", "PROGRESS"}:
        return _ring(call, at)
    return call, found


def _dial_end(call: Call, event: AmiEvent, at: float) -> _Heard:
    call, found = _leg(call, event.get("DestChannel"), event.get("DestUniqueid"), at)
    if not _is_live_trunk(call, event.get("DestUniqueid")):
        return call, found
    if event.get("DialStatus") == "ANSWER":
        return _answer(call, at)
    return replace(call, dial_status=call.dial_status or event.get("DialStatus")), found


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
    if uniqueid in call.down:
        return call, None
    alive = call.last_alive
    call, _ = _leg(call, event.get("Channel"), uniqueid, at)
    call = replace(call, living=call.living - {uniqueid}, down=call.down | {uniqueid}, last_alive=alive)
    if uniqueid != call.trunk_leg:
        return call, None
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
        return _answer(call, at)
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


def _prefix(call: Call) -> str:
    return f"PJSIP/{call.trunk}-"


def _leg(call: Call, name: str, uniqueid: str, at: float) -> _Heard:
    """Note a live leg that an event speaks of; the first one named after the trunk becomes the trunk leg."""
    if not uniqueid or uniqueid in call.down:
        return call, None
    call = replace(call, last_alive=max(at, call.last_alive or at))
    if call.trunk_leg or not name.startswith(_prefix(call)):
        return call, None
    started = call.originated_at if call.originated_at is not None else at
    return replace(call, trunk_leg=uniqueid, living=call.living | {uniqueid}, originated_at=started), Input.LEG


def _is_live_trunk(call: Call, uniqueid: str) -> bool:
    return bool(uniqueid) and uniqueid == call.trunk_leg and uniqueid not in call.down


def _ring(call: Call, at: float) -> _Heard:
    if call.ringing_at is not None or call.answered_at is not None:
        return call, None
    return replace(call, ringing_at=at, failure=None), Input.RANG


def _answer(call: Call, at: float) -> _Heard:
    if call.answered_at is not None:
        return call, None
    if call.ended_at is not None and call.trunk_leg in call.down:
        # Only across a loss of the link: the leg came up and went down unseen, and this is OriginateResponse's Success.
        return replace(call, answered_at=call.ended_at, answer_estimated=True), None
    return replace(call, answered_at=at, failure=None), Input.ANSWERED


def _code(event: AmiEvent, key: str) -> int | None:
    """A number in a header; None where it is missing or no number (an old or patched PBX must not stop us)."""
    text = event.get(key)
    return int(text) if text.isascii() and text.isdigit() else None


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
    return replace(call, ended_at=(now if call.closing_since is None else call.closing_since) + call.skew)


def _is_settled(call: Call) -> bool:
    """True if nothing more has to come before the end can be judged."""
    if call.phase is not Phase.CLOSING:
        return False
    if call.answered_at is not None:
        return call.trunk_leg in call.down
    return call.failure is not None and not call.living


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
    return call.cause == 19 and not call.far_end and not call.dial_status and call.trunk_leg in call.down


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


_UNANSWERED: tuple[tuple[Callable[[Call], bool], Callable[[Call], Ending]], ...] = (
    (lambda call: call.canceled, lambda call: _ending(call, Outcome.CANCELED)),
    (
        lambda call: call.pbx_stopping,
        lambda call: _ending(call, Outcome.UNKNOWN, "the PBX stopped before the call ended"),
    ),
    (lambda call: not call.trunk_leg, lambda call: _ending(call, Outcome.TRUNK_UNAVAILABLE)),
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
    return max(0.0, call.ended_at - call.answered_at)


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
    )
