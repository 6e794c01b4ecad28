"""What three witnesses must agree on. Pure: records in, findings out."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from adapter.core.model import Outcome
from adapter.sandbox.asterisk.witness import Invite
from adapter.sandbox.scenarios import Scenario, scenario_of
from adapter.sandbox.verdicts import digits
from tests.chaos.history import MARGIN, NO_FAULT, PBX_DEATHS, Blind, Span, lived_to_tell
from tests.chaos.witnesses import Kept, Log, Row

AGAIN = frozenset({Outcome.REJECTED, Outcome.CONGESTION, Outcome.TRUNK_UNAVAILABLE, Outcome.PBX_ERROR})
"""Outcomes after which the same row is called again soon, by its own bound."""

BOUND = 2
"""That bound, as the sandbox sets it (world.IMPATIENT), for each of these outcomes."""

NOT_OUT = frozenset({Outcome.TRUNK_UNAVAILABLE, Outcome.PBX_ERROR, Outcome.BLOCKED})
"""What can be true of a row of which the carrier never saw a call."""

LEASE_SECONDS = 60.0
"""An adapter that is away longer may find that another one has taken its PBX."""

SEND_SECONDS = 15.0
"""A claimed row is sent within 5 s or never, and its Response comes within 10 s or is given up."""

INVITE_SECONDS = 2.0
"""So long may a loaded PBX take from its dial, where its ring limit begins, to the INVITE that the carrier sees (1.8 s
were seen while a whole suite ran beside it)."""

BREAK_SECONDS = 2.6
"""An answered call that ends sooner by our side counts as dropped by the AI (2 s, and some for the two clocks)."""

KINDS = ("double ring", "lost outcome", "not final", "wrong outcome", "unexplained unknown", "not delivered")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One promise that was not kept."""

    kind: str
    row: int | None
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that is known after a round."""

    rows: Sequence[Row]
    logs: Sequence[Log]
    invites: Sequence[Invite]
    outboxes: Mapping[str, Kept]
    """By adapter name."""

    names: Mapping[str, str]
    """Adapter id → adapter name."""

    blind: Sequence[Blind]
    spans: Sequence[Span]
    ring_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgment:
    """What is wrong, and what the unknown outcomes come from."""

    findings: tuple[Finding, ...]
    outcomes: Mapping[str, int]
    unknown: Mapping[str, int] = field(default_factory=dict)
    """Unknown outcomes by the fault that was in reach."""

    def count(self, kind: str) -> int:
        """Findings of one kind."""
        return sum(finding.kind == kind for finding in self.findings)


def judge(evidence: Evidence) -> Judgment:
    """Compare the witnesses."""
    calls: dict[str, list[Invite]] = defaultdict(list)
    for invite in evidence.invites:
        calls[digits(invite.number)].append(invite)
    unknown: Counter[str] = Counter()
    found: list[Finding] = []
    for row in evidence.rows:
        mine = calls.pop(digits(row.e164), [])
        scenario = scenario_of(row.e164)
        if scenario is None:
            raise ValueError(f"row {row.id} has a number that is none of the sandbox: {row.e164}")
        found += _rings(row, scenario, mine)
        if not row.final:
            found.append(Finding(kind="not final", row=row.id, words=f"it is still {row.status}"))
        elif row.outcome == Outcome.UNKNOWN:
            cause = why_unknown(row, mine, evidence)
            unknown[cause or "unexplained"] += 1
            if cause is None:
                found.append(Finding(kind="unexplained unknown", row=row.id, words=_told(row, mine)))
        elif row.outcome not in (allowed := truths(row, scenario, mine, evidence)):
            words = f"stored {row.outcome}, the carrier allows {sorted(allowed)}; {_told(row, mine)}"
            found.append(Finding(kind="wrong outcome", row=row.id, words=words))
    for number, strangers in calls.items():
        found.append(
            Finding(kind="double ring", row=None, words=f"{len(strangers)} calls to {number}, which has no row")
        )
    found += _stored(evidence)
    return Judgment(
        findings=tuple(found),
        outcomes=Counter(row.outcome or row.status for row in evidence.rows),
        unknown=unknown,
    )


# ---- nobody is called twice


def _rings(row: Row, scenario: Scenario, calls: Sequence[Invite]) -> Iterator[Finding]:
    bound = BOUND if scenario.outcome in AGAIN else 1
    if len(calls) > bound:
        yield Finding(
            kind="double ring", row=row.id, words=f"{len(calls)} calls instead of {bound}; {_told(row, calls)}"
        )
        return
    for first, second in pairwise(calls):
        if first.rang or first.answered or first.ended is None or first.ended > second.started:
            yield Finding(
                kind="double ring", row=row.id, words=f"called again though the first call rang; {_told(row, calls)}"
            )


# ---- the stored outcome is what the carrier did


def truths(row: Row, scenario: Scenario, calls: Sequence[Invite], evidence: Evidence) -> set[str]:
    """Outcomes other than unknown that the carrier's record of this row allows."""
    if not calls:
        return set(NOT_OUT)
    call = calls[-1]
    return _by_the_carrier(row, scenario, call, evidence) | _by_a_frozen_pbx(call, evidence)


