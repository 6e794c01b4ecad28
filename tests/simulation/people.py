"""The people of a world: who inserts rows, cancels and deletes them, and the AI handler that writes its word."""

from datetime import datetime
from functools import partial
from random import Random
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from adapter.core.hours import Window
from tests.simulation.owner import USERS
from tests.simulation.pbx import SimPbx
from tests.simulation.store import Refused

if TYPE_CHECKING:
    from tests.simulation.world import World

ROWS = (20, 34)
HOURS_SHARE = 0.3
"""Worlds with calling hours."""

LISTINGS_SHARE = 0.4
"""Worlds in which somebody asks not to be called."""

STOPS_SHARE = 0.3
"""Worlds in which somebody pauses a row, a user, a campaign, a trunk or everything, and lets it go on."""

RULED_SHARE = 0.6
"""Rows that leave it to the rules how often they are tried, where there are any."""

STOPPED_SECONDS = (2.0, 45.0)

TROUBLED_SECONDS = (90.0, 260.0)


def plan(world: "World") -> None:
    """Draw what they will do."""
    dice = world.random
    world.troubled_seconds = dice.uniform(*TROUBLED_SECONDS)
    rows = dice.randint(*ROWS)
    _set_hours(world)
    listings = Random(f"{world.seed}:listings")
    for _ in range(listings.randint(1, 6) if listings.random() < LISTINGS_SHARE else 0):
        world.later(listings.uniform(5.0, world.troubled_seconds), _forbid, world, listings)
    stops = Random(f"{world.seed}:stops")
    if stops.random() < STOPS_SHARE:
        for _ in range(stops.randint(1, 4)):
            world.later(stops.uniform(5.0, world.troubled_seconds), _stop, world, stops)
        # A restore may have brought back what was over.
        world.later(world.troubled_seconds + 2 * STOPPED_SECONDS[1], _go_on, world)
    batches = dice.randint(2, 6)
    for number in range(batches):
        share = rows * (number + 1) // batches - rows * number // batches
        world.later(dice.uniform(0.0, 0.8 * world.troubled_seconds), _insert, world, share)
    if dice.random() < 0.6:
        for _ in range(dice.randint(1, 4)):
            world.later(dice.uniform(5.0, world.troubled_seconds), _cancel, world)
    if dice.random() < 0.1:
        world.later(dice.uniform(20.0, world.troubled_seconds), _delete, world)
    world.always["answered"] = partial(_handler, world)


def _set_hours(world: "World") -> None:
    """In some worlds the people of a user may be called at times only, which begin or end while they are troubled."""
    dice = Random(f"{world.seed}:hours")  # So that worlds without hours are what they are.
    if dice.random() >= HOURS_SHARE:
        return
    local = datetime.fromtimestamp(world.clock, ZoneInfo("Asia/Kuala_Lumpur"))
    minute, first = local.hour * 60 + local.minute, dice.randint(1, 4)
    spans = dice.choice((
        ((-60, first), (first + dice.randint(1, 4), 120)), ((first, 120),), ((-60, first),), ((-60, first), (120, 180)),
    ))  # fmt: skip
    windows = tuple(
        Window(days=frozenset(range(1, 8)), start=(minute + start) * 60, end=(minute + end) * 60)
        for start, end in spans
    )
    user = dice.choice(USERS)
    world.store.hours("user", user, windows, world.clock)


def _forbid(world: "World", dice: Random) -> None:
    """Somebody asks not to be called any more; most often one who waits for another call."""
    waiting = [row for row in world.store.tables.open.values() if row.status == "queued" and row.e164 is not None]
    again = [row for row in waiting if row.last_outcome is not None]
    if waiting:
        number = str(dice.choice(again or waiting).e164)
        world.store.forbid(number, None, None, world.clock)
        world.trace("listed", number=number)


def _stop(world: "World", dice: Random) -> None:
    """Somebody pauses something, and lets it go on after a while."""
    tables = world.store.tables
    waiting = [row.id for row in tables.open.values() if row.status == "queued"]
    trunks = {trunk for _, trunk in tables.trunks} or {pbx.trunk for pbx in tables.pbxs.values() if pbx.trunk}
    things = [
        ("all", ""), ("user", dice.choice(USERS)), ("row", str(dice.choice(waiting or [0]))),
        ("trunk", dice.choice(sorted(trunks) or [""])),
    ]  # fmt: skip
    things += [("campaign", dice.choice(world.rules.campaigns))] if world.rules.campaigns else []
    kind, key = dice.choice(things)
    try:
        world.store.stop(kind, key, None, world.clock)
    except Refused:
        return  # Nothing of this name is known yet, or it is over.
    world.trace("stopped", thing=kind, key=key)
    world.later(dice.uniform(*STOPPED_SECONDS), _resume, world, kind, key)


def _resume(world: "World", kind: str, key: str) -> None:
    world.trace("resumed", thing=kind, key=key)
    world.store.unstop(kind, key, world.clock)
    world.ring()


def _go_on(world: "World") -> None:
    for stop in list(world.store.tables.stops.values()):
        if stop.ended is None:
            _resume(world, stop.kind, stop.key)


def _insert(world: "World", share: int) -> None:
    from tests.simulation.world import NUMBERS  # noqa: PLC0415  # It knows us.

    dice = world.random
    numbers = dice.sample(NUMBERS, share)
    for number in numbers:
        later = dice.random() < 0.1
        user = dice.choice(USERS)
        own = {"max_attempts": dice.choice((1, 1, 2, 3)), "retry_seconds": dice.choice((10, 30, 90))}
        ruled = bool(world.store.tables.retries) and world.rules.dice.random() < RULED_SHARE
        row = world.insert(
            user_id=user,
            phone_number=number,
            campaign_id=_campaign(world, user),
            expires_at=world.clock + dice.choice((120.0, 600.0, 1200.0)),
            not_before=world.clock + dice.uniform(1.0, 60.0) if later else None,
            **({} if ruled else own),
        )
        if ruled:
            world.rules.ruled.add(row)
    world.ring()


def _campaign(world: "World", user: str) -> str | None:
    """One of the two campaigns of this user, or none."""
    if not world.rules.campaigns or world.rules.dice.random() < 0.2:
        return None
    return world.rules.campaigns[2 * USERS.index(user) + world.rules.dice.randint(0, 1)]


def _cancel(world: "World") -> None:
    status = {"dialing", "talking"} if world.random.random() < 0.7 else {"queued", "dialing", "talking"}
    live = [row.id for row in world.store.rows.values() if row.status in status]
    if live:
        row = world.random.choice(live)
        call_id = world.store.rows[row].call_id
        if call_id is not None:
            world.cancels.append((world.now, call_id))
        world.canceled.add(row)
        world.trace("cancel", row=row)
        world.store.cancel(row, "an operator", world.clock)


def _delete(world: "World") -> None:
    rows = [row.id for row in world.store.rows.values()]
    if rows:
        row = world.random.choice(rows)
        world.touched.add(row)
        world.trace("delete", row=row)
        world.store.delete_row(row, world.clock)


def _handler(world: "World", _pbx: SimPbx, call_id: str) -> None:
    """The AI handler says something about an answered call, in its own time."""
    dice = world.random
    if dice.random() < 0.4:
        word = dice.choice(("completed", "completed", "ended", "voicemail", "no-answer"))
        world.later(dice.uniform(0.5, 90.0), _say, world, call_id, word)


def _say(world: "World", call_id: str, word: str) -> None:
    if world.store.handler_word(call_id, word, world.clock):
        world.words[call_id] = word
        world.trace("handler", call=call_id, word=word)
