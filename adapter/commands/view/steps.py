"""The life of one row as steps on a screen, and what its end means.

A row is looked at now and then, and holds the times of its last call only; `Story` keeps what was seen. That it rang
is written by the adapter together with the answer or the end, so this step comes late, with the time at which it was.
"""

from dataclasses import dataclass, field

from adapter.commands.view.links import is_heard
from adapter.commands.view.waiting import Reason, reason
from adapter.commands.view.words import clock, span
from adapter.core.model import Outcome
from adapter.supabase_io.sights import Following, Sight


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that happened. `key` is the same however often it is looked at."""

    key: str
    at: float
    name: str
    words: str


HEADLINES = {
    Outcome.ANSWERED: "Answered",
    Outcome.AI_FAILED: "Answered, and dropped by our side",
    Outcome.VOICEMAIL: "Voicemail",
    Outcome.BLOCKED: "Not called",
    Outcome.CANCELED: "Canceled",
    Outcome.UNKNOWN: "Nobody knows how it ended",
}
"""For each outcome; those that are not here are calls that nobody answered."""

NOT_ANSWERED = "Not answered"


def steps(seen: Following) -> tuple[Step, ...]:
    """What is known of the row now, in order."""
    row = seen.row
    out = [Step(key="queued", at=row.created_at, name="queued", words=f"row {row.row_id} of call_queue")]
    if row.claimed_at is not None:
        out += _call(row, row.claimed_at)
    if released := row.faults.get("released"):
        words = "the call was not sent; the row is queued again"
        out.append(Step(key=f"released {released}", at=seen.now, name="taken back", words=words))
    if row.status == "queued" and row.last_outcome is not None:
        words = f"{row.last_reason or row.last_outcome}; tried again at {clock(row.not_before)}"
        out.append(Step(key=f"again {row.claimed_at}", at=row.ended_at or seen.now, name=row.last_outcome, words=words))
    if row.final:
        words = row.reason or ""
        out.append(Step(key="final", at=row.ended_at or seen.now, name=row.outcome or row.status, words=words))
    return tuple(out)


def _call(row: Sight, claimed_at: float) -> list[Step]:
    who = f"by adapter {row.adapter[:8]}" if row.adapter else "by an adapter"
    found = (
        ("claimed", claimed_at, f"{who}, to be dialed through the PBX {row.pbx}"),
        ("dialing", row.originated_at, "the PBX has it"),
        ("ringing", row.ringing_at, "the phone rang"),
        ("answered", row.answered_at, "the AI talks"),
        ("ended", row.ended_at if row.answered_at else None, f"after {span(row.talk_seconds or 0)} of talk"),
    )
    return [
        Step(key=f"{name} {claimed_at}", at=at, name=name, words=words) for name, at, words in found if at is not None
    ]


def phase(seen: Following) -> str:
    """What goes on right now, in words."""
    row, now = seen.row, seen.now
    if row.final:
        return ""
    if row.status == "queued":
        why = reason(seen)
        return f"waits for {span(now - row.created_at)}: {why.words if why else 'queued'}"
    if row.outcome is not None:
        return "over; for up to 10 s the AI may still say that an answering machine took it"
    if row.cancel_requested:
        return "being hung up"
    if row.answered_at is not None:
        return f"talking for {span(now - row.answered_at)}"
    return f"dialing or ringing for {span(now - (row.claimed_at or now))}"


def ending(row: Sight) -> str:
    """The last line about a row that is over."""
    outcome = row.outcome or row.status
    headline = HEADLINES.get(Outcome(outcome), NOT_ANSWERED) if outcome in tuple(Outcome) else outcome
    what = f"{span(row.talk_seconds or 0)} of talk" if outcome == Outcome.ANSWERED else row.reason or outcome
    call = f", call {row.call_id}" if row.claimed_at is not None and row.call_id else ""
    return f"{headline}: {what}. Row {row.row_id}{call}"


def canceled(seen: Following) -> tuple[bool, str]:
    """What became of a wish to cancel: whether it was in time, and the words."""
    row = seen.row
    if row.status == "canceled":
        return True, f"Row {row.row_id} is canceled; it will not be dialed{' again' if row.claimed_at else ''}"
    if row.final or row.outcome is not None:
        return False, f"Too late, it was over: {ending(row)}"
    who = next((link for link in seen.links.adapters if link.adapter == row.adapter), None)
    if who is not None and not is_heard(who, seen.now):
        return True, (
            f"Row {row.row_id} is in a call, and its adapter {who.short} is silent: the call is hung up once an "
            "adapter follows it again, or ends by itself"
        )
    return True, f"Row {row.row_id} is in a call, which is being hung up"


@dataclass(slots=True)
class Story:
    """What was seen of one row so far."""

    steps: list[Step] = field(default_factory=list)
    why: Reason | None = None
    """Why it waited when it was looked at last."""

    _known: set[str] = field(default_factory=set)

    def tell(self, seen: Following) -> tuple[list[Step], Reason | None]:
        """What is new: steps, and a reason for waiting of another kind than before."""
        new = [step for step in steps(seen) if step.key not in self._known]
        self._known.update(step.key for step in new)
        self.steps += new
        why = reason(seen)
        changed = why if why is not None and (self.why is None or self.why.kind != why.kind) else None
        self.why = why
        return new, changed