def _by_a_frozen_pbx(call: Invite, evidence: Evidence) -> set[str]:
    """A PBX that was frozen until its ring limit was over gives the call up first and reads on afterwards. What
    the carrier said meanwhile the PBX has not heard, and nobody can hear it from the PBX."""
    for span in evidence.spans:
        frozen = span.kind == "pbx.freeze" and span.touches(call.started, call.ended or call.started)
        if not frozen or span.ended < call.started + evidence.ring_seconds - MARGIN:
            continue
        heard = span.began - MARGIN
        if call.answered is not None and call.answered < heard:
            continue
        unrung = call.rang is None or call.rang >= heard
        return {str(Outcome.NO_ANSWER), *([str(Outcome.NO_REPLY)] if unrung else [])}
    return set()


def _by_the_carrier(row: Row, scenario: Scenario, call: Invite, evidence: Evidence) -> set[str]:
    if _reached_its_end(row, call, scenario, evidence.ring_seconds):
        allowed = {scenario.outcome}
        if _gap(row, call, evidence) and call.answered is None:
            # What was not watched from the beginning proves no refusal: it counts as a call that may have rung.
            allowed |= {Outcome.NO_ANSWER} if not call.rang else set()
            allowed |= {Outcome.NO_REPLY} if not call.rang else set()
        if call.answered is not None and _gap(row, call, evidence):
            allowed.add(Outcome.ANSWERED)
        # A row that was called before and found no way out at its last try keeps the word of that.
        if scenario.outcome in AGAIN:
            allowed |= NOT_OUT - {Outcome.BLOCKED}
        return {str(outcome) for outcome in allowed}
    if call.answered is not None:
        return {str(Outcome.ANSWERED), *([str(Outcome.AI_FAILED)] if scenario.outcome is Outcome.AI_FAILED else [])}
    return set()


def _reached_its_end(row: Row, call: Invite, scenario: Scenario, ring_seconds: float) -> bool:
    """Whether the callee (or the ring limit) ended the call, and nobody else before."""
    if call.answered is not None:
        return call.ended is not None and call.ended - call.answered >= scenario.talk - 0.05
    if call.ended is None:
        return False
    if scenario.refuse_after is not None and scenario.refuse_after < ring_seconds:
        return call.ended - call.started >= scenario.refuse_after - 0.15
    # The PBX counts from its own dial, which is after the claim and before the INVITE.
    dialed = max(row.claimed_at or call.started, call.started - INVITE_SECONDS)
    return call.ended - min(dialed, call.started) >= ring_seconds - 0.15


def _gap(row: Row, call: Invite, evidence: Evidence) -> bool:
    last = call.ended or call.started
    return any(blind.touches(row.claimed_at or call.started, last) for blind in evidence.blind)


# ---- unknown only where the truth was out of reach


