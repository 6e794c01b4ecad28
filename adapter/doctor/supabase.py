"""The Supabase side: is the key the right one, does the project answer, is install.sql there, is the bell live?"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress

from adapter.doctor.findings import Finding, fail, ok, skipped, warn
from adapter.supabase_io.config import DoorbellMode, SupabaseConfig
from adapter.supabase_io.database import Database, DatabaseAway, DatabaseRefused
from adapter.supabase_io.doorbell import BellState, Doorbell

EXAMPLE = "+1 202-555-0123"
"""A number that belongs to nobody (555-01xx is kept for examples): it is only read, never dialed."""

CANONICAL = "+12025550123"

SLOW_SECONDS = 1.0
"""A request within one continent takes a tenth of this; each claim waits for one."""

BELL_SECONDS = 20.0
"""Connect, join and the server's own word that changes flow: 2.5 s in practice, more when it is busy."""

LATER = ("supabase.functions", "supabase.doorbell")


async def look(config: SupabaseConfig, *, now: float, bell_seconds: float = BELL_SECONDS) -> AsyncIterator[Finding]:
    """Each check once. `now`: epoch seconds, against which the key's own expiry is held."""
    yield _key(config, now)
    found = await _functions(config)
    yield found[0]
    if len(found) == 1:
        for check in LATER:
            yield skipped(check, "nothing", "Supabase did not answer")
        return
    yield found[1]
    yield await _doorbell(config, bell_seconds)


def _key(config: SupabaseConfig, now: float) -> Finding:
    tried = "read the key, without showing it"
    if warnings := config.warnings(now):
        return warn("supabase.key", tried, "; ".join(warnings), "take the key and the URL from the same dashboard page")
    return ok("supabase.key", tried, f"a {config.key_kind.value}")


async def _functions(config: SupabaseConfig) -> list[Finding]:
    """Reach and functions, from one request; only the first where nothing answered."""
    tried = "called call_number_v1 through the REST API"
    began = time.monotonic()
    try:
        async with Database(config) as database:
            e164, problem = await database.canonical(EXAMPLE, "US")
    except DatabaseAway as error:
        return [fail("supabase.reach", tried, str(error), "look at SUPABASE_URL, the network and proxies on the way")]
    except DatabaseRefused as error:
        answered = ok("supabase.reach", tried, "it answers", seconds=time.monotonic() - began)
        return [answered, fail("supabase.functions", tried, str(error), "do what the answer says; nothing was changed")]
    seconds = time.monotonic() - began
    reach = ok("supabase.reach", tried, f"it answered within {seconds * 1000:.0f} ms", seconds=seconds)
    if seconds > SLOW_SECONDS:
        mend = "run the adapter nearer to the project's region; calls start later by this time"
        reach = warn("supabase.reach", tried, f"it answered only after {seconds:.1f} s", mend)
    if e164 != CANONICAL:
        mend = "run supabase/install.sql of this version in the SQL editor"
        told = f"{EXAMPLE} was read as {e164} ({problem})"
        return [reach, fail("supabase.functions", tried, told, mend)]
    return [reach, ok("supabase.functions", tried, "our functions are there and this key may call them")]


async def _doorbell(config: SupabaseConfig, seconds: float) -> Finding:
    tried = f"joined the Realtime channel of call_queue (DOORBELL={config.doorbell.value})"
    if config.doorbell is DoorbellMode.OFF:
        return skipped("supabase.doorbell", "nothing", "DOORBELL=off: rows are found by the sweep")
    bell = Doorbell(config)
    began = time.monotonic()
    task = asyncio.create_task(bell.run(), name="doorbell of doctor")
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while bell.status.state not in (BellState.LIVE, BellState.REFUSED):  # noqa: ASYNC110  it has no event
                    await asyncio.sleep(0.02)
        status = bell.status
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    mend = (
        "rows are dialed all the same, by the sweep every SWEEP_SECONDS; see the dashboard (Realtime) and run "
        "supabase/install.sql, which publishes call_queue"
    )
    if status.state is not BellState.LIVE:
        return warn("supabase.doorbell", tried, status.problem or f"not live within {seconds:g} s", mend)
    took = time.monotonic() - began
    if status.problem:
        return warn("supabase.doorbell", tried, f"live by {status.listens}, but: {status.problem}", mend)
    return ok("supabase.doorbell", tried, f"live after {took:.1f} s, listens to {status.listens}", seconds=took)
