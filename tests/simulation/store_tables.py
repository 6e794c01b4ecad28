"""The tables of our SQL in memory, with the triggers of `call_queue` (supabase/migrations/…100 and …400).

A row that stands in a table is never changed in place: `update` puts a new one there. So whoever holds a row holds what
it was when he read it, as a variable of PL/pgSQL does, and a copy of all tables costs next to nothing.

Not modeled, as no adapter sees it: the bell's throttle (`call_bell`), probes of `doctor`, rows locked by other sessions
(one call is one step here), call_logs rows that cannot be written, and campaigns (tests/supabase/test_campaigns.py):
all rows here are of campaigns that the app does not know.
"""

import math
import re
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from adapter.core import numbers
from adapter.core.hours import Window, zone_known

NO_LANE = "00000000-0000-0000-0000-000000000000"
REGION = "MY"
DAY = 86400.0
MONTH = 30 * DAY
LIVE = ("dialing", "talking")
FINAL = ("done", "canceled")
STATUSES = ("queued", *LIVE, *FINAL)


class Refused(Exception):
    """What PostgreSQL raises: its words, and its code."""

    def __init__(self, words: str, code: str = "P0001") -> None:
        super().__init__(words)
        self.words = words
        self.code = code


class Rule(NamedTuple):
    """A row of `call_outcomes`."""

    spends: bool
    retried: str
    bound: int
    delay: float
    words: str


RULES: Mapping[str, Rule] = {
    "answered": Rule(True, "never", 0, 0.0, "answered"),
    "no_answer": Rule(True, "policy", 0, 0.0, "nobody answered"),
    "busy": Rule(True, "policy", 0, 0.0, "the line was busy"),
    "declined": Rule(True, "never", 0, 0.0, "the callee declined the call"),
    "voicemail": Rule(True, "policy", 0, 0.0, "an answering machine took the call"),
    "no_reply": Rule(True, "policy", 0, 0.0, "the carrier never said that it rang"),
    "invalid_number": Rule(True, "never", 0, 0.0, "there is no such number"),
    "rejected": Rule(False, "own_bound", 3, 60.0, "the carrier refused the call"),
    "congestion": Rule(False, "own_bound", 3, 30.0, "the carrier is overloaded or failing"),
    "trunk_unavailable": Rule(False, "own_bound", 3, 30.0, "the trunk is down or unknown to the PBX"),
    "pbx_error": Rule(False, "own_bound", 3, 30.0, "the PBX refused to place the call"),
    "ai_failed": Rule(True, "never", 0, 0.0, "answered, but our side dropped the call at once"),
    "blocked": Rule(False, "never", 0, 0.0, "not called"),
    "canceled": Rule(False, "never", 0, 0.0, "canceled"),
    "unknown": Rule(True, "never", 0, 0.0, "how the call ended was not seen"),
}


@dataclass(kw_only=True)
class Row:
    """A row of `call_queue`. Instants are seconds since the epoch."""

    id: int
    user_id: str
    phone_number: str
    created_at: float
    updated_at: float
    not_before: float
    expires_at: float
    status: str = "queued"
    customer_name: str | None = None
    outcome: str | None = None
    ended_reason: str | None = None
    campaign_id: str | None = None
    contact_id: str | None = None
    prompt_id: str | None = None
    agent_id: str | None = None
    idsale: str | None = None
    priority: int = 5
    expires_fixed: bool = False
    max_attempts: int = 1
    retry_seconds: int = 1800
    attempts_from: str | None = None
    wait_from: str | None = None
    attempts: int = 0
    spent: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    cancel_requested: bool = False
    cancel_reason: str | None = None
    caller_id: str | None = None
    trunk: str | None = None
    ring_seconds: int | None = None
    variables: Any = field(default_factory=dict)
    metadata: Any = field(default_factory=dict)
    idempotency_key: str | None = None
    e164: str | None = None
    country: str | None = None
    zone: str | None = None
    call_id: str | None = None
    claim_number: int | None = None
    claim_id: str | None = None
    adapter: str | None = None
    incarnation: int | None = None
    pbx: str | None = None
    pbx_boot: str | None = None
    claimed_at: float | None = None
    originated_at: float | None = None
    ringing_at: float | None = None
    answered_at: float | None = None
    ended_at: float | None = None
    deadline: float | None = None
    settle_at: float | None = None
    clock_at: float | None = None
    call_facts: dict[str, Any] | None = None
    last_outcome: str | None = None
    last_reason: str | None = None
    wait_reason: str | None = None
    callee_zone: str | None = None
    zones: str = ""
    dialed_trunk: str | None = None
    way: Mapping[str, Any] | None = None
    trunks_tried: list[str] = field(default_factory=list)
    handed_to: str | None = None

    @property
    def lane(self) -> str:
        """Where it waits."""
        return self.campaign_id or NO_LANE

    @property
    def in_air(self) -> bool:
        """Its call lives, as far as anybody knows."""
        return self.outcome is None and self.status in LIVE


