"""Lines of the simulated PBX's configuration files, as function AST_CONFIG tells them."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adapter.sandbox.mikopbx.pbx import SimulatedPbx

RIGHTS = (
    "system",
    "call",
    "log",
    "command",
    "agent",
    "user",
    "config",
    "dtmf",
    "reporting",
    "cdr",
    "dialplan",
    "originate",
)
"""Classes of actions and events, in the order in which Asterisk names them."""

FILTERS = (
    "!UserEvent: CdrConnector",
    "!UserEvent: Ping_",
    "!Event: Newexten",
    "!Event: VarSet",
    "!Event: RTCP",
)
"""MikoPBX writes the first two itself, the documentation asks for the others. No such event is ever made here."""

RTP_PORTS = ("10000", "10200")
"""MikoPBX's own: a hundred streams."""

Key = tuple[str, str, str]
"""File, section, name."""


def listed(rights: Iterable[str]) -> str:
    """As a list in Asterisk's order."""
    wanted = frozenset(rights)
    return ",".join(right for right in RIGHTS if right in wanted)


def lines(pbx: "SimulatedPbx") -> Mapping[Key, tuple[str, ...]]:
    """Values of each name, in the order of the file."""
    return {
        ("manager.conf", "general", "enabled"): ("yes",),
        ("manager.conf", "general", "timestampevents"): ("yes",),
        ("manager.conf", pbx.username, "read"): (listed(pbx.read),),
        ("manager.conf", pbx.username, "write"): (listed(pbx.write),),
        ("manager.conf", pbx.username, "eventfilter"): FILTERS,
        ("rtp.conf", "general", "rtpstart"): (RTP_PORTS[0],),
        ("rtp.conf", "general", "rtpend"): (RTP_PORTS[1],),
    }
