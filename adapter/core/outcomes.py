"""What an outcome means, and which outcome a carrier's refusal is: tables only.

`RULES` says of every outcome who is responsible, which word the app reads in `call_logs.status`, whether one
of the person's tries is spent and who may try again. The rest turns what the PBX tells about a leg that was
never answered (SIP final code, Q.850 cause, DialStatus) into an outcome, in two steps: code → `Sense`, then
`Sense` and how far the call had come → outcome. The cause decides before the SIP code, because a carrier's
Q.850 Reason header is the more exact word and because Asterisk before 20.17 and 22.7 tells the cause alone:
the same call then gives the same outcome on both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from adapter.core.model import Ending, Outcome, OutcomeRecord, Verdict

SOON = 5.0
"""Seconds within which a final 5xx certainly came from a switch that had not reached a phone: no mobile
network pages a phone, gives up and answers in less."""


class Retry(StrEnum):
    """Who decides whether the person is called again after this outcome."""

    NEVER = "never"
    POLICY = "policy"
    """The campaign's retry policy, within `max_attempts`."""

    ON_REQUEST = "on_request"
    """Only if the operator has set that policy."""

    OWN_BOUND = "own_bound"
    """Soon, by a counter of its own, because no try of the person was spent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row of the table of outcomes. `status` None stands for the app's word for "no answer" (a setting)."""

    verdict: Verdict
    status: str | None
    spends_attempt: bool
    retry: Retry
    words: str
    """What a person reads in `metadata.ended_reason`, before the codes."""


def _rule(verdict: Verdict, status: str | None, words: str, *, spends: bool, retry: Retry) -> Rule:
    return Rule(verdict=verdict, status=status, spends_attempt=spends, retry=retry, words=words)


RULES: Mapping[Outcome, Rule] = {
    Outcome.ANSWERED: _rule(Verdict.CALLEE, "answered", "answered", spends=True, retry=Retry.NEVER),
    Outcome.NO_ANSWER: _rule(Verdict.CALLEE, None, "nobody answered", spends=True, retry=Retry.POLICY),
    Outcome.BUSY: _rule(Verdict.CALLEE, None, "the line was busy", spends=True, retry=Retry.POLICY),
    Outcome.DECLINED: _rule(Verdict.CALLEE, None, "the callee declined the call", spends=True, retry=Retry.ON_REQUEST),
    Outcome.VOICEMAIL: _rule(
        Verdict.CALLEE, "voicemail", "an answering machine took the call", spends=True, retry=Retry.POLICY
    ),
    Outcome.NO_REPLY: _rule(
        Verdict.CARRIER, None, "the carrier never said that it rang", spends=True, retry=Retry.POLICY
    ),
    Outcome.INVALID_NUMBER: _rule(Verdict.NUMBER, "failed", "there is no such number", spends=True, retry=Retry.NEVER),
    Outcome.REJECTED: _rule(
        Verdict.CARRIER, "failed", "the carrier refused the call", spends=False, retry=Retry.OWN_BOUND
    ),
    Outcome.CONGESTION: _rule(
        Verdict.CARRIER, "failed", "the carrier is overloaded or failing", spends=False, retry=Retry.OWN_BOUND
    ),
    Outcome.TRUNK_UNAVAILABLE: _rule(
        Verdict.CARRIER, "failed", "the trunk is down or unknown to the PBX", spends=False, retry=Retry.OWN_BOUND
    ),
    Outcome.PBX_ERROR: _rule(
        Verdict.US, "failed", "the PBX refused to place the call", spends=False, retry=Retry.OWN_BOUND
    ),
    Outcome.AI_FAILED: _rule(
        Verdict.US, "answered", "answered, but our side dropped the call at once", spends=True, retry=Retry.NEVER
    ),
    Outcome.BLOCKED: _rule(Verdict.US, "failed", "not called", spends=False, retry=Retry.NEVER),
    Outcome.CANCELED: _rule(Verdict.US, "failed", "canceled", spends=False, retry=Retry.NEVER),
    Outcome.UNKNOWN: _rule(
        Verdict.US, "failed", "how the call ended was not seen", spends=True, retry=Retry.ON_REQUEST
    ),
}

