"""Which adapters are there, and which of them can dial."""

from adapter.supabase_io.sights import Link, Links

STALE_SECONDS = 30.0
"""Without a heartbeat. It comes with each sweep: every 5 s by default, every 20 s at most; the rest is for the net."""


def is_heard(link: Link, now: float) -> bool:
    """It runs, as far as the database can know."""
    return link.seen_at is not None and now - link.seen_at <= STALE_SECONDS


def heard(links: Links, now: float) -> tuple[Link, ...]:
    """Those that run."""
    return tuple(link for link in links.adapters if is_heard(link, now))


def ready(links: Links, now: float) -> tuple[Link, ...]:
    """Those that run and could place calls, whoever holds the PBX."""
    return tuple(link for link in heard(links, now) if link.ready and not link.problem)


def holds(link: Link, links: Links) -> bool:
    """This adapter is the one that dials through its PBX."""
    hold = links.hold_of(link.pbx)
    return hold is not None and hold.holder == link.adapter


def dialing(links: Links, now: float) -> tuple[Link, ...]:
    """Those that take rows."""
    return tuple(link for link in ready(links, now) if holds(link, links))
