"""What was done to whom and when, and when each adapter could see its PBX. Times are epoch seconds of this machine."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf

NOTICED_SECONDS = 30.0
"""A fault of a line begins this long before the adapter says that the link is down, at most: TCP_USER_TIMEOUT, ping and
patience are 10 s each."""

MARGIN = 1.0
"""An event of this age may still be on its way when sight is lost, and clocks of two logs are rounded."""

ADAPTER_DEATHS = frozenset({"adapter.kill", "adapter.gone", "adapter.stop"})
PBX_DEATHS = frozenset({"pbx.kill", "pbx.restart"})

NO_FAULT = "no fault of ours"
"""Sight that ended by itself: it explains nothing, and an unknown outcome of that time is a finding."""

TELL_SECONDS = 20.0
"""A witness asks the database 10 s after an end that it saw (`core/witness.py`), looks every 2 s and is told at once;
the rest is for a slow machine."""

ASK_AGAIN_SECONDS = 20.0
"""After a fault of its way to the database: a request that is given up (10 s), the pause before the next one, the rest
for a slow machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One fault: from its first effect to the moment in which everything was put right again."""

    kind: str
    target: str
    began: float
    ended: float = inf

    def touches(self, first: float, last: float) -> bool:
        """Whether it was at work at some instant between these two."""
        return self.began <= last and self.ended >= first


@dataclass(frozen=True, slots=True, kw_only=True)
class Blind:
    """A time in which one adapter could not see its PBX, and the fault that began it."""

    adapter: str
    cause: str
    began: float
    ended: float = inf

    def touches(self, first: float, last: float) -> bool:
        """Whether it reaches into the time between these two, with `MARGIN`."""
        return self.began - MARGIN <= last and self.ended + MARGIN >= first


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One line of an adapter's log."""

    at: float
    event: str
    call: str = ""


def log_lines(text: str) -> Iterator[Said]:
    """The lines that are JSON; one that a kill cut off is left out."""
    for line in text.splitlines():
        try:
            found = json.loads(line)
            yield Said(
                at=datetime.fromisoformat(found["at"]).timestamp(),
                event=found["event"],
                call=str(found.get("call", "")),
            )
        except (ValueError, KeyError, TypeError):
            continue


def blind_times(adapter: str, said: Iterable[Said], spans: Sequence[Span], end: float) -> list[Blind]:
    """When this adapter had no session with the PBX. Sight ends with the fault, not when the adapter notices it."""
    reach = {adapter, f"{adapter} ami", "pbx"}
    mine = sorted((span for span in spans if span.target in reach), key=lambda span: span.began)
    marks = [(line.at, line.event) for line in said if line.event in ("pbx.up", "pbx.down")]
    marks += [(span.began, "killed") for span in mine if span.target == adapter and span.kind in ADAPTER_DEATHS]
    found: list[Blind] = []
    dark: tuple[float, str] | None = (0.0, "not started yet")
    since = 0.0
    for at, event in sorted(marks):
        if event == "pbx.up":
            if dark is not None:
                found.append(Blind(adapter=adapter, cause=dark[1], began=dark[0], ended=at))
            dark, since = None, at
        elif dark is None:
            dark = _beginning(at, since, mine)
    if dark is not None:
        found.append(Blind(adapter=adapter, cause=dark[1], began=dark[0], ended=end))
    return found


def lived_to_tell(adapter: str, ended: float, spans: Iterable[Span]) -> bool:
    """Whether a witness that saw a call end lived until it must have told: what it saw is kept in memory only.

    While it is stopped or its way to the database is broken it cannot tell, and it has so much longer.
    """
    way = {adapter, f"{adapter} http", "database"}
    until = ended + TELL_SECONDS
    for span in sorted((span for span in spans if span.target in way), key=lambda span: span.began):
        if not span.touches(ended, until):
            continue
        if span.target == adapter and span.kind in ADAPTER_DEATHS:
            return False
        until = max(until, span.ended + TELL_SECONDS + ASK_AGAIN_SECONDS)
    return True


def _beginning(noticed: float, since: float, mine: Sequence[Span]) -> tuple[float, str]:
    """The fault that ended the sight of this session (up `since`): the earliest one still at work when it was noticed.

    What a line holds back or swallows is lost with the session, so sight ended when that began. If none is at work any
    more, it was the last one.
    """
    near = [
        span
        for span in mine
        if span.began <= noticed + MARGIN and min(_over(span), noticed) >= max(since, noticed - NOTICED_SECONDS)
    ]
    if not near:
        return noticed, NO_FAULT
    at_work = [span for span in near if _over(span) >= noticed - MARGIN]
    span = at_work[0] if at_work else near[-1]
    return max(since, _held_back(min(span.began, noticed), mine)), span.kind


def _held_back(began: float, mine: Sequence[Span]) -> float:
    """What a fault at work at that instant held back was lost with the rest: a frozen PBX speaks of nothing."""
    for span in reversed(mine):
        if span.began < began <= span.ended:
            began = span.began
    return began


def _over(span: Span) -> float:
    """A half-open connection never mends: its session ends by being given up."""
    return inf if span.kind == "ami.half_open" else span.ended
