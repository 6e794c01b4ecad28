"""Ask why, or what would be, and tell it. Nothing here changes anything."""

import asyncio
import json
import sys
from collections.abc import Coroutine
from typing import Any

from adapter.commands.view import objects, plan, why
from adapter.commands.view.codes import Code
from adapter.supabase_io.config import SupabaseConfig
from adapter.supabase_io.desk import Desk
from adapter.supabase_io.refusals import DatabaseError

PAGE_ROWS = 200
"""Rows of one question: a tenth of a second of the database's time."""

REST_SECONDS = 0.1
"""Between two pages: so the database has half of its time for others."""


def explain(config: SupabaseConfig, what: str, *, most: int, full: bool, as_json: bool) -> int:
    """Tell why a row waits or somebody was called; the exit code (`codes.EXPLAIN_HELP`)."""
    return _told(_explain(config, what, most=most, full=full, as_json=as_json))


def dry_run(config: SupabaseConfig, campaign: str, *, most: int, as_json: bool) -> int:
    """Tell what a campaign would do; the exit code (`codes.EXPLAIN_HELP`)."""
    return _told(_dry_run(config, campaign, most=most, as_json=as_json))


def _told(telling: Coroutine[Any, Any, int]) -> int:
    try:
        return asyncio.run(telling)
    except DatabaseError as error:
        sys.stderr.write(f"mikopbx-adapter: not explained, and nothing was changed: {error}\n")
        return Code.NOT_QUEUED


async def _explain(config: SupabaseConfig, what: str, *, most: int, full: bool, as_json: bool) -> int:
    async with Desk(config) as desk:
        seen = await desk.explain(what, most)
    if as_json:
        _write(json.dumps(objects.explain_object(seen, full=full), indent=1))
    else:
        _write("\n".join(why.lines(seen, full=full)).strip("\n"))
    return Code.ANSWERED if seen.kind else Code.NOT_ANSWERED


async def _dry_run(config: SupabaseConfig, campaign: str, *, most: int, as_json: bool) -> int:
    found = plan.Plan()
    async with Desk(config) as desk:
        found.add(await desk.dry_run(campaign, None, min(PAGE_ROWS, most)))
        while found.page and found.page.next and found.rows < most:
            await asyncio.sleep(REST_SECONDS)
            found.add(await desk.dry_run(campaign, found.page.next, min(PAGE_ROWS, most - found.rows)))
    if as_json:
        _write(json.dumps(objects.plan_object(found), indent=1))
    else:
        _write("\n".join(plan.lines(found)))
    return Code.ANSWERED if found.rows else Code.NOT_ANSWERED


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
