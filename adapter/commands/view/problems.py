"""What is wrong, in words, from what the database told of all adapters and the queue; one rule of a table for each.

A problem keeps calls from being placed, followed or reported; a note is worth knowing and needs nobody.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator

from adapter.commands.view import links as sides
from adapter.commands.view.words import ago, clock, counted, span
from adapter.supabase_io.sights import Link, Overview

FORGOTTEN_SECONDS = 86_400.0
"""A PBX whose adapters were silent for a day, while others run, was given up or renamed."""

STUCK_SECONDS = 120.0
"""A row due for so long while an adapter is ready and has no call: sweep, claim and limits all work in seconds."""

Rule = Callable[[Overview], Iterator[str]]


def problems(seen: Overview) -> tuple[str, ...]:
    """What somebody should mend, the gravest first."""
    return tuple(words for rule in PROBLEMS for words in rule(seen))


def notes(seen: Overview) -> tuple[str, ...]:
    """What is worth knowing."""
    return tuple(words for rule in NOTES for words in rule(seen))


def _of_pbx(links: tuple[Link, ...]) -> dict[str, list[Link]]:
    out: dict[str, list[Link]] = defaultdict(list)
    for link in links:
        out[link.pbx or "?"].append(link)
    return out


def _rows(seen: Overview) -> str:
    due = counted(seen.queue.due, "row is", "rows are", most=seen.queue.most)
    return f"; {due} due" if seen.queue.due else ""


def _nobody(seen: Overview) -> Iterator[str]:
    if not seen.links.adapters:
        yield f"no adapter was ever started on this project (mikopbx-adapter run){_rows(seen)}"


def _silent(seen: Overview) -> Iterator[str]:
    anybody = bool(sides.heard(seen.links, seen.now))
    for pbx, links in _of_pbx(seen.links.adapters).items():
        last = links[0]
        if any(sides.is_heard(link, seen.now) for link in links):
            continue
        silence = seen.now - (last.seen_at or last.registered_at)
        if silence > FORGOTTEN_SECONDS and anybody:
            continue
        yield f"PBX {pbx}: adapter {last.short} is silent, heard of {ago(seen.now, last.seen_at)}{_rows(seen)}"


def _not_ready(seen: Overview) -> Iterator[str]:
    for link in sides.heard(seen.links, seen.now):
        if not link.ready:
            problem = link.problem or "it is connecting"
            yield f"PBX {link.pbx}: adapter {link.short} is not ready: {problem}{_rows(seen)}"
        elif link.problem:
            yield f"PBX {link.pbx}: adapter {link.short} holds back: {link.problem}{_rows(seen)}"


def _lapsed(seen: Overview) -> Iterator[str]:
    """Its holder is gone and another adapter is there: nothing is dialed until it takes over."""
    for hold in seen.links.holds:
        others = [link for link in sides.ready(seen.links, seen.now) if link.pbx == hold.pbx]
        held = any(link.adapter == hold.holder for link in sides.heard(seen.links, seen.now))
        if hold.holder is None or held or not others:
            continue
        lapsed = hold.lease_until is None or hold.lease_until <= seen.now
        since = "lapsed" if lapsed else f"runs until {clock(hold.lease_until or 0)}"
        yield (
            f"PBX {hold.pbx}: its holder {hold.holder[:8]} is silent and its lease {since}; adapter {others[0].short} "
            f"takes the PBX over once it was ready for a minute{_rows(seen)}"
        )


def _trunks(seen: Overview) -> Iterator[str]:
    for pbx, links in _of_pbx(sides.heard(seen.links, seen.now)).items():
        trunks = sorted({link.trunk or "none (its own routes)" for link in links if link.ready})
        if len(trunks) > 1:
            yield f"PBX {pbx}: its adapters are set to different trunks: {', '.join(trunks)}; set TRUNK to the same"


def _names(seen: Overview) -> Iterator[str]:
    """Provider ids are made at random by each PBX: one id under two names is one PBX, dialed by two at a time."""
    found: dict[str, set[str]] = defaultdict(set)
    for link in sides.heard(seen.links, seen.now):
        if link.trunk and link.pbx:
            found[link.trunk].add(link.pbx)
    for trunk, names in found.items():
        if len(names) > 1:
            yield (
                f"trunk {trunk} is dialed under the names {', '.join(sorted(names))}: if that is one PBX, its limits "
                "count twice; set PBX_NAME to the same"
            )


def _regions(seen: Overview) -> Iterator[str]:
    for link in sides.heard(seen.links, seen.now):
        if link.region and link.region != seen.region:
            yield (
                f"adapter {link.short} reads numbers as of {link.region}, the database as of {seen.region}: set "
                "DEFAULT_REGION and call_settings.default_region to the same"
            )


def _refused(seen: Overview) -> Iterator[str]:
    for link in seen.links.adapters:
        if link.refused and (sides.is_heard(link, seen.now) or seen.now - (link.seen_at or 0) < FORGOTTEN_SECONDS):
            yield (
                f"adapter {link.short}: the database could not take {counted(link.refused, 'record', 'records')}; kept "
                "in its STATE_DIR, outbox file, table refused, with the reason"
            )


def _overdue(seen: Overview) -> Iterator[str]:
    if seen.air.overdue:
        calls = counted(seen.air.overdue, "call is", "calls are")
        yield f"{calls} past the longest life; an adapter that runs ends them as unknown within two minutes"
    if seen.queue.expired:
        rows = counted(seen.queue.expired, "row has", "rows have")
        yield f"{rows} expired and not ended: each look of an adapter ends up to 100, so none looks"


def _stuck(seen: Overview) -> Iterator[str]:
    there = sides.dialing(seen.links, seen.now)
    since = seen.queue.due_since
    in_air = seen.air.dialing + seen.air.talking
    ended = max((row.ended_at or 0 for row in seen.last), default=0)
    if there and since is not None and not in_air and seen.now - max(since, ended) > STUCK_SECONDS:
        rows = counted(seen.queue.due, "row", "rows", most=seen.queue.most)
        yield (
            f"{rows} due for {span(seen.now - since)}, an adapter is ready, and nothing is dialed: look at its log for "
            "lines database.note"
        )


def _paused(seen: Overview) -> Iterator[str]:
    if seen.queue.paused:
        rows = counted(seen.queue.paused, "row waits", "rows wait", most=seen.queue.most)
        everything = any(stop.target.kind == "all" for stop in seen.stops)
        yield f"{rows} because {'everything' if everything else 'the user or campaign'} is paused"


def _unfit(seen: Overview) -> Iterator[str]:
    yield from seen.trunks


def _bells(seen: Overview) -> Iterator[str]:
    for link in sides.heard(seen.links, seen.now):
        if link.bell:
            yield f"adapter {link.short} hears no inserts, its sweep finds rows all the same: {link.bell}"


def _slowed(seen: Overview) -> Iterator[str]:
    for link in sides.heard(seen.links, seen.now):
        if link.slowed:
            yield f"adapter {link.short} is {link.slowed}"


def _versions(seen: Overview) -> Iterator[str]:
    versions = sorted({link.version for link in sides.heard(seen.links, seen.now) if link.version})
    if len(versions) > 1:
        yield f"adapters of different versions run: {', '.join(versions)}"


PROBLEMS: tuple[Rule, ...] = (
    _nobody,
    _silent,
    _not_ready,
    _lapsed,
    _stuck,
    _overdue,
    _refused,
    _trunks,
    _unfit,
    _names,
    _regions,
)

NOTES: tuple[Rule, ...] = (_paused, _bells, _slowed, _versions)