_SET_BY_US = (
    "call_id", "claim_number", "claim_id", "adapter", "incarnation", "pbx", "pbx_boot", "claimed_at", "originated_at",
    "ringing_at", "answered_at", "deadline", "settle_at", "clock_at", "call_facts", "last_outcome", "last_reason",
    "wait_reason", "zones", "dialed_trunk", "way", "trunks_tried", "handed_to", "attempts_from", "wait_from", "spent",
)  # fmt: skip
"""Columns that an insert cannot set."""

_OF_INSERT = frozenset(column.name for column in fields(Row)) - {"id", "created_at", "updated_at", *_SET_BY_US}


@dataclass(kw_only=True)
class Log:
    """A row of `call_logs`, as far as we write it."""

    call_id: str
    user_id: str
    agent_id: str
    caller_number: str
    phone_number: str
    start_time: float
    duration: int | None
    status: str
    campaign_id: str | None
    contact_id: str | None
    prompt_id: str | None
    customer_name: str | None
    idsale: str | None
    metadata: Any
    created_at: float
    updated_at: float


@dataclass(kw_only=True)
class Turn:
    """A row of `call_lanes`, and most of one of `call_tenants`."""

    ready: bool = False
    wake_at: float | None = None
    served: int = 0
    paused: bool = False


@dataclass(kw_only=True)
class Tenant(Turn):
    """A row of `call_tenants`."""

    capped_until: float | None = None


@dataclass(kw_only=True)
class Dial:
    """A row of `call_dials`, as far as rules read it."""

    user_id: str
    e164: str
    claimed_at: float
    quiet: bool = False
    talk_seconds: int = 0


@dataclass(kw_only=True)
class Day:
    """A row of `call_days`."""

    calls: int = 0
    seconds: int = 0
    closed_at: float | None = None


class Entry(NamedTuple):
    """A row of `do_not_call`; its key is the number and the user."""

    source: str
    expires_at: float | None
    created_at: float


@dataclass(kw_only=True)
class LaneTurn(Turn):
    """A row of `call_lanes`."""

    halted: bool = False


@dataclass(kw_only=True)
class Stop:
    """A row of `call_stops`."""

    kind: str
    key: str
    began: float
    ended: float | None = None
    reason: str | None = None
    canceling: bool = False
    due_at: float | None = None


@dataclass(kw_only=True)
class Adapter:
    """A row of `call_adapters`."""

    adapter: str
    incarnation: int
    nonce: str
    pbx: str | None
    info: Mapping[str, Any]
    registered_at: float
    seen_at: float | None
    steady_since: float | None
    status: Mapping[str, Any] = field(default_factory=dict)
    ready_since: float | None = None
    claim_id: str | None = None
    request: int | None = None
    told: int | None = None


@dataclass(kw_only=True)
class Pbx:
    """A row of `call_pbx`."""

    pbx: str
    holder: str | None
    lease_until: float | None
    trunk: str | None
    boot: str | None
    taken_at: float
    epoch: int = 1
    former: str | None = None


@dataclass(kw_only=True)
class Trunk:
    """A row of `call_trunks`."""

    pbx: str
    trunk: str
    user_id: str | None = None
    form: str = "trunk"
    number_style: str = "e164"
    strip_prefix: str = ""
    add_prefix: str = ""
    prefixes: list[str] = field(default_factory=list)
    max_channels: int | None = None
    calls_per_second: float | None = None
    priority: int = 5
    caller_ids: list[str] = field(default_factory=list)
    enabled: bool = True


@dataclass(kw_only=True)
class Health:
    """A row of `call_trunk_health`."""

    recent: str = ""
    silent: int = 0
    cools: int = 0
    cooled_at: float | None = None
    cooled_until: float | None = None
    stopped_at: float | None = None
    probed_at: float | None = None


class RetryRule(NamedTuple):
    """A row of `call_retry_rules`."""

    calls: int | None
    delays: tuple[int, ...] | None
    spread: int | None


