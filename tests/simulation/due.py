"""Promise 8: who could have claimed a row, and since when. Whatever Realtime does, a sweep finds what is due.

Each second the world looks which rows could be claimed by whom: the row is due, its person is free, the limits of its
user and PBX leave room, a trunk of that PBX may call it and works, and the adapter says itself that it is ready and has
room, holds the PBX (or may take it), and gets its answers. A row that the same adapter could have claimed for a whole
sweep interval, without a second in between in which it could not, should have been claimed. No fault of Realtime is an
excuse, and no other one by its mere name.
"""

import math
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.simulation import store_forbidden, store_hours, store_stops, store_trunks
from tests.simulation.loop import Process
from tests.simulation.store import LEASE_SECONDS, Row
from tests.simulation.store_tables import LIVE

if TYPE_CHECKING:
    from tests.simulation.world import Machine, World

LOOK_SECONDS = 1.0

MARGIN_SECONDS = 2.0
"""Above the sweep interval: the answer to the last request and the way of the next one, each 0.8 s at most."""

ANSWER_SECONDS = 1.0
"""A request that is under way for longer has been lost."""

NOT_HERE = "no trunk may call"
"""The words with which a claim puts off a number that no trunk of its PBX may call."""

BACK_OFF_SECONDS = 16.0
"""After a failed request the next one comes this late at most (15 s, `Ticker._ask`)."""


