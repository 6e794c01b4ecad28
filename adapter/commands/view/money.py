"""Retries and costs as tables."""

from collections.abc import Iterator, Sequence

from adapter.commands.view.words import counted
from adapter.supabase_io.money import CampaignCosts, Costs, Imported, Retries, RetryRow

UNITS = (("d", 86_400), ("h", 3600), ("min", 60))
SHOWN = 50
"""Bad lines of a sheet told one by one; who has more has a wrong file."""

BUDGETS = {"carrier": "the carrier", "us": "our own side"}


def retries_told(found: Retries) -> str:
    """A line for each outcome after which something may follow, then the others."""
    again = [row for row in found.outcomes if row.calls > 0]
    lines = list(_columns([("OUTCOME", "MORE CALLS", "AFTER", "SPREAD", "SAID BY"), *(_again(row) for row in again)]))
    for budget in found.budgets:
        calls = counted(budget.calls, "call", "calls")
        lines.append(f"All faults of {BUDGETS[budget.name]} together: {calls} more ({budget.calls_from})")
    never = [row.outcome for row in found.outcomes if row.calls <= 0]
    lines.append(f"Nothing follows after: {', '.join(never)}")
    return "\n".join(lines)


def _again(row: RetryRow) -> tuple[str, ...]:
    said = {"calls": row.calls_from, "wait": row.delays_from or row.calls_from}
    by = row.calls_from if len(set(said.values())) == 1 else ", ".join(f"{what}: {who}" for what, who in said.items())
    return (
        row.outcome,
        f"{row.calls}{' in all' if row.by_row else ''}",
        ", ".join(wait(delay) for delay in row.delays),
        f"+0-{row.spread}%" if row.spread else "",
        by,
    )


def wait(seconds: int) -> str:
    """A wait as it may be typed: `90s`, `4h`."""
    for unit, size in UNITS:
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def costs_told(found: Costs) -> str:
    """A line for each campaign, what is missing in the sums, and what they are compared with."""
    if not found.campaigns:
        return "No call of it has ended yet"
    head = ("CAMPAIGN", "CALLS", "ANSWERED", "TALK MIN", "BILLED MIN", "COST", "ELSEWHERE", "SAVED")
    lines = list(_columns([head, *(_cost(one) for one in found.campaigns)]))
    missing = sum(one.without_rate for one in found.campaigns)
    if missing:
        words = counted(missing, "answered call has", "answered calls have")
        cure = "" if found.rates else "; import the rates of the trunk: mikopbx-adapter rates import"
        lines.append(f"{words} no rate and {'is' if missing == 1 else 'are'} missing in the cost{cure}")
    if found.reference_per_minute is None:
        lines.append("Compared with nothing: call_settings.reference_per_minute is not set")
    else:
        price = f"{_money(found.reference_per_minute)} {found.reference_currency or '(no currency)'}"
        lines.append(f"Elsewhere: {price} a minute, in steps of {found.reference_increments} s")
    return "\n".join(lines)


def _cost(one: CampaignCosts) -> tuple[str, ...]:
    currency = one.currency or ""
    return (
        one.name or one.campaign_id or "without one",
        f"{one.calls:,}",
        f"{one.answered:,}",
        f"{one.talk_minutes:,.1f}",
        "" if one.billed_minutes is None else f"{one.billed_minutes:,.1f}",
        f"{_money(one.cost)} {currency}".strip() if one.cost is not None else f"? {currency}".strip(),
        "" if one.reference_cost is None else _money(one.reference_cost),
        "" if one.saved is None else _money(one.saved),
    )


def _money(amount: float) -> str:
    whole, _, part = f"{amount:,.6f}".partition(".")
    return f"{whole}.{part.rstrip('0'):0<2}"


def import_told(found: Imported) -> str:
    """What was taken, and each line that was not."""
    lines = [f"Line {line} was left out: {problem}" for line, problem in found.bad[:SHOWN]]
    if len(found.bad) > SHOWN:
        lines.append(f"… and {len(found.bad) - SHOWN:,} more lines were left out")
    lines.append(f"{counted(found.taken, 'rate', 'rates')} taken, {counted(len(found.bad), 'line', 'lines')} left out")
    return "\n".join(lines)


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
