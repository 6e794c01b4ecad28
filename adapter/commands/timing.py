"""See and set calling hours: asked of the database, which keeps them."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping

from adapter.commands.following import Lines, patiently
from adapter.commands.view import hours as words
from adapter.commands.view.codes import Code
from adapter.supabase_io.config import SupabaseConfig
from adapter.supabase_io.desk import Desk
from adapter.supabase_io.hours import Hours
from adapter.supabase_io.refusals import DatabaseError
from adapter.supabase_io.stops import Target


def show(config: SupabaseConfig, target: Target | None) -> int:
    """Tell what applies to it, or all there is; the exit code (`codes.HOURS_HELP`)."""
    return asyncio.run(_ask(config, "Not known", lambda desk: desk.hours(target)))


def put(config: SupabaseConfig, target: Target, windows: str | None) -> int:
    """Set its windows, None takes them away; the exit code (`codes.HOURS_HELP`)."""
    return asyncio.run(_ask(config, "Not changed", lambda desk: desk.set_hours(target, windows)))


def dates(config: SupabaseConfig, campaign: str, at: Mapping[str, str | None]) -> int:
    """Set when a campaign begins or ends (as `Desk.set_dates`); the exit code (`codes.HOURS_HELP`)."""
    return asyncio.run(_ask(config, "Not changed", lambda desk: desk.set_dates(campaign, at)))


def zone(config: SupabaseConfig, user: str, name: str | None) -> int:
    """Set the time zone of a user, None takes it away; the exit code (`codes.HOURS_HELP`)."""
    return asyncio.run(_ask(config, "Not changed", lambda desk: desk.set_zone(user, name)))


async def _ask(config: SupabaseConfig, undone: str, ask: Callable[[Desk], Awaitable[Hours]]) -> int:
    view = Lines(sys.stdout)
    async with Desk(config) as desk:
        try:
            found = await patiently(lambda: ask(desk), view)
        except DatabaseError as error:
            view.say(f"{undone}; it may be asked again: {error}")
            return Code.NOT_QUEUED
    view.say(words.told(found))
    return Code.ANSWERED