def why_unknown(row: Row, calls: Sequence[Invite], evidence: Evidence) -> str | None:
    """The fault that put the truth about the last call of this row out of reach; None if there was none."""
    if row.claimed_at is None:
        return None
    name = evidence.names.get(row.adapter or "", "")
    first = row.claimed_at - MARGIN
    # Calls before the last claim were of the same row, and their outcome is known: it was called again because of it.
    calls = [call for call in calls if call.started >= first]
    # Without a call only the journal on the PBX can tell that it was never sent; it is believed while the PBX lives.
    judged = row.ended_at or first
    last = max((call.ended or judged for call in calls), default=judged)
    for span in evidence.spans:
        if span.kind in PBX_DEATHS and span.touches(first, last + MARGIN):
            return span.kind
    if calls and calls[-1].ended is not None:
        return _unseen(name, last, last, evidence)
    if not calls and "PBX had taken the call" in (row.ended_reason or ""):
        return _unseen(name, first, first + SEND_SECONDS, evidence)
    return _taken_over(row, [blind for blind in evidence.blind if blind.adapter == name])


def _unseen(name: str, first: float, last: float, evidence: Evidence) -> str | None:
    """The fault that hid from every adapter what happened between these two; None if one of them must know it.

    The adapter that placed the call has its outbox. Any other one that was connected is a witness, and it suffices if
    that one lives until it has told.
    """
    hidden = _dark(name, first, last, evidence)
    if hidden is None or hidden == NO_FAULT:
        return None
    for other in set(evidence.names.values()) - {name}:
        dark = _dark(other, first, last, evidence)
        if dark == NO_FAULT or (dark is None and lived_to_tell(other, last, evidence.spans)):
            return None
    return hidden


def _dark(name: str, first: float, last: float, evidence: Evidence) -> str | None:
    touching = (blind.cause for blind in evidence.blind if blind.adapter == name and blind.touches(first, last))
    return next(touching, None)


def _taken_over(row: Row, mine: Iterable[Blind]) -> str | None:
    """Its adapter was away for so long that another one had to say something, and nobody else knows what was sent."""
    for blind in mine:
        if blind.ended - blind.began >= LEASE_SECONDS - MARGIN and blind.touches(
            row.claimed_at or 0.0, row.ended_at or 0.0
        ):
            return f"{blind.cause}, for longer than the lease"
    return None


# ---- what reached an outbox is stored


def _stored(evidence: Evidence) -> Iterator[Finding]:
    told: dict[str, set[str]] = defaultdict(set)
    for name, kept in evidence.outboxes.items():
        if kept.waiting or kept.refused:
            words = f"the outbox of {name} still holds {kept.waiting} records and {kept.refused} refused ones"
            yield Finding(kind="not delivered", row=None, words=words)
        for record in kept.records:
            if record["kind"] == "outcome":
                told[record["call_id"]].add(record["outcome"])
    logs = {log.call_id: log for log in evidence.logs}
    rows = {row.call_id: row for row in evidence.rows if row.call_id}
    again = sum(sum(row.faults.get(str(kind), 0) for kind in AGAIN) for row in evidence.rows)
    for call_id, outcomes in told.items():
        stored = {where.outcome for where in (logs.get(call_id), rows.get(call_id)) if where is not None}
        wanted = outcomes - {"unknown"} or outcomes
        if not stored and outcomes & AGAIN:
            again -= 1  # Its log row went when the row was called again; the row's own counter must know of it.
            continue
        row = rows.get(call_id)
        if not stored or not (stored - {None} <= wanted or (row and row.last_outcome in wanted)):
            words = f"call {call_id}: the outbox had {sorted(outcomes)}, stored is {sorted(map(str, stored))}"
            yield Finding(kind="lost outcome", row=row.id if row else None, words=words)
    if again < 0:
        yield Finding(kind="lost outcome", row=None, words=f"{-again} refused calls are counted on no row")


def _told(row: Row, calls: Sequence[Invite]) -> str:
    seen = [
        (
            f"{c.started:.3f}",
            *(
                f"{name} +{at - c.started:.2f}"
                for name, at in (("rang", c.rang), ("answered", c.answered), ("ended", c.ended))
                if at
            ),
        )
        for c in calls
    ]
    return (
        f"{row.e164} {row.outcome} ({row.ended_reason}), claimed {row.claimed_at}, call {row.call_id}; carrier {seen}"
    )


def as_json(judgment: Judgment) -> dict[str, Any]:
    """For the line of a round."""
    return {
        **{kind: judgment.count(kind) for kind in KINDS},
        "outcomes": dict(sorted(judgment.outcomes.items())),
        "unknown": dict(sorted(judgment.unknown.items())),
        "findings": [f"{f.kind}: row {f.row}: {f.words}" for f in judgment.findings],
    }
