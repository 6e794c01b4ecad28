"""Sweep and claim in memory: supabase/migrations/…600, function by function and in its order."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.simulation import store_forbidden, store_hours, store_records, store_rules, store_stops, store_trunks
from tests.simulation.store_tables import DAY, MONTH, NO_LANE, RULES, LaneTurn, Row, Tables, Tenant, Turn, changed
from tests.simulation.store_trunks import Told

MOST = 100
BATCH = 2000
PASSES = 6
NO_LIMIT = 2147483647
URGENT = 10**15
STEP = 3600.0


class Asked(NamedTuple):
    """Who claims, as what, and when."""

    adapter: str
    incarnation: int
    status: Mapping[str, Any]
    claim_id: str
    now: float


def housekeep(tables: Tables, steady: bool, now: float) -> None:
    """As `call_housekeep`."""
    rows = tables.open.values()
    held = [row for row in rows if row.status == "talking" and row.settle_at is not None and row.settle_at <= now]
    for row in sorted(held, key=lambda row: (row.settle_at or 0.0, row.id))[:MOST]:
        store_records.settle_held(tables, row, now)
    late = [row for row in rows if row.status == "queued" and row.expires_at <= now]
    for row in sorted(late, key=lambda row: (row.expires_at, row.id))[:MOST]:
        if not clock_stood(tables, row, now):
            store_records.end_uncalled(tables, row, store_forbidden.expired_words(tables, row, now), now)
    orphans = [row for row in rows if steady and row.in_air and row.deadline is not None and row.deadline <= now]
    for row in orphans[:MOST]:
        reason = f"{RULES['unknown'].words}: its adapter was not heard of in time"
        facts = {"attempt": str(row.attempts + 1), "talk_seconds": "0"}
        ended = store_records.Ended("unknown", "failed", reason, 0, facts)
        store_records.end(tables, changed(row, {"ended_at": now}), ended, now)
    store_forbidden.forget(tables, now)


def clock_stood(tables: Tables, row: Row, now: float) -> bool:
    """As `call_clock_stood`: the row gets back the time for which its user was paused, or its calling hours were shut.
    Campaigns are not modeled."""
    if row.expires_fixed:
        return False
    start = max(row.expires_at - DAY, row.clock_at or -math.inf)
    expires_at, counted, standing = row.expires_at, start, False
    pauses = [
        (max(began, start), ended)
        for user, began, ended in tables.pauses
        if user == row.user_id and began < now and (ended is None or ended > start)
    ]
    pauses += store_hours.shut(tables, row, start, now)
    pauses += store_stops.past(tables, row, start, now)
    for began, ended in sorted(pauses, key=lambda pause: pause[0]):
        since = max(began, counted)
        if since >= expires_at:
            break
        standing = standing or ended is None
        until = now if ended is None else ended
        if until > since:
            expires_at, counted = expires_at + (until - since), until
    clock_at = max(now, counted)
    if standing and expires_at < now + STEP:
        clock_at, expires_at = now + (now + STEP - expires_at), now + STEP
    expires_at = min(expires_at, row.created_at + MONTH)
    if expires_at <= now:
        return False
    tables.update(row, now, {"expires_at": expires_at, "clock_at": clock_at, "updated_at": now}, at_work=True)
    return True


def lane_due(tables: Tables, user: str, lane: str) -> float | None:
    """As `call_lane_due`."""
    return min(
        (
            row.not_before
            for row in tables.open.values()
            if row.status == "queued" and row.user_id == user and row.lane == lane
        ),
        default=None,
    )


def turns_refresh(tables: Tables, now: float) -> bool:
    """As `call_turns_refresh`."""
    taken, tables.arrivals = tables.arrivals[:BATCH], tables.arrivals[BATCH:]
    lanes: dict[tuple[str, str], float] = {}
    users: dict[str, float] = {}
    for user, lane, due_at in taken:
        lanes[user, lane] = min(due_at, lanes.get((user, lane), due_at))
        users[user] = min(due_at, users.get(user, due_at))
    for at, due_at in lanes.items():
        _told(tables.lanes.setdefault(at, LaneTurn()), due_at, now)
    for user, due_at in users.items():
        _told(tables.tenants.setdefault(user, Tenant()), due_at, now)
    woken = [at for at, turn in tables.lanes.items() if turn.wake_at is not None and turn.wake_at <= now]
    for turn in (*tables.lanes.values(), *tables.tenants.values()):
        if turn.wake_at is not None and turn.wake_at <= now:
            turn.ready, turn.wake_at = True, None
    for at in (*sorted(lanes), *sorted(woken)):
        if lane_urgent(tables, *at, now):
            for told in (tables.lanes.get(at), tables.tenants.get(at[0])):
                if told is not None and told.served >= 0:
                    told.served = turn_next(tables, urgent=True)
    return len(taken) == BATCH


def turn_next(tables: Tables, *, urgent: bool) -> int:
    """As `call_turn_next`."""
    tables.last_turn += 1
    return tables.last_turn - (URGENT if urgent else 0)


def lane_urgent(tables: Tables, user: str, lane: str, now: float) -> bool:
    """As `call_lane_urgent`."""
    return any(
        row.status == "queued" and row.user_id == user and row.lane == lane and row.priority == 9
        and row.not_before <= now
        for row in tables.open.values()
    )  # fmt: skip


def _told(turn: Turn, due_at: float, now: float) -> None:
    if due_at <= now:
        turn.ready = True
    elif turn.wake_at is None or due_at < turn.wake_at:
        turn.wake_at = due_at


def turns_repair(tables: Tables, now: float) -> None:
    """As `call_turns_repair`."""
    if not tables.repaired_at < now - 1.0:
        return
    waiting = sorted({(row.user_id, row.lane) for row in tables.open.values() if row.status == "queued"})
    at = tables.repair
    for _ in range(100):
        at = next((place for place in waiting if at is None or place > at), None)
        if at is None:
            break
        tenant, lane = tables.tenants.get(at[0]), tables.lanes.get(at)
        if tenant is not None and lane is not None and tenant.ready and lane.ready:
            continue
        due_at = lane_due(tables, *at)
        assert due_at is not None
        soon = max(due_at, now + 10.0)
        capped = soon if tenant is None or tenant.capped_until is None else max(soon, tenant.capped_until)
        if not all(
            turn is not None and (turn.ready or _wakes(turn) <= by) for turn, by in ((tenant, capped), (lane, soon))
        ):
            tables.arrivals.append((*at, due_at))
    tables.repair, tables.repaired_at = at, now


def _wakes(turn: Turn) -> float:
    return math.inf if turn.wake_at is None else turn.wake_at


def claim_row(tables: Tables, row: Row, asked: Asked, told: Told) -> Row | None:
    """As `call_claim_row`."""
    now = asked.now
    if row.expires_at <= now and not clock_stood(tables, row, now):
        store_records.end_uncalled(tables, row, store_forbidden.expired_words(tables, row, now), now)
    elif row.cancel_requested:
        tables.update(row, now, {"cancel_requested": True}, at_work=True)
    elif (no := store_rules.judge(tables, row, told)) is None:
        return _claimed(tables, row, asked, told)
    elif no.until is None:
        store_records.end_uncalled(tables, row, no.why, now)
    else:
        store_rules.put_off(tables, row, no, told)
    return None


def _claimed(tables: Tables, row: Row, asked: Asked, told: Told) -> Row:
    adapter, incarnation, status, claim_id, now = asked
    way = store_trunks.way(tables, row, told)
    tables.last_claim += 1
    longest = (
        _integer(row.ring_seconds, _integer(status.get("ring_seconds"), 30))
        + _integer(status.get("max_call_seconds"), 900)
        + 120
        + _integer(status.get("orphan_seconds"), 1800)
    )
    nothing = dict.fromkeys((
        "originated_at", "ringing_at", "answered_at", "ended_at", "outcome", "ended_reason", "settle_at", "call_facts",
        "wait_reason", "handed_to",
    ))  # fmt: skip
    changes = {
        **nothing, "status": "dialing", "call_id": tables.new_id(row.id, now), "claim_number": tables.last_claim,
        "claim_id": claim_id, "adapter": adapter, "incarnation": incarnation, "pbx": status.get("pbx"),
        "pbx_boot": status.get("pbx_boot"), "claimed_at": now, "deadline": now + longest, "updated_at": now,
        "dialed_trunk": way.trunk, "way": way.way,
    }  # fmt: skip
    new = tables.update(row, now, changes, at_work=True)
    facts = {
        "attempt": str(row.attempts + 1),
        "claim_number": str(new.claim_number),
        "pbx": new.pbx,
        "trunk": way.trunk,
    }
    facts = {key: value for key, value in facts.items() if value is not None}
    tables.log_insert(new, "initiated", duration=None, agent=status.get("agent_id"), facts=facts, now=now)
    store_forbidden.dialed(tables, new, now)
    store_trunks.taken(tables, told, way.trunk or "")
    return new


def _integer(value: object, default: int) -> int:
    return default if value is None else int(str(value))


class Claim:
    """As `call_claim`: one run over users and their lanes."""

    def __init__(self, tables: Tables, asked: Asked) -> None:
        self._tables = tables
        self._asked = asked
        self._now = asked.now
        status = asked.status
        limits = status.get("limits") or {}
        self._user_limit = _integer(limits.get("user"), NO_LIMIT)
        self._lane_limit = _integer(limits.get("campaign"), NO_LIMIT)
        self._pbx_limit = _integer(limits.get("pbx"), NO_LIMIT)
        self._pbx = status.get("pbx")
        self._told = store_trunks.told_of(tables, status, asked.now)
        self._put_off = store_hours.PUT_OFF
        self._others = any(
            pbx.pbx != self._pbx and (pbx.lease_until or 0.0) > asked.now for pbx in tables.pbxs.values()
        )
        self.got: list[Row] = []
        self.more = self._moved = False

    def _counts(self, row: Row) -> bool:
        """Does this call use up a limit? The lock lets each claim see all that came before it."""
        return row.in_air

    def run(self, room: int) -> None:
        """Claim up to `room` rows."""
        tables = self._tables
        pbx_room = self._pbx_limit - sum(self._counts(row) and row.pbx == self._pbx for row in tables.open.values())
        room = store_trunks.pbx_left(tables, self._told, min(room, pbx_room, store_trunks.all_left(tables), 500))
        if store_stops.standing(tables, "all", "") is not None:
            room = 0
        if room > 0:
            store_trunks.handed_take(tables, self._pbx, room, self._now)
        arriving = turns_refresh(tables, self._now)
        if not arriving:
            turns_repair(tables, self._now)
        for _ in range(PASSES):
            if len(self.got) >= room:
                break
            users = [user for user, turn in tables.tenants.items() if turn.ready and not turn.paused]
            users.sort(key=lambda user: (tables.tenants[user].served, user))
            users = users[: room - len(self.got)]
            if not users:
                break
            share = math.ceil((room - len(self.got)) / len(users))
            for user in users:
                if len(self.got) >= room:
                    break
                if not store_stops.user_stands(tables, user, self._now):
                    self._user(user, share, room)
        full = 0 < len(self.got) == room or (self._moved and len(self.got) < room)
        self.more = arriving or (
            full
            and len(self.got) < pbx_room
            and (
                any(turn.ready and not turn.paused for turn in tables.tenants.values())
                or any(row.status == "queued" and row.handed_to == self._pbx for row in tables.open.values())
            )
        )

    def _user(self, user: str, share: int, room: int) -> None:
        tables, now = self._tables, self._now
        day_left = store_forbidden.user_day(tables, user, self._asked.status, now)
        if day_left <= 0:
            return
        most = min(self._user_limit, tables.limits.get(("user", user), NO_LIMIT))
        left = most - sum(self._counts(row) and row.user_id == user for row in tables.open.values())
        trunks_left = store_trunks.user_left(tables, self._told, user)
        full = min(left, trunks_left) <= 0
        left = min(left, trunks_left, day_left, share, room - len(self.got))
        mine = {lane: turn for (owner, lane), turn in tables.lanes.items() if owner == user}
        lanes: list[str] = []
        if left > 0:
            store_stops.lanes_resume(tables, user)
            lanes = sorted(
                (lane for lane, turn in mine.items() if turn.ready and not turn.paused),
                key=lambda lane: (mine[lane].served, lane),
            )[:left]
        lane_share = math.ceil(left / max(len(lanes), 1))
        for lane in lanes:
            if left <= 0:
                break
            left -= self._lane(user, lane, min(lane_share, left))
        told = [turn for turn in mine.values() if turn.ready or turn.wake_at is not None]
        wake_at = min((turn.wake_at for turn in told if turn.wake_at is not None), default=None)
        tenant = tables.tenants[user]
        urgent = any(turn.ready and not turn.paused and turn.served < 0 for turn in mine.values())
        tenant.served = turn_next(tables, urgent=urgent)
        tenant.ready = not full and any(turn.ready and not turn.paused for turn in mine.values())
        if full:
            away = 0.0 if self._others else 1.0
            tenant.wake_at = now + (away if trunks_left <= 0 else 2.0)
        elif any(turn.paused and turn.ready for turn in told):
            tenant.wake_at = min(now + 5.0, math.inf if wake_at is None else wake_at)
        else:
            tenant.wake_at = wake_at

    def _lane(self, user: str, lane: str, room: int) -> int:
        tables, now = self._tables, self._now
        if store_stops.campaign_stands(tables, lane):
            turn = tables.lanes[user, lane]
            tables.last_turn += 1
            turn.halted, turn.paused, turn.served = True, True, tables.last_turn
            return 0
        mine = [row for row in tables.open.values() if row.user_id == user and row.lane == lane]
        most = min(self._lane_limit, tables.limits.get(("campaign", lane), NO_LIMIT))
        if most < NO_LIMIT and lane != NO_LANE:
            room = min(room, most - sum(self._counts(row) for row in mine))
        found = store_hours.lane(tables, user, lane, self._put_off, now)
        self._put_off, got = found.most, 0
        if room > 0:
            mine = [row for row in tables.open.values() if row.user_id == user and row.lane == lane]
            due = [row for row in mine if row.status == "queued" and row.not_before <= now]
            due = [row for row in due if found.zones is None or row.zones in found.zones]
            due.sort(key=lambda row: (-row.priority, row.not_before, row.id))
            for row in due[:room]:
                if (one := claim_row(tables, row, self._asked, self._told)) is not None:
                    self.got.append(one)
                    got += 1
                else:
                    left = tables.open.get(row.id)
                    soon = left is not None and left.status == "queued" and left.not_before < now + 30.0
                    self._moved = self._moved or not soon
        due_at = store_hours.due(tables, user, lane, found)
        turn = tables.lanes[user, lane]
        turn.served = turn_next(tables, urgent=lane_urgent(tables, user, lane, now))
        turn.ready = room > 0 and due_at is not None and due_at <= now
        if room <= 0 and due_at is not None:
            turn.wake_at = now + 2.0
        else:
            turn.wake_at = due_at if due_at is not None and due_at > now else None
        return got
