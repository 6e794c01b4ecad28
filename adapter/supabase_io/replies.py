"""Answers of the SQL functions as frozen values, shape checked before anybody trusts them (PG-10).

A row that cannot be read costs no other row: it is reported with its call id, so that its claim can be given back.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from adapter.core.model import ClaimedRow, OpenCall, Way
from adapter.supabase_io import records
from adapter.supabase_io.records import Unfit

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """One item of an answer that has not the promised shape."""

    where: str
    """List it stood in: `rows`, `open`, `takeover`, `commands`, `recorded`, `refused`, `trunks`."""

    call_id: str | None
    """Its call, where at least that could be read."""

    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """Answer of `call_register_v1`."""

    accepted: bool
    incarnation: int
    """Ours if accepted, else the one that the database holds."""

    now: float | None = None
    """Database time."""

    claim_number: int = 0
    """Highest claim number ever given in this project."""

    open: tuple[OpenCall, ...] = ()
    """Calls of this adapter, of any incarnation, that the database still holds for live."""

    unreadable: tuple[Unreadable, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReply:
    """Answer of `call_sync_v1`."""

    now: float
    """Database time."""

    fenced: bool
    """A newer incarnation is registered: only the records were taken, this process must stop."""

    holder: bool
    """This adapter holds the lease of its PBX."""

    lease_until: float | None
    epoch: int | None
    """Rises with each take-over of the PBX; told again in the next heartbeat, so that a lost hand-over comes again."""

    claim_number: int
    recorded: tuple[int, ...]
    """Records that are stored now, by `seq`."""

    refused: tuple[tuple[int, str], ...]
    """Records that the database cannot take, by `seq`, with its words."""

    notes: tuple[str, ...]
    rows: tuple[ClaimedRow, ...]
    more: bool
    """Rows could be claimed right now beyond those returned."""

    hangups: tuple[str, ...]
    """Call ids to be hung up."""

    takeover: tuple[OpenCall, ...]
    told: int | None = None
    """Highest claim number that the database remembers to have told this adapter; None: it keeps no such memory."""

    ways: tuple[Way, ...] | None = None
    """Trunks that `call_trunks` has for our PBX; empty: only that of the settings. None: as the last answer told."""

    bad_ways: Mapping[str, str] = field(default_factory=dict)
    """Of `ways`, those that cannot be read: id → why. Nobody is called through them; the others do their work."""

    trunks_version: int | None = None
    """Of that list; told in the next heartbeat, so that it comes again only when it has changed."""

    unreadable: tuple[Unreadable, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Answer of `call_witness_v1`."""

    open: tuple[OpenCall, ...]
    """Calls whose end the database does not know."""

    unreadable: tuple[Unreadable, ...] = ()


def registered(value: object) -> Registered:
    """Decode the answer of `call_register_v1`; raises Unfit when it is no such answer."""
    reply = records.obj(value, "the reply")
    incarnation = records.integer(reply, "incarnation")
    if not records.boolean(reply, "accepted"):
        return Registered(accepted=False, incarnation=incarnation)
    unreadable: list[Unreadable] = []
    return Registered(
        accepted=True,
        incarnation=incarnation,
        now=records.instant(reply, "now"),
        claim_number=records.integer(reply, "claim_number"),
        open=_each(reply, "open", records.decode_open, unreadable),
        unreadable=tuple(unreadable),
    )


def synced(value: object) -> SyncReply:
    """Decode the answer of `call_sync_v1`; raises Unfit when it is no such answer."""
    reply = records.obj(value, "the reply")
    unreadable: list[Unreadable] = []
    ways, bad_ways = _ways(reply.get("trunks"), unreadable)
    return SyncReply(
        now=records.instant(reply, "now"),
        fenced=records.boolean(reply, "fenced"),
        holder=records.boolean(reply, "holder"),
        lease_until=records.instant_or_none(reply, "lease_until"),
        epoch=None if reply.get("epoch") is None else records.integer(reply, "epoch"),
        claim_number=records.integer(reply, "claim_number"),
        recorded=_each(reply, "recorded", _seq, unreadable),
        refused=_each(reply, "refused", _refusal, unreadable),
        notes=tuple(str(note) for note in records.array(reply, "notes")),
        rows=_each(reply, "rows", records.decode_row, unreadable),
        more=records.boolean(reply, "more"),
        hangups=_each(reply, "commands", _hangup, unreadable),
        takeover=_each(reply, "takeover", records.decode_open, unreadable),
        told=None if reply.get("told") is None else records.integer(reply, "told"),
        ways=ways,
        bad_ways=bad_ways,
        trunks_version=None if reply.get("trunks_version") is None else records.integer(reply, "trunks_version"),
        unreadable=tuple(unreadable),
    )


def wanted(value: object) -> Wanted:
    """Decode the answer of `call_witness_v1`; raises Unfit when it is no such answer."""
    reply = records.obj(value, "the reply")
    unreadable: list[Unreadable] = []
    calls = _each(reply, "open", records.decode_open, unreadable)
    return Wanted(open=calls, unreadable=tuple(unreadable))


def _each(reply: Any, key: str, decode: Callable[[object], _Item], unreadable: list[Unreadable]) -> tuple[_Item, ...]:
    out: list[_Item] = []
    for item in records.array(reply, key):
        try:
            out.append(decode(item))
        except Unfit as error:
            unreadable.append(Unreadable(where=key, call_id=records.call_id_of(item), problem=str(error)))
    return tuple(out)


def _ways(value: object, unreadable: list[Unreadable]) -> tuple[tuple[Way, ...] | None, Mapping[str, str]]:
    """The list of trunks; a database that sends none, older or with nothing new to tell, leaves all as it is."""
    if not isinstance(value, list):
        if value is not None:
            unreadable.append(Unreadable(where="trunks", call_id=None, problem="trunks is not an array"))
        return None, {}
    ways: list[Way] = []
    bad: dict[str, str] = {}
    for item in value:
        try:
            ways.append(records.decode_way(item))
        except Unfit as error:
            unreadable.append(Unreadable(where="trunks", call_id=None, problem=str(error)))
            if (name := records.way_id_of(item)) is not None:
                bad[name] = f"trunk {name} cannot be used as call_trunks has it: {error}"
    return tuple(ways), bad


def _seq(value: object) -> int:
    return records.integer({"seq": value}, "seq")


def _refusal(value: object) -> tuple[int, str]:
    found = records.obj(value, "refusal")
    return records.integer(found, "seq"), records.text(found, "error")


def _hangup(value: object) -> str:
    command = records.obj(value, "command")
    if (kind := records.text(command, "kind")) != "hangup":
        raise Unfit(f"the command {kind!r} is not known to this version of the adapter")
    return records.uuid_text(command, "call_id")