NO_ANSWER_WORDS = ("no_answered", "no_answer")
"""Words the app knows for "no answer"; its Dashboard and detail pages count the first (contract, section 2.2)."""


def log_status(outcome: Outcome, no_answer_word: str = "no_answered", *, answered: bool = False) -> str:
    """The app's word for `call_logs.status`. `answered`: the callee had picked up; what was set then stays."""
    if answered and outcome is not Outcome.VOICEMAIL:
        return "answered"
    return RULES[outcome].status or no_answer_word


def spends_attempt(ending: Ending) -> bool:
    """True if the call used up one of the person's tries; a canceled one did if a phone rang."""
    if ending.outcome is Outcome.CANCELED:
        return ending.times.ringing_at is not None or ending.times.answered_at is not None
    return RULES[ending.outcome].spends_attempt


def outcome_record(call_id: str, ending: Ending, *, trunk: str, no_answer_word: str = "no_answered") -> OutcomeRecord:
    """The record that carries this ending to the database."""
    status = log_status(ending.outcome, no_answer_word, answered=ending.times.answered_at is not None)
    return OutcomeRecord(call_id=call_id, ending=ending, log_status=status, trunk=trunk)


class Sense(StrEnum):
    """What a refusal says, before it is asked how far the call had come."""

    BUSY = "busy"
    DECLINE = "decline"
    BARRED = "barred"
    NUMBER = "number"
    ABSENT = "absent"
    SILENCE = "silence"
    FAULT = "fault"
    REFUSAL = "refusal"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Outcome of one `Sense`: before any 18x within `SOON`, before any 18x but later, after an 18x."""

    soon: Outcome
    late: Outcome
    rang: Outcome


REFUSALS: Mapping[Sense, Refusal] = {
    Sense.BUSY: Refusal(Outcome.BUSY, Outcome.BUSY, Outcome.BUSY),
    Sense.DECLINE: Refusal(Outcome.DECLINED, Outcome.DECLINED, Outcome.DECLINED),
    Sense.BARRED: Refusal(Outcome.REJECTED, Outcome.REJECTED, Outcome.DECLINED),
    Sense.NUMBER: Refusal(Outcome.INVALID_NUMBER, Outcome.INVALID_NUMBER, Outcome.INVALID_NUMBER),
    Sense.ABSENT: Refusal(Outcome.NO_ANSWER, Outcome.NO_ANSWER, Outcome.NO_ANSWER),
    Sense.SILENCE: Refusal(Outcome.NO_REPLY, Outcome.NO_REPLY, Outcome.NO_ANSWER),
    Sense.FAULT: Refusal(Outcome.CONGESTION, Outcome.NO_REPLY, Outcome.NO_ANSWER),
    Sense.REFUSAL: Refusal(Outcome.REJECTED, Outcome.REJECTED, Outcome.NO_ANSWER),
}

CAUSES: Mapping[int, Sense] = {
    1: Sense.NUMBER,  # unallocated: 404, 485, 604
    17: Sense.BUSY,  # 486, 600
    18: Sense.SILENCE,  # no user responding: 408
    19: Sense.ABSENT,  # user alerting, no answer: 480, 483
    20: Sense.ABSENT,  # subscriber absent (only from a carrier's Reason header)
    21: Sense.BARRED,  # call rejected: 401, 403, 603
    22: Sense.NUMBER,  # number changed: 410
    27: Sense.FAULT,  # destination out of order: 502
    28: Sense.NUMBER,  # address incomplete: 484
    29: Sense.FAULT,  # facility rejected: 501
    34: Sense.FAULT,  # no circuit: 503, 513
    38: Sense.FAULT,  # network out of order: 500
    41: Sense.FAULT,  # temporary failure (Reason header)
    42: Sense.FAULT,  # switching equipment congested (Reason header)
    44: Sense.FAULT,  # requested channel not there (Reason header)
    47: Sense.FAULT,  # resource unavailable (Reason header)
    102: Sense.FAULT,  # recovery on timer expiry: 504
}
"""Q.850 causes that decide alone. Not listed: 3 (420), 16 (300), 23 (302), 58 (488, 606), 127 (many 4xx) and
everything a carrier invents; there the SIP code decides, and without it the call was refused."""

SIP_CODES: Mapping[int, Sense] = {
    404: Sense.NUMBER,
    408: Sense.SILENCE,
    410: Sense.NUMBER,
    480: Sense.ABSENT,
    484: Sense.NUMBER,
    485: Sense.NUMBER,
    486: Sense.BUSY,
    600: Sense.BUSY,
    604: Sense.NUMBER,
}
"""SIP codes with a meaning of their own; 5xx is a fault, every other final code a refusal."""

FORWARDED = "FORWARD"
"""Stands in for DialEnd's word where it names whom the carrier redirected us to; nobody is called there."""

