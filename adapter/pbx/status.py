"""One look at the link, for the daemon's readiness, the heartbeat and the health page."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStatus:
    """A snapshot. `ready` = logged in, booted, resynced, and AI and at least one trunk there: calls may be placed."""

    connected: bool
    """A session is up (Up was delivered)."""

    ready: bool
    problem: str | None
    """Why not ready, in words an operator can act on."""

    boot: str | None
    """Start time of the PBX, kept from the last session while none is up."""

    version: str | None
    session: int
    """Number of the current or last session; 0 before the first."""

    since: float
    """Epoch seconds of the last change of `ready`."""

    ai_problem: str | None = None
    trunk_problem: str | None = None
    """Why no trunk can be used; with several of them, one that can is enough."""

    trunks: Mapping[str, str | None] = field(default_factory=dict)
    """Known trunks that were looked at: id (empty: MikoPBX chooses, by the settings) → why no call goes through it."""

    awaiting: int = 0
    """Originates that await their Response now."""

    queued: int = 0
    """Messages that the consumer has not taken yet."""

    lost_messages: int = 0
    """Messages of the PBX that we could not read. Each was logged."""
