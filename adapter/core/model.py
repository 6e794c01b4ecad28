"""The words of the product as frozen values: outcomes, claimed rows, records, AMI events.

Everything that crosses a seam (core, `pbx`, `supabase_io`, daemon) is one of these. They are checked where they are
made, so that nobody behind the seam checks them again. Times are seconds since the Unix epoch as float unless a name
says otherwise; an instant that was never reached is None.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How a call ended, in our vocabulary (docs/guarantees.md lists verdict, status and retry of each)."""

    ANSWERED = "answered"
    NO_ANSWER = "no_answer"
    BUSY = "busy"
    DECLINED = "declined"
    VOICEMAIL = "voicemail"
    NO_REPLY = "no_reply"
    INVALID_NUMBER = "invalid_number"
    REJECTED = "rejected"
    CONGESTION = "congestion"
    TRUNK_UNAVAILABLE = "trunk_unavailable"
    PBX_ERROR = "pbx_error"
    AI_FAILED = "ai_failed"
    BLOCKED = "blocked"
    CANCELED = "canceled"
    UNKNOWN = "unknown"


class Verdict(StrEnum):
    """Who is responsible for the way a call ended."""

    CALLEE = "callee"
    NUMBER = "number"
    CARRIER = "carrier"
    US = "us"


class Form(StrEnum):
    """The shape of an Originate: which leg is made first, and through what."""

    TRUNK = "trunk"
    ROUTE = "route"


class NumberStyle(StrEnum):
    """How a carrier wants numbers written."""

    E164 = "e164"
    """60123456700: country code, no plus. What most carriers take."""

    PLUS = "plus"
    NATIONAL = "national"
    """0123456700; numbers abroad with the international prefix of the region."""


class ReleaseCause(StrEnum):
    """Why a claimed row may go back to `queued`: each one proves that this call id never rang anybody."""

    NOT_SENT = "not_sent"
    """The claimant itself knows that it never wrote the Originate."""

    PBX_ERROR = "pbx_error"
    """The PBX answered the Originate with an explicit `Response: Error`."""

    NEVER_EXECUTED = "never_executed"
    """The journal on the PBX shows that the action was never executed (and the PBX did not restart since)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AmiEvent:
    """One AMI event as the PBX sent it; of a repeated header the last value is kept.

    `at` is the PBX's own clock (header `Timestamp`, seconds since the epoch), None where the event has none.
    """

    name: str
    fields: Mapping[str, str]
    at: float | None = None

    def get(self, key: str) -> str:
        """Value of a header as AMI spells it (`Uniqueid`, `Linkedid`, `Cause`, …), or an empty string."""
        return self.fields.get(key, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One live leg as `CoreShowChannels` lists it. `duration` is whole seconds since the leg was made."""

    name: str
    uniqueid: str
    linkedid: str
    up: bool
    duration: int
    application: str = ""
    ringing: bool = False
    """A 180 came (ChannelState 5); a leg with early media alone does not tell."""


