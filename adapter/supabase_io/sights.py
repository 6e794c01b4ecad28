"""What `call_follow_v1` and `call_status_v1` tell, as frozen values; the screens are made of them.

The shape of our own functions is checked as everywhere. Within a heartbeat nothing is taken for granted: an adapter of
another version may have written it, and one that cannot be read must not hide all others. Texts may hold what a carrier
or a person wrote, so nothing that steers a terminal comes through.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from adapter.supabase_io import records, stops
from adapter.supabase_io.stops import Stop

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One adapter as its last heartbeat told."""

    adapter: str
    incarnation: int
    registered_at: float
    seen_at: float | None
    """When it was last heard of; None: never since it registered."""

    pbx: str | None
    version: str | None = None
    ready: bool = False
    """Its PBX is there with trunk and AI extension. False too before its first heartbeat."""

    problem: str | None = None
    trunk: str | None = None
    form: str | None = None
    live: int = 0
    """Calls that it follows."""

    region: str | None = None
    pbx_limit: int | None = None
    user_limit: int | None = None
    campaign_limit: int | None = None
    refused: int = 0
    """Records that the database could not take; they stand in its STATE_DIR."""

    bell: str | None = None
    """What is wrong with its doorbell, in words."""

    slowed: str | None = None
    """That it dials slower than it may, and why."""

    @property
    def short(self) -> str:
        """Enough of the id to tell adapters apart."""
        return self.adapter[:8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Which adapter dials through a PBX."""

    pbx: str
    holder: str | None
    lease_until: float | None
    trunk: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Both sides of it, the latest heard first."""

    adapters: tuple[Link, ...] = ()
    holds: tuple[Hold, ...] = ()

    def hold_of(self, pbx: str | None) -> Hold | None:
        """Who holds this PBX, if anybody ever did."""
        return next((hold for hold in self.holds if hold.pbx == pbx), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One row of `call_queue`. Times of a call are those of its last one, also while it waits for the next."""

    row_id: int
    status: str
    outcome: str | None
    reason: str | None
    last_outcome: str | None
    last_reason: str | None
    attempts: int
    max_attempts: int
    faults: Mapping[str, int]
    phone_number: str
    e164: str | None
    user_id: str
    trunk: str | None
    """The trunk that the row asks for; None: the usual one."""

    call_id: str | None
    adapter: str | None
    pbx: str | None
    cancel_requested: bool
    talk_seconds: int | None
    created_at: float
    not_before: float
    expires_at: float
    claimed_at: float | None
    originated_at: float | None
    ringing_at: float | None
    answered_at: float | None
    ended_at: float | None
    settle_at: float | None
    deadline: float | None

    @property
    def final(self) -> bool:
        """Nothing more happens with the row."""
        return self.status in ("done", "canceled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What else decides whether a queued row is dialed."""

    stopped: str | None
    """By which pause by command it stands, in words."""

    user_paused: bool
    campaign_paused: bool
    user_in_air: int
    campaign_in_air: int
    rule: str | None
    """Which rule of the claim it does not pass now, in the database's words."""

    put_off: str | None
    """By which words a claim last put it off."""

    ahead: int
    """Due rows of the same campaign that come first; `ahead_most` means so many or more."""

    ahead_most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """A row at one instant of the database's clock."""

    now: float
    row: Sight
    wait: Wait | None
    links: Links


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """The queued rows, as far as they were looked at."""

    most: int
    """So many were looked at; a count of this or more is a lower bound."""

    queued: int
    due: int
    due_since: float | None
    paused: int
    expired: int
    """Should have ended already: no adapter sweeps."""

    next_at: float | None
    """When the first row is due in a campaign that has none due now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Air:
    """The calls, counted."""

    dialing: int
    talking: int
    settling: int
    """Over; for ten seconds the AI handler may still say that it met an answering machine."""

    overdue: int
    """Past the instant from which any adapter ends them as unknown."""

    claimed_at: float | None
    """When the youngest of them was claimed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Rows that ended within a day; `most` of them were counted at most, the latest."""

    since: float
    most: int
    total: int
    outcomes: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Everything at one instant of the database's clock."""

    now: float
    region: str
    queue: Backlog
    air: Air
    ended: Ended
    calls: tuple[Sight, ...]
    last: tuple[Sight, ...]
    links: Links
    stops: tuple[Stop, ...]
    """What is paused by command, the latest first."""

    trunks: tuple[str, ...] = ()
    """Of trunks that cool down or are stopped, what is held against each, in words."""


def following(value: object) -> Following:
    """Decode the answer of `call_follow_v1`; raises Unfit."""
    reply = records.obj(value, "the reply")
    wait = reply.get("wait")
    return Following(
        now=records.instant(reply, "now"),
        row=sight(reply.get("row")),
        wait=None if wait is None else _wait(records.obj(wait, "wait")),
        links=_links(reply),
    )


def overview(value: object) -> Overview:
    """Decode the answer of `call_status_v1`; raises Unfit."""
    reply = records.obj(value, "the reply")
    queue = records.obj(reply.get("queue"), "queue")
    air = records.obj(reply.get("air"), "air")
    ended = records.obj(reply.get("ended"), "ended")
    return Overview(
        now=records.instant(reply, "now"),
        region=records.text(reply, "region"),
        queue=Backlog(
            most=records.integer(queue, "most"),
            queued=records.integer(queue, "queued"),
            due=records.integer(queue, "due"),
            due_since=records.instant_or_none(queue, "due_since"),
            paused=records.integer(queue, "paused"),
            expired=records.integer(queue, "expired"),
            next_at=records.instant_or_none(queue, "next_at"),
        ),
        air=Air(
            dialing=records.integer(air, "dialing"),
            talking=records.integer(air, "talking"),
            settling=records.integer(air, "settling"),
            overdue=records.integer(air, "overdue"),
            claimed_at=records.instant_or_none(air, "claimed_at"),
        ),
        ended=Ended(
            since=records.instant(ended, "since"),
            most=records.integer(ended, "most"),
            total=records.integer(ended, "total"),
            outcomes=_counts(ended, "outcomes"),
        ),
        calls=_each(reply, "calls", sight),
        last=_each(reply, "last", sight),
        links=_links(reply),
        stops=_each(reply, "stops", stops.stop),
        trunks=tuple(str(words) for words in records.array(reply, "trunks")),
    )


def _each(reply: Mapping[str, Any], key: str, decode: Callable[[object], _Item]) -> tuple[_Item, ...]:
    return tuple(decode(item) for item in records.array(reply, key))


def sight(value: object) -> Sight:
    """Decode a row as `call_sight` tells it; raises Unfit."""
    row = records.obj(value, "row")
    talk = row.get("talk_seconds")
    return Sight(
        row_id=records.integer(row, "row_id"),
        status=records.text(row, "status"),
        outcome=_words(row, "outcome"),
        reason=_words(row, "reason"),
        last_outcome=_words(row, "last_outcome"),
        last_reason=_words(row, "last_reason"),
        attempts=records.integer(row, "attempts"),
        max_attempts=records.integer(row, "max_attempts"),
        faults=_counts(row, "faults"),
        phone_number=records.printable(records.text(row, "phone_number")),
        e164=records.text_or_none(row, "e164"),
        user_id=records.text(row, "user_id"),
        trunk=_words(row, "trunk"),
        call_id=records.text_or_none(row, "call_id"),
        adapter=records.text_or_none(row, "adapter"),
        pbx=_words(row, "pbx"),
        cancel_requested=records.boolean(row, "cancel_requested"),
        talk_seconds=int(talk) if isinstance(talk, str) and talk.isdecimal() else None,
        created_at=records.instant(row, "created_at"),
        not_before=records.instant(row, "not_before"),
        expires_at=records.instant(row, "expires_at"),
        claimed_at=records.instant_or_none(row, "claimed_at"),
        originated_at=records.instant_or_none(row, "originated_at"),
        ringing_at=records.instant_or_none(row, "ringing_at"),
        answered_at=records.instant_or_none(row, "answered_at"),
        ended_at=records.instant_or_none(row, "ended_at"),
        settle_at=records.instant_or_none(row, "settle_at"),
        deadline=records.instant_or_none(row, "deadline"),
    )


def _wait(wait: Mapping[str, Any]) -> Wait:
    return Wait(
        stopped=_words(wait, "stopped"),
        user_paused=records.boolean(wait, "user_paused"),
        campaign_paused=records.boolean(wait, "lane_paused"),
        user_in_air=records.integer(wait, "user_in_air"),
        campaign_in_air=records.integer(wait, "lane_in_air"),
        rule=_words(wait, "rule"),
        put_off=_words(wait, "put_off"),
        ahead=records.integer(wait, "ahead"),
        ahead_most=records.integer(wait, "ahead_most"),
    )


def _links(reply: Mapping[str, Any]) -> Links:
    return Links(adapters=_each(reply, "adapters", _link), holds=_each(reply, "pbxs", _hold))


def _hold(value: object) -> Hold:
    hold = records.obj(value, "pbx")
    return Hold(
        pbx=records.printable(records.text(hold, "pbx")),
        holder=records.text_or_none(hold, "holder"),
        lease_until=records.instant_or_none(hold, "lease_until"),
        trunk=_words(hold, "trunk"),
    )


def _link(value: object) -> Link:
    link = records.obj(value, "adapter")
    beat = _object(link, "status")
    limits, outbox, bell = _object(beat, "limits"), _object(beat, "outbox"), _object(beat, "doorbell")
    deaf = "rows come in without its ring" if bell.get("deaf") is True else None
    return Link(
        adapter=records.text(link, "adapter"),
        incarnation=records.integer(link, "incarnation"),
        registered_at=records.instant(link, "registered_at"),
        seen_at=records.instant_or_none(link, "seen_at"),
        pbx=_words(link, "pbx"),
        version=_soft(beat, "version") or _soft(_object(link, "info"), "version"),
        ready=beat.get("ready") is True,
        problem=_soft(beat, "problem"),
        trunk=_soft(beat, "trunk"),
        form=_soft(beat, "form"),
        live=_number(beat, "live") or 0,
        region=_soft(beat, "region"),
        pbx_limit=_number(limits, "pbx"),
        user_limit=_number(limits, "user"),
        campaign_limit=_number(limits, "campaign"),
        refused=_number(outbox, "refused") or 0,
        bell=_soft(bell, "problem") or deaf,
        slowed=_soft(_object(beat, "pace"), "slowed"),
    )


def _words(value: Mapping[str, Any], key: str) -> str | None:
    found = records.text_or_none(value, key)
    return None if found is None else records.printable(found)


def _counts(value: Mapping[str, Any], key: str) -> Mapping[str, int]:
    found = records.obj(value.get(key), key)
    return {records.printable(name): count for name, count in found.items() if isinstance(count, int)}


def _object(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _soft(value: Mapping[str, Any], key: str) -> str | None:
    found = value.get(key)
    return records.printable(found) if isinstance(found, str) and found else None


def _number(value: Mapping[str, Any], key: str) -> int | None:
    found = value.get(key)
    return found if isinstance(found, int) and not isinstance(found, bool) else None
