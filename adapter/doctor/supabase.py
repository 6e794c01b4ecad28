"""The Supabase side: is the key the right one, does the project answer, is install.sql there, is the bell live?

This module is the order of the checks, and what makes the later ones useless. Nothing is left behind in the project.
"""

import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from adapter.doctor import supabase_project as project
from adapter.doctor.findings import Finding, Verdict, fail, ok, skipped, warn
from adapter.doctor.supabase_anon import anon
from adapter.doctor.supabase_bell import BELL_SECONDS, ROW_SECONDS, doorbell, roundtrip
from adapter.doctor.supabase_project import INSTALL, Shipped
from adapter.supabase_io.config import SupabaseConfig, claims
from adapter.supabase_io.database import DatabaseAway, DatabaseError, DatabaseRefused
from adapter.supabase_io.inspection import Inspection, Inspector

EXAMPLE = "+1 202-555-0123"
"""A number that belongs to nobody (555-01xx is kept for examples): it is only read, never dialed."""

CANONICAL = "+12025550123"

SLOW_SECONDS = 1.0
"""A request within one continent takes a tenth of this; each claim waits for one."""

SOON_DAYS = 30
"""A key that ends within this time is warned of: long enough for whoever is on holiday."""

KEY_CODES = frozenset({"PGRST301", "PGRST302", "PGRST303", "22023"})
"""Answers that are about the key and nothing else (refusals.py has their words)."""

MISSING = "PGRST202"
"""The project has no such function."""

OF_THE_PROJECT = ("supabase.clock", "supabase.installed", "supabase.functions", "supabase.publication", "supabase.app")
"""Read off one answer of the database."""

