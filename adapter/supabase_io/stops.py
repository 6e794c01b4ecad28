"""Pauses by command, and what was canceled: rows of `call_stops` and the answers of the functions that write them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapter.supabase_io import records


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is paused, resumed or canceled: a row, campaign, user, trunk, or all."""

    kind: str
    key: str = ""
    """Its number, id or name; empty for all."""

    @property
    def arguments(self) -> dict[str, str | None]:
        """As the functions take it."""
        return {"p_kind": self.kind, "p_key": self.key or None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A pause that stands."""

    target: Target
    began_at: float
    reason: str | None
    canceling: bool
    """It ends with the last piece of a cancel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """The answer to a pause."""

    before: bool
    """It was paused before."""

    live: int
    """Calls of it that go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """The answer to a resume."""

    was: bool
    """There was something to resume."""

    still: str | None
    """What else keeps it from being dialed, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What one piece of a cancel did."""

    before: str
    """Sent back with the next piece: rows that came later are not meant."""

    waited: int
    live: int
    more: bool
    still: str | None
    """With the last piece: what keeps it paused all the same, in words."""


def stop(value: object) -> Stop:
    """Decode one pause of `call_status_v1`; raises Unfit."""
    found = records.obj(value, "a pause")
    return Stop(
        target=Target(kind=records.text(found, "kind"), key=records.printable(records.text(found, "key"))),
        began_at=records.instant(found, "began"),
        reason=_words(found, "reason"),
        canceling=records.boolean(found, "canceling"),
    )


def paused(value: object) -> Paused:
    """Decode the answer of `call_pause_v1`; raises Unfit."""
    reply = records.obj(value, "the reply")
    return Paused(before=records.boolean(reply, "before"), live=records.integer(reply, "live"))


def resumed(value: object) -> Resumed:
    """Decode the answer of `call_resume_v1`; raises Unfit."""
    reply = records.obj(value, "the reply")
    return Resumed(was=records.boolean(reply, "was"), still=_words(reply, "still"))


def piece(value: object) -> Piece:
    """Decode the answer of `call_cancel_all_v1`; raises Unfit."""
    reply = records.obj(value, "the reply")
    return Piece(
        before=records.text(reply, "before"),
        waited=records.integer(reply, "waited"),
        live=records.integer(reply, "live"),
        more=records.boolean(reply, "more"),
        still=_words(reply, "still"),
    )


def _words(value: Mapping[str, Any], key: str) -> str | None:
    found = records.text_or_none(value, key)
    return None if found is None else records.printable(found)
