"""`Store`: our SQL functions and tables in memory, for worlds that live thousands of lives a minute.

Each call is one transaction, one after another, as the advisory lock in SQL makes them. Time is an argument. It is held
against PostgreSQL by tests/simulation/test_store.py, by the same random histories.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any
from uuid import UUID

from adapter.core.hours import Window
from adapter.core.model import ClaimedRow, OpenCall, Way
from adapter.supabase_io import records
from adapter.supabase_io.database import Registered, SyncReply, SyncRequest
from tests.simulation import store_claim, store_records, store_stops, store_trunks
from tests.simulation.store_tables import (
    LIVE,
    NO_LANE,
    REGION,
    Adapter,
    Entry,
    Log,
    Pbx,
    Refused,
    RetryRule,
    Row,
    Tables,
    Trunk,
)

__all__ = ["Log", "Refused", "Row", "Store"]

LEASE_SECONDS = 60

MOST_ASKED = 200
"""Calls that one question of a witness may be about."""


class Store:
    """A project of Supabase, as adapters and people see it."""

    def __init__(self, random: Random, new_id: Callable[[int, float], str] | None = None) -> None:
        """`random` makes the call ids, unless `new_id` does (by row and time)."""
        self._random = random
        self._tables = Tables(new_id or self._drawn)

    def _drawn(self, _row: int, _now: float) -> str:
        return str(UUID(int=self._random.getrandbits(128), version=4))

    @property
    def tables(self) -> Tables:
        """Everything, for whoever compares it."""
        return self._tables

    @property
    def rows(self) -> Mapping[int, Row]:
        """`call_queue` by id."""
        return self._tables.rows

    @property
    def logs(self) -> Mapping[str, Log]:
        """`call_logs` by call id."""
        return self._tables.logs

    def live_calls(self, adapter: str | None) -> list[str]:
        """Calls in the air that this adapter claimed."""
        return [str(row.call_id) for row in self._tables.open.values() if row.in_air and row.adapter == adapter]

    def stored_outcome(self, call_id: str) -> str | None:
        """What `call_logs` says how this call ended."""
        log = self._tables.logs.get(call_id)
        if log is None or not isinstance(log.metadata, dict):
            return None
        outcome: str | None = log.metadata.get("outcome")
        return outcome

    def snapshot(self) -> Mapping[str, Any]:
        """A backup of the database."""
        return self._tables.snapshot()

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Back to that time, sequences included."""
        self._tables.restore(kept)

    # -- people, and the AI handler

    def insert(self, *, now: float, **columns: Any) -> int:
        """A row by its columns; its id, or 0 where its idempotency key is taken. Raises Refused."""
        return self._tables.insert(now=now, **columns)

    def edit(self, row: int, now: float, **changes: Any) -> bool:
        """An edit by hand; False if there is no such row. Raises Refused."""
        found = self._tables.rows.get(row)
        if found is not None:
            self._tables.update(found, now, changes, at_work=False)
        return found is not None

    def cancel(self, row: int, reason: str | None, now: float) -> str:
        """`call_cancel_v1`: the status the row has now. Raises Refused."""
        found = self._tables.rows.get(row)
        if found is None:
            raise Refused(f"call_queue has no row {row}", "PT404")
        if found.status not in {"queued", *LIVE}:
            return found.status
        words = found.cancel_reason if reason is None else reason[:500]
        changes = {"cancel_requested": True, "cancel_reason": words}
        return self._tables.update(found, now, changes, at_work=False).status

    def delete_row(self, row: int, now: float) -> bool:
        """A person deletes a row of the queue."""
        return self._tables.delete(row)

    def delete_log(self, call_id: str) -> bool:
        """A person deletes a call in the app."""
        return self._tables.logs.pop(call_id, None) is not None

    def handler_word(self, call_id: str, word: str, now: float, **columns: Any) -> bool:
        """The AI handler writes its status (and other columns) to call_logs; False if the row is not there."""
        if call_id not in self._tables.logs:
            return False
        self._tables.log_update(call_id, {**columns, "status": word, "updated_at": now})
        return True

    def pause(self, user: str, lane: str | None, paused: bool, now: float) -> bool:
        """Pause a user or one lane of his; False if the turn tables do not know it yet."""
        turn = self._tables.tenants.get(user) if lane is None else self._tables.lanes.get((user, lane))
        if turn is not None:
            if lane is None and turn.paused != paused:
                self._tables.user_paused(user, paused, now)
            turn.paused = paused
        return turn is not None

    def stop(self, kind: str, key: str, reason: str | None, now: float) -> tuple[bool, int]:
        """`call_pause_v1`: whether it was paused before, and calls that live. Raises Refused."""
        return store_stops.pause(self._tables, kind, key, reason, now)

    def unstop(self, kind: str, key: str, now: float) -> tuple[bool, str | None]:
        """`call_resume_v1`: whether there was something to resume, and what stands still."""
        forgiven = kind == "trunk" and self.forgive(key, now)
        return store_stops.resume(self._tables, kind, key, forgiven, now)

    def trunk(self, pbx: str, trunk: str, now: float, **columns: Any) -> None:
        """A person writes a trunk into `call_trunks`, or changes it."""
        known = self._tables.trunks.get((pbx, trunk))
        self._tables.trunks[pbx, trunk] = replace(known or Trunk(pbx=pbx, trunk=trunk), **columns)
        # "on conflict do update" is an insert and an update to triggers of the statement.
        self._tables.trunks_version += 2

    def drop_trunk(self, pbx: str, trunk: str, now: float) -> bool:
        """A person deletes one."""
        self._tables.trunks_version += 1
        return self._tables.trunks.pop((pbx, trunk), None) is not None

    def forgive(self, trunk: str, now: float) -> bool:
        """`call_trunk_forgive`."""
        found = [at for at in self._tables.health if at[1] == trunk]
        gone = [self._tables.health.pop(at) for at in found]
        return any(health.stopped_at is not None or health.cooled_at is not None for health in gone)

    def limit(self, kind: str, key: str | None, most: int | None, now: float) -> None:
        """A person sets the most calls of a user or campaign, or (kind all) of everything; None: takes it away."""
        if key is None:
            self._tables.max_calls = most
        elif most is None:
            self._tables.limits.pop((kind, key), None)
        else:
            self._tables.limits[kind, key] = most

    def hours(self, scope: str, of: str, windows: Sequence[Window], now: float) -> None:
        """A person sets the windows of a scope in `call_hours`."""
        self._tables.hours[scope, of] = tuple(windows)

    def dates(self, campaign: str, starts_at: float | None, ends_at: float | None, now: float) -> None:
        """A person says when a campaign begins and ends; neither: takes it away."""
        self._tables.dates.pop(campaign, None)
        if (starts_at, ends_at) != (None, None):
            self._tables.dates[campaign] = starts_at, ends_at

    def forbid(self, e164: str, user: str | None, expires_at: float | None, now: float) -> None:
        """A person lists a number in `do_not_call`, for a user or for all."""
        known = self._tables.do_not_call.get((e164, user))
        self._tables.do_not_call[e164, user] = Entry("by hand", expires_at, now if known is None else known.created_at)

    def user_cap(self, user: str, calls: int | None, minutes: int | None, now: float) -> None:
        """A person writes a user into `call_user_caps`."""
        self._tables.user_caps[user] = calls, minutes

    def user_zone(self, user: str, zone: str | None, now: float) -> None:
        """A person sets the zone of a user."""
        self._tables.user_zones.pop(user, None)
        if zone is not None:
            self._tables.user_zones[user] = zone

    def retry(self, scope: str, of: str | None, outcome: str, said: RetryRule | None, now: float) -> None:
        """A person sets what follows after an outcome, or (None) takes it away."""
        self._tables.retries.pop((scope, of or NO_LANE, outcome), None)
        if said is not None:
            self._tables.retries[scope, of or NO_LANE, outcome] = said

    def forget_turns(self, user: str, now: float) -> int:
        """The turn tables lose a user: the sweep has to find his rows again. Returns how many lanes went."""
        lanes = [at for at in self._tables.lanes if at[0] == user]
        for at in lanes:
            del self._tables.lanes[at]
        gone = self._tables.tenants.pop(user, None)
        if gone is not None and gone.paused:
            self._tables.user_paused(user, False, now)
        return len(lanes)

    # -- adapters

    def register(  # noqa: PLR0917  # As it is called everywhere.
        self, adapter: str, expected: int, nonce: str, pbx: str | None, info: Mapping[str, Any], now: float
    ) -> Registered:
        """`call_register_v1`."""
        known = self._tables.adapters.get(adapter)
        stored = known.incarnation if known is not None else 0
        again = known is not None and (stored, known.nonce) == (expected + 1, nonce)
        if again and known is not None and known.request is not None:
            again = not _another(known.info.get("process"), info.get("process"))
        if stored != expected and not again:
            return Registered(accepted=False, incarnation=stored)
        made = Adapter(
            adapter=adapter,
            incarnation=expected + 1,
            nonce=nonce,
            pbx=pbx,
            info=info,
            registered_at=now,
            seen_at=now,
            steady_since=now,
            told=self._tables.last_claim,
        )
        if known is not None:
            made.status, made.claim_id = known.status, known.claim_id
            made.request = known.request if stored == expected + 1 else None
            made.told = known.told
        self._tables.adapters[adapter] = made
        return Registered(
            accepted=True,
            incarnation=expected + 1,
            now=now,
            claim_number=self._tables.last_claim,
            open=self._open(lambda row: row.adapter == adapter),
        )

    def sync(self, adapter: str, incarnation: int, request: SyncRequest, now: float) -> SyncReply:
        """`call_sync_v1`."""
        tables, status = self._tables, request.status
        recorded, refused, notes = self._record(adapter, request, now)
        me = tables.adapters.get(adapter)
        if me is None or me.incarnation != incarnation or _another(me.info.get("process"), status.get("process")):
            current = "not registered" if me is None else me.incarnation
            notes.append(f"run {incarnation} of this adapter is not the current one ({current})")
            return SyncReply(
                now=now, fenced=True, holder=False, lease_until=None, epoch=None, claim_number=tables.last_claim,
                recorded=recorded, refused=refused, notes=tuple(notes), rows=(), more=False, hangups=(), takeover=(),
            )  # fmt: skip
        number: Any = status.get("request")
        overtaken = number is not None and me.request is not None and number <= me.request
        seen: Any = status.get("seen")
        told = me.told
        restored = seen is not None and told is not None and seen > told
        held, taken, steady = self._heartbeat(me, status, now)
        holder = held is not None and held.holder == adapter
        if status.get("region", REGION) != REGION:
            notes.append(
                f"the default region is {REGION} here and {status['region']} there: set it to the same in "
                "call_settings.default_region"
            )
        store_claim.housekeep(tables, steady, now)
        rows, more = ([], False) if restored else self._claim(me, request, holder and not overtaken, now)
        if holder:
            notes += store_trunks.unfit(tables, status.get("pbx"))
        if not restored:
            me.told = max(told or 0, tables.last_claim)
        return SyncReply(
            now=now,
            fenced=False,
            holder=holder,
            lease_until=held.lease_until if held is not None else None,
            epoch=held.epoch if held is not None else None,
            claim_number=tables.last_claim,
            recorded=recorded,
            refused=refused,
            notes=tuple(notes),
            rows=tuple(_claimed(row) for row in rows),
            more=more,
            hangups=self._hangups(adapter, status.get("pbx") if holder else None),
            takeover=self._open(lambda row: row.pbx == status.get("pbx") and row.adapter != adapter) if taken else (),
            told=told,
            ways=None if status.get("trunks_version") == tables.trunks_version else self._ways(status.get("pbx")),
            trunks_version=tables.trunks_version,
        )

    def _ways(self, pbx: object) -> tuple[Way, ...]:
        """As `call_ways`."""
        mine = [trunk for (at, _), trunk in sorted(self._tables.trunks.items()) if at == pbx and trunk.enabled]
        return tuple(records.decode_way({**store_trunks.told_way(trunk), "caller_id": None}) for trunk in mine)

    def witness(self, adapter: str, calls: Sequence[str], now: float) -> tuple[OpenCall, ...]:
        """`call_witness_v1`."""
        me = self._tables.adapters.get(adapter)
        if me is None or me.pbx is None:
            return ()
        found = {self._tables.by_call.get(call) for call in calls[:MOST_ASKED]} - {None}
        rows = [self._tables.rows[row] for row in found if row is not None]
        return _opened(row for row in rows if row.pbx == me.pbx and row.e164 is not None and _end_unknown(row))

    def _record(
        self, adapter: str, request: SyncRequest, now: float
    ) -> tuple[tuple[int, ...], tuple[tuple[int, str], ...], list[str]]:
        recorded: list[int] = []
        refused: list[tuple[int, str]] = []
        notes: list[str] = []
        for seq, told in request.records:
            try:
                note = store_records.record(self._tables, adapter, told, now)
            except Refused as error:
                refused.append((seq, f"{error.words} ({error.code})"))
                continue
            recorded.append(seq)
            if note is not None:
                notes.append(note)
        return tuple(recorded), tuple(refused), notes

    def _heartbeat(self, me: Adapter, status: Mapping[str, Any], now: float) -> tuple[Pbx | None, bool, bool]:
        """As `call_heartbeat`: the PBX as this adapter is told of it; was it taken over; is all steady."""
        name, ready = status.get("pbx"), bool(status.get("ready"))
        lease = float(status.get("lease_seconds") or LEASE_SECONDS)
        if me.seen_at is None or me.seen_at < now - lease / 3:
            me.steady_since, me.ready_since = now, None
        if not ready:
            me.ready_since = None
        elif me.pbx != name or me.ready_since is None:
            me.ready_since = now
        steady = me.steady_since is not None and me.steady_since <= now - lease
        me.seen_at, me.status = now, status
        if (number := status.get("request")) is not None:
            me.request = number if me.request is None else max(number, me.request)
        if name is None:
            return None, False, steady
        me.pbx = name
        held = self._tables.pbxs.get(name)
        if held is None:
            if not ready:
                return None, False, steady
            held = Pbx(
                pbx=name,
                holder=me.adapter,
                lease_until=now + lease,
                trunk=status.get("trunk"),
                boot=status.get("pbx_boot"),
                taken_at=now,
            )
            self._tables.pbxs[name] = held
            return held, False, steady
        return held, self._renew(held, me, status, now, lease), steady

    def _renew(self, held: Pbx, me: Adapter, status: Mapping[str, Any], now: float, lease: float) -> bool:
        """Renew the lease, or take it; True: the calls of others are handed over."""
        former, taken = held.former, False
        if held.holder != me.adapter:
            free = held.holder is None
            lapsed = held.lease_until is not None and held.lease_until <= now
            taken = not free and lapsed and me.ready_since is not None and me.ready_since <= now - lease
            if not ((free and status.get("ready")) or taken):
                return False
            held.epoch += 1
            held.former, held.holder, held.taken_at = held.holder, me.adapter, now
        held.lease_until = now + lease
        if "trunk" in status:
            held.trunk = status["trunk"]
        held.boot = status.get("pbx_boot") or held.boot
        told = status.get("epoch")
        return taken or (former is not None and told is not None and int(told) < held.epoch)

    def _claim(self, me: Adapter, request: SyncRequest, may: bool, now: float) -> tuple[list[Row], bool]:
        claim_id = request.claim_id
        if claim_id is not None and me.claim_id == claim_id:
            again = [
                row
                for row in self._tables.open.values()
                if row.in_air and row.claim_id == claim_id and row.adapter == me.adapter
            ]
            return sorted(again, key=_by_number), False
        if claim_id is None or request.room <= 0 or not may or not request.status.get("ready"):
            return [], False
        claim = store_claim.Claim(
            self._tables, store_claim.Asked(me.adapter, me.incarnation, request.status, claim_id, now)
        )
        claim.run(request.room)
        if claim.got:
            me.claim_id = claim_id
        return claim.got, claim.more

    def _hangups(self, adapter: str, held: object) -> tuple[str, ...]:
        rows = [
            row
            for row in self._tables.open.values()
            if row.cancel_requested
            and row.in_air
            and (row.adapter == adapter or (held is not None and row.pbx == held))
        ]
        return tuple(str(row.call_id) for row in sorted(rows, key=_by_number))

    def _open(self, wanted: Callable[[Row], bool]) -> tuple[OpenCall, ...]:
        return _opened(row for row in self._tables.open.values() if row.in_air and wanted(row))