class Due:
    """What this world knows about rows that wait."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._since: dict[tuple[int, Process], float] = {}
        """Since when this row could be claimed by that process."""

        self._asked: dict[Process, float] = {}
        """When it sent the request whose answer is not in."""

        self._failed: dict[Process, float] = {}
        """When its last request failed, unless one was answered since; by its own clock, which stands while the machine
        sleeps."""

        self._opens: dict[tuple[str, str, str], float] = {}
        """When rows of this user, lane and zones may be called again."""

        self._who: dict[Process, tuple[str, int]] = {}
        self._full: dict[Process, float] = {}
        """When it last got as many rows as it had asked for."""

        self._crowded: dict[str, float] = {}
        """When a claim last took the last place of this user, or may have taken that of this campaign or of a trunk of
        this PBX: it may be free again before the next look."""

        self._claimed: dict[int, float] = {}
        """When this row was claimed last, by anybody: it may be back before the next look."""

        self.late: dict[tuple[int, Process], str] = {}
        """Rows that waited for too long, in words."""

        world.later(LOOK_SECONDS, self._look)

    # What the line tells

    def asks(self, process: Process, who: tuple[str, int]) -> None:
        """A request goes out."""
        self._asked[process], self._who[process] = self._world.now, who

    def answered(self, process: Process, *, full: bool) -> None:
        """Its answer is in; `full`: it brought as many rows as there was room for."""
        self._asked.pop(process, None)
        self._failed.pop(process, None)
        if full:
            self._full[process] = self._world.now

    def failed(self, process: Process) -> None:
        """It was given up, or its answer was bad."""
        self._asked.pop(process, None)
        self._failed[process] = self._world.now - process.slept

    def claimed(self, row: int) -> None:
        """Somebody has it."""
        self._claimed[row] = self._world.now
        rows = self._world.store.tables
        user = rows.rows[row].user_id
        in_air = sum(other.in_air and other.user_id == user for other in rows.open.values())
        if any(in_air >= int(machine.settings["MAX_CALLS_PER_USER"]) for machine in self._world.machines):
            self._crowded[user] = self._world.now
        found = rows.rows[row]
        if ("campaign", found.lane) in rows.limits:
            self._crowded[found.lane] = self._world.now
        trunk = rows.trunks.get((str(found.pbx), str(found.dialed_trunk)))
        if trunk is not None and (trunk.max_channels is not None or trunk.calls_per_second is not None):
            self._crowded[trunk.pbx] = self._world.now

    # What is seen each second

    def _look(self) -> None:
        world = self._world
        world.later(LOOK_SECONDS, self._look)
        shut: dict[tuple[str, str, str], bool] = {}  # One answer for all rows of a kind: it costs most of a look.
        waiting = [row for row in world.store.tables.open.values() if self._is_due(row, shut)]
        found: dict[tuple[int, Process], float] = {}
        if waiting and world.restored_at is None:  # After a restore nothing is claimed until an operator has acted.
            for process, machine in self._able():
                sweep = float(machine.settings["SWEEP_SECONDS"])
                for row in self._within_limits(waiting, machine):
                    at = row.id, process
                    since = max(
                        self._since.get(at, world.now),
                        self._changed(process),
                        self._claimed.get(row.id, 0.0),
                        self._crowded.get(row.user_id, 0.0),
                        self._crowded.get(row.lane, 0.0),
                        self._crowded.get(machine.pbx.name, 0.0),
                    )
                    found[at] = since
                    if world.now - since > sweep + MARGIN_SECONDS:
                        words = f"row {row.id} could be claimed by {process.name} from {since:.1f} to {world.now:.1f}"
                        self.late.setdefault(at, words)
        self._since = found

    def _is_due(self, row: Row, shut: dict[tuple[str, str, str], bool]) -> bool:
        now = self._world.clock
        # That one PBX has no trunk for it is no reason for another that has one.
        begun = row.not_before <= now or (row.wait_reason or "").startswith(NOT_HERE)
        if row.status != "queued" or not begun or not now < row.expires_at or row.e164 is None:
            return False
        tables = self._world.store.tables
        kind = row.user_id, row.lane, row.zones
        if kind not in shut:
            shut[kind] = self._is_shut(kind, row, now)
        if shut[kind] or (tables.stops and store_stops.rule(tables, row, now) is not None):
            return False
        return self._has_day(row.user_id)

    def _is_shut(self, kind: tuple[str, str, str], row: Row, now: float) -> bool:
        """Is it outside the hours of such rows? The next opening is looked for once: hours stand from the start."""
        if self._opens.get(kind, now) > now:
            return True
        said = store_hours.rule(self._world.store.tables, row, now)
        if said.until is not None:
            self._opens[kind] = said.until
        return said.why is not None

    def _has_day(self, user: str) -> bool:
        """Has this user calls left today? One who had none is looked at again after some minutes."""
        tables, now = self._world.store.tables, self._world.clock
        if ((tenant := tables.tenants.get(user)) is not None) and (tenant.capped_until or 0.0) > now:
            return False
        most = int(self._world.machines[0].settings.get("MAX_CALLS_PER_USER_DAY", "0"))
        return store_forbidden.day_left(tables, user, {"caps": {"calls_per_day": most or None}}, now).calls != 0

    def _within_limits(self, waiting: list[Row], machine: "Machine") -> Iterator[Row]:
        rows = self._world.store.tables.open.values()
        if sum(row.in_air and row.pbx == machine.pbx.name for row in rows) >= int(machine.settings["MAX_CALLS"]):
            return
        tables = self._world.store.tables
        if not tables.trunks and not self._one_trunk(machine):
            return
        per_user = Counter(row.user_id for row in rows if row.in_air)
        per_campaign = Counter(row.lane for row in rows if row.in_air)
        busy = {row.e164 for row in rows if row.status in LIVE}
        for row in waiting:
            room = per_user[row.user_id] < int(machine.settings["MAX_CALLS_PER_USER"])
            room = room and per_campaign[row.lane] < tables.limits.get(("campaign", row.lane), math.inf)
            if room and row.e164 not in busy and (not tables.trunks or self._way(row, machine)):
                yield row

    def _one_trunk(self, machine: "Machine") -> bool:
        """Is the trunk of the settings fit for calls? Form route names none."""
        tables = self._world.store.tables
        held = tables.pbxs.get(machine.pbx.name)
        trunk = str(held.trunk or "") if held is not None else ""
        why, _, _ = store_trunks.fit(tables, machine.pbx.name, trunk, self._world.clock)
        return why is None and store_stops.told(tables, "trunk", trunk) is None

    def _way(self, row: Row, machine: "Machine") -> bool:
        """Is there a trunk for this row, as the adapter's last heartbeat tells? One that is being tried is none."""
        tables, now = self._world.store.tables, self._world.clock
        me = tables.adapters.get(machine.adapter)
        if me is None or "pbx" not in me.status:
            return False
        way = store_trunks.way(tables, row, store_trunks.told_of(tables, me.status, now))
        if way.trunk is None:
            return False
        why, _, probe = store_trunks.fit(tables, machine.pbx.name, way.trunk, now)
        return why is None and not probe

    def _able(self) -> Iterator[tuple[Process, "Machine"]]:
        for machine in self._world.machines:
            process, daemon = machine.process, machine.daemon
            if process is None or daemon is None or not process.alive or process.stopped_at is not None:
                continue
            heard = self._hears(process) and self._may_claim(process, machine)
            if heard and process.context.run(daemon._room) > 0 and daemon._ticker.went_back is None:
                yield process, machine

    def _hears(self, process: Process) -> bool:
        """Does it get its answers?"""
        now = self._world.now
        asked, failed = self._asked.get(process, now), self._failed.get(process, -math.inf)
        return now - asked <= ANSWER_SECONDS and now - process.slept - failed >= BACK_OFF_SECONDS

    def _may_claim(self, process: Process, machine: "Machine") -> bool:
        """Is it the one that dials through its PBX, or the one that may take it with its next request?"""
        tables, now = self._world.store.tables, self._world.clock
        name, run = self._who.get(process, ("", 0))
        me, held = tables.adapters.get(name), tables.pbxs.get(machine.pbx.name)
        if me is None or me.incarnation != run:
            return False
        if held is None or held.holder in {None, name}:
            return True
        lapsed = held.lease_until is not None and held.lease_until <= now
        return lapsed and me.ready_since is not None and me.ready_since <= now - LEASE_SECONDS

    def _changed(self, process: Process) -> float:
        """When it last logged in, came out of a standstill, or had no more room."""
        links, pauses = self._world.links.get(process), process.pauses
        return max(
            links[-1][0] if links else 0.0,
            pauses[-1][1] if pauses else 0.0,
            self._full.get(process, 0.0),
        )
