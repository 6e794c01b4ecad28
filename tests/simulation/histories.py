"""Random histories of a project: people, AI handlers and up to three adapters on two PBXs, drawn from one seed.

What happens next is drawn from what a `Store` has become, so that most of it is about something. Times are multiples of
an eighth of a second: exact in both clocks, and often exactly on a limit.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from adapter.core.hours import Window
from adapter.core.model import (
    AnsweredMark,
    CallTimes,
    Ending,
    Outcome,
    OutcomeRecord,
    ReleaseCause,
    ReleaseRecord,
)
from adapter.supabase_io.database import SyncRequest
from adapter.supabase_io.records import encode
from tests.simulation.store import Row, Store
from tests.simulation.store_tables import NO_LANE, RetryRule

START = 1_800_000_000.0
USERS = tuple(f"00000000-0000-4000-8000-0000000000a{last}" for last in range(3))
CAMPAIGNS = (None, None, "00000000-0000-4000-8000-0000000000c1", "00000000-0000-4000-8000-0000000000c2")
NUMBERS = (*(f"+60 12-345 67{last:02d}" for last in range(9)), "012-3456700", "+1 202-555-0143")
WRONG_NUMBERS = ("", "12345", "call me", "+60 12", "6" * 70)
PAUSES = (0.125, 0.5, 1.0, 1.0, 2.0, 2.0, 5.0, 5.0, 10.0, 15.0, 20.0, 20.125, 30.0, 60.0, 90.0)
STEADY_PAUSES = (2.0, 5.0, 10.0, 10.0, 20.0)
"""None of them makes a gap in the heartbeats of a lease of a minute; some two of them do."""

LONG_PAUSES = (300.0, 1800.0, 3600.0, 86400.0, 40 * 86400.0)
STRETCH = 20
"""Steps after which other adapters may fall silent."""

TRUNKS = ("SIP-1", "SIP-2", "SIP-3")
ZONES = ("Asia/Kuala_Lumpur", "America/New_York", "Australia/Lord_Howe")

LOG_WORDS = ("answered", "no_answered", "no_answer", "voicemail", "failed")
OUTCOMES = (*Outcome, Outcome.ANSWERED, Outcome.UNKNOWN, Outcome.NO_ANSWER)
OWN_BOUND = (Outcome.REJECTED, Outcome.CONGESTION, Outcome.TRUNK_UNAVAILABLE, Outcome.PBX_ERROR)
RETRIED = (
    "no_answer", "busy", "declined", "voicemail", "no_reply", "rejected", "congestion", "trunk_unavailable",
    "pbx_error", "unknown", "carrier", "us",
)  # fmt: skip
HANDLER_WORDS = ("completed", "ended", "voicemail", "no-answer", "in-progress", "failed", "busy")


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One operation of `Store`, with its arguments."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(slots=True)
class _Desk:
    """What a drawn adapter knows of itself."""

    adapter: str
    pbx: str
    trunk: str
    limits: Mapping[str, int]
    incarnation: int = 0
    nonce: str = ""
    process: str = ""
    claim_id: str | None = None
    request: int = 0
    ready: float = 0.9
    told: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)


class History:
    """One history. Carry out each step on the store before drawing the next."""

    def __init__(self, seed: int, store: Store) -> None:
        self._random = Random(seed)
        self._store = store
        self._now = START + self._random.randrange(8 * 86400) / 8
        self._seq = 0
        self._calls: list[str] = []
        self._numbers = self._random.sample(NUMBERS, self._random.randint(3, len(NUMBERS)))
        self._users = USERS[: self._random.randint(1, 3)]
        self._desks = [self._desk(number) for number in range(self._random.choice((1, 2, 2, 3)))]
        self._talk = self._random.choice(((0, 0, 1, 1, 2, 4), (0, 0, 0, 1), (0, 0, 0, 0, 0, 1)))
        """How many records a sync carries."""

        self._mood = self._random.choice((None, *OWN_BOUND, *OUTCOMES)) if self._random.random() < 0.5 else None
        """An outcome that most calls have."""

        self._many_trunks = self._random.random() < 0.5
        self._clockwork = Random(f"{seed} hours")
        self._timed = self._clockwork.random() < 0.3
        """Are there calling hours? Drawn apart, so that histories without them are what they are."""

        self._insisting = Random(f"{seed} retries")
        self._insists = self._insisting.random() < 0.4
        """Are there rules of retrying? Drawn apart as well."""

        self._censor = Random(f"{seed} forbidden")
        self._strict = self._censor.random() < 0.5
        """Are numbers listed, countries closed, users capped, calls counted? Drawn apart as well."""

        self._splitter = Random(f"{seed} split")
        self._split = len(self._desks) > 1 and self._splitter.random() < 0.5
        """Has each of two PBXs trunks that the other has not? Drawn apart as well."""

        if self._split:
            self._desks[1].pbx, self._desks[1].trunk = "pbx-2", "SIP-2"
        self._brakes = Random(f"{seed} stops")
        self._stopping = self._brakes.random() < 0.4
        """Is anything paused by command? Drawn apart as well."""

        self._releases = self._random.choice((0.15, 0.15, 0.5))
        self._heard = self._desks
        self._alone = False
        self._urge = self._random.choice((0.05, 0.2, 0.5))
        """How readily something else than a sync happens."""

    def _desk(self, number: int) -> _Desk:
        limits = {}
        for name, most in (("pbx", 6), ("user", 4), ("campaign", 2)):
            if self._random.random() < 0.4:
                limits[name] = self._random.randint(0, most)
        alone = self._random.random() < 0.6
        return _Desk(
            adapter=self._uuid(),
            pbx="pbx-1" if alone or number == 0 else "pbx-2",
            trunk="SIP-1" if alone or number == 0 else "SIP-2",
            limits=limits,
            ready=self._random.choice((0.9, 1.0, 1.0, 0.5)),
        )

    def steps(self, count: int) -> Iterator[Step]:
        """The history, `count` steps long."""
        for desk in self._desks:
            yield self._register(desk)
        for _ in range(self._random.randint(1, 4) if self._many_trunks else 0):
            yield self._trunk()
        if self._split and self._splitter.random() < 0.6:
            yield from self._halves()
        for _ in range(self._clockwork.randint(1, 3) if self._timed else 0):
            yield self._hours()
        for _ in range(self._insisting.randint(2, 6) if self._insists else 0):
            yield self._retry()
        for _ in range(self._random.randint(2, 8)):
            yield self._insert()
        for serial in range(count):
            if serial % STRETCH == 0:
                # Now and then only one of them is heard of for a while.
                self._alone = self._random.random() < 0.5
                self._heard = [self._random.choice(self._desks)] if self._alone else self._desks
            if self._random.random() < 0.05:
                yield self._sync(self._random.choice(self._heard))  # Within the same instant.
                continue
            self._now += self._random.choice(self._pauses())
            yield self._next()

    def _pauses(self) -> tuple[float, ...]:
        if self._alone:
            return STEADY_PAUSES
        return LONG_PAUSES if self._random.random() < 0.03 else PAUSES

    def _next(self) -> Step:
        if self._random.random() >= (0.1 if self._alone else self._urge):
            return self._sync(self._random.choice(self._heard))
        draw = self._random.choices(
            (
                self._insert,
                self._cancel,
                self._edit,
                self._handler,
                self._delete,
                self._pause,
                self._again,
                self._forget,
                self._witness,
                self._trunk,
                self._hours,
                self._retry,
                self._forbid,
                self._stop,
            ),
            (
                8,
                4,
                2,
                6,
                1,
                1,
                3,
                0.5,
                4,
                3 if self._many_trunks else 0,
                5 if self._timed else 0,
                4 if self._insists else 0,
                10 if self._strict else 0,
                8 if self._stopping else 0,
            ),
        )[0]
        return draw()

    # -- people

    def _insert(self) -> Step:
        dice = self._random
        row: dict[str, Any] = {"user_id": dice.choice(self._users), "phone_number": dice.choice(self._numbers)}
        for chance, name, value in (
            (0.05, "phone_number", dice.choice(WRONG_NUMBERS)),
            (0.5, "campaign_id", dice.choice(CAMPAIGNS)),
            (0.3, "priority", dice.randint(0, 9)),
            (0.5, "max_attempts", dice.choice((1, 2, 3, 3))),
            (0.7, "retry_seconds", dice.choice((5, 20, 60, 1800))),
            (0.2, "not_before", self._now + dice.choice((-3600.0, 0.0, 1.0, 20.0, 7200.0))),
            (0.2, "expires_at", self._now + dice.choice((5.0, 60.0, 3600.0, 50 * 86400.0))),
            (0.2, "idempotency_key", f"key {dice.randint(0, 2)}"),
            (0.1, "trunk", dice.choice(("SIP-1", "SIP-2", "SIP-3"))),
            (0.2, "ring_seconds", dice.choice((5, 30, 120))),
            (0.2, "customer_name", "Some One"),
            (0.2, "agent_id", "an agent"),
            (0.2, "idsale", "S-1"),
            (0.2, "prompt_id", self._uuid()),
            (0.2, "contact_id", self._uuid()),
            (0.2, "variables", {"NAME": "Some One"}),
            (0.2, "metadata", {"theirs": "kept", "outcome": "not theirs to say"}),
            (0.03, "cancel_requested", True),
            (0.02, "status", dice.choice(("done", "canceled", "dialing", "nonsense"))),
            (0.01, "priority", 10),
            (0.01, "user_id", None),
            (0.02, "max_attempts", dice.choice((0, 101))),
            (0.02, "ring_seconds", dice.choice((4, 121))),
            (0.02, "retry_seconds", dice.choice((-1, 2592001))),
            (0.02, dice.choice(("customer_name", "agent_id", "idsale")), "n" * dice.choice((200, 201, 1000, 1001))),
            (0.01, "caller_id", "a\nb"),
            (0.01, "trunk", "a b"),
            (0.01, "metadata", []),
            (0.02, "not_before", self._now + dice.choice((30, 31)) * 86400.0),
            (0.02, "expires_at", self._now - dice.choice((0.0, 1.0))),
            (0.01, "idempotency_key", "k" * 201),
        ):
            row |= {name: value} if dice.random() < chance else {}
        if self._timed and (draw := self._clockwork.random()) < 0.3:
            row["callee_zone"] = "nowhere" if draw < 0.02 else self._clockwork.choice(ZONES)
        if self._split and self._splitter.random() < 0.3:
            row["trunk"] = self._splitter.choice(("SIP-1", "SIP-2"))
        return Step(name="insert", arguments={**row, "now": self._now})

    def _some_row(self) -> int:
        rows = list(self._store.rows) or [1]
        opened = list(self._store.tables.open) or rows
        if self._random.random() < 0.05:
            return 10_000
        return self._random.choice(opened if self._random.random() < 0.8 else rows)

    def _cancel(self) -> Step:
        reason = self._random.choice((None, "an operator"))
        return Step(name="cancel", arguments={"row": self._some_row(), "reason": reason, "now": self._now})

    def _edit(self) -> Step:
        dice = self._random
        changes: dict[str, Any] = dice.choice(
            (
                {"status": "canceled"},
                {"status": "queued"},
                {"status": "done"},
                {"status": "queued", "cancel_requested": False},
                {"cancel_requested": True, "cancel_reason": "by hand"},
                {"phone_number": dice.choice((*NUMBERS, *WRONG_NUMBERS))},
                {"not_before": self._now + dice.choice((0.0, 60.0))},
                {"priority": 9},
                {"campaign_id": dice.choice(CAMPAIGNS)},
                {"status": "nonsense"},
            )
        )
        return Step(name="edit", arguments={"row": self._some_row(), "now": self._now, **changes})

    def _handler(self) -> Step:
        dice = self._random
        columns: dict[str, Any] = {}
        if dice.random() < 0.3:
            columns["duration"] = dice.choice((0, 17))
        if dice.random() < 0.2:
            columns["metadata"] = dice.choice(({}, {"theirs": "alone"}, None))
        word = dice.choice(HANDLER_WORDS)
        return Step(
            name="handler_word",
            arguments={"call_id": self._some_call(), "word": word, "now": self._now, **columns},
        )

    def _delete(self) -> Step:
        if self._random.random() < 0.5:
            return Step(name="delete_row", arguments={"row": self._some_row(), "now": self._now})
        return Step(name="delete_log", arguments={"call_id": self._some_call()})

    def _pause(self) -> Step:
        lane = self._random.choice((None, *CAMPAIGNS[2:], NO_LANE))
        paused = self._random.random() < 0.5
        user = self._random.choice(self._users)
        return Step(name="pause", arguments={"user": user, "lane": lane, "paused": paused, "now": self._now})

    def _stop(self) -> Step:
        """Somebody pauses something, or resumes it: often what stands."""
        dice = self._brakes
        standing = [stop for stop in self._store.tables.stops.values() if stop.ended is None]
        if standing and dice.random() < 0.5:
            stop = dice.choice(standing)
            return Step(name="unstop", arguments={"kind": stop.kind, "key": stop.key, "now": self._now})
        kind = dice.choice(("row", "row", "user", "campaign", "trunk", "all"))
        keys = {
            "row": [str(row) for row in self._store.tables.open] or ["1"],
            "user": self._users,
            "campaign": CAMPAIGNS[2:],
            "trunk": ("SIP-1", "SIP-1", "SIP-2", "SIP-3", "SIP-9"),
            "all": ("",),
        }
        arguments = {"kind": kind, "key": dice.choice(keys[kind]), "now": self._now}
        if dice.random() < 0.1:
            return Step(name="unstop", arguments=arguments)
        return Step(name="stop", arguments={**arguments, "reason": dice.choice((None, "by order"))})

    def _hours(self) -> Step:
        """Hours that open or shut about now in one of the zones, dates of a campaign, the zone of a user."""
        dice = self._clockwork
        draw = dice.random()
        if draw < 0.1:
            changes = {"callee_zone": dice.choice((*ZONES, None, "nowhere"))}
            return Step(name="edit", arguments={"row": self._some_row(), "now": self._now, **changes})
        if draw < 0.2:
            user, zone = dice.choice(self._users), dice.choice((*ZONES, None))
            return Step(name="user_zone", arguments={"user": user, "zone": zone, "now": self._now})
        if draw < 0.35:
            ends = [math.floor(self._now) + dice.choice((-3600.0, -60.0, 30.0, 300.0, 3 * 86400.0)) for _ in range(2)]
            starts_at, ends_at = dice.choice((
                (None, None), (min(ends), None), (None, max(ends)), (min(ends), max(ends) + 1.0),
            ))  # fmt: skip
            arguments = {"campaign": dice.choice(CAMPAIGNS[2:]), "starts_at": starts_at, "ends_at": ends_at}
            return Step(name="dates", arguments={**arguments, "now": self._now})
        scope, of = dice.choice((
            ("all", NO_LANE), ("user", dice.choice(self._users)), ("campaign", dice.choice(CAMPAIGNS[2:])),
        ))  # fmt: skip
        windows = [self._window() for _ in range(dice.choice((0, 1, 1, 2)))]
        return Step(name="hours", arguments={"scope": scope, "of": of, "windows": windows, "now": self._now})

    def _retry(self) -> Step:
        """What follows after an outcome, of any scope."""
        dice = self._insisting
        scope, of = dice.choice((
            ("default", None), ("user", dice.choice(self._users)), ("campaign", dice.choice(CAMPAIGNS[2:])),
        ))  # fmt: skip
        outcome = self._mood if self._mood in RETRIED and dice.random() < 0.5 else dice.choice(RETRIED)
        calls, spread = dice.choice((None, 0, 1, 2, 9)), None
        delays: tuple[int, ...] | None = dice.choice((None, (20,), (5, 60, 20)))
        if outcome in {"carrier", "us"}:
            delays = None
        else:
            delays = (3600, 7200) if outcome == "unknown" and delays else delays
            spread = dice.choice((None, 0, 50, 100))
        said = None if calls is None and delays is None and spread is None else RetryRule(calls, delays, spread)
        return Step(
            name="retry", arguments={"scope": scope, "of": of, "outcome": outcome, "said": said, "now": self._now}
        )

    def _forbid(self) -> Step:
        """A number is listed, for all or for one, or a user gets a cap of his own."""
        dice = self._censor
        user = dice.choice(self._users)
        if dice.random() < 0.25:
            calls, minutes = dice.choice((None, 0, 1, 3, 100)), dice.choice((None, None, 0, 1))
            return Step(name="user_cap", arguments={"user": user, "calls": calls, "minutes": minutes, "now": self._now})
        queued = [row for row in self._store.tables.open.values() if row.status == "queued"]
        waiting = sorted({row.e164 for row in queued if row.e164 is not None})
        number = dice.choice(waiting or ["+60123456700"])
        expires_at = dice.choice((None, self._now + 30.0, self._now - 30.0))
        arguments = {"e164": number, "user": dice.choice((None, user)), "expires_at": expires_at, "now": self._now}
        return Step(name="forbid", arguments=arguments)

    def _caps(self) -> Mapping[str, Any]:
        """What the heartbeat says of countries and caps; that of an older adapter says nothing."""
        dice = self._censor
        if not self._strict:
            return {"countries": ["*"], "caps": {"repeat": 1000, "repeat_hours": 1}}
        caps = {
            "calls_per_day": dice.choice((None, None, 2, 5)), "minutes_per_day": dice.choice((None, None, 1)),
            "repeat": dice.choice((1, 2, 3, 6)), "repeat_hours": dice.choice((1, 24)),
        }  # fmt: skip
        told: dict[str, Any] = {"caps": caps} if dice.random() < 0.8 else {}
        if dice.random() < 0.8:
            told["countries"] = dice.choice((["MY"], ["MY", "US"], ["*"], []))
        return told

    def _window(self) -> Window:
        dice = self._clockwork
        local = datetime.fromtimestamp(self._now, ZoneInfo(dice.choice(ZONES)))
        minute = local.hour * 60 + local.minute
        start, end = dice.choice((
            (minute - 60, minute + 1), (minute + 1, minute + 3), (minute - 5, minute + 600), (minute - 600, minute - 1),
        ))  # fmt: skip
        start = min(max(start, 0), 1439)
        days = dice.choice((range(1, 8), range(1, 6), (local.isoweekday(),), (1,)))
        return Window(days=frozenset(days), start=start * 60, end=min(max(end, start + 1), 1440) * 60)

    def _halves(self) -> Iterator[Step]:
        """Each PBX may call some of the numbers, and perhaps not at any time."""
        dice = self._splitter
        for pbx in ("pbx-1", "pbx-2"):
            prefixes = dice.choice((["1"], ["60"], ["6012345670"], ["6012345670", "1"]))
            columns = {"prefixes": prefixes, "max_channels": dice.choice((None, None, 1, 2))}
            place = {"pbx": pbx, "trunk": dice.choice(TRUNKS)}
            yield Step(name="trunk", arguments={**place, **columns, "now": self._now})

    def _trunk(self) -> Step:
        """Trunks come, change and go; so do limits, and somebody resumes a trunk."""
        dice = self._random
        place = {"pbx": dice.choice(("pbx-1", "pbx-1", "pbx-2")), "trunk": dice.choice(TRUNKS)}
        columns: dict[str, Any] = {}
        for chance, name, value in (
            (0.2, "user_id", dice.choice((*self._users, None))),
            (0.2, "prefixes", dice.choice(([], ["60"], ["1", "44"]))),
            (0.3, "max_channels", dice.choice((None, 1, 2, 4))),
            (0.3, "priority", dice.randint(0, 9)),
            (0.2, "caller_ids", ["+60123456799"]),
            (0.2, "add_prefix", "99"),
            (0.15, "enabled", False),
            (0.2, "calls_per_second", 2.0),
        ):
            columns |= {name: value} if dice.random() < chance else {}
        kind = dice.choice(("user", "campaign"))
        key: str | None = dice.choice((*self._users, *CAMPAIGNS[2:], None))
        draw = dice.random()
        if draw < 0.5:
            return Step(name="trunk", arguments={**place, **columns, "now": self._now})
        if draw < 0.6:
            return Step(name="drop_trunk", arguments={**place, "now": self._now})
        if draw < 0.75:
            return Step(name="forgive", arguments={"trunk": place["trunk"], "now": self._now})
        most = dice.choice((None, None, 0, 1, 3))
        return Step(name="limit", arguments={"kind": kind, "key": key, "most": most, "now": self._now})

    def _forget(self) -> Step:
        return Step(name="forget_turns", arguments={"user": self._random.choice(self._users), "now": self._now})

    # -- adapters

    def _register(self, desk: _Desk) -> Step:
        desk.nonce, desk.process = self._uuid(), self._uuid()
        arguments = self._registration(desk)
        desk.incarnation += 1
        desk.request = 0
        return Step(name="register", arguments=arguments)

    def _registration(self, desk: _Desk) -> Mapping[str, Any]:
        return {
            "adapter": desk.adapter,
            "expected": desk.incarnation,
            "nonce": desk.nonce,
            "pbx": desk.pbx,
            "info": {"version": "0", "process": desk.process},
            "now": self._now,
        }

    def _again(self) -> Step:
        """A next run, the same try once more, or a try by somebody who knows less."""
        dice = self._random
        desk = dice.choice(self._desks)
        kind = dice.random()
        if kind < 0.6:
            return self._register(desk)
        if dice.random() < 0.3:
            desk.process = self._uuid()  # A copy of the folder, made after its registration was begun.
        arguments = {**self._registration(desk), "expected": max(desk.incarnation - dice.choice((1, 1, 2)), 0)}
        return Step(name="register", arguments=arguments if kind < 0.8 else {**arguments, "nonce": self._uuid()})

    def _witness(self) -> Step:
        """An adapter (or nobody) asks about calls of its own, of others, through other PBXs, and that never were."""
        dice = self._random
        who = self._uuid() if dice.random() < 0.05 else dice.choice(self._desks).adapter
        calls = [self._some_call() for _ in range(dice.choice((0, 1, 3, 8, 30)))]
        if dice.random() < 0.05:
            calls = [self._uuid() for _ in range(dice.choice((198, 199, 200)))] + calls
        return Step(name="witness", arguments={"adapter": who, "calls": calls, "now": self._now})

    def _sync(self, desk: _Desk) -> Step:
        dice = self._random
        records = [self._record(desk) for _ in range(dice.choice((0, 0, 0, 0, 0, 1) if self._alone else self._talk))]
        if desk.told and dice.random() < 0.2:
            records.append(dice.choice(desk.told))
        dice.shuffle(records)
        desk.told = (desk.told + records)[-20:]
        if dice.random() < 0.75:
            desk.claim_id = self._uuid()
        status: dict[str, Any] = {
            "pbx": desk.pbx,
            "ready": dice.random() < (0.99 if self._alone else desk.ready),
            "trunk": desk.trunk,
            "pbx_boot": f"boot {int(self._now // 3600)}",
            "agent_id": "the agent",
            "region": "MY",
            "ring_seconds": 30,
            "max_call_seconds": dice.choice((10, 60)),
            "orphan_seconds": dice.choice((30, 60, 1800)),
            "limits": desk.limits,
            **self._caps(),
        }
        desk.request += 1
        if dice.random() < 0.9:
            status["request"] = desk.request - dice.choice((0, 0, 0, 0, 0, 0, 0, 1, 2))
        if dice.random() < 0.9:
            status["process"] = desk.process if dice.random() < 0.98 else self._uuid()
        known = self._store.tables.adapters.get(desk.adapter)
        if known is not None and known.told is not None and dice.random() < 0.9:
            status["seen"] = known.told + dice.choice((0, 0, 0, 0, 0, 0, -1, -2, 1))
        if (held := self._store.tables.pbxs.get(desk.pbx)) is not None and dice.random() < 0.7:
            status["epoch"] = held.epoch - (dice.random() < 0.3)
        if dice.random() < 0.5:
            status |= {"trunks_version": self._store.tables.trunks_version - dice.choice((0, 0, 1))}
        if dice.random() < 0.7:
            status |= {"trunks": self._trunks(), "reserved": dice.choice((0, 0, 1))}
        for chance, change in ((0.01, {"region": "SG"}), (0.01, {"pbx": None}), (0.02, {"trunk": None})):
            if dice.random() < chance:
                status |= change
        request = SyncRequest(
            records=tuple(records),
            status=status,
            room=dice.choice((0, 1, 2, 5, 8)),
            claim_id=None if dice.random() < 0.1 else desk.claim_id,
        )
        incarnation = desk.incarnation - (dice.random() < 0.03)
        arguments = {"adapter": desk.adapter, "incarnation": incarnation, "request": request, "now": self._now}
        return Step(name="sync", arguments=arguments)

    def _trunks(self) -> Mapping[str, Any]:
        """What an adapter tells of its trunks."""
        dice = self._random
        return {
            trunk: {
                "room": dice.choice((0, 1, 5, 5, 5, 5)),
                "foreign": dice.choice((0, 0, 1)),
                "problem": "it is down" if dice.random() < 0.05 else None,
                "max_channels": dice.choice((None, None, 3)),
            }
            for trunk in (*TRUNKS, "")
            if dice.random() < 0.95
        }

    def _some_call(self) -> str:
        live = [str(row.call_id) for row in self._store.tables.open.values() if row.call_id is not None]
        self._calls += [call for call in live if call not in self._calls]
        choice = self._random.random()
        if choice < 0.75 and live:
            return self._random.choice(live)
        if choice < 0.95 and self._calls:
            return self._random.choice(self._calls)
        return self._random.choice([*self._store.logs, self._uuid()])

    def _record(self, desk: _Desk) -> tuple[int, Mapping[str, Any]]:
        dice = self._random
        self._seq += 1
        call = self._some_call()
        row = self._store.rows.get(self._store.tables.by_call.get(call, 0))
        kind = dice.random()
        if kind < 0.25:
            told = encode(AnsweredMark(call_id=call, times=self._times(row)))
        elif kind < 0.25 + self._releases:
            cause = dice.choice(tuple(ReleaseCause))
            mine = [str(row.call_id) for row in self._store.rows.values() if row.adapter == desk.adapter and row.in_air]
            call = dice.choice(mine) if mine and dice.random() < 0.7 else call
            told = encode(ReleaseRecord(call_id=call, cause=cause, reason=dice.choice(("no", "the PBX said no"))))
        elif kind < 0.97:
            told = self._outcome(call, row)
        else:
            told = self._outcome(call, row) | dice.choice(
                (
                    {"kind": "nonsense"},
                    {"kind": None},
                    {"call_id": None},
                    {"call_id": "nobody"},
                    {"outcome": "nonsense"},
                    {"log_status": "nonsense"},
                    {"kind": "release", "cause": "nonsense"},
                    {"reason": None, "talk_seconds": None, "log_status": "failed"},
                )
            )
        return self._seq, told

    def _outcome(self, call: str, row: Row | None) -> dict[str, Any]:
        dice = self._random
        ending = Ending(
            outcome=self._mood if self._mood is not None and dice.random() < 0.7 else dice.choice(OUTCOMES),
            reason=dice.choice(("so it was", "and so")),
            times=self._times(row),
            hangup_cause=dice.choice((None, 0, 16, 17)),
            sip_code=dice.choice((None, 486)),
            talk_seconds=dice.choice((0, 0, 12)),
            estimated=dice.random() < 0.2,
        )
        record = encode(
            OutcomeRecord(
                call_id=call, ending=ending, log_status=dice.choice(LOG_WORDS), trunk=dice.choice(("", "SIP-1"))
            )
        )
        return {**record, "watched": False} if dice.random() < 0.1 else record

    def _times(self, row: Row | None) -> CallTimes:
        dice = self._random
        start = self._now - dice.choice((1.0, 12.125)) if row is None or row.claimed_at is None else row.claimed_at
        return CallTimes(
            originated_at=dice.choice((None, start + 0.25)),
            ringing_at=dice.choice((None, start + 2.0)),
            answered_at=dice.choice((None, None, start + 6.375)),
            ended_at=dice.choice((None, start + 30.0)),
        )

    def _uuid(self) -> str:
        return str(UUID(int=self._random.getrandbits(128), version=4))
