"""What we ask the PBX, as typed answers. Each is one action, or one per value."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from adapter.core.model import Channel
from adapter.core.routes import Step
from adapter.pbx.config import Timings
from adapter.pbx.replies import LinkDown
from adapter.pbx.session import Session

JOURNAL = "mikopbx-adapter"
"""Family of our entries in the PBX's database; an Originate writes its slot before it dials (design section 6)."""

NOT_IN_DATABASE = "Database entry not found"
NO_SUCH_CHANNEL = "No such channel"
NO_SUCH_PLACE = ("Did not find context", "Did not find extension")
RINGING = "5"
UP = "6"
"""ChannelState of a leg that was answered."""


_CONFIG_NAME = re.compile(r"[A-Za-z0-9_.@-]+")
"""What may stand in a dialplan function that we write: nothing with a meaning of its own there."""

_DIGITS = re.compile(r"[0-9]{1,6}")
"""A part of a duration. More digits are no time, and Python reads no number of thousands of them."""

VOID = "Local/nobody@mikopbx-adapter-nowhere"
"""Leads into a context that no PBX has. Seen on Asterisk 16.28 and 22.10: the two halves come and go within 2 ms, no
dialplan is run, no other channel is made, so nobody rings and MikoPBX records nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """One outgoing registration at a carrier."""

    name: str
    """MikoPBX calls it `REG-<provider id>`."""

    endpoint: str
    """Mostly empty: set only where the registration has a `line`."""

    server: str
    status: str
    """`Registered`, `Unregistered`, `Rejected`, `Stopping`, `Stopped`."""


async def allowed(session: Session, timings: Timings) -> frozenset[str] | None:
    """Names of the actions that our user may use; None where the PBX does not list them."""
    answer = await session.ask("ListCommands", seconds=timings.answer)
    return frozenset(answer.fields) - {"Response", "ActionID", "Message"} if answer.ok else None


async def boot(session: Session, timings: Timings) -> str:
    """Start time of the PBX, an opaque string."""
    answer = await session.ask("CoreStatus", seconds=timings.answer)
    parts = [answer.fields.get(name, "") for name in ("CoreStartupDate", "CoreStartupTime")]
    if not answer.ok or not all(parts):
        raise LinkDown(f"the PBX does not tell when it was started ({answer.message or 'CoreStatus without times'})")
    return " ".join(parts)


async def version(session: Session, timings: Timings) -> str:
    """Version of Asterisk, or an empty string."""
    answer = await session.ask("CoreSettings", seconds=timings.answer)
    return answer.fields.get("AsteriskVersion", "")


async def channels(session: Session, timings: Timings) -> tuple[Channel, ...]:
    """Every live leg. A list that is not whole is no list: absence would be taken for evidence."""
    answer = await session.ask("CoreShowChannels", seconds=timings.channels, many=True)
    if not answer.ok or not answer.items:
        raise LinkDown(f"the PBX gave no list of channels ({answer.message})")
    *legs, last = answer.items
    if last.get("EventList") != "Complete" or last.get("ListItems") != str(len(legs)):
        raise LinkDown("the PBX gave a list of channels that is not whole")
    return tuple(_channel(leg) for leg in legs)


async def dialplan(session: Session, timings: Timings, context: str, extension: str | None = None) -> tuple[Step, ...]:
    """Every priority of one context (or of what an extension matches there), in order; none where there is no such."""
    narrower = (("Extension", extension),) if extension is not None else ()
    answer = await session.ask("ShowDialPlan", ("Context", context), *narrower, seconds=timings.answer, many=True)
    if not answer.ok:
        if answer.message.startswith(NO_SUCH_PLACE):
            return ()
        raise LinkDown(f"the PBX did not show its context {context} ({answer.message})")
    *lines, last = answer.items or ({},)
    if last.get("EventList") != "Complete" or last.get("ListItems") != str(len(lines)):
        raise LinkDown(f"the PBX showed its context {context} and did not come to the end")
    return tuple(
        Step(line.get("Application", ""), line.get("AppData", "")) for line in lines if line.get("Application")
    )


async def journal(session: Session, timings: Timings, slot: int) -> str | None:
    """What the journal holds at this slot; None only if the PBX itself says that there is no entry."""
    answer = await session.ask("DBGet", ("Family", JOURNAL), ("Key", str(slot)), seconds=timings.answer, many=True)
    if not answer.ok:
        if answer.message == NOT_IN_DATABASE:
            return None
        raise LinkDown(f"the PBX did not read its journal ({answer.message})")
    for item in answer.items:
        if item.get("Event") == "DBGetResponse":
            return item.get("Val", "")
    raise LinkDown("the PBX announced a journal entry and sent none")


async def hangup(session: Session, timings: Timings, channel: str, cause: int) -> bool:
    """End one leg, by Uniqueid or exact name. False: there is no such leg (any more)."""
    answer = await session.ask("Hangup", ("Channel", channel), ("Cause", str(cause)), seconds=timings.answer)
    if not answer.ok and answer.message != NO_SUCH_CHANNEL:
        raise LinkDown(f"the PBX did not hang up ({answer.message})")
    return answer.ok


async def getvar(session: Session, timings: Timings, expression: str) -> str:
    """Value of a global variable or a dialplan function; unknown ones are empty."""
    answer = await session.ask("Getvar", ("Variable", expression), seconds=timings.answer)
    if not answer.ok:
        raise LinkDown(f"the PBX did not read {expression} ({answer.message})")
    return answer.fields.get("Value", "")


async def configured(
    session: Session, timings: Timings, file: str, section: str, name: str, *, index: int = -1
) -> str | None:
    """A value as it stands in one of the PBX's files (by function AST_CONFIG, which MikoPBX loads); of a name that
    comes more than once the last, or the one at `index`. None: not there, or that function is not."""
    if not all(_CONFIG_NAME.fullmatch(text) for text in (file, section, name)):
        return None
    return await getvar(session, timings, f"AST_CONFIG({file},{section},{name},{index})") or None


async def registrations(session: Session, timings: Timings) -> tuple[Registration, ...]:
    """Every outgoing registration."""
    answer = await session.ask("PJSIPShowRegistrationsOutbound", seconds=timings.answer, many=True)
    if not answer.ok:
        raise LinkDown(f"the PBX did not show its registrations ({answer.message})")
    return tuple(
        Registration(
            name=item.get("ObjectName", ""),
            endpoint=item.get("Endpoint", ""),
            server=item.get("ServerUri", ""),
            status=item.get("Status", ""),
        )
        for item in answer.items
        if item.get("Event") == "OutboundRegistrationDetail"
    )


async def pbx_time(session: Session, timings: Timings) -> float | None:
    """The PBX's clock, epoch seconds; None where it does not tell."""
    answer = await session.ask("Ping", seconds=timings.answer)
    try:
        return float(answer.fields["Timestamp"])
    except (KeyError, ValueError):
        return None


async def call_nobody(session: Session, timings: Timings, call_id: str) -> str | None:
    """Have the PBX place a call that ends at once and rings nobody, for its events: Newchannel and Hangup twice, and
    OriginateResponse, all with `call_id`. Words if it was refused."""
    headers = (("Channel", VOID), ("Application", "Hangup"), ("Timeout", "1000"), ("Async", "true"))
    answer = await session.ask("Originate", *headers, ("ChannelId", call_id), seconds=timings.answer)
    return None if answer.ok else answer.message or "Response: Error without a message"


def _channel(fields: Mapping[str, str]) -> Channel:
    return Channel(
        name=fields.get("Channel", ""),
        uniqueid=fields.get("Uniqueid", ""),
        linkedid=fields.get("Linkedid", ""),
        up=fields.get("ChannelState") == UP,
        duration=_seconds(fields.get("Duration", "")),
        application=fields.get("Application", ""),
        ringing=fields.get("ChannelState") == RINGING,
    )


def _seconds(text: str) -> int:
    """`HH:MM:SS` as CoreShowChannels prints it (hours may have more digits)."""
    total = 0
    for part in text.split(":"):
        total = total * 60 + (int(part) if _DIGITS.fullmatch(part) else 0)
    return total
