"""The live legs of the PBX, ours and those of people, by the list it gives and by what it tells between two lists.

A leg is ours if it shares the Linkedid or the Uniqueid of a call of ours. Every other leg on a trunk is a person's call
and takes a channel of the carrier's account, which the claim must leave to it. A list is whole but some moments old; an
event between its making and its coming may be undone by it until the next one, which `RESERVED_CHANNELS` covers.
"""

from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass

from adapter.core.model import AmiEvent, Channel

TECHNOLOGY = "PJSIP/"

MOST = 20_000
"""Legs that are kept between two lists; no PBX has so many, and the next list makes them right."""


@dataclass(frozen=True, slots=True)
class Leg:
    """One live leg of a SIP peer."""

    peer: str
    """Provider or extension, of `PJSIP/<peer>-0000001a`."""

    uniqueid: str
    linkedid: str


class Legs:
    """Not frozen, but pure. The link tells it what it hears, in order."""

    def __init__(self) -> None:
        self._legs: dict[str, Leg] = {}

    def __len__(self) -> int:
        return len(self._legs)

    def on_list(self, channels: Iterable[Channel]) -> None:
        """The list of all live legs."""
        found = (_leg(channel.name, channel.uniqueid, channel.linkedid) for channel in channels)
        self._legs = {leg.uniqueid: leg for leg in found if leg is not None}

    def on_event(self, event: AmiEvent) -> None:
        """A leg is made, or gone."""
        if event.name == "Newchannel":
            leg = _leg(event.get("Channel"), event.get("Uniqueid"), event.get("Linkedid"))
            if leg is not None and len(self._legs) < MOST:
                self._legs[leg.uniqueid] = leg
        elif event.name == "Hangup":
            self._legs.pop(event.get("Uniqueid"), None)

    def foreign(self, ours: Container[str]) -> Counter[str]:
        """Legs by peer that belong to none of these calls."""
        return Counter(leg.peer for leg in self._legs.values() if leg.linkedid not in ours and leg.uniqueid not in ours)


def _leg(name: str, uniqueid: str, linkedid: str) -> Leg | None:
    peer = name.removeprefix(TECHNOLOGY).rpartition("-")[0] if name.startswith(TECHNOLOGY) else ""
    return Leg(peer, uniqueid, linkedid) if peer and uniqueid else None
