"""Facts as the database tells them, for the tests of what is made of them. All times count from `NOW`."""

from typing import Any

from adapter.supabase_io.sights import Air, Backlog, Ended, Following, Hold, Link, Links, Overview, Sight, Wait

NOW = 1_795_600_000.0
ADAPTER = "1a2b3c4d-0000-4000-8000-000000000001"
OTHER = "9f8e7d6c-0000-4000-8000-000000000002"
CALL = "5b1c0000-0000-4000-8000-000000000003"
TRUNK = "SIP-TRUNK-0123ABCD"


def link(adapter: str = ADAPTER, *, heard: float | None = 2.0, **more: Any) -> Link:
    """An adapter that dials, heard of `heard` seconds ago."""
    fields = {
        "incarnation": 3, "registered_at": NOW - 7200, "pbx": "office", "version": "0.1.0", "ready": True,
        "trunk": TRUNK, "form": "trunk", "live": 2, "region": "MY", "pbx_limit": 50, "user_limit": 10,
    }  # fmt: skip
    return Link(adapter=adapter, seen_at=None if heard is None else NOW - heard, **{**fields, **more})


def hold(holder: str | None = ADAPTER, *, left: float | None = 58.0, pbx: str = "office") -> Hold:
    """The lease of a PBX."""
    return Hold(pbx=pbx, holder=holder, lease_until=None if left is None else NOW + left, trunk=TRUNK)


SOUND = Links(adapters=(link(),), holds=(hold(),))


def sight(**more: Any) -> Sight:
    """A row that was queued four seconds ago."""
    fields: dict[str, Any] = {
        "row_id": 42, "status": "queued", "outcome": None, "reason": None, "last_outcome": None, "last_reason": None,
        "attempts": 0, "max_attempts": 1, "faults": {}, "phone_number": "012-345 6700", "e164": "+60123456700",
        "user_id": OTHER, "trunk": None, "call_id": None, "adapter": None, "pbx": None, "cancel_requested": False,
        "talk_seconds": None, "created_at": NOW - 4, "not_before": NOW - 4, "expires_at": NOW + 86_000,
        "claimed_at": None, "originated_at": None, "ringing_at": None, "answered_at": None, "ended_at": None,
        "settle_at": None, "deadline": None,
    }  # fmt: skip
    return Sight(**{**fields, **more})


def live(**more: Any) -> Sight:
    """The same, being dialed for three seconds."""
    fields: dict[str, Any] = {
        "status": "dialing", "call_id": CALL, "adapter": ADAPTER, "pbx": "office", "claimed_at": NOW - 3,
        "deadline": NOW + 2000,
    }  # fmt: skip
    return sight(**{**fields, **more})


def over(outcome: str, reason: str, **more: Any) -> Sight:
    """The same, ended."""
    fields = {"status": "done", "outcome": outcome, "reason": reason, "ended_at": NOW - 1, "deadline": None}
    return live(**{**fields, **more})


def wait(**more: Any) -> Wait:
    """Nothing in the way."""
    fields: dict[str, Any] = {
        "stopped": None, "user_paused": False, "campaign_paused": False, "user_in_air": 0, "campaign_in_air": 0,
        "rule": None, "put_off": None, "ahead": 0, "ahead_most": 100,
    }  # fmt: skip
    return Wait(**{**fields, **more})


def following(
    row: Sight | None = None, *, links: Links = SOUND, waits: Wait | None = None, now: float = NOW
) -> Following:
    """A look at one row."""
    row = row or sight()
    return Following(now=now, row=row, wait=(waits or wait()) if row.status == "queued" else None, links=links)


def overview(*, links: Links = SOUND, **more: Any) -> Overview:
    """A look at everything, with nothing going on but what is given."""
    parts: dict[str, Any] = {
        "queue": {"most": 10_000, "queued": 0, "due": 0, "due_since": None, "paused": 0, "expired": 0, "next_at": None},
        "air": {"dialing": 0, "talking": 0, "settling": 0, "overdue": 0, "claimed_at": None},
        "ended": {"since": NOW - 86_400, "most": 10_000, "total": 0, "outcomes": {}},
    }
    for name, part in parts.items():
        part.update(more.pop(name, {}))
    return Overview(
        now=NOW,
        links=links,
        queue=Backlog(**parts["queue"]),
        air=Air(**parts["air"]),
        ended=Ended(**parts["ended"]),
        **{"region": "MY", "calls": (), "last": (), "stops": (), **more},
    )
