"""Pauses by command in memory: supabase/migrations/…1550 and …2000, function by function.

Cancels in pieces are not modeled: each piece is cancels of single rows."""

from collections.abc import Iterator
from typing import NamedTuple

from tests.simulation.store_tables import LIVE, Refused, Row, Stop, Tables, Tenant

PUT_OFF_SECONDS = 3600.0
SOON_SECONDS = 5.0
LANES = 50
"""Halted lanes that one claim looks at for each user."""


class Mark(NamedTuple):
    """What is known of a thing that is paused, as far as it is known."""

    row: int | None = None
    user: str | None = None
    campaign: str | None = None
    trunk: str | None = None


def standing(tables: Tables, kind: str, key: str | None) -> Stop | None:
    """The pause of exactly this."""
    return next((s for s in tables.stops.values() if (s.kind, s.key, s.ended) == (kind, key, None)), None)


def told(tables: Tables, kind: str, key: str | None) -> str | None:
    """As `call_stop_told`."""
    stop = standing(tables, kind, key)
    if stop is None:
        return None
    names = {"all": "everything", "trunk": f"the trunk {stop.key}", "user": "this user", "campaign": "its campaign"}
    return f"{names.get(kind, 'this row')} is paused by command" + (f": {stop.reason}" if stop.reason else "")


def of(tables: Tables, mark: Mark) -> str | None:
    """As `call_stop_of`."""
    row = None if mark.row is None else str(mark.row)
    places = (("all", ""), ("user", mark.user), ("campaign", mark.campaign), ("row", row))
    return next((words for kind, key in places if (words := told(tables, kind, key)) is not None), None)


def ways_of(tables: Tables, mark: Mark, e164: str | None, now: float) -> set[str]:
    """As `call_ways_of`."""
    if mark.trunk is not None:
        return {mark.trunk}
    found = set()
    for pbx in tables.pbxs.values():
        if not (pbx.lease_until or 0.0) > now:
            continue
        mine = [trunk for (at, _), trunk in tables.trunks.items() if at == pbx.pbx]
        owner = tables.trunks_owner(mark.user)
        found |= {
            trunk.trunk
            for trunk in mine
            if trunk.user_id == owner
            and trunk.enabled
            and (
                e164 is None
                or not trunk.prefixes
                or any(e164.removeprefix("+").startswith(begins) for begins in trunk.prefixes)
            )
        }
        if not mine and owner is None:
            found.add(pbx.trunk or "")
    return found


def why(tables: Tables, mark: Mark, now: float) -> str | None:
    """As `call_why_stopped_v1`."""
    words = of(tables, mark)
    if words is not None:
        return words
    for trunk in sorted(ways_of(tables, mark, None, now)):
        words = told(tables, "trunk", trunk)
        if words is None:
            break
    return words


def past(tables: Tables, row: Row, start: float, now: float) -> Iterator[tuple[float, float | None]]:
    """As `call_stops_past`."""
    places = {("all", ""), ("user", row.user_id), ("campaign", row.campaign_id), ("row", str(row.id))}
    late = [s for s in tables.stops.values() if s.began < now and (s.ended is None or s.ended > start)]
    for stop in late:
        if (stop.kind, stop.key) in places:
            yield max(stop.began, start), stop.ended
    mark = Mark(row=row.id, user=row.user_id, campaign=row.campaign_id, trunk=row.trunk)
    both: list[tuple[float, float | None]] | None = None
    for trunk in ways_of(tables, mark, row.e164, now):
        mine = [(s.began, s.ended) for s in late if (s.kind, s.key) == ("trunk", trunk)]
        both = mine if both is None else [piece for a in both for b in mine if (piece := _met(a, b)) is not None]
    for began, ended in both or ():
        yield max(began, start), ended


def _met(a: tuple[float, float | None], b: tuple[float, float | None]) -> tuple[float, float | None] | None:
    began = max(a[0], b[0])
    ended = min((end for end in (a[1], b[1]) if end is not None), default=None)
    return None if ended is not None and ended <= began else (began, ended)


def rule(tables: Tables, row: Row, now: float) -> tuple[str, float] | None:
    """As `call_rule_pause`: why, and until when."""
    tenant, lane = tables.tenants.get(row.user_id), tables.lanes.get((row.user_id, row.lane))
    words = of(tables, Mark(row=row.id, user=row.user_id, campaign=row.campaign_id))
    words = words or told(tables, "trunk", row.trunk)
    if words is None and tenant is not None and tenant.paused:
        words = "this user is paused (call_tenants.paused)"
    if words is None and lane is not None and lane.paused and not lane.halted:
        words = "its campaign is paused (call_lanes.paused)"
    if words is None:
        return None
    return words, now + (PUT_OFF_SECONDS if standing(tables, "row", str(row.id)) else SOON_SECONDS)


def kept(tables: Tables, row: Row) -> None:
    """As `call_stop_kept`."""
    stop = standing(tables, "row", str(row.id))
    if stop is not None and stop.due_at is None:
        stop.due_at = row.not_before


def user_stands(tables: Tables, user: str, now: float) -> bool:
    """As `call_user_stands`."""
    if standing(tables, "user", user) is None:
        return False
    _pause_user(tables, user, now)
    return True


