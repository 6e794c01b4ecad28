"""What both Supabase links must know, and how long they wait for what.

The key is looked at before it is used: a public key or a key of another project otherwise shows itself only as refusals
that name no cause. Claims of a JWT are read without verifying them; the server verifies, we only explain.
"""

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import quote_plus, urlsplit

from adapter.log import hide


class DoorbellMode(StrEnum):
    """How an insert is heard (setting DOORBELL)."""

    AUTO = "auto"
    """Private broadcast and INSERT changes on one channel; INSERT changes alone where a private channel is refused."""

    BROADCAST = "broadcast"
    CHANGES = "changes"
    OFF = "off"
    """No Realtime connection at all: rows are found by the sweep."""


class KeyKind(StrEnum):
    """What sort of text the key is."""

    OPAQUE = "sb_secret key"
    LEGACY = "service_role JWT"
    OTHER = "other"
    """A gateway of one's own may know other keys; the server will tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpTimings:
    """Waits of the REST side, in seconds. The libraries' own default is 120 s for each (PG-01)."""

    connect: float = 3.0
    """TCP and TLS to another continent take well under a second."""

    read: float = 10.0
    """`call_sync_v1` takes milliseconds; Supabase's own statement time-out for this role is above this, so a slower
    answer is of no use to anybody."""

    write: float = 10.0
    """A full batch of records is about 150 kB."""

    pool: float = 5.0
    """The daemon sends one request at a time; a wait for a connection means that answers hang."""

    total: float = 20.0
    """A server that drips bytes never meets the read limit; the daemon's watchdog counts on this bound."""

    connections: int = 4
    """More in parallel is slower (PG-12)."""

    keepalive: float = 10.0
    """Longer than the sweep, so that it reuses its connection; below the idle limit of gateways (PG-03)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BellTimings:
    """Waits of the doorbell, in seconds."""

    connect: int = 10
    """For the handshake and again for the answer to the join: the server holds back refusals for 2 s and 5 s."""

    subscribed: float = 15.0
    """From the join to the server's own "Subscribed to PostgreSQL": 1.5 to 2.5 s when its worker must start (RT-10)."""

    close: float = 2.0
    """A healthy socket closes at once, a half-open one never (RT-26)."""

    backoff_first: float = 1.0
    """Full jitter between 0 and this, doubling with each failure in a row …"""

    backoff_most: float = 30.0
    """… up to this. The sweep dials meanwhile."""

    refused: float = 60.0
    """After a refused key: this to twice this. A key mends itself by no haste, and refusals cost the server most."""

    limited: float = 30.0
    """After "too many": this to twice this. Its counters look back one minute."""

    stable: float = 60.0
    """A connection that heard for this long was a good one: the next loss starts the back-off afresh (RT-04)."""

    deaf_floor: float = 60.0
    """Least time between two rebuilds because of missed rows; doubles while no rebuild brings a ring …"""

    deaf_most: float = 600.0
    """… up to this."""

    second_try: float = 600.0
    """A way of ringing that was refused (private channel, INSERT changes) is tried again after this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupabaseConfig:
    """One project and the key to it. Raises ValueError with words for the operator."""

    url: str
    """Project URL, such as `https://abcdefgh.supabase.co`; paths are added to it."""

    key: str = field(repr=False)
    topic: str = "call_queue"
    """Topic of the doorbell: the channel is `realtime:<topic>`."""

    doorbell: DoorbellMode = DoorbellMode.AUTO
    http: HttpTimings = field(default_factory=HttpTimings)
    bell: BellTimings = field(default_factory=BellTimings)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(
                "SUPABASE_URL must look like https://abcdefgh.supabase.co (dashboard: Project Settings, API)"
            )
        object.__setattr__(self, "url", self.url.rstrip("/"))
        check_key(self.key)
        hide(self.key)
        hide(quote_plus(self.key))  # As it stands in the address of a websocket.

    @property
    def key_kind(self) -> KeyKind:
        """What sort of key was given."""
        if self.key.startswith("sb_secret_"):
            return KeyKind.OPAQUE
        return KeyKind.OTHER if claims(self.key) is None else KeyKind.LEGACY

    def warnings(self, now: float) -> tuple[str, ...]:
        """What looks wrong with the key but is the server's to judge; `now` is epoch seconds."""
        found = claims(self.key)
        if found is None:
            if self.key_kind is KeyKind.OPAQUE:
                return ()
            return ("the Supabase key is neither a JWT nor an sb_secret_ key; trying it all the same",)
        out = []
        expires = found.get("exp")
        if isinstance(expires, int | float) and expires <= now:
            days = (now - expires) / 86_400
            out.append(
                f"the Supabase key expired {days:.0f} days ago by this machine's clock; "
                "take a new one from the dashboard (Project Settings, API keys), or set the clock"
            )
        host = urlsplit(self.url).hostname or ""
        project = found.get("ref")
        if host.endswith(".supabase.co") and isinstance(project, str) and project != host.split(".", 1)[0]:
            out.append(
                f"the Supabase key belongs to project {project}, but SUPABASE_URL names {host.split('.', 1)[0]}; "
                "take both from the same dashboard page"
            )
        return tuple(out)


def check_key(key: str) -> None:
    """Refuse a key that cannot be the right one; raises ValueError with words for the operator."""
    mend = "use the service_role JWT or an sb_secret_ key (dashboard: Project Settings, API keys)"
    if not key or not re.fullmatch(r"[\x21-\x7e]+", key):
        raise ValueError(f"the Supabase key is empty or holds a space, a line break or a foreign character; {mend}")
    if key.startswith("sb_publishable_"):
        raise ValueError(f"the Supabase key is a publishable one, which may not claim calls; {mend}")
    found = claims(key)
    if found is not None and found.get("role") != "service_role":
        raise ValueError(f"the Supabase key has the role {found.get('role')!r}, which may not claim calls; {mend}")


def claims(key: str) -> dict[str, Any] | None:
    """Claims of a JWT, unverified; None when the text is no JWT."""
    parts = key.split(".")
    if len(parts) != 3:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, UnicodeError, ValueError):
        return None
    return found if isinstance(found, dict) else None