DIAL_STATUSES: Mapping[str, Sense] = {
    FORWARDED: Sense.REFUSAL,
    "BUSY": Sense.BUSY,
    "CONGESTION": Sense.FAULT,
    "CHANUNAVAIL": Sense.REFUSAL,
}
"""DialEnd's word, used only where no cause was told. NOANSWER covers 603, 404, 408, 480 and 500 and says nothing."""


def sense_of(cause: int | None, sip_code: int | None, dial_status: str = "") -> Sense | None:
    """What the end of a never answered leg says; None when nothing was told (cause missing or 0)."""
    if sip_code == 603:
        return Sense.DECLINE
    if cause is not None and cause in CAUSES:
        return CAUSES[cause]
    if sip_code is not None:
        return SIP_CODES.get(sip_code, Sense.FAULT if 500 <= sip_code <= 599 else Sense.REFUSAL)
    return Sense.REFUSAL if cause else DIAL_STATUSES.get(dial_status)


def refusal_outcome(sense: Sense, *, rang: bool, after: float) -> Outcome:
    """Outcome of a leg that was refused `after` seconds from its start; `rang` = an 18x was seen."""
    row = REFUSALS[sense]
    if rang:
        return row.rang
    return row.soon if after <= SOON else row.late


CAUSE_WORDS: Mapping[int, str] = {
    1: "number not assigned",
    3: "no route to the number",
    16: "normal clearing",
    17: "busy",
    18: "no response from the phone",
    19: "no answer",
    20: "phone switched off or out of reach",
    21: "rejected",
    22: "number changed",
    23: "redirected",
    27: "destination out of order",
    28: "number incomplete",
    29: "service refused",
    31: "normal, unspecified",
    34: "no free circuit",
    38: "network out of order",
    41: "temporary failure",
    42: "switch congested",
    44: "channel not available",
    47: "no resources",
    58: "media not available",
    102: "timer expired",
    127: "interworking, unspecified",
}


def reason(outcome: Outcome, *, cause: int | None = None, sip_code: int | None = None, detail: str = "") -> str:
    """Words for `metadata.ended_reason`: the meaning first, then what the PBX said, for whoever asks the carrier."""
    codes = []
    if sip_code is not None:
        codes.append(f"SIP {sip_code}")
    if cause:
        words = CAUSE_WORDS.get(cause)
        codes.append(f"cause {cause}" + (f", {words}" if words else ""))
    text = detail or RULES[outcome].words
    told = f"({'; '.join(codes)})"
    # A detail that quotes another reason ends with the same codes already.
    return f"{text} {told}" if codes and not text.endswith(told) else text