def _pause_user(tables: Tables, user: str, now: float) -> None:
    tenant = tables.tenants.setdefault(user, Tenant())
    if not tenant.paused:
        tables.user_paused(user, True, now)
        tenant.paused = True


def campaign_stands(tables: Tables, campaign: str | None) -> bool:
    """As `call_campaign_stands`; the app knows none of these campaigns."""
    return standing(tables, "campaign", campaign) is not None


def lanes_resume(tables: Tables, user: str) -> None:
    """As `call_lanes_resume`."""
    halted = [(turn.served, lane) for (owner, lane), turn in tables.lanes.items() if owner == user and turn.halted]
    for _, lane in sorted(halted)[:LANES]:
        turn = tables.lanes[user, lane]
        if campaign_stands(tables, lane):
            tables.last_turn += 1
            turn.served = tables.last_turn
        else:
            turn.halted, turn.paused, turn.ready, turn.wake_at = False, False, True, None


def _known(tables: Tables, kind: str, key: str) -> None:
    """As `call_stop_known`."""
    rows = tables.open.values()
    if kind == "row":
        row = tables.rows.get(int(key))
        if row is None:
            raise Refused(f"call_queue has no row {key}", "PT404")
        if row.status in {"done", "canceled"}:
            raise Refused(f"row {key} of call_queue is over ({row.status}), nothing of it is dialed", "PT409")
    elif kind == "user" and key not in tables.tenants:
        if not any(row.user_id == key and row.status == "queued" for row in rows):
            raise Refused(f"no user {key} is known: it has no row in call_queue and no campaign", "PT404")
    elif kind == "campaign" and not any(lane == key for _, lane in tables.lanes):
        if not any(row.campaign_id == key for row in rows):
            raise Refused(f"no campaign {key} is known, and no row of call_queue is of it", "PT404")
    elif kind == "trunk":
        names = {pbx.trunk for pbx in tables.pbxs.values() if pbx.trunk} | {trunk for _, trunk in tables.trunks}
        if key not in names and not any(row.trunk == key and row.status == "queued" for row in rows):
            raise Refused(f"no trunk {key} is known; known: {', '.join(sorted(names)) or 'none'}", "PT404")


def pause(tables: Tables, kind: str, key: str, reason: str | None, now: float) -> tuple[bool, int]:
    """As `call_pause_v1`: whether it was paused before, and how many calls of it live. Raises Refused."""
    _known(tables, kind, key)
    tables.last_stop += 1  # Also where the pause is there already.
    known = standing(tables, kind, key)
    if known is None:
        tables.stops[tables.last_stop] = Stop(kind=kind, key=key, began=now, reason=reason)
    else:
        known.reason = reason or known.reason
    if kind == "user":
        _pause_user(tables, key, now)
    elif kind == "campaign":
        for (_, lane), turn in tables.lanes.items():
            if lane == key and not turn.paused:
                turn.paused = turn.halted = True
    return known is not None, sum(_is_of(row, kind, key) and row.outcome is None for row in tables.open.values())


def _is_of(row: Row, kind: str, key: str) -> bool:
    mine = {"all": "", "user": row.user_id, "campaign": row.campaign_id, "trunk": row.dialed_trunk, "row": str(row.id)}
    return row.status in LIVE and row.e164 is not None and mine[kind] == key


def resume(tables: Tables, kind: str, key: str, forgiven: bool, now: float) -> tuple[bool, str | None]:
    """As `call_resume_v1`: whether there was something, and what stands still; `forgiven`: of a trunk."""
    stop = standing(tables, kind, key)
    was = stop is not None or forgiven
    if stop is not None:
        stop.ended = now
    if kind == "user":
        was = _resume_user(tables, key, now) or was
    elif kind == "campaign":
        mine = {at: turn for at, turn in tables.lanes.items() if at[1] == key and turn.paused}
        was = was or any(not turn.halted for turn in mine.values())
        for (user, _), turn in mine.items():
            turn.paused, turn.halted, turn.ready, turn.wake_at = False, False, True, None
            if (tenant := tables.tenants.get(user)) is not None:
                tenant.ready, tenant.wake_at = True, None
    elif kind == "row" and stop is not None and stop.due_at is not None:
        row = tables.rows.get(int(key))
        if row is not None and row.status == "queued":
            tables.update(row, now, {"not_before": stop.due_at, "wait_reason": None}, at_work=False)
    return was, why(tables, _mark(tables, kind, key), now)


def _resume_user(tables: Tables, user: str, now: float) -> bool:
    tenant = tables.tenants.get(user)
    if tenant is None or not tenant.paused:
        return False
    tables.user_paused(user, False, now)
    tenant.paused, tenant.ready, tenant.wake_at = False, True, None
    return True


def _mark(tables: Tables, kind: str, key: str) -> Mark:
    if kind == "row":
        row = tables.rows.get(int(key))
        return Mark() if row is None else Mark(row.id, row.user_id, row.campaign_id, row.trunk)
    return Mark(
        user=key if kind == "user" else None,
        campaign=key if kind == "campaign" else None,
        trunk=key if kind == "trunk" else None,
    )
