"""What to do with a call of which it is not known whether it is on the PBX: doubt → verdict, by evidence alone.

Four witnesses are heard: the channel list (is a leg with our Linkedid alive?), the journal on the PBX (was the action
ever executed?), the PBX's start time (can the journal be believed?), and what the database or this process already
knew of the call. The lines, first that applies:

1. A leg is alive: follow it. 2. The list is too fresh: wait. A list right behind an Originate, or right behind a
login, does not show every leg yet. 3. It was answered before: `answered`, up to the last proof of life. 4. The action
was never executed, provably, and the one who asks may know it: back to `queued`. 5. Everything else: `unknown`. Never
by the passing of time alone, and never by anybody but the claimant's own next incarnation, whose lock proves the
claimant dead (design section 4, release rule).
"""

import re
from dataclasses import dataclass

from adapter.core.model import CallTimes, Ending, OpenCall, Outcome, ReleaseCause
from adapter.core.originate import journal_value

SETTLE = 20.0
"""Seconds after the send and after a fresh login before a call is called absent. A socket that is dying is given up
after 10 s (TCP_USER_TIMEOUT) and a PBX that was frozen may still execute what it holds; twice that leaves room."""

_ENTRY = re.compile(r"([0-9]{1,18}):(\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """What a journal slot on the PBX holds: nothing, an entry, or something that is not ours."""

    claim_number: int | None = None
    call_id: str = ""
    legible: bool = True

    @classmethod
    def read(cls, entry: str | None) -> "Journal":
        """Read a slot's value; None or an empty text is an empty slot."""
        if not entry:
            return cls()
        found = _ENTRY.fullmatch(entry)
        if found is None:
            return cls(legible=False)
        return cls(claim_number=int(found[1]), call_id=found[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Follow:
    """A leg of the call is alive: put it on the board and follow it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing can be said yet; ask again after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The call certainly rang nobody: its row goes back to `queued`."""

    cause: ReleaseCause
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The call is over and its end was not seen. `why` suits `Board.on_gone` for a call that is still on the board."""

    why: str
    ending: Ending


Verdict = Follow | Wait | Release | End


def judge(
    call: OpenCall,
    *,
    alive: bool,
    journal: Journal,
    accepted: bool,
    same_boot: bool,
    ours: bool,
    sent_age: float,
    login_age: float,
    settle: float = SETTLE,
) -> Verdict:
    """Decide what becomes of a call in doubt.

    `alive`: the channel list shows a leg with its Linkedid. `accepted`: its Originate was answered `Response:
    Success`. `same_boot`: the PBX's start time is known and the same as before the send. `ours`: the one who asks is
    the claimant or its next incarnation. `sent_age`, `login_age`: seconds since the Originate was (or can have been)
    written, and since the present login.
    """
    if alive:
        return Follow()
    rest = settle - min(sent_age, login_age)
    if rest > 0:
        return Wait(seconds=rest)
    if call.answered_at is not None:
        return _end(call, Outcome.ANSWERED, "the call was over when the PBX was reached again")
    if call.originated_at is not None:
        return _end(call, Outcome.UNKNOWN, "the call was over when the PBX was reached again")
    return _by_journal(call, journal, accepted=accepted, same_boot=same_boot, ours=ours)


def _by_journal(call: OpenCall, journal: Journal, *, accepted: bool, same_boot: bool, ours: bool) -> Verdict:
    """The call is absent and nobody ever saw a leg of it: was its action executed?"""
    claim = call.row.claim_number
    if not journal.legible:
        why = "its journal slot on the PBX holds something that is not ours"
    elif journal.claim_number == claim:
        taken = journal_value(call.row) == f"{journal.claim_number}:{journal.call_id}"
        why = (
            "the PBX had taken the call, and it was over when the PBX was reached again"
            if taken
            else "its claim number stands in the PBX's journal for another call"
        )
    elif journal.claim_number is not None and journal.claim_number > claim:
        why = "its journal slot on the PBX was written again since"
    elif accepted:
        why = "the PBX had accepted the call but keeps no trace of it"
    elif not same_boot:
        why = "the PBX has restarted since, or its start time before the call is not known"
    elif not ours:
        why = "another adapter had claimed it, and only that one could know that it never sent it"
    else:
        return Release(
            cause=ReleaseCause.NEVER_EXECUTED,
            reason="the PBX's journal shows that the call was never executed",
        )
    return _end(call, Outcome.UNKNOWN, why)


def _end(call: OpenCall, outcome: Outcome, why: str) -> End:
    if call.cancel_requested:
        outcome = Outcome.CANCELED
    words = {
        Outcome.ANSWERED: "answered, end not seen",
        Outcome.CANCELED: "canceled, end not seen",
        Outcome.UNKNOWN: "how the call ended was not seen",
    }[outcome]
    times = CallTimes(originated_at=call.originated_at, answered_at=call.answered_at, ended_at=call.answered_at)
    return End(why=why, ending=Ending(outcome=outcome, reason=f"{words}: {why}", times=times, estimated=True))
