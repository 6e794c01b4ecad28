"""What a campaign would do: pages of `call_dry_run_v1` added up, and the sum in lines. Pure."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from adapter.commands.view.words import counted, span, stamp
from adapter.supabase_io.explanations import Group, Page

ASSUMED_SECONDS = 60.0
"""Of a call, while none has ended yet: half a minute of ringing and as much of talk."""

DIALED = ("now", "later", "waits")
"""Verdicts of rows that are dialed sooner or later."""

HEADLINES = {
    "now": "would be dialed now",
    "later": "later",
    "waits": "would be put off",
    "ends": "would end without a call",
}


@dataclass(slots=True)
class Plan:
    """The sum of the pages so far."""

    page: Page | None = None
    """The latest."""

    rows: int = 0
    groups: dict[tuple[str, str | None, str | None], Group] = field(default_factory=dict)
    trunks: Counter[str] = field(default_factory=Counter)
    costs: dict[str, float] = field(default_factory=dict)
    """By currency, if each row is answered."""

    priced: int = 0
    unpriced: int = 0

    @property
    def complete(self) -> bool:
        """No page is missing."""
        return self.page is not None and self.page.next is None

    @property
    def dialed(self) -> int:
        """Rows that get at least one call."""
        return sum(group.count for group in self.groups.values() if group.verdict in DIALED)

    @property
    def call_seconds(self) -> float:
        """How long one call keeps its place."""
        return (self.page.last_seconds if self.page else None) or ASSUMED_SECONDS

    @property
    def seconds(self) -> float | None:
        """How long the first tries take, once all may be dialed; None: without any limit there is no telling."""
        if self.page is None:
            return None
        bounds = []
        if self.page.places:
            bounds.append(self.dialed * self.call_seconds / self.page.places)
        if self.page.calls_per_second:
            bounds.append(self.dialed / self.page.calls_per_second + self.call_seconds)
        return max(bounds, default=None)

    def add(self, page: Page) -> None:
        """One more page."""
        self.page = page
        self.rows += page.rows
        for group in page.groups:
            key = (group.verdict, group.rule, group.why)
            known = self.groups.get(key)
            self.groups[key] = group if known is None else _joined(known, group)
            if group.verdict in DIALED and group.trunk is not None:
                self.trunks[group.trunk] += group.count
        for price in page.costs:
            if price.currency is None:
                self.unpriced += price.rows
            else:
                self.priced += price.rows
                self.costs[price.currency] = self.costs.get(price.currency, 0.0) + price.cost


def _joined(one: Group, other: Group) -> Group:
    return replace(
        one,
        count=one.count + other.count,
        first=min(one.first, other.first),
        from_at=min(one.from_at, other.from_at),
        to_at=max(one.to_at, other.to_at),
    )


def lines(plan: Plan) -> Iterator[str]:
    """How many, when, through what, how long."""
    page = plan.page
    if page is None:
        return
    least = "" if plan.complete else "at least "
    owner = page.user_name or f"user {page.user_id}"
    yield f"Campaign {page.campaign_name} of {owner}: {least}{counted(plan.rows, 'row waits', 'rows wait')}"
    if not plan.rows:
        return
    order = list(HEADLINES)
    for group in sorted(plan.groups.values(), key=lambda each: (order.index(each.verdict), -each.count)):
        yield f"{group.count:>9,}  {HEADLINES[group.verdict]}{_when(group)}{_why(group)}"
    for words in page.stops:
        yield f"Now        nothing is dialed: {words}"
    for trunk, count in plan.trunks.most_common():
        yield f"Through    {trunk}: {counted(count, 'row', 'rows')}"
    yield f"How long   {_long(plan, page)}"
    yield f"Cost       {_cost(plan, page)}"


def _when(group: Group) -> str:
    if group.verdict not in ("later", "waits"):
        return ""
    if stamp(group.from_at) == stamp(group.to_at):
        return f", at {stamp(group.from_at)}"
    return f", from {stamp(group.from_at)} to {stamp(group.to_at)}"


def _why(group: Group) -> str:
    return "" if group.why is None else f": {group.why} (as row {group.first})"


def _long(plan: Plan, page: Page) -> str:
    if plan.seconds is None:
        return "not known: no adapter has told its limits"
    measured = (
        f"as the last {counted(page.last_calls, 'call', 'calls')} took"
        if page.last_seconds
        else "assumed, as none has ended yet"
    )
    places = "" if page.places is None else f"{counted(page.places, 'call', 'calls')} at a time, "
    return (
        f"about {span(plan.seconds)} for one call to each, once all may be dialed: {places}"
        f"{span(plan.call_seconds)} each ({measured}); tries after the first come on top"
    )


def _cost(plan: Plan, page: Page) -> str:
    if not plan.priced:
        return "no trunk has a rate for these numbers (call_rates)"
    known = page.last_calls > 0 and page.last_talked is not None
    share = page.last_answered / page.last_calls if known else 1.0
    sums = " and ".join(f"{share * cost:,.2f} {currency}" for currency, cost in sorted(plan.costs.items()))
    measured = (
        f"as of the last {counted(page.last_calls, 'call', 'calls')} {share:.0%} were answered, for "
        f"{span(page.last_talked or 0)} each"
        if known
        else "if everybody answers and talks for a minute, as no call has ended yet"
    )
    without = counted(plan.unpriced, "row has no rate and is", "rows have no rate and are")
    return f"about {sums} for one call to each ({measured})" + (f"; {without} not in it" if plan.unpriced else "")