class Number(NamedTuple):
    """What `call_number_v1` says."""

    e164: str | None
    country: str | None
    zone: str | None
    problem: str | None


@lru_cache(maxsize=4096)
def read_number(raw: str) -> Number:
    """As `call_number_v1` for numbers of Malaysia; of wrong ones only those that are wrong in the plainest way."""
    digits = re.sub(r"[ \t\-./()]", "", raw)
    if len(raw) > numbers.MAX_WRITTEN:
        return Number(None, None, None, "the phone number is too long")
    if not digits:
        return Number(None, None, None, "the phone number is empty")
    if not re.fullmatch(r"\+?[0-9]+", digits):
        return Number(None, None, None, "the phone number contains something that is no digit")
    national = len(digits.removeprefix("+60"))
    if national < numbers.MIN_NATIONAL_DIGITS:
        return Number(None, None, None, f"the phone number is too short ({national} digits without the country code)")
    read = numbers.parse(raw, REGION)
    return Number(read.e164, read.country, "Asia/Kuala_Lumpur" if read.country == REGION else None, None)


def zones_of(row: Row) -> str:
    """As `call_queue_hours` writes them: of the numbers here only Washington tells more than its region."""
    if row.callee_zone is not None and zone_known(row.callee_zone):
        return row.callee_zone
    return row.zone or ("America/New_York" if row.e164 is not None and row.e164.startswith("+1202") else "")


def zone_problem(zone: str | None) -> str | None:
    """As `call_zone_problem`, of zones in plain letters."""
    if zone is None or zone_known(zone):
        return None
    return f'callee_zone "{zone}" is no time zone: write it as Asia/Kuala_Lumpur'


def hours_zones(tables: "Tables", user: str, zones: str) -> list[str] | None:
    """As `call_hours_zones`."""
    found = zones or tables.user_zones.get(user)
    return None if found is None else found.split(" ")


def local_form(e164: str) -> str:
    """As the app shows it."""
    return "0" + e164[3:] if e164.startswith("+60") else e164[1:]


def instant_text(at: float | None) -> str | None:
    """As PostgreSQL casts an instant to text, in UTC."""
    if at is None:
        return None
    moment = datetime.fromtimestamp(at, UTC)
    fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
    return f"{moment:%Y-%m-%d %H:%M:%S}{fraction}+00"


_Table = TypeVar("_Table", Row, Log)


def changed(old: _Table, changes: Mapping[str, Any]) -> _Table:
    """A copy with other values. (copy.copy and dataclasses.replace take ten times as long.)"""
    new = object.__new__(type(old))
    new.__dict__.update(old.__dict__)
    new.__dict__.update(changes)
    return new


def without_nulls(facts: Mapping[str, Any]) -> dict[str, Any]:
    """As `jsonb_strip_nulls` of an object of texts."""
    return {key: value for key, value in facts.items() if value is not None}