def _opened(rows: Iterable[Row]) -> tuple[OpenCall, ...]:
    """As `call_open` shows them."""
    return tuple(
        OpenCall(
            row=_claimed(row),
            incarnation=row.incarnation or 0,
            originated_at=row.originated_at,
            answered_at=row.answered_at,
            cancel_requested=row.cancel_requested,
        )
        for row in sorted(rows, key=_by_number)
    )


def _end_unknown(row: Row) -> bool:
    """Is the end of this row's call not known here?"""
    return row.outcome is None if row.status in LIVE else row.last_outcome == "unknown"


def _another(registered: object, asking: object) -> bool:
    return None not in {registered, asking} and registered != asking


def _by_number(row: Row) -> int:
    return row.claim_number or 0


def _claimed(row: Row) -> ClaimedRow:
    """As `call_claimed`."""
    assert row.call_id is not None
    assert row.claim_number is not None
    assert row.e164 is not None
    assert row.claimed_at is not None
    rung = row.attempts == 0 and not row.faults and row.not_before <= row.created_at
    return ClaimedRow(
        row_id=row.id,
        call_id=row.call_id,
        claim_number=row.claim_number,
        attempt=row.attempts + 1,
        user_id=row.user_id,
        phone_number=row.phone_number,
        e164=row.e164,
        campaign_id=row.campaign_id,
        contact_id=row.contact_id,
        prompt_id=row.prompt_id,
        customer_name=row.customer_name,
        caller_id=row.caller_id,
        ring_seconds=row.ring_seconds,
        variables=row.variables,
        claimed_at=row.claimed_at,
        bell_at=row.created_at if rung else None,
        pbx_boot=row.pbx_boot,
        way=None if row.way is None else records.decode_way(row.way),
    )
