"""Why a queued row is not dialed yet, in words. The first rule of the table that has something to say decides."""

from collections.abc import Callable
from dataclasses import dataclass

from adapter.commands.view import links as sides
from adapter.commands.view.words import ago, clock, counted, span
from adapter.supabase_io.sights import Following, Link

LATE_SECONDS = 0.5
"""A row that is due by less than this waits for nothing but its turn: clocks of the insert and of the look differ."""

TURN = "turn"
"""Kind of the reason that is none: it waits for the next look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """`kind` is a stable word; `words` may change with every second."""

    kind: str
    words: str


def reason(seen: Following) -> Reason | None:
    """Why it waits; None for a row that is not queued."""
    if seen.row.status != "queued" or seen.wait is None:
        return None
    for kind, rule in RULES:
        if words := rule(seen):
            return Reason(kind=kind, words=words)
    return Reason(kind=TURN, words="its turn comes with the adapter's next look, within seconds")


def _not_due(seen: Following) -> str | None:
    left = seen.row.not_before - seen.now
    if left <= LATE_SECONDS:
        return None
    put_off = f": {seen.wait.put_off}" if seen.wait and seen.wait.put_off else ""
    return f"it is due at {clock(seen.row.not_before)}, in {span(left + 1)}{put_off}"


def _paused(seen: Following) -> str | None:
    if seen.wait and seen.wait.stopped:
        return seen.wait.stopped
    if seen.wait and seen.wait.user_paused:
        return "this user is paused (call_tenants.paused)"
    if seen.wait and seen.wait.campaign_paused:
        return "this campaign is paused (call_lanes.paused)"
    return None


def _no_adapter(seen: Following) -> str | None:
    if sides.heard(seen.links, seen.now):
        return None
    if not seen.links.adapters:
        return "no adapter was ever started on this project; start one with: mikopbx-adapter run"
    last = seen.links.adapters[0]
    return f"no adapter is running: {last.short} was heard of last, {ago(seen.now, last.seen_at)}"


def _not_ready(seen: Following) -> str | None:
    there = sides.heard(seen.links, seen.now)
    if any(link.ready for link in there):
        return None
    return f"the adapter is not ready: {_problem(there)}"


def _held_back(seen: Following) -> str | None:
    if sides.ready(seen.links, seen.now):
        return None
    return f"the adapter holds back: {_problem(sides.heard(seen.links, seen.now))}"


def _problem(links: tuple[Link, ...]) -> str:
    return next((link.problem for link in links if link.problem), "it is connecting to its PBX")


def _not_holding(seen: Following) -> str | None:
    if sides.dialing(seen.links, seen.now):
        return None
    link = sides.ready(seen.links, seen.now)[0]
    hold = seen.links.hold_of(link.pbx)
    if hold is None or hold.holder is None or hold.lease_until is None:
        return f"adapter {link.short} is about to take the PBX {link.pbx}"
    holder = next((link for link in sides.heard(seen.links, seen.now) if link.adapter == hold.holder), None)
    if holder is not None:
        # It renews its lease as long as it is heard.
        return f"the PBX {link.pbx} is held by adapter {holder.short}, which is not ready: {_problem((holder,))}"
    return (
        f"the PBX {link.pbx} is held by adapter {hold.holder[:8]}, which is silent, until {clock(hold.lease_until)}; "
        f"{link.short} takes it over then, once it was ready for a minute"
    )


def _rule(seen: Following) -> str | None:
    """The claim's own words, the same as in queue_problems and of `explain`."""
    return seen.wait.rule if seen.wait else None


def _limits(seen: Following) -> str | None:
    if seen.wait is None:
        return None
    there = sides.dialing(seen.links, seen.now)
    for words, count, limits in (
        ("this user", seen.wait.user_in_air, [link.user_limit for link in there]),
        ("this campaign", seen.wait.campaign_in_air, [link.campaign_limit for link in there]),
    ):
        if limits and all(limit is not None and count >= limit for limit in limits):
            return f"{words} has {counted(count, 'call', 'calls')} in the air, which is the limit"
    if there and all(link.pbx_limit is not None and link.live >= link.pbx_limit for link in there):
        return f"all {sum(link.live for link in there)} places on the PBX are taken"
    return None


def _ahead(seen: Following) -> str | None:
    if seen.wait is None or not seen.wait.ahead:
        return None
    return f"{counted(seen.wait.ahead, 'row', 'rows', most=seen.wait.ahead_most)} of its campaign come first"


RULES: tuple[tuple[str, Callable[[Following], str | None]], ...] = (
    ("paused", _paused),
    ("not_due", _not_due),
    ("no_adapter", _no_adapter),
    ("not_ready", _not_ready),
    ("held_back", _held_back),
    ("not_holding", _not_holding),
    ("rule", _rule),
    ("limit", _limits),
    ("ahead", _ahead),
)
"""From what no time mends to what mends itself; each may count on those before it having had nothing to say."""