CHECKS = (
    "supabase.key",
    "supabase.reach",
    *OF_THE_PROJECT,
    "supabase.doorbell",
    "supabase.roundtrip",
    "supabase.pbx",
    "supabase.anon",
)
"""All of them, in the order in which they come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class First:
    """How the first request went."""

    seconds: float
    e164: str | None = None
    problem: DatabaseError | None = None

    @property
    def key_refused(self) -> bool:
        """The project does not take this key."""
        found = self.problem
        return isinstance(found, DatabaseRefused) and (
            found.code in KEY_CODES or (found.code is None and found.status in (401, 403))
        )

    @property
    def missing(self) -> bool:
        """The project answers, and does not know our function."""
        return self.problem is not None and self.problem.code == MISSING


async def look(
    config: SupabaseConfig,
    *,
    now: float,
    anon_key: str | None = None,
    pbx: str | None = None,
    adapter: str | None = None,
    billing: str = "off",
    bell_seconds: float = BELL_SECONDS,
    row_seconds: float = ROW_SECONDS,
) -> AsyncIterator[Finding]:
    """Each check once, in the order of CHECKS. `now`: epoch seconds by this machine's clock.

    `anon_key`: the public key of the app's pages, to find out what it opens. `pbx`, `adapter`: our PBX and our own id
    (None: it has not run yet), to tell whether another adapter dials there. `billing`: who charges (the setting).
    `bell_seconds`, `row_seconds`: how long Realtime may take to go live, and to tell of a row.
    """
    wall_at_zero = now - time.monotonic()
    shipped = Shipped.read()
    async with Inspector(config) as inspector:
        first = await _first(inspector)
        yield _key(config, now, first)
        yield _reach(first)
        if (why := _useless(first)) is not None:
            for check in CHECKS[2:]:
                yield skipped(check, "nothing", why)
            return
        try:
            found = await inspector.inspect()
        except DatabaseError as error:
            for finding in _not_inspected(error, first):
                yield finding
            yield await doorbell(config, bell_seconds)
            for check in CHECKS[8:]:
                yield skipped(check, "nothing", "the database did not say what is installed")
            return
    sound = True
    for finding in _of_the_project(found, shipped, config, first, wall_at_zero, billing=billing):
        sound = sound and not (finding.check == "supabase.installed" and finding.verdict is Verdict.FAIL)
        yield finding
    yield await doorbell(config, bell_seconds)
    if sound:
        yield await roundtrip(config, seconds=bell_seconds, row_seconds=row_seconds)
    else:
        # Only the functions as they were shipped are known to leave a canceled row alone.
        yield skipped("supabase.roundtrip", "nothing", "no row is inserted where install.sql is not as shipped")
    yield project.pbx(found, name=pbx, adapter=adapter)
    yield await anon(config, anon_key, found, shipped)


async def _first(inspector: Inspector) -> First:
    began = time.monotonic()
    try:
        e164, _ = await inspector.canonical(EXAMPLE, "US")
    except DatabaseError as error:
        return First(seconds=time.monotonic() - began, problem=error)
    return First(seconds=time.monotonic() - began, e164=e164)


def _useless(first: First) -> str | None:
    """Why nothing more need be asked."""
    if isinstance(first.problem, DatabaseAway):
        return "Supabase did not answer"
    if first.key_refused:
        return "the key is not accepted"
    if first.problem is not None and first.problem.code is None:
        return "what answers is no Supabase project that can be used"
    return None


def _key(config: SupabaseConfig, now: float, first: First) -> Finding:
    check, tried = "supabase.key", "read the key, without showing it, and used it"
    warnings = config.warnings(now)
    if first.key_refused:
        told = "; ".join((str(first.problem), *warnings))
        return fail(check, tried, told, "take the key and the URL from the same dashboard page (Project Settings, API)")
    if warnings:
        return warn(check, tried, "; ".join(warnings), "take the key and the URL from the same dashboard page")
    expires = (claims(config.key) or {}).get("exp")
    if not isinstance(expires, int | float):
        return ok(check, tried, f"a {config.key_kind.value}")
    until = f"a {config.key_kind.value}, valid until {datetime.fromtimestamp(expires, UTC):%Y-%m-%d}"
    if expires <= now + SOON_DAYS * 86_400:
        return warn(check, tried, f"{until}, which is soon", "make a new key in the dashboard before that day")
    return ok(check, tried, until)


def _reach(first: First) -> Finding:
    check, tried = "supabase.reach", "called call_number_v1 through the REST API"
    if isinstance(first.problem, DatabaseAway):
        mend = "look at SUPABASE_URL, the network and proxies on the way"
        return fail(check, tried, str(first.problem), mend)
    if first.problem is not None and first.problem.code is None and not first.key_refused:
        return fail(check, tried, str(first.problem), "do what the answer says; nothing was changed")
    if first.problem is None and first.seconds > SLOW_SECONDS:
        mend = "run the adapter nearer to the project's region; calls start later by this time"
        return warn(check, tried, f"it answered only after {first.seconds:.1f} s", mend)
    return ok(check, tried, f"it answered within {first.seconds * 1000:.0f} ms", seconds=first.seconds)


def _not_inspected(error: DatabaseError, first: First) -> Iterator[Finding]:
    """The project answers, but does not tell what is installed."""
    yield skipped("supabase.clock", "nothing", "the database did not tell its time")
    tried = "called call_doctor_v1"
    if error.code != MISSING:
        yield fail("supabase.installed", tried, str(error), "do what the answer says; nothing was changed")
    elif first.missing:
        told = "neither it nor call_number_v1 is there: supabase/install.sql was not run, or only a part of it"
        yield fail("supabase.installed", tried, told, INSTALL)
    else:
        told = "call_number_v1 is there, call_doctor_v1 is not: an older supabase/install.sql was run, or a part of one"
        yield fail("supabase.installed", tried, told, INSTALL)
    for check in OF_THE_PROJECT[2:]:
        yield skipped(check, "nothing", "the database did not say what is installed")


def _of_the_project(
    found: Inspection, shipped: Shipped, config: SupabaseConfig, first: First, wall_at_zero: float, *, billing: str
) -> Iterator[Finding]:
    yield project.clock(found, wall_at_zero=wall_at_zero)
    yield project.installed(found, shipped)
    rights = project.functions(found, shipped)
    yield rights if rights.mend else _numbers(first) or rights
    yield project.publication(found, config.doorbell)
    yield project.app(found, billing)


def _numbers(first: First) -> Finding | None:
    """What is wrong with how numbers are read."""
    if first.problem is None and first.e164 == CANONICAL:
        return None
    told = str(first.problem) if first.problem is not None else f"{EXAMPLE} was read as {first.e164}"
    return fail("supabase.functions", "called call_number_v1", told, INSTALL)
