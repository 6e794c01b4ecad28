"""The figures of a run, for a terminal and for a page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tests.chaos.judge import KINDS

Line = Mapping[str, Any]
"""One line of `rounds.jsonl`."""


def brief(line: Line) -> str:
    """One round in one line, and what it found below."""
    wrong = ", ".join(f"{line[kind]} {kind}" for kind in KINDS if line[kind]) or "every promise kept"
    head = (
        f"round {line['round']} (seed {line['seed']}): {line['kills']} kills, {sum(line['faults'].values())} faults, "
        f"{line['rows']} rows, {line['calls']} calls, {sum(line['unknown'].values())} unknown: {wrong}"
    )
    return "\n".join([head, *(f"  {finding}" for finding in line["findings"])])


def markdown(lines: Sequence[Line]) -> str:
    """All rounds together as Markdown tables."""
    faults, outcomes, unknown = (_sum(lines, name) for name in ("faults", "outcomes", "unknown"))
    rows = [
        ("rounds", len(lines)),
        ("minutes under attack", f"{sum(line['seconds'] for line in lines) / 60:.0f}"),
        ("processes killed", sum(line["kills"] for line in lines)),
        ("faults in all", sum(faults.values())),
        ("rows in the queue", sum(line["rows"] for line in lines)),
        ("calls at the carrier", sum(line["calls"] for line in lines)),
        *((f"**{kind}**", sum(line[kind] for line in lines)) for kind in KINDS),
        ("unknown, with a fault in reach", sum(unknown.values()) - unknown["unexplained"]),
        ("daemons that ended by themselves", sum(len(line["deaths"]) for line in lines)),
    ]
    return "\n\n".join(
        [
            _table(("", "figure"), rows),
            _table(("fault", "times"), sorted(faults.items())),
            _table(("unknown because of", "rows"), unknown.most_common()),
            _table(("outcome stored", "rows"), outcomes.most_common()),
        ]
    )


def _sum(lines: Sequence[Line], name: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for line in lines:
        total.update(line[name])
    return total


def _table(head: tuple[str, str], rows: Sequence[tuple[str, Any]]) -> str:
    return "\n".join(
        [f"| {head[0]} | {head[1]} |", "| --- | ---: |", *(f"| {name} | {value} |" for name, value in rows)]
    )
