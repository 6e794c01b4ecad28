"""The link to the PBX over AMI: connect, watch, resync, journal, send; events come out as frozen values.

Nothing outside this package knows panoramisk; inside it only `library.py` and `wire.py` do.
"""

from adapter.pbx.config import PbxConfig, Timings
from adapter.pbx.link import PbxLink
from adapter.pbx.messages import Down, Event, PbxMessage, Up
from adapter.pbx.replies import Accepted, Denied, LastCheck, LinkDown, NotSent, Order, Refused, Reply, Shown, Unsure
from adapter.pbx.status import LinkStatus

__all__ = [
    "Accepted",
    "Denied",
    "Down",
    "Event",
    "LastCheck",
    "LinkDown",
    "LinkStatus",
    "NotSent",
    "Order",
    "PbxConfig",
    "PbxLink",
    "PbxMessage",
    "Refused",
    "Reply",
    "Shown",
    "Timings",
    "Unsure",
    "Up",
]
