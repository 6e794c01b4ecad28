"""The do-not-call list as its functions tell it."""

from dataclasses import dataclass

from adapter.supabase_io import records
from adapter.supabase_io.records import Unfit


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What became of one batch of numbers."""

    added: int
    known: int
    bad: tuple[tuple[int, str], ...]
    """Place in the batch, and why it is no number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of `do_not_call`."""

    e164: str
    user_id: str | None
    source: str
    reason: str | None
    created_at: str
    expires_at: str | None


def listing(value: object) -> Listing:
    """Decode the answer of `call_do_not_call_import_v1`; raises Unfit."""
    reply = records.obj(value, "the reply")
    bad = reply.get("bad")
    if not isinstance(bad, list):
        raise Unfit("bad")
    found = [records.obj(one, "a bad line") for one in bad]
    return Listing(
        added=whole(reply.get("added")),
        known=whole(reply.get("known")),
        bad=tuple((whole(one.get("place")), records.printable(records.text(one, "problem"))) for one in found),
    )


def entries(value: object) -> tuple[Entry, ...]:
    """Decode the answer of `call_do_not_call_v1`; raises Unfit."""
    if not isinstance(value, list):
        raise Unfit("the reply")
    return tuple(_entry(one) for one in value)


def whole(value: object) -> int:
    """A count; raises Unfit."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Unfit("a count")
    return value


def _entry(value: object) -> Entry:
    found = records.obj(value, "an entry")

    def maybe(name: str) -> str | None:
        return None if found.get(name) is None else records.printable(records.text(found, name))

    return Entry(
        e164=records.printable(records.text(found, "e164")),
        user_id=maybe("user_id"),
        source=records.printable(records.text(found, "source")),
        reason=maybe("reason"),
        created_at=records.printable(records.text(found, "created_at")),
        expires_at=maybe("expires_at"),
    )
