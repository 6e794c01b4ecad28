"""See and set retries, see costs, take in rates: asked of the database, which keeps them."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict
from itertools import islice
from typing import TypeVar

from adapter.commands.following import Lines, patiently
from adapter.commands.view import money as words
from adapter.commands.view.codes import Code
from adapter.core.ratesheet import Line, SheetError
from adapter.supabase_io.config import SupabaseConfig
from adapter.supabase_io.desk import Desk
from adapter.supabase_io.money import Costs, Imported, Retries, RetryRule
from adapter.supabase_io.refusals import DatabaseError

LINES = 1000
"""Of a sheet in one request: about a tenth of a second of the database."""

_Found = TypeVar("_Found", Retries, Costs)


def retries(config: SupabaseConfig, *, user: str | None, campaign: str | None, as_json: bool) -> int:
    """Tell what follows after each outcome; the exit code (`codes.HOURS_HELP`)."""
    return asyncio.run(
        _ask(config, "Not known", lambda desk: desk.retries(user, campaign), words.retries_told, as_json=as_json)
    )


def set_retry(config: SupabaseConfig, rule: RetryRule, *, as_json: bool) -> int:
    """Set a rule, and tell what follows then; the exit code (`codes.HOURS_HELP`)."""
    return asyncio.run(
        _ask(config, "Not changed", lambda desk: desk.set_retry(rule), words.retries_told, as_json=as_json)
    )


def costs(config: SupabaseConfig, *, campaign: str | None, most: int, as_json: bool) -> int:
    """Tell what campaigns cost; the exit code (`codes.HOURS_HELP`)."""
    return asyncio.run(
        _ask(config, "Not known", lambda desk: desk.costs(campaign, most), words.costs_told, as_json=as_json)
    )


async def _ask(
    config: SupabaseConfig,
    undone: str,
    ask: Callable[[Desk], Awaitable[_Found]],
    tell: Callable[[_Found], str],
    *,
    as_json: bool,
) -> int:
    # With --json standard output holds the object and nothing else.
    view = Lines(sys.stderr if as_json else sys.stdout)
    async with Desk(config) as desk:
        try:
            found = await patiently(lambda: ask(desk), view)
        except DatabaseError as error:
            view.say(f"{undone}; it may be asked again: {error}")
            return Code.NOT_QUEUED
    if as_json:
        sys.stdout.write(json.dumps(asdict(found), indent=1) + "\n")
    else:
        view.say(tell(found))
    return Code.ANSWERED


def take_rates(config: SupabaseConfig, trunk: str, lines: Iterable[Line]) -> int:
    """Send a sheet, piece by piece; the exit code (`codes.RATES_HELP`)."""
    return asyncio.run(_take(config, trunk, lines))


async def _take(config: SupabaseConfig, trunk: str, lines: Iterable[Line]) -> int:
    view, taken, rest = Lines(sys.stdout), Imported(taken=0, bad=()), iter(lines)
    async with Desk(config) as desk:
        try:
            while piece := list(islice(rest, LINES)):
                told = await patiently(lambda piece=piece: desk.import_rates(trunk, piece), view)  # type: ignore[misc]
                taken = Imported(taken=taken.taken + told.taken, bad=(*taken.bad, *told.bad))
        except (DatabaseError, SheetError) as error:
            view.say(words.import_told(taken))
            view.say(f"The rest was not taken, or is not known to be; mend it and import the whole file again: {error}")
            return Code.NOT_QUEUED
    view.say(words.import_told(taken))
    return Code.NOT_ANSWERED if taken.bad else Code.ANSWERED
