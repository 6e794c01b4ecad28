"""Retry by outcome in memory: supabase/migrations/…2100, function by function. No campaigns nor call_retries here."""

from collections.abc import Sequence
from hashlib import md5
from typing import NamedTuple

from tests.simulation.store_tables import NO_LANE, RULES, Row, Tables

NEVER = frozenset({"answered", "ai_failed", "invalid_number", "blocked", "canceled"})
"""As `call_retry_never`."""

CARRIER = frozenset({"rejected", "congestion", "trunk_unavailable"})
US = frozenset({"pbx_error"})
"""Outcomes that spend no try and may be followed by a call, by their verdict."""

UNSEEN = 3600
"""Shortest wait after a call whose end nobody saw, where only a rule says that it is tried again."""

_RANKS = {None: 0, "campaign": 1, "user": 2, "default": 3, "nothing": 4}


class Plan(NamedTuple):
    """As the out columns of `call_retry_plan`."""

    person: bool
    calls: int
    by_row: bool
    delays: Sequence[int]
    spread: int
    budget: int | None


class Following(NamedTuple):
    """As those of `call_retry_next`; without seconds nothing follows."""

    person: bool
    seconds: int | None = None


def plan(tables: Tables, row: Row, outcome: str) -> Plan:
    """As `call_retry_plan`."""
    rule = RULES[outcome]
    person = rule.spends if rule.retried == "never" else rule.retried == "policy"
    policy, by_row, spread = rule.retried == "policy", rule.retried == "policy", 0
    calls = {"policy": row.max_attempts - 1, "own_bound": rule.bound - 1, "never": 0}[rule.retried]
    delays: Sequence[int] = (row.retry_seconds if person else int(rule.delay),)
    budget: int | None = None
    if outcome in NEVER:
        return Plan(person, 0, False, delays, 0, None)
    verdict = "carrier" if outcome in CARRIER else "us"
    for rank, at in ((3, ("default", NO_LANE)), (2, ("user", row.user_id)), (1, ("campaign", row.campaign_id or ""))):
        if not person and (all_faults := tables.retries.get((*at, verdict))) and all_faults.calls is not None:
            budget = all_faults.calls
        said = tables.retries.get((*at, outcome))
        if said is None:
            continue
        if said.calls is not None:
            if not policy and person and row.attempts_from is None:
                by_row = said.calls > 0
                calls = row.max_attempts - 1 if by_row else 0
            elif not policy or rank <= _RANKS[row.attempts_from]:
                by_row, calls = False, said.calls
        if not person or rank <= _RANKS[row.wait_from] or (not policy and row.wait_from is not None):
            delays = delays if said.delays is None else said.delays
            spread = spread if said.spread is None else said.spread
    if outcome == "unknown":
        delays = tuple(max(delay, UNSEEN) for delay in delays)
    return Plan(person, calls, by_row, delays, spread, budget)


def share(call_id: str | None) -> int:
    """As `call_retry_share`."""
    return 0 if call_id is None else int(md5(call_id.encode(), usedforsecurity=False).hexdigest()[:8], 16)


def following(tables: Tables, row: Row, outcome: str) -> Following:
    """As `call_retry_next`, of a row in which the call is counted; whoever was reached elsewhere is not asked for."""
    person, calls, by_row, delays, spread, budget = plan(tables, row, outcome)
    times = row.spent.get(outcome, 0) + row.faults.get(outcome, 0)
    faults = sum(row.faults.get(word, 0) for word in (CARRIER if outcome in CARRIER else US))
    spent = (row.attempts if by_row else times) > calls or (budget is not None and faults > budget)
    if outcome in NEVER or spent:
        return Following(person)
    wait = delays[min(max(times, 1), len(delays)) - 1]
    return Following(person, wait + (wait * spread * share(row.call_id) // 100 >> 32))
