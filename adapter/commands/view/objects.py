"""The same facts as JSON objects, for scripts."""

from dataclasses import asdict
from typing import Any

from adapter.commands.view import words
from adapter.commands.view.plan import Plan
from adapter.commands.view.problems import notes, problems
from adapter.commands.view.steps import Story, phase
from adapter.supabase_io.explanations import Explanation
from adapter.supabase_io.records import iso
from adapter.supabase_io.sights import Following, Overview

INSTANTS = frozenset({"now", "since", "due_since", "not_before", "deadline", "lease_until", "at", "until"})
"""Fields of `sights` that are epoch seconds, beside all whose names end in `_at`."""


def call_object(*, code: int, last: str, seen: Following | None, story: Story) -> dict[str, Any]:
    """How a followed call went. `last`: the last words."""
    return {
        "code": code,
        "words": last,
        "row": None if seen is None else plain(asdict(seen.row)),
        "now": None if seen is None else phase(seen) or None,
        "steps": [{"at": iso(step.at), "name": step.name, "words": step.words} for step in story.steps],
    }


def status_object(seen: Overview, *, full: bool) -> dict[str, Any]:
    """Everything at a glance; phone numbers masked unless `full`."""
    wrong = problems(seen)
    out: dict[str, Any] = {
        "well": not wrong,
        "problems": [words.text(text, full=full) for text in wrong],
        "notes": [words.text(text, full=full) for text in notes(seen)],
        **plain(asdict(seen)),
    }
    for stop in out["stops"]:
        stop["reason"] = words.text(stop["reason"], full=full) or None
    for row in (*out["calls"], *out["last"]):
        row["number"] = words.number(row.pop("e164"), row.pop("phone_number"), full=full)
        for name in ("reason", "last_reason"):
            row[name] = words.text(row[name], full=full) or None
    return out


def explain_object(seen: Explanation, *, full: bool) -> dict[str, Any]:
    """Why a row waits, or somebody was called; phone numbers masked unless `full`."""
    out: dict[str, Any] = plain(asdict(seen))
    out["number"] = None if seen.e164 is None else words.number(out["e164"], "", full=full)
    del out["e164"]
    for each in (*(row["sight"] for row in out["rows"]), *out["calls"]):
        each["number"] = words.number(each.pop("e164"), each.pop("phone_number"), full=full)
    told: dict[str, Any] = _texts(out, full=full)
    return told


def plan_object(found: Plan) -> dict[str, Any]:
    """What a campaign would do."""
    return {
        "rows": found.rows,
        "complete": found.complete,
        "dialed": found.dialed,
        "seconds": found.seconds,
        "call_seconds": found.call_seconds,
        "trunks": dict(found.trunks),
        "costs_if_answered": dict(found.costs),
        "rows_without_rate": found.unpriced,
        "groups": [plain(asdict(group)) for group in found.groups.values()],
        "campaign": None if found.page is None else found.page.campaign_id,
        "stops": [] if found.page is None else list(found.page.stops),
        "places": None if found.page is None else found.page.places,
    }


def _texts(value: Any, *, full: bool) -> Any:
    """All words of it, phone numbers hidden unless `full`."""
    match value:
        case dict():
            return {key: _texts(item, full=full) for key, item in value.items()}
        case list():
            return [_texts(item, full=full) for item in value]
        case str():
            return words.text(value, full=full)
        case _:
            return value


def silent_object(problem: str) -> dict[str, Any]:
    """The same when the database told nothing."""
    return {"well": False, "problems": [problem], "notes": []}


def plain(value: Any, key: str = "") -> Any:
    """A value of `sights` as JSON takes it: instants, which their names tell, as ISO 8601."""
    match value:
        case dict():
            return {name: plain(item, name) for name, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case float() if key in INSTANTS or key.endswith("_at"):
            return iso(value)
        case _:
            return value