WAY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Short enough that no dial string reaches the 255 characters at which Asterisk cuts it without a word."""

_AFFIX = re.compile(r"\+?[0-9]{0,15}")
SHOWN_NUMBER = re.compile(r"\+?[0-9]{3,15}")
"""A caller id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A trunk as the database knows it (table `call_trunks`). Raises ValueError for what cannot stand in a dial string.

    The adapter's own trunk, of its settings, is not one of these: a row without a way goes through that.
    """

    id: str
    """Provider id, like SIP-TRUNK-1A2B3C4D; in form route any name, as MikoPBX chooses the provider."""

    form: Form = Form.TRUNK
    number_style: NumberStyle = NumberStyle.E164
    strip: str = ""
    """Taken off the front of the number in that style; a number that does not begin so is not dialed."""

    add: str = ""
    """Put in front of what is left."""

    caller_id: str | None = None
    """Digits, with or without a plus; None leaves the adapter's own."""

    calls_per_second: float | None = None
    """New calls that the carrier takes; None: only the adapter's own pace counts."""

    max_channels: int | None = None
    """Calls that the carrier carries at once; None: not known."""

    def __post_init__(self) -> None:
        """Check every value that is written into an action, or reckoned with."""
        for what, pattern, value in (
            ("trunk", WAY_ID, self.id),
            ("strip_prefix", _AFFIX, self.strip),
            ("add_prefix", _AFFIX, self.add),
            ("caller id", SHOWN_NUMBER, "000" if self.caller_id is None else self.caller_id),
        ):
            if not pattern.fullmatch(value):
                raise ValueError(f"{what} {value[:80]!r} cannot stand in a call")
        if self.calls_per_second is not None and not 0 < self.calls_per_second < math.inf:
            raise ValueError("calls_per_second must be above zero")
        if self.max_channels is not None and self.max_channels < 1:
            raise ValueError("max_channels must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedRow:
    """A queue row that is ours to dial once, as the claim returned it (`call_sync_v1`)."""

    row_id: int
    call_id: str
    """Lower-case UUID; AMI ActionID and ChannelId, so also Uniqueid and Linkedid of the first leg."""

    claim_number: int
    """Rises by at least one with every claimed row of the whole project; slot in the PBX journal = this mod 4096."""

    attempt: int
    """1 for the first call that may spend one of the person's tries."""

    user_id: str
    phone_number: str
    """As inserted."""

    e164: str
    """Canonical form by the database, with `+`."""

    campaign_id: str | None = None
    contact_id: str | None = None
    prompt_id: str | None = None
    customer_name: str | None = None
    caller_id: str | None = None
    ring_seconds: int | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    claimed_at: float = 0.0
    """Database time of the claim."""

    bell_at: float | None = None
    """Database time at which this row's insert should have rung the doorbell; None for retries and rows due later."""

    pbx_boot: str | None = None
    """Start time of the PBX as the claimant had read it when it claimed (`CoreStatus`), as an opaque string."""

    way: Way | None = None
    """Trunk that the claim chose; None: the one of the adapter's settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCall:
    """A call that the database holds for `dialing` or `talking`, found at start or at a take-over."""

    row: ClaimedRow
    incarnation: int
    """Incarnation of the adapter that claimed it."""

    originated_at: float | None = None
    answered_at: float | None = None
    cancel_requested: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTimes:
    """Instants of one call, all by the PBX's clock."""

    originated_at: float | None = None
    ringing_at: float | None = None
    answered_at: float | None = None
    ended_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How one call ended: the result of the core, before it is written anywhere."""

    outcome: Outcome
    reason: str
    """Words a person understands; they go to `call_logs.metadata.ended_reason`."""

    times: CallTimes
    hangup_cause: int | None = None
    """Q.850 cause of the trunk leg."""

    sip_code: int | None = None
    """SIP final code where the PBX told it (TechCause, since Asterisk 20.17/22.7) and we did not end the leg."""

    talk_seconds: int = 0
    """Whole seconds between answer and end, by PBX timestamps."""

    estimated: bool = False
    """True when the end was not seen, or the PBX cut the call as it stopped: `talk_seconds` reaches to the last
    proof of life."""

    ended_by_us: bool = False
    """True when an answered call was ended by our side (the AI application), not by the callee."""

    watched: bool = True
    """False when nothing rang, but the link was down for a part of the call: then that proves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredMark:
    """The callee picked up: `call_logs.status` becomes `answered` while the call goes on."""

    call_id: str
    times: CallTimes


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeRecord:
    """A call ended. Fenced by `call_id` alone; idempotent; replaces `unknown`."""

    call_id: str
    ending: Ending
    log_status: str
    """The app's word for `call_logs.status` (core/outcomes.py)."""

    trunk: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRecord:
    """A claimed row that certainly rang nobody goes back to `queued`."""

    call_id: str
    cause: ReleaseCause
    reason: str


Record = AnsweredMark | OutcomeRecord | ReleaseRecord