class Tables:
    """All tables and sequences, and what their triggers do."""

    def __init__(self, new_id: Callable[[int, float], str]) -> None:
        """`new_id` makes the call id of a row, by its id and the time."""
        self.new_id = new_id
        self.rows: dict[int, Row] = {}
        self.logs: dict[str, Log] = {}
        self.open: dict[int, Row] = {}
        """Rows that have not ended: all that a function ever looks through."""

        self.by_call: dict[str, int] = {}
        self.tenants: dict[str, Tenant] = {}
        self.lanes: dict[tuple[str, str], LaneTurn] = {}
        self.arrivals: list[tuple[str, str, float]] = []
        self.pauses: list[tuple[str, float, float | None]] = []
        """When users were paused: from, to. None: they are."""

        self.hours: dict[tuple[str, str], tuple[Window, ...]] = {}
        """`call_hours` by scope and its id."""

        self.dates: dict[str, tuple[float | None, float | None]] = {}
        """`call_campaign_dates`."""

        self.user_zones: dict[str, str] = {}
        self.retries: dict[tuple[str, str, str], RetryRule] = {}
        """`call_retry_rules` by scope, its id and the outcome."""

        self.dials: dict[str, Dial] = {}
        self.days: dict[tuple[str, date], Day] = {}
        self.do_not_call: dict[tuple[str, str | None], Entry] = {}
        self.user_caps: dict[str, tuple[int | None, int | None]] = {}
        """`call_user_caps`: calls, minutes."""

        self.adapters: dict[str, Adapter] = {}
        self.pbxs: dict[str, Pbx] = {}
        self.trunks: dict[tuple[str, str], Trunk] = {}
        self.health: dict[tuple[str, str], Health] = {}
        self.limits: dict[tuple[str, str], int] = {}
        self.max_calls: int | None = None
        self.trunks_version = 1
        self.stops: dict[int, Stop] = {}
        self.last_stop = 0
        self.last_row = 0
        self.last_claim = 0
        self.last_turn = 0
        self.repair: tuple[str, str] | None = None
        self.repaired_at = -math.inf
        self.rings = 0
        """How often a claim rang the bell. No part of the database: a bell that rang has rung."""

    _PLAIN = (
        "rows",
        "logs",
        "open",
        "by_call",
        "arrivals",
        "pauses",
        "hours",
        "dates",
        "user_zones",
        "limits",
        "retries",
        "do_not_call",
        "user_caps",
    )
    _DEEP = ("tenants", "lanes", "adapters", "pbxs", "trunks", "health", "dials", "days", "stops")
    _SINGLE = (
        "last_stop", "last_row", "last_claim", "last_turn", "repair", "repaired_at", "max_calls", "trunks_version",
    )  # fmt: skip

    def snapshot(self) -> Mapping[str, Any]:
        """All tables and sequences as they are now."""
        kept = {name: getattr(self, name) for name in self._SINGLE}
        kept |= {name: getattr(self, name).copy() for name in self._PLAIN}
        return kept | {name: {key: copy(row) for key, row in getattr(self, name).items()} for name in self._DEEP}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """As they were then. The same snapshot can be restored again."""
        for name in self._SINGLE:
            setattr(self, name, kept[name])
        for name in self._PLAIN:
            setattr(self, name, kept[name].copy())
        for name in self._DEEP:
            setattr(self, name, {key: copy(row) for key, row in kept[name].items()})

    def trunks_owner(self, user: str | None) -> str | None:
        """As `call_trunks_owner`; None: the shared ones."""
        return user if any(trunk.user_id == user for trunk in self.trunks.values()) else None

    # -- people

    def user_paused(self, user: str, paused: bool, now: float) -> None:
        """As `call_tenant_changed`."""
        if paused:
            self.pauses.append((user, now, None))
        else:
            self.pauses = [
                (who, began, now if who == user and ended is None else ended) for who, began, ended in self.pauses
            ]

    def insert(self, *, now: float, **columns: Any) -> int:
        """Insert one row; its id, or 0 where the key is taken. Raises Refused."""
        self.last_row += 1  # A row that is refused has taken its number.
        if unknown := columns.keys() - _OF_INSERT:
            raise TypeError(f"call_queue has no {', '.join(sorted(unknown))} to be set by an insert")
        given = {name: value for name, value in columns.items() if value is not None}
        for name in ("user_id", "phone_number"):
            if name not in given:
                raise Refused(f"call_queue.{name} is missing", "23502")
        status, priority, key = given.get("status", "queued"), given.get("priority", 5), given.get("idempotency_key")
        if status not in STATUSES:
            raise Refused(f'call_queue.status cannot be "{status}": insert rows as queued', "23514")
        if not 0 <= priority <= 9:
            raise Refused(f"call_queue.priority must be 0 to 9, not {priority}", "23514")
        if key is not None and len(key) <= 200 and self._key_taken(given["user_id"], key):
            return 0
        row = self._before_insert(given, now)
        self._insert_hours(row, now)
        self._put(row)
        if row.status == "queued":
            self.arrivals.append((row.user_id, row.lane, row.not_before))
        if row.call_id is not None:
            self.log_uncalled(row, now)
        return row.id

    def _key_taken(self, user: str, key: str) -> bool:
        return any(row.user_id == user and row.idempotency_key == key for row in self.rows.values())

    def _before_insert(self, given: Mapping[str, Any], now: float) -> Row:
        not_before = given.get("not_before", now)
        fallback = max(not_before, now) + DAY if math.isfinite(not_before) else now
        values = {
            **given,
            "not_before": not_before,
            "expires_at": given.get("expires_at", fallback),
            "expires_fixed": "expires_at" in given,
            "attempts_from": None if "max_attempts" in given else "nothing",
            "wait_from": None if "retry_seconds" in given else "nothing",
            "attempts": 0,
            "faults": {},
        }
        row = Row(id=self.last_row, created_at=now, updated_at=now, **values)
        problem = _row_problem(row)
        row.e164, row.country, row.zone, number_problem = read_number(row.phone_number)
        if row.status in FINAL:
            row.outcome = row.outcome or ("canceled" if row.status == "canceled" else "blocked")
            row.ended_reason = row.ended_reason or f"inserted as {row.status}"
            row.ended_at = now if row.ended_at is None else row.ended_at
            row.expires_at = min(row.expires_at, now + MONTH)
            return row
        row.outcome = row.ended_reason = row.ended_at = None
        problem = number_problem or problem
        if problem is not None:
            row.status, row.outcome, row.ended_reason = "done", "blocked", problem
        elif row.cancel_requested:
            row.status = row.outcome = "canceled"
            row.ended_reason = row.cancel_reason or "canceled before it was dialed"
        if row.outcome is not None:
            row.call_id = self.new_id(row.id, now)
            row.ended_at = now
            if row.idempotency_key is not None and len(row.idempotency_key) > 200:
                row.idempotency_key = None
        row.expires_at = min(row.expires_at, now + MONTH)
        return row

    def _insert_hours(self, row: Row, now: float) -> None:
        """As `call_queue_hours`, of an insert."""
        from tests.simulation import store_hours  # noqa: PLC0415  # It knows us.

        row.zones = zones_of(row)
        if row.status != "queued":
            return
        if (problem := zone_problem(row.callee_zone)) is not None:
            row.status, row.outcome, row.ended_reason = "done", "blocked", problem
            row.call_id, row.ended_at = self.new_id(row.id, now), now
            return
        said = store_hours.rule(self, row, max(row.not_before, now))
        if said.until is not None:
            row.not_before, row.wait_reason = said.until, said.why
            if not row.expires_fixed:
                row.expires_at = min(said.until + DAY, now + MONTH)

    def delete(self, row_id: int) -> bool:
        """A person deletes a row; its call_logs rows stay."""
        if row_id not in self.rows:
            return False
        row = self.rows.pop(row_id)
        self.open.pop(row_id, None)
        if row.call_id is not None:
            self.by_call.pop(row.call_id, None)
        return True

    # -- updates

    def update(self, row: Row, now: float, changes: Mapping[str, Any], *, at_work: bool) -> Row:
        """Update the row of this id as it stands now. `at_work`: by our functions, not by hand. Raises Refused."""
        old = self.rows[row.id]
        new = changed(old, changes)
        queued_again = old.status != "queued" and new.status == "queued"
        if (
            new.updated_at == old.updated_at
            or queued_again
            or (old.status in LIVE and new.status not in LIVE)
            or (
                old.status == "queued"
                and (new.cancel_requested or new.status == "canceled" or new.phone_number != old.phone_number)
            )
        ):
            self._before_update(old, new, now, at_work)
        if (old.e164, old.callee_zone) != (new.e164, new.callee_zone):
            new.zones = zones_of(new)
            if (problem := zone_problem(new.callee_zone)) is not None:
                raise Refused(problem, "23514")
        if new.status not in STATUSES:
            raise Refused(
                'new row for relation "call_queue" violates check constraint "call_queue_status_check"', "23514"
            )
        self._put(new, old)
        if new.status == "queued" and (
            queued_again or (old.not_before, old.user_id, old.lane) != (new.not_before, new.user_id, new.lane)
        ):
            self.arrivals.append((new.user_id, new.lane, new.not_before))
        return new

    def _before_update(self, old: Row, new: Row, now: float, at_work: bool) -> None:
        if old.status in LIVE and new.status == "canceled":
            new.status = old.status
            new.cancel_requested = True
        elif old.status in LIVE and new.status != old.status and not at_work:
            raise Refused(
                f"row {old.id} of call_queue is in a call: its status is set by the adapter; "
                "set cancel_requested to hang up",
                "23514",
            )
        if not at_work:
            new.updated_at = now
            new.handed_to = new.handed_to if new.not_before == old.not_before else None
        if old.status != "queued":
            if new.status == "queued":
                new.e164, new.country, new.zone, _ = read_number(new.phone_number)
            return
        if new.status == "canceled" or (new.status == "queued" and new.cancel_requested):
            new.status = new.outcome = "canceled"
            new.ended_reason = new.cancel_reason or "canceled before it was dialed"
        elif new.status == "queued" and new.phone_number != old.phone_number:
            new.e164, new.country, new.zone, problem = read_number(new.phone_number)
            if problem is None:
                return
            new.status = "done"
            new.outcome, new.ended_reason = uncalled(new, problem)
        else:
            return
        new.ended_at = new.updated_at
        if new.attempts == 0:
            new.call_id = self.new_id(new.id, now)
            self.log_uncalled(new, now)

    def _put(self, new: Row, old: Row | None = None) -> None:
        self.rows[new.id] = new
        if new.status in FINAL:
            self.open.pop(new.id, None)
        else:
            self.open[new.id] = new
        if old is not None and old.call_id != new.call_id and old.call_id is not None:
            self.by_call.pop(old.call_id, None)
        if new.call_id is not None:
            self.by_call[new.call_id] = new.id

    # -- call_logs

    def log_insert(
        self, row: Row, status: str, *, duration: int | None, agent: str | None, facts: Mapping[str, Any], now: float
    ) -> None:
        """As `call_log_insert`."""
        assert row.call_id is not None
        number = local_form(row.e164) if row.e164 is not None else row.phone_number[:64]
        ours = {"adapter": "mikopbx-adapter", "queue_row": str(row.id)}
        self.logs[row.call_id] = Log(
            call_id=row.call_id,
            user_id=row.user_id,
            agent_id=row.agent_id or row.prompt_id or agent or "mikopbx-adapter",
            caller_number=number,
            phone_number=number,
            start_time=now,
            duration=duration,
            status=status,
            campaign_id=row.campaign_id,
            contact_id=row.contact_id,
            prompt_id=row.prompt_id,
            customer_name=row.customer_name,
            idsale=row.idsale,
            metadata={**_inserters(row.metadata), **ours, **facts},
            created_at=now,
            updated_at=now,
        )

    def log_uncalled(self, row: Row, now: float) -> None:
        """As `call_log_uncalled`."""
        facts = {"outcome": row.outcome, "ended_reason": row.ended_reason, "attempt": "0"}
        self.log_insert(row, "failed", duration=0, agent=None, facts=facts, now=now)

    def log_update(self, call_id: str, changes: Mapping[str, Any]) -> None:
        """Other values in the call_logs row of a call."""
        self.logs[call_id] = changed(self.logs[call_id], changes)


