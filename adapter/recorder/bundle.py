"""A part of the record as one file: a time span, or one call with what is needed to play it again.

The file is JSON lines, the form of `tests/transcripts`: a header with `story`, then one message a line with `t`
(seconds since the first Originate) and `dir` (`C` we, `S` the PBX, `H` an HTTP exchange). The tokens of the record
become numbers of the range that is reserved for fiction (+1 NPA 555-01xx), in the order in which they appear: the same
number is the same everywhere in one file, and no two files say anything about each other.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adapter.recorder import ring
from adapter.recorder.masks import TOKEN
from adapter.recorder.writer import FORMAT

Line = Mapping[str, Any]

IDS = ("Linkedid", "Uniqueid", "DestLinkedid", "DestUniqueid", "ActionID", "ChannelId", "OtherChannelId")
"""Headers in which a call's id stands."""

AREAS = tuple(area for area in range(201, 990) if area % 100 != 11)
"""Area codes of North America that can exist; each has a hundred numbers for fiction, 555-0100 to 555-0199."""

LISTS = ("rows", "open", "takeover", "commands", "p_records")
"""Lists in bodies that have an item per call."""

PROCESS_ENDED = "the adapter's process ended"
"""What ends the sessions of a process that could not say so itself."""

_LOGIN = frozenset({"Login", "CoreStatus", "CoreShowChannels"})
"""Actions that every session begins with, and that tell what the PBX was like."""

_CONTEXT = _LOGIN | {"Hangup", "DBGet"}
"""Actions that may be about a call without naming it."""

_WHOLE_PBX = frozenset({"FullyBooted", "Shutdown"})


class NothingThere(Exception):
    """There is nothing to bundle; the text says what there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to take. A call id, a span in epoch seconds, or the call within the span."""

    call_id: str | None = None
    since: float | None = None
    until: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is wanted of the ring, and what may belong to it; sessions are numbered through all processes."""

    lines: tuple[Line, ...]
    runs: tuple[Line, ...]
    """One line for each process that wrote."""

    reach: str
    """From when to when the whole record reaches, in words."""


def read(state_dir: Path, wanted: Wanted) -> Record:
    """Look through the ring once; torn lines and those of another format are passed over. Raises NothingThere, OSError.

    Only what may be needed is kept: the ring may be larger than the memory that a small machine has to spare.
    """
    folder = ring.folder_of(state_dir)
    if not ring.segments(folder):
        raise NothingThere(
            f"There is no flight record in {folder}: the daemon has not run with this STATE_DIR, or FLIGHT_MB is 0"
        )
    sieve, tape = _Sieve(wanted), _Tape()
    first = last = None
    for raw in ring.lines(folder):
        at = _at(raw)
        if at is None:
            continue
        first, last = first or at, at
        if (line := sieve.take(raw, at)) is not None:
            tape.add(line)
    reach = f"it reaches from {_time(first)} to {_time(last)}" if first and last else "it is empty"
    return Record(lines=tuple(tape.lines), runs=tuple(tape.runs), reach=reach)


class _Sieve:
    """Which lines may be needed, told before they are parsed where possible."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._call = None if wanted.call_id is None else wanted.call_id.encode()
        self._asked: set[str] = set()

    def take(self, raw: bytes, at: float) -> Line | None:
        """The line, or None."""
        about = b'"dir":"R"' in raw
        if not about and not _within(at, self._wanted):
            return None
        line = None
        if self._call is None or about or self._call in raw:
            line = _parsed(raw)
        # Of one call also: how its sessions began and ended, and what we asked about its legs, whose ids may be others.
        elif b'"Event":"CoreShowChannel"' not in raw and b'"dir":"H"' not in raw:
            line = _parsed(raw)
            line = line if line is not None and self._context(line) else None
        if line is not None and line["dir"] == "C":
            self._asked.add(str(line.get("ActionID")))
        return line

    def _context(self, line: Line) -> bool:
        if line["dir"] == "C":
            return line.get("Action") in _CONTEXT
        if line["dir"] == "L" or "Closed" in line or line.get("Event") in _WHOLE_PBX or _admitted(line):
            return True
        return str(line.get("ActionID")) in self._asked


