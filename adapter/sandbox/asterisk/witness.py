"""What the carrier saw, read from the lines that its dialplan wrote (`conf/carrier/extensions.conf`)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from adapter.sandbox.scenarios import scenario_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Invite:
    """One INVITE that reached the carrier. Times are epoch seconds of this machine."""

    number: str
    """As it was dialed: in the trunk's form."""

    started: float
    sip_call_id: str
    """Call-ID of SIP, unique per INVITE."""

    scenario: str = ""
    """Code of the number plan, empty for a number that is not of it."""

    rang: float | None = None
    """When a 180 or 183 went back."""

    answered: float | None = None
    ended: float | None = None
    cause: int | None = None
    """Q.850 cause with which the carrier's leg ended; None while it lives, or if the carrier was killed."""


def read(text: str) -> list[Invite]:
    """The carrier's records, in the order of the INVITEs. A line that was cut off by a kill is left out."""
    invites: dict[str, Invite] = {}
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):
            _take(invites, line.split())
    return list(invites.values())


def _take(invites: dict[str, Invite], fields: Iterable[str]) -> None:
    match tuple(fields):
        case ("invite", at, leg, number, call_id) if leg not in invites:
            scenario = scenario_of(number)
            invites[leg] = Invite(
                number=number, started=float(at), sip_call_id=call_id, scenario=scenario.code if scenario else ""
            )
        case ("rang", at, leg):
            invites[leg] = replace(invites[leg], rang=float(at))
        case ("answered", at, leg):
            invites[leg] = replace(invites[leg], answered=float(at))
        case ("ended", at, leg, cause):
            invites[leg] = replace(invites[leg], ended=float(at), cause=int(cause))
        case other:
            raise ValueError(f"the carrier wrote a line that is none of ours: {' '.join(other)!r}")
