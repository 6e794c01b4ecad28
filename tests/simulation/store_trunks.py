"""Trunks in memory: supabase/migrations/…560, function by function and in its order."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.simulation import store_forbidden, store_stops
from tests.simulation.store_tables import DAY, Health, Row, Tables, Trunk

NO_LIMIT = 2147483647
NOT_ITS_DOING = ("blocked", "canceled", "pbx_error", "unknown")
FAILURES = ("congestion", "trunk_unavailable", "rejected", "no_reply")
NOT_HERE = "the trunks of this user are at another PBX, or switched off (call_trunks)"
UNBEGUN = ("congestion", "trunk_unavailable")


@dataclass(kw_only=True)
class Told:
    """The heartbeat of the adapter that claims, and what the claim has taken so far."""

    status: Mapping[str, Any]
    now: float
    in_air: Counter[str]
    taken: Counter[str]


class Left(NamedTuple):
    """As the out columns of `call_trunk_left`."""

    n: int
    why: str | None
    until: float | None


class Way(NamedTuple):
    """As the out columns of `call_way`."""

    trunk: str | None = None
    way: Mapping[str, Any] | None = None
    why: str | None = None
    until: float | None = None


def told_of(tables: Tables, status: Mapping[str, Any], now: float) -> Told:
    """What a claim begins with."""
    in_air = Counter(row.dialed_trunk or "" for row in tables.open.values() if row.in_air and row.pbx == status["pbx"])
    return Told(status=status, now=now, in_air=in_air, taken=Counter())


def heard(tables: Tables, row: Row, outcome: str, watched: bool, now: float) -> None:
    """As `call_trunk_heard`."""
    rang = row.ringing_at is not None or row.answered_at is not None
    if row.pbx is None or row.claimed_at is None or outcome in NOT_ITS_DOING or not (rang or watched):
        return
    health = tables.health.setdefault((row.pbx, row.dialed_trunk or ""), Health())
    bad = outcome in FAILURES
    health.recent = (health.recent + ("x" if bad else "."))[-10:]
    if not rang:
        health.silent += 1
    elif health.stopped_at is None or row.claimed_at >= health.stopped_at:
        health.silent = 0
    if health.stopped_at is not None:
        if rang and row.claimed_at >= health.stopped_at:
            health.stopped_at = None
    elif health.silent >= 20:
        health.stopped_at = now
    if health.cooled_at is None:
        if bad and health.recent.count("x") >= 5:
            health.cooled_at, health.cools, health.cooled_until = now, 1, now + 60.0
    elif row.claimed_at >= health.cooled_at:
        if bad:
            health.cools = min(health.cools + 1, 30)
            health.cooled_until = now + min(60.0 * 2.0 ** (health.cools - 1), 900.0)
            health.cooled_at = now
        else:
            health.recent, health.cools, health.cooled_at, health.cooled_until = ".", 0, None, None


def words(trunk: str, health: Health) -> str | None:
    """As `call_trunk_words`."""
    if health.stopped_at is not None:
        return (
            f"trunk {trunk} is stopped: {health.silent} calls in a row neither rang nor were answered; ask the carrier "
            "(credit?), then resume it"
        )
    if health.cooled_at is not None:
        return f"trunk {trunk} cools down: {health.recent.count('x')} of its last {len(health.recent)} calls failed"
    return None


def unfit(tables: Tables, pbx: object) -> list[str]:
    """As `call_trunks_unfit`."""
    return [
        told
        for (at, trunk), health in sorted(tables.health.items(), key=lambda item: item[0])
        if at == pbx and (told := words(trunk, health)) is not None
    ]


def fit(tables: Tables, pbx: str, trunk: str, now: float) -> tuple[str | None, float | None, bool]:
    """As `call_trunk_fit`: why not, until when, and whether this is a try."""
    health = tables.health.get((pbx, trunk))
    if health is None:
        return None, None, False
    if health.stopped_at is not None:
        until = now if health.probed_at is None else health.probed_at + 300.0
    elif health.cooled_at is not None:
        assert health.cooled_until is not None
        tried = health.probed_at is not None and health.probed_at > health.cooled_until
        until = (health.probed_at or 0.0) + 120.0 if tried else health.cooled_until
    else:
        return None, None, False
    why = words(trunk, health)
    return (None, None, True) if until <= now else (why, until, False)


def left(tables: Tables, told: Told, trunk: str, most: int | None) -> Left:
    """As `call_trunk_left`."""
    status, now = told.status, told.now
    soon = now + 2.0
    of_it = (status.get("trunks") or {}).get(trunk)
    if "trunks" in status and of_it is None:
        return Left(0, f"the adapter has not looked at trunk {trunk} yet", soon)
    of_it = of_it or {}
    if of_it.get("problem") is not None:
        return Left(0, of_it["problem"], soon)
    if (why := store_stops.told(tables, "trunk", trunk)) is not None:
        return Left(0, why, now + store_stops.SOON_SECONDS)
    why, until, probe = fit(tables, status["pbx"], trunk, now)
    if why is not None:
        return Left(0, why, until)
    room = of_it.get("room")
    n = NO_LIMIT if room is None else room - told.taken[trunk]
    if n <= 0:
        why = f"trunk {trunk} takes no more new calls this second"
    if probe:
        n = min(n, 1)
    most = of_it.get("max_channels") if most is None else most
    if most is not None:
        channels = most - told.in_air[trunk] - int(of_it.get("foreign") or 0) - int(status.get("reserved") or 0)
        if channels < n:
            n = channels
            if n <= 0:
                why = f"trunk {trunk} is full ({most} channels, some kept for people)"
    return Left(max(n, 0), why, soon if n <= 0 else None)


def pbx_left(tables: Tables, told: Told, most: int) -> int:
    """As `call_pbx_trunks_left`."""
    mine = [trunk for (pbx, _), trunk in sorted(tables.trunks.items()) if pbx == told.status["pbx"]]
    if not mine:
        return min(most, left(tables, told, told.status.get("trunk") or "", None).n)
    total = 0
    for trunk in mine:
        if trunk.enabled and total < most:
            total += min(most, left(tables, told, trunk.trunk, trunk.max_channels).n)
    return min(total, most)


def all_left(tables: Tables) -> int:
    """As `call_all_left`."""
    if tables.max_calls is None:
        return NO_LIMIT
    return tables.max_calls - sum(row.in_air for row in tables.open.values())


def open_to(tables: Tables, pbx: str | None, user: str) -> Sequence[Trunk]:
    """The trunks of `call_trunks_owner`, switched on, in the order of `call_way`."""
    mine = [trunk for (at, _), trunk in tables.trunks.items() if at == pbx]
    owner = tables.trunks_owner(user)
    found = [trunk for trunk in mine if trunk.user_id == owner and trunk.enabled]
    return sorted(found, key=lambda trunk: (-trunk.priority, trunk.trunk))


def user_left(tables: Tables, told: Told, user: str) -> int:
    """As `call_user_trunks_left`; without trunks of the PBX as many as you like."""
    pbx = told.status["pbx"]
    if not any(at == pbx for at, _ in tables.trunks):
        return NO_LIMIT
    return sum(left(tables, told, trunk.trunk, trunk.max_channels).n for trunk in open_to(tables, pbx, user))


def way(tables: Tables, row: Row, told: Told) -> Way:
    """As `call_way`."""
    status, now = told.status, told.now
    pbx = status["pbx"]
    if not any(at == pbx for at, _ in tables.trunks):
        return _only_way(tables, row, told)
    mine = open_to(tables, pbx, row.user_id)
    tried = row.trunks_tried if any(trunk.trunk not in row.trunks_tried for trunk in mine) else []
    assert row.e164 is not None
    wanted = [trunk for trunk in mine if row.trunk in {None, trunk.trunk}]
    best: Left | None = None
    for trunk in wanted:
        if trunk.trunk in tried or not _takes(trunk, row.e164):
            continue
        found = left(tables, told, trunk.trunk, trunk.max_channels)
        if found.n > 0:
            return Way(trunk.trunk, told_way(trunk))
        assert found.until is not None
        if best is None or best.until is None or found.until < best.until:
            best = found
    if best is not None:
        return Way(why=best.why, until=best.until)
    if wanted:
        others = elsewhere(tables, row, pbx, now)
        why = f"no trunk may call numbers like {row.e164[:5]}… (call_trunks.prefixes)"
        return Way(why=why, until=now + 60.0 if others else None)
    named = any(trunk == row.trunk for _, trunk in tables.trunks)
    if row.trunk is not None and not named and not elsewhere(tables, row, pbx, now):
        return Way(why=f"the trunk {row.trunk} is not known")
    if row.trunk is not None:
        why = f"trunk {row.trunk} is switched off, of somebody else, or at another PBX"
    elif tables.trunks_owner(row.user_id) is not None:
        why = NOT_HERE
    else:
        why = "there is no trunk for this user: none of their own, and none that is shared is switched on (call_trunks)"
    return Way(why=why, until=now + 60.0)


def _only_way(tables: Tables, row: Row, told: Told) -> Way:
    trunk, now = told.status.get("trunk"), told.now
    if tables.trunks_owner(row.user_id) is not None:
        return Way(why=NOT_HERE, until=now + 60.0)
    if row.trunk is not None and row.trunk != trunk:
        for pbx in tables.pbxs.values():
            if (pbx.lease_until or 0.0) > now and (pbx.trunk == row.trunk or (pbx.pbx, row.trunk) in tables.trunks):
                return Way(why=f"it is for trunk {row.trunk}, through which another adapter dials", until=now + 5.0)
        if elsewhere(tables, row, told.status["pbx"], now):
            return Way(why=f"it is for trunk {row.trunk}, whose adapter is away", until=now + 60.0)
        return Way(why=f"the trunk {row.trunk} is not known")
    found = left(tables, told, trunk or "", None)
    return Way(trunk=trunk, why=found.why, until=found.until)


def elsewhere(tables: Tables, row: Row, mine: str | None, now: float) -> bool:
    """As `call_way_elsewhere`."""
    return any(_may(tables, row, name) for name in _others(tables, mine, now))


def _others(tables: Tables, mine: str | None, now: float) -> set[str]:
    """As `call_pbx_others`."""
    listed = {pbx for (pbx, _), trunk in tables.trunks.items() if trunk.enabled}
    return {*listed, *(pbx.pbx for pbx in tables.pbxs.values() if (pbx.lease_until or 0.0) > now - DAY)} - {mine}


def _may(tables: Tables, row: Row, name: str) -> bool:
    """As `call_pbx_may`."""
    if not any(at == name for at, _ in tables.trunks):
        return row.trunk in {None, tables.pbxs[name].trunk} and tables.trunks_owner(row.user_id) is None
    assert row.e164 is not None
    mine = open_to(tables, name, row.user_id)
    return any(row.trunk in {None, trunk.trunk} and _takes(trunk, row.e164) for trunk in mine)


def _takes(trunk: Trunk, e164: str) -> bool:
    return not trunk.prefixes or any(e164.removeprefix("+").startswith(begins) for begins in trunk.prefixes)


def told_way(trunk: Trunk) -> Mapping[str, Any]:
    """The row of `call_trunks` as an adapter is told of it."""
    return {
        "id": trunk.trunk, "form": trunk.form, "number_style": trunk.number_style, "strip": trunk.strip_prefix,
        "add": trunk.add_prefix, "calls_per_second": trunk.calls_per_second, "max_channels": trunk.max_channels,
        "caller_id": trunk.caller_ids[0] if trunk.caller_ids else None,
    }  # fmt: skip


def taken(tables: Tables, told: Told, trunk: str) -> None:
    """As `call_way_taken`, and the mark of a try."""
    told.in_air[trunk] += 1
    told.taken[trunk] += 1
    health = tables.health.get((told.status["pbx"], trunk))
    if health is not None and (health.cooled_at is not None or health.stopped_at is not None):
        health.probed_at = told.now


def pbx_for(tables: Tables, row: Row, mine: str | None, now: float) -> tuple[str | None, bool]:
    """As `call_pbx_for`."""
    found = []
    for name in _others(tables, mine, now):
        if not _may(tables, row, name):
            continue
        pbx = tables.pbxs.get(name)
        alive = pbx is not None and (pbx.lease_until or 0.0) > now
        status = _status(tables, name)
        if status is not None and store_forbidden.abroad(row, status) is not None:
            continue
        status = status or {}
        able = alive and status.get("pbx") == name and bool(status.get("ready"))
        able = able and way(tables, row, told_of(tables, status, now)).why is None
        found.append((not able, not alive, name))
    if not found:
        return None, False
    unable, _, name = min(found)
    return name, not unable


def country_elsewhere(tables: Tables, row: Row, mine: str | None, now: float) -> bool:
    """Within `call_rule_country`: does the list of another PBX's adapter allow it?"""
    known = (_status(tables, name) for name in _others(tables, mine, now) if _may(tables, row, name))
    return any(status is not None and store_forbidden.abroad(row, status) is None for status in known)


def _status(tables: Tables, name: str) -> Mapping[str, Any] | None:
    pbx = tables.pbxs.get(name)
    holder = None if pbx is None or pbx.holder is None else tables.adapters.get(pbx.holder)
    return None if holder is None else holder.status


def handed_take(tables: Tables, pbx: str | None, room: int, now: float) -> None:
    """As `call_handed_take`."""
    handed = [row for row in tables.open.values() if row.status == "queued" and row.handed_to in {pbx} - {None}]
    for row in sorted(handed, key=lambda row: (row.not_before, row.id))[: room + 10]:
        changes = {"not_before": now, "wait_reason": None, "handed_to": None, "updated_at": now}
        tables.update(row, now, changes, at_work=True)


def fails_over(tables: Tables, row: Row, outcome: str) -> bool:
    """As `call_fails_over`."""
    if outcome not in UNBEGUN or row.way is None or row.trunk is not None or row.e164 is None:
        return False
    return any(
        trunk.trunk != row.dialed_trunk and trunk.trunk not in row.trunks_tried and _takes(trunk, row.e164)
        for trunk in open_to(tables, row.pbx, row.user_id)
    )