class _Tape:
    """Lines of one process after the other."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.runs: list[Line] = []
        self._numbers: dict[tuple[int, int], int] = {}
        self._open: set[int] = set()

    def add(self, line: Line) -> None:
        """The next one."""
        if line["dir"] == "R":
            if not self.runs or self.runs[-1].get("run") != line.get("run"):
                self._process(line)
            return
        if isinstance(line.get("session"), int):
            number = self._numbers.setdefault((len(self.runs), line["session"]), len(self._numbers) + 1)
            line = {**line, "session": number}
            if "Closed" in line:
                self._open.discard(number)
            else:
                self._open.add(number)
        self.lines.append(line)

    def _process(self, line: Line) -> None:
        """A new one: the last can no longer hear anything, however it ended."""
        stamp = {"at": line["at"], "mono": line.get("mono"), "dir": "S"}
        self.lines += [{**stamp, "session": each, "Closed": PROCESS_ENDED} for each in sorted(self._open)]
        self._open.clear()
        self.runs.append(line)


def made(record: Record, wanted: Wanted, *, version: str, now: float) -> str:
    """The text of the bundle. Raises NothingThere."""
    chosen = [line for line in record.lines if _within(line["at"], wanted)]
    if wanted.call_id is not None:
        chosen = _of_call(record.lines, chosen, wanted.call_id)
    if not any(line["dir"] in {"C", "S", "H"} for line in chosen):
        what = f"about call {wanted.call_id}" if wanted.call_id else "in that time"
        raise NothingThere(f"Nothing was recorded {what}. The record of this STATE_DIR: {record.reach}")
    sent = [line for line in chosen if line.get("Action") == "Originate"]
    began = (sent or chosen)[0]["at"]
    header = {
        "story": _story(wanted, chosen),
        "format": FORMAT,
        "made_by": version,
        "made_at": _time(now),
        "began": began,
        "since": _time(chosen[0]["at"]),
        "until": _time(chosen[-1]["at"]),
        "calls": sorted({str(line["ActionID"]) for line in sent if line.get("ActionID")}),
        "lost": sum(line.get("lost", 0) for line in chosen if line["dir"] == "L"),
        "runs": [{k: v for k, v in run.items() if k not in {"dir", "mono"}} for run in _runs(record, chosen)],
    }
    body = (
        {"t": round(line["at"] - began, 6), **{k: v for k, v in line.items() if k != "at"}}
        for line in chosen
        if line["dir"] in {"C", "S", "H"}
    )
    text = "\n".join(json.dumps(line, separators=(",", ":")) for line in (header, *body)) + "\n"
    return _renumbered(text)


def _of_call(everything: Sequence[Line], chosen: Sequence[Line], call_id: str) -> list[Line]:
    """The lines that name this call, and the context in which they are understood."""
    legs, ours = {call_id}, set[str]()
    for line in chosen:
        if line.get("Linkedid") == call_id:
            legs |= {line["Uniqueid"]} if line.get("Uniqueid") else set()
    for line in chosen:
        if line["dir"] == "C" and (line.get("Channel") in legs or line.get("ActionID") == call_id):
            ours.add(str(line.get("ActionID")))
    journal = {str(line.get("ActionID")) for line in chosen if call_id in str(line.get("Val", ""))}
    about = [
        line
        for line in chosen
        if any(line.get(name) in legs for name in IDS)
        or line.get("ActionID") in ours | (journal - {"None"})
        or (line["dir"] == "H" and call_id in json.dumps(line))
    ]
    if not about:
        return []
    first, last = about[0]["at"], about[-1]["at"]
    sessions = {line["session"] for line in about if "session" in line}
    context = {id(line) for line in _context(everything, sessions, first, last)}
    mine = {id(line) for line in about}
    return [
        _only(line, call_id) if line["dir"] == "H" else line
        for line in everything
        if id(line) in mine or id(line) in context
    ]


def _context(lines: Iterable[Line], sessions: set[int], first: float, last: float) -> Iterator[Line]:
    """How the sessions in question began and ended, what process was there, and what was lost meanwhile."""
    asked: set[tuple[int, str]] = set()
    lists: dict[int, int] = {}
    for line in lines:
        session = line.get("session")
        meanwhile = first <= line["at"] <= last
        if line["dir"] == "L" and meanwhile:
            yield line
        if session is None or not (session in sessions or meanwhile):
            continue
        if line.get("Action") in _LOGIN:
            # After the first list of a session only the lists that were asked for because of a doubt.
            repeated = lists.get(session, 0) and not meanwhile
            lists[session] = lists.get(session, 0) + (line["Action"] == "CoreShowChannels")
            if not repeated:
                asked.add((session, str(line.get("ActionID"))))
                yield line
        elif line.get("Event") in _WHOLE_PBX or "Closed" in line or _admitted(line):
            if line["at"] <= last:
                yield line
        elif (session, str(line.get("ActionID"))) in asked and line.get("Event") != "CoreShowChannel":
            yield line


def _only(line: Line, call_id: str) -> Line:
    """An HTTP exchange without what it says about other calls."""

    def pruned(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: [pruned(each) for each in item if call_id in json.dumps(each)]
                if key in LISTS and isinstance(item, list)
                else pruned(item)
                for key, item in value.items()
            }
        return value

    return {key: pruned(value) if key in {"asked", "told"} else value for key, value in line.items()}


def _renumbered(text: str) -> str:
    """Tokens → numbers for fiction, in order; after the last of 78,000 a counter that is no number."""
    given: dict[str, str] = {}

    def number(found: re.Match[str]) -> str:
        if found[0] not in given:
            area, line = divmod(len(given), 100)
            given[found[0]] = f"1{AREAS[area]}55501{line:02}" if area < len(AREAS) else f"<number {len(given)}>"
        return given[found[0]]

    return TOKEN.sub(number, text)


def _runs(record: Record, chosen: Sequence[Line]) -> list[Line]:
    """The processes that were there: those that started meanwhile, and the one before."""
    first, last = chosen[0]["at"], chosen[-1]["at"]
    before = [run for run in record.runs if run["at"] <= first][-1:]
    return before + [run for run in record.runs if first < run["at"] <= last]


def _story(wanted: Wanted, chosen: Sequence[Line]) -> str:
    if wanted.call_id:
        return f"Call {wanted.call_id}, as the flight recorder heard it."
    return f"Both links from {_time(chosen[0]['at'])} to {_time(chosen[-1]['at'])}."


def _within(at: float, wanted: Wanted) -> bool:
    return (wanted.since is None or at >= wanted.since) and (wanted.until is None or at <= wanted.until)


def _at(raw: bytes) -> float | None:
    """Time of a line, which it begins with."""
    try:
        return float(raw[len(b'{"at":') : raw.index(b",")])
    except ValueError:
        return None


def _parsed(raw: bytes) -> Line | None:
    try:
        line = json.loads(raw)
    except ValueError:
        return None  # Cut off by a crash or a full disk.
    return line if isinstance(line, dict) and line.get("dir") in {"C", "S", "H", "L", "R"} and "at" in line else None


def _admitted(line: Line) -> bool:
    return line.get("Message") == "Authentication accepted"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
