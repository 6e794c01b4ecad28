"""What the link tells its one consumer, in order: Up, Events, Down, Up, …"""

from dataclasses import dataclass

from adapter.core.model import AmiEvent, Channel


@dataclass(frozen=True, slots=True)
class Up:
    """Logged in, booted, and this is what is alive now. Comes before every event of its session.

    Events that the PBX sent between the login and the list follow it, so an event may be older than `channels`.
    """

    session: int
    boot: str
    """Start time of the PBX as an opaque string: another one means that the PBX was restarted in between."""

    version: str
    channels: tuple[Channel, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """One event, in the order the PBX sent it."""

    event: AmiEvent


@dataclass(frozen=True, slots=True)
class Down:
    """This session sees nothing any more. Calls may live on; the next Up tells."""

    session: int
    reason: str


PbxMessage = Up | Event | Down