def uncalled(row: Row, reason: str) -> tuple[str, str]:
    """Outcome and words of a row for which no (further) call is made."""
    if row.last_outcome is None:
        return "blocked", reason
    return row.last_outcome, (f"{row.last_reason}; " if row.last_reason else "") + f"not tried again: {reason}"


def _inserters(metadata: Any) -> Mapping[str, Any]:
    """What the inserter's metadata brings into call_logs. Texts only here, so nothing is turned into one."""
    return without_nulls(metadata) if isinstance(metadata, dict) else {}


def _row_problem(row: Row) -> str | None:
    for wrong, words in (
        (row.status in LIVE, f"status {row.status} is set by the adapter only"),
        (len(row.customer_name or "") > 1000, "customer_name is too long (1000 characters at most)"),
        (len(row.agent_id or "") > 200, "agent_id is too long (200 characters at most)"),
        (len(row.idsale or "") > 200, "idsale is too long (200 characters at most)"),
        (
            row.caller_id is not None and not re.fullmatch(r"[^\x00-\x1f\x7f]{1,80}", row.caller_id),
            "caller_id is not a number or name of up to 80 characters",
        ),
        (
            row.trunk is not None and not re.fullmatch(r"[0-9A-Za-z_.-]{1,80}", row.trunk),
            "trunk is not the id of a provider",
        ),
        (len(row.idempotency_key or "") > 200, "idempotency_key is too long (200 characters at most)"),
        (row.ring_seconds is not None and not 5 <= row.ring_seconds <= 120, "ring_seconds must be 5 to 120"),
        (not 1 <= row.max_attempts <= 100, "max_attempts must be 1 to 100"),
        (not 0 <= row.retry_seconds <= 2592000, "retry_seconds must be 0 to 2592000"),
        (not isinstance(row.variables, dict), "variables is not an object"),
        (not isinstance(row.metadata, dict), "metadata is not an object"),
        (not math.isfinite(row.not_before), "not_before is no date"),
        (not math.isfinite(row.expires_at), "expires_at is no date"),
        (row.not_before > row.created_at + MONTH, "not_before is more than 30 days ahead"),
        (row.expires_at <= max(row.not_before, row.created_at), "expires_at is not later than not_before"),
    ):
        if wrong:
            return words
    return None
