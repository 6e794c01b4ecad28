"""Realtime: does the doorbell go live, and does a row really come back by each way of ringing?"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from adapter.doctor.findings import Finding, ok, skipped, warn
from adapter.supabase_io.config import DoorbellMode, SupabaseConfig
from adapter.supabase_io.database import DatabaseError
from adapter.supabase_io.doorbell import BellState, Doorbell
from adapter.supabase_io.inspection import Inspector, Probe
from adapter.supabase_io.line import Heard, LibraryLog, Line, LineEnded, Plan

BELL_SECONDS = 20.0
"""Connect, join and the server's own word that changes flow: 2.5 s in practice, more when it is busy."""

ROW_SECONDS = 6.0
"""A broadcast takes some milliseconds, a change half a second: the server looks for changes that often."""

OFF = "DOORBELL=off: rows are found by the sweep"

SWEEP = "rows are dialed all the same, by the sweep every SWEEP_SECONDS"

MEND = (
    f"{SWEEP}; see the dashboard (Realtime), and run supabase/install.sql, which publishes call_queue. A table that "
    "was published just now may need a minute"
)

WAYS: Mapping[Heard, Plan] = {
    Heard.BROADCAST: Plan(private=True, broadcast=True, changes=False),
    Heard.CHANGES: Plan(private=False, broadcast=False, changes=True),
}
"""Each on a channel of its own: one refused binding spoils all of its channel."""

WANTED: Mapping[DoorbellMode, tuple[Heard, ...]] = {
    DoorbellMode.AUTO: (Heard.BROADCAST, Heard.CHANGES),
    DoorbellMode.BROADCAST: (Heard.BROADCAST,),
    DoorbellMode.CHANGES: (Heard.CHANGES,),
    DoorbellMode.OFF: (),
}

NAMES: Mapping[Heard, str] = {Heard.BROADCAST: "broadcast", Heard.CHANGES: "INSERT changes"}


async def doorbell(config: SupabaseConfig, seconds: float) -> Finding:
    """Does the bell, as `run` uses it, go live?"""
    check, tried = "supabase.doorbell", f"joined the Realtime channel of call_queue (DOORBELL={config.doorbell.value})"
    if config.doorbell is DoorbellMode.OFF:
        return skipped(check, "nothing", OFF)
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
    if status.state is not BellState.LIVE:
        return warn(check, tried, status.problem or f"not live within {seconds:g} s", MEND)
    took = time.monotonic() - began
    if status.problem:
        return warn(check, tried, f"live by {status.listens}, but: {status.problem}", MEND)
    return ok(check, tried, f"live after {took:.1f} s, listens to {status.listens}", seconds=took)


# ---------------------------------------------------------------- the round trip


@dataclass(slots=True, kw_only=True)
class Ear:
    """One line, and what it heard."""

    way: Heard
    line: Line
    problem: str = ""
    """Why it hears nothing."""

    heard: dict[int, float] = field(default_factory=dict)
    """Monotonic time at which each row was told of."""

    news: asyncio.Event = field(default_factory=asyncio.Event)


async def roundtrip(config: SupabaseConfig, *, seconds: float, row_seconds: float = ROW_SECONDS) -> Finding:
    """Does a row that is really inserted come back? `seconds`: until each line is live; `row_seconds`: for the row."""
    check = "supabase.roundtrip"
    ways = WANTED[config.doorbell]
    if not ways:
        return skipped(check, "nothing", OFF)
    tried = "inserted a row that is never dialed (call_probe_v1), listened for its id, deleted it"
    ears: list[Ear] = []

    def unreadable(frame: str) -> None:
        for ear in ears:
            ear.line.unreadable(frame)

    async with AsyncExitStack() as stack:
        inspector = await stack.enter_async_context(Inspector(config))
        stack.enter_context(LibraryLog(unreadable).attached())
        for way in ways:
            ear = _ear(config, way)
            ears.append(ear)
            stack.push_async_callback(ear.line.close)
        await asyncio.gather(*(_live(ear, seconds) for ear in ears))
        listening = [ear for ear in ears if not ear.problem]
        if not listening:
            return warn(check, tried, _told(ears, None, 0.0), MEND)
        asked = time.monotonic()
        try:
            probe = await inspector.probe()
        except DatabaseError as error:
            return warn(
                check, tried, f"no row could be inserted: {error}", "do what the answer says; nobody was called"
            )
        try:
            await asyncio.gather(*(_hears(ear, probe, row_seconds) for ear in listening))
        finally:
            # Whatever fails here, the next sweep of an adapter or the next look deletes it.
            with suppress(DatabaseError):
                await inspector.forget(probe.row)
    told = _told(ears, probe, asked)
    if any(ear.problem for ear in ears):
        return warn(check, tried, told, MEND)
    return ok(check, tried, told, seconds=min(ear.heard[probe.row] for ear in ears) - asked)


def _ear(config: SupabaseConfig, way: Heard) -> Ear:
    def probed(_way: Heard, row: int) -> None:
        ear.heard.setdefault(row, time.monotonic())
        ear.news.set()

    ear = Ear(way=way, line=Line(config, WAYS[way], lambda _: None, probed=probed))
    return ear


async def _live(ear: Ear, seconds: float) -> None:
    """Wait until the line hears, or say why it does not."""
    try:
        async with asyncio.timeout(seconds):
            await ear.line.open()
            await _first(ear, ear.line.live)
    except TimeoutError:
        ear.problem = f"not live within {seconds:g} s"
    except LineEnded as ended:
        ear.problem = str(ended)


async def _hears(ear: Ear, probe: Probe, seconds: float) -> None:
    """Wait until the line tells of the row, or say why it does not."""
    if ear.way is Heard.BROADCAST and not probe.sent:
        ear.problem = "the database has no realtime.send that works"
        return
    try:
        async with asyncio.timeout(seconds):
            while probe.row not in ear.heard:
                ear.news.clear()
                await _first(ear, ear.news)
    except TimeoutError:
        ear.problem = f"joined, but silent for {seconds:g} s"
    except LineEnded as ended:
        ear.problem = str(ended)


async def _first(ear: Ear, event: asyncio.Event) -> None:
    """Wait for `event`; raises LineEnded when the line ends before."""
    waiter = asyncio.create_task(event.wait())
    either: set[asyncio.Future[Any]] = {ear.line.ended, waiter}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiter.cancel()
    if not event.is_set():
        raise ear.line.ended.result()


def _told(ears: list[Ear], probe: Probe | None, asked: float) -> str:
    came = [
        f"by {NAMES[ear.way]} within {(ear.heard[probe.row] - asked) * 1000:.0f} ms"
        for ear in ears
        if probe is not None and probe.row in ear.heard
    ]
    silent = [f"not by {NAMES[ear.way]} ({ear.problem})" for ear in ears if ear.problem]
    if not came:
        return f"only the sweep would find a row: {', '.join(silent)}"
    return f"the row came back {', '.join(came + silent)}"
