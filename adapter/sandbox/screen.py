"""The sandbox's screen: a live table on a terminal, a line for each ended row elsewhere."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from adapter.sandbox.scenarios import scenario_of
from adapter.sandbox.verdicts import Row

SHOWN = 20
"""Rows in the table: those in the air first, then the latest."""

IN_AIR = frozenset({"dialing", "talking"})
STATUSES = ("queued", "dialing", "talking", "done", "canceled")
COLORS: Mapping[str, str] = {"queued": "dim", "dialing": "yellow", "talking": "green", "canceled": "magenta"}


def kind_of(row: Row) -> str:
    """What the callee of this number does."""
    scenario = scenario_of(row.e164 or row.phone_number)
    return scenario.name if scenario else "a number outside the plan"


def counts(rows: Sequence[Row]) -> str:
    """One line: how many rows stand where, and how they ended."""
    standing = Counter(row.status for row in rows)
    ended = Counter(row.outcome for row in rows if row.final and row.outcome)
    text = "  ".join(f"{standing[status]} {status}" for status in STATUSES)
    return f"{text}   {', '.join(f'{n} {outcome}' for outcome, n in ended.most_common())}" if ended else text


def line(row: Row) -> str:
    """One ended row in words."""
    outcome, word = row.outcome or row.status, row.log_status or ""
    return f"row {row.id:<5} {kind_of(row):<36} {outcome:<15} {word:<12} {row.reason or ''}"


class Screen:
    """`say` prints words, `show` the state of the rows. Use as a context manager."""

    def __init__(self, out: TextIO, *, live: bool) -> None:
        """`live`: a table that changes in place, which only a terminal can show."""
        self._console = Console(file=out, highlight=False, soft_wrap=True)
        self._live = Live(console=self._console, refresh_per_second=4) if live else None
        self._told: set[int] = set()

    def __enter__(self) -> "Screen":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the table as it is; further words come below it."""
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        """Words, above the table if there is one."""
        self._console.print(escape(text))

    def show(self, rows: Sequence[Row]) -> None:
        """The rows as they are now; without a table, those that have ended since."""
        if self._live:
            self._live.start()
            self._live.update(Group(table(rows), Text(counts(rows))))
            return
        for row in rows:
            if row.final and row.id not in self._told:
                self._told.add(row.id)
                self.say(line(row))


def table(rows: Sequence[Row]) -> Table:
    """At most `SHOWN` rows."""
    out = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("row", "number", "the callee", "call_queue", "outcome", "call_logs", "talk"):
        out.add_column(name, no_wrap=True)
    out.add_column("reason")  # The one column that gives way on a narrow terminal.
    first = sorted(rows, key=lambda row: (row.status not in IN_AIR, -row.id))[:SHOWN]
    for row in sorted(first, key=lambda row: row.id):
        out.add_row(
            str(row.id),
            escape(row.phone_number),
            escape(kind_of(row)),
            Text(row.status, style=COLORS.get(row.status, "")),
            row.outcome or row.last_outcome or "",
            row.log_status or "",
            f"{row.duration} s" if row.duration else "",
            Text(row.reason or "", overflow="ellipsis", no_wrap=True),
        )
    return out
