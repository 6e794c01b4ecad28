"""Ranges of seeds that were run in parts: one line of JSON for each, and what they add up to."""

import json
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What became of one range."""

    first: int
    last: int
    commit: str
    worlds: int
    calls: int
    rows: int
    hours: float
    """Virtual time."""

    faults: dict[str, int]
    lines: dict[str, int]
    """Line of the crash table → worlds that met it."""

    broken: list[int]
    """Seeds that broke a promise."""


def commit() -> str:
    """What was run; `-dirty` if that is not all that was committed."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def record(path: Path, what: Recorded) -> None:
    """Append one line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(what)) + "\n")


def read(path: Path) -> Iterator[Recorded]:
    """All lines. Raises OSError, ValueError or TypeError for what is no such file."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield Recorded(**json.loads(line))


def distinct(recorded: Iterable[Recorded]) -> tuple[list[Recorded], list[Recorded]]:
    """Ranges that count, and those that hold seeds which an earlier one of the same commit had run already."""
    counted: list[Recorded] = []
    again: list[Recorded] = []
    for one in recorded:
        twice = any(
            one.commit == other.commit and one.first <= other.last and other.first <= one.last for other in counted
        )
        (again if twice else counted).append(one)
    return counted, again


def add_up(path: Path) -> int:
    """Print the sum; 1 if a promise was broken in any of them."""
    counted, again = distinct(read(path))
    faults: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    for one in counted:
        faults.update(one.faults)
        lines.update(one.lines)
        verdict = f"broken: {one.broken}" if one.broken else "every promise was kept"
        print(f"seeds {one.first} to {one.last} of {one.commit}: {one.worlds} worlds, {verdict}")
    for one in again:
        print(f"seeds {one.first} to {one.last} of {one.commit} not counted: some of them stand above")
    broken = [seed for one in (*counted, *again) for seed in one.broken]
    print(
        f"{sum(one.worlds for one in counted)} worlds, {sum(one.rows for one in counted)} rows, "
        f"{sum(one.calls for one in counted)} calls, {sum(one.hours for one in counted):.0f} hours of virtual time"
    )
    print(f"faults: {faults.total()}")
    print("\n".join(f"  {times:7d}  {name}" for name, times in sorted(faults.items())))
    print("lines of the crash table (design, section 8): worlds")
    print("\n".join(f"  {worlds:7d}  {line}" for line, worlds in lines.items()))
    print(f"seeds that broke a promise: {len(broken)}")
    return 1 if broken else 0
