"""What the PBX link must know, and how long it waits for what."""

import re
from dataclasses import dataclass, field

from adapter.core.model import Form

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,80}")
"""Contexts and trunk ids. No commas or parentheses: these values stand inside dialplan functions (guards.py)."""

_EXTENSION = re.compile(r"[A-Za-z0-9*#+_-]{1,40}")

CATCH_ALL = frozenset({"outgoing", "internal-originate"})
"""MikoPBX contexts that accept any extension and lead out again: an answered callee would be bridged to a stranger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Every wait of the link, in seconds. Tests shorten them; operators have no reason to."""

    connect: float = 5.0
    """A loopback or LAN connect takes milliseconds, one over a VPN well under a second."""

    login: float = 5.0
    """Asterisk holds back a refusal for about 1 s on purpose; an acceptance comes at once."""

    booted: float = 30.0
    """Login works before the dialplan is loaded; a start of MikoPBX takes 10 to 20 s from there."""

    answer: float = 5.0
    """Getvar, DBGet, CoreStatus and Hangup are answered in milliseconds."""

    channels: float = 10.0
    """A list of a thousand legs is about 1 MB."""

    response: float = 10.0
    """Response to an Originate: < 3 ms in practice; the PBX answers Ping only after it, so 10 s is beyond repair."""

    pong: float = 5.0
    """Pings go out every `PbxConfig.ping_seconds`; 10 + 5 s keep a frozen PBX unnoticed for 15 s at most."""

    first_event: float = 10.0
    """An accepted Originate is followed by an event within milliseconds; none in 10 s: we are not shown any."""

    looked: float = 25.0
    """Oldest look at AI extension and trunk by which calls are placed. One comes every `PbxConfig.guard_seconds` (10 s)
    and takes as long as its answers; only a standstill makes it older."""

    legs: float = 10.0
    """The list of live legs is asked for this often, with the guards, to count those of people on each trunk; between
    two lists events tell. It costs about 1 kB a leg."""

    stable: float = 60.0
    """A connection that lived this long was a good one: the next loss starts the back-off afresh."""

    backoff_first: float = 1.0
    """Full jitter between 0 and this, doubling with each failure in a row …"""

    backoff_most: float = 30.0
    """… up to this: a PBX that restarts is back within a minute, and is found within half of one more."""

    refused: float = 60.0
    """After a refused login or a missing right: this to twice this. MikoPBX's fail2ban bans at 20 refusals in 600 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PbxConfig:
    """One PBX, one AMI user, one way out. Raises ValueError with words for the operator."""

    host: str
    username: str
    password: str = field(repr=False)
    trunk: str
    """Provider id, such as `SIP-TRUNK-0123ABCD`; not the display name, which never works in a channel string."""

    ai_context: str
    ai_extension: str
    port: int = 5038
    form: Form = Form.TRUNK
    window: int = 8
    """Most Originates that may await their Response: the most calls that a lost connection can leave in doubt."""

    ping_seconds: float = 10.0
    """Often enough to notice a frozen PBX before a claim goes stale twice; costs 100 bytes."""

    guard_seconds: float = 10.0
    """AI extension and trunk are looked at this often; a few Getvars each time."""

    queue_bound: int = 50_000
    """Events a standing consumer may be behind: about four minutes of a busy PBX, 100 MB at worst."""

    name: str = "pbx"
    """For logs."""

    def __post_init__(self) -> None:
        for label, value in (("MIKOPBX_AMI_USERNAME", self.username), ("MIKOPBX_AMI_PASSWORD", self.password)):
            if not value or any(ord(char) < 0x20 or ord(char) == 0x7F for char in value):
                raise ValueError(f"{label} is empty or holds a control character")
        if not _NAME.fullmatch(self.ai_context):
            raise ValueError(f"AI_CONTEXT {self.ai_context!r} is no context name (letters, digits, _ . -)")
        if self.ai_context in CATCH_ALL:
            raise ValueError(
                f"AI_CONTEXT {self.ai_context!r} accepts any extension and leads out to the carrier: an answered"
                " callee could be bridged to a stranger. Use all_peers, applications or internal"
            )
        if not _EXTENSION.fullmatch(self.ai_extension):
            raise ValueError(f"AI_EXTENSION {self.ai_extension!r} is no extension (digits, letters, * # + _ -)")
        if self.form is Form.TRUNK and not _NAME.fullmatch(self.trunk):
            raise ValueError(f"TRUNK {self.trunk!r} is no provider id such as SIP-TRUNK-0123ABCD")
        if self.window < 1:
            raise ValueError("AMI_WINDOW must be at least 1")
