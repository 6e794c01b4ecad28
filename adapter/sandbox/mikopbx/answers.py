"""The actions that the simulated PBX knows, each with the rights it needs and the words of its answers."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapter.sandbox.mikopbx import dialplan, files
from adapter.sandbox.mikopbx.call import Call, Order, Why
from adapter.sandbox.mikopbx.session import ALL_EVENTS, Session, event_mask
from adapter.sandbox.mikopbx.wire import NO_ACTION, Action, message

if TYPE_CHECKING:
    from adapter.sandbox.mikopbx.pbx import SimulatedPbx

LOGIN_FAILED_SECONDS = 1.0
"""A refused login is answered about this late, then the connection closes."""

MAX_CHANNEL_ID = 149
DEFAULT_TIMEOUT_MS = 30_000
CHANNEL_CUT = 255
VERSION = "22.10.1"

Handler = Callable[["SimulatedPbx", Session, Action], Awaitable[bytes]]


class RefusedError(Exception):
    """The action is answered with `Response: Error` and these words."""


class LeaveError(Exception):
    """The answer is the last one: the connection closes after it."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Entry:
    """One action: its name, its handler, and the write classes of which one is enough (none: anybody)."""

    name: str
    handler: Handler
    rights: frozenset[str] = frozenset()
    before_login: bool = False


def reply(action: Action, word: str, *pairs: tuple[str, str]) -> bytes:
    """A `Response` with the action's own ActionID."""
    ids = [("ActionID", action.action_id)] if action.action_id else []
    return message(("Response", word), *ids, *pairs)


def refusal(action: Action, words: str) -> bytes:
    """`Response: Error`."""
    return reply(action, "Error", ("Message", words))


async def execute(pbx: "SimulatedPbx", session: Session, action: Action) -> bytes:
    """Execute one action; its answer. Raises `LeaveError` where the connection ends with it."""
    try:
        return await _entry(pbx, session, action).handler(pbx, session, action)
    except RefusedError as error:
        return refusal(action, str(error))


def _entry(pbx: "SimulatedPbx", session: Session, action: Action) -> Entry:
    """The table's entry for an action that this connection may execute; raises `RefusedError` else."""
    if action.fault:
        raise RefusedError(action.fault)
    if not action.name:
        raise RefusedError(NO_ACTION)
    entry = TABLE.get(action.name.lower())
    if not session.logged_in and not (entry and entry.before_login):
        raise RefusedError("Permission denied")
    if entry is None:
        words = f"Invalid/unknown command: {action.name}. Use Action: ListCommands to show available commands."
        raise RefusedError(words)
    if entry.rights and not entry.rights & pbx.write:
        raise RefusedError("Permission denied")
    return entry


async def _login(pbx: "SimulatedPbx", session: Session, action: Action) -> bytes:
    if session.logged_in:
        return reply(action, "Success", ("Message", "Already logged in"))
    if (action.get("Username"), action.get("Secret")) != (pbx.username, pbx.password):
        await asyncio.sleep(LOGIN_FAILED_SECONDS / pbx.speed)
        raise LeaveError(refusal(action, "Authentication failed"))
    events = action.get("Events")
    session.mask = event_mask(events) if events else ALL_EVENTS
    session.logged_in = True
    answer = reply(action, "Success", ("Message", "Authentication accepted"))
    if pbx.booted and session.hears("system"):
        answer += message(*pbx.booted_event())
    return answer


async def _logoff(_pbx: "SimulatedPbx", _session: Session, action: Action) -> bytes:
    raise LeaveError(reply(action, "Goodbye", ("Message", "Thanks for all the fish.")))


async def _ping(_pbx: "SimulatedPbx", _session: Session, action: Action) -> bytes:
    return reply(action, "Success", ("Ping", "Pong"), ("Timestamp", f"{time.time():.6f}"))


async def _events(_pbx: "SimulatedPbx", session: Session, action: Action) -> bytes:
    session.mask = event_mask(action.get("EventMask"))
    return reply(action, "Success", ("Events", "On" if session.mask else "Off"))


async def _core_status(pbx: "SimulatedPbx", _session: Session, action: Action) -> bytes:
    started = time.localtime(pbx.boot)
    date, clock = time.strftime("%Y-%m-%d", started), time.strftime("%H:%M:%S", started)
    return reply(
        action,
        "Success",
        ("CoreStartupDate", date),
        ("CoreStartupTime", clock),
        ("CoreReloadDate", date),
        ("CoreReloadTime", clock),
        ("CoreCurrentCalls", str(len(pbx.live))),
    )


async def _core_settings(_pbx: "SimulatedPbx", _session: Session, action: Action) -> bytes:
    return reply(
        action,
        "Success",
        ("AMIversion", "11.0.0"),
        ("AsteriskVersion", VERSION),
        ("SystemName", "mikopbx"),
        ("CoreMaxCalls", "0"),
        ("CoreMaxLoadAvg", "0.000000"),
        ("CoreRunUser", ""),
        ("CoreRunGroup", ""),
        ("CoreMaxFilehandles", "65535"),
        ("CoreRealTimeEnabled", "No"),
        ("CoreCDRenabled", "Yes"),
        ("CoreHTTPenabled", "Yes"),
        ("SoundsSearchCustomDir", "No"),
    )


def _listing(action: Action, words: str, items: list[bytes], end: str, *more: tuple[str, str]) -> bytes:
    ids = [("ActionID", action.action_id)] if action.action_id else []
    start = reply(action, "Success", ("EventList", "start"), ("Message", words))
    last = message(("Event", end), *ids, ("EventList", "Complete"), ("ListItems", str(len(items))), *more)
    return start + b"".join(items) + last


async def _channels(pbx: "SimulatedPbx", _session: Session, action: Action) -> bytes:
    ids = [("ActionID", action.action_id)] if action.action_id else []
    items = [
        message(
            ("Event", "CoreShowChannel"),
            *ids,
            *leg.source(),
            ("Application", leg.application),
            ("ApplicationData", "(Outgoing Line)" if leg.application == "AppDial2" else ""),
            ("Duration", time.strftime("%H:%M:%S", time.gmtime(call.clock() - leg.born))),
            ("BridgeId", ""),
        )
        for call in pbx.live.values()
        for leg in call.legs
    ]
    return _listing(action, "Channels will follow", items, "CoreShowChannelsComplete")


async def _status(pbx: "SimulatedPbx", _session: Session, action: Action) -> bytes:
    wanted = action.get("Channel")
    found = [_channel(pbx, wanted)] if wanted else list(pbx.live.values())
    ids = [("ActionID", action.action_id)] if action.action_id else []
    items = [
        message(
            ("Event", "Status"),
            ("Privilege", "Call"),
            *call.leg.source(),
            ("Type", "PJSIP"),
            ("DNID", ""),
            ("EffectiveConnectedLineNum", call.leg.line[0]),
            ("EffectiveConnectedLineName", call.leg.line[1]),
            ("TimeToHangup", "0"),
            ("BridgeID", ""),
            ("Application", call.leg.application),
            ("Data", "(Outgoing Line)" if call.leg.application == "AppDial2" else ""),
            ("Nativeformats", "(alaw|ulaw)"),
            ("Readformat", "alaw"),
            ("Readtrans", ""),
            ("Writeformat", "alaw"),
            ("Writetrans", ""),
            ("Callgroup", "0"),
            ("Pickupgroup", "0"),
            ("Seconds", str(int(call.clock() - call.leg.born))),
            *ids,
        )
        for call in found
    ]
    return _listing(action, "Channel status will follow", items, "StatusComplete", ("Items", str(len(items))))


def _channel(pbx: "SimulatedPbx", wanted: str) -> Call:
    """The live call with this channel name or Uniqueid."""
    for call in pbx.live.values():
        if any(wanted.lower() in {leg.name.lower(), leg.uniqueid.lower()} for leg in call.legs):
            return call
    raise RefusedError("No such channel")


async def _hangup(pbx: "SimulatedPbx", _session: Session, action: Action) -> bytes:
    wanted, cause = action.get("Channel"), action.get("Cause")
    if not wanted:
        raise RefusedError("No channel specified")
    code = int(cause) if re.fullmatch(r"\d{1,3}", cause) else 0
    if not wanted.startswith("/"):
        _channel(pbx, wanted).cut(Why.HANGUP, code)
        return reply(action, "Success", ("Message", "Channel Hungup"))
    # A value that begins with a slash is a regular expression over channel names: the trap of a careless client.
    pattern = wanted[1:].removesuffix("/")
    found = [call for call in pbx.live.values() if re.search(pattern, call.leg.name)]
    for call in found:
        call.cut(Why.HANGUP, code)
    ids = [("ActionID", action.action_id)] if action.action_id else []
    items = [message(("Event", "ChannelHungup"), ("Channel", call.leg.name), *ids) for call in found]
    return _listing(action, "Channels hung up will follow", items, "ChannelsHungupListComplete")


async def _getvar(pbx: "SimulatedPbx", _session: Session, action: Action) -> bytes:
    name, channel = action.get("Variable"), action.get("Channel")
    if not name:
        raise RefusedError("No variable specified")
    call = _channel(pbx, channel) if channel else None
    value = dialplan.value_of(pbx, name, call)
    return reply(action, "Success", ("Variable", name), ("Value", value))


async def _db_get(pbx: "SimulatedPbx", _session: Session, action: Action) -> bytes:
    family, key = action.get("Family"), action.get("Key")
    if not family:
        raise RefusedError("No family specified.")
    if not key:
        raise RefusedError("No key specified.")
    value = pbx.journal.get(f"{family}/{key}")
    if value is None:
        raise RefusedError("Database entry not found")
    ids = [("ActionID", action.action_id)] if action.action_id else []
    item = message(("Event", "DBGetResponse"), ("Family", family), ("Key", key), ("Val", value), *ids)
    return _listing(action, "Result will follow", [item], "DBGetComplete")


async def _show_dialplan(pbx: "SimulatedPbx", _session: Session, action: Action) -> bytes:
    context, exten = action.get("Context"), action.get("Extension")
    found = dialplan.shown(pbx, context, exten)
    if found is None:
        raise RefusedError(f"Did not find context {context}")
    if exten and not found:
        raise RefusedError(f"Did not find extension {exten}@{context}")
    ids = [("ActionID", action.action_id)] if action.action_id else []
    items = [
        message(
            ("Event", "ListDialplan"),
            *ids,
            ("Context", context),
            ("Extension", extension),
            ("Priority", str(priority)),
            ("Application", application),
            ("AppData", data),
            ("Registrar", "pbx_config"),
        )
        for extension, steps in found
        for priority, (application, data) in enumerate(steps, 1)
    ]
    counts = (("ListExtensions", str(len(found))), ("ListPriorities", str(len(items))), ("ListContexts", "1"))
    return _listing(action, "DialPlan list will follow", items, "ShowDialPlanComplete", *counts)


async def _list_commands(pbx: "SimulatedPbx", _session: Session, action: Action) -> bytes:
    """Only what the asker may use. A real one writes what each is for before the rights."""
    may = {entry.name: entry.rights for entry in TABLE.values() if not entry.rights or entry.rights & pbx.write}
    told = [
        (name, f"(Priv: {files.listed(may[name]) + ',all' if may[name] else '<none>'})")
        for name in sorted(may, key=str.lower)
    ]
    return reply(action, "Success", *told)


async def _registrations(_pbx: "SimulatedPbx", _session: Session, action: Action) -> bytes:
    """None: the carrier knows this PBX by its address, as that of the Asterisk pair does."""
    words = "Following are Events for each Outbound registration"
    counts = (("Registered", "0"), ("NotRegistered", "0"))
    return _listing(action, words, [], "OutboundRegistrationDetailComplete", *counts)


async def _not_simulated(_pbx: "SimulatedPbx", _session: Session, _action: Action) -> bytes:
    raise RefusedError("not simulated")


async def _originate(pbx: "SimulatedPbx", _session: Session, action: Action) -> bytes:
    if pbx.stopping:
        raise RefusedError("Asterisk is shutting down")
    order = _order(action)
    if (
        order.exten
        and order.context
        and order.priority
        and not dialplan.exists(pbx, order.context, order.exten, order.priority)
    ):
        raise RefusedError("Extension does not exist.")
    if len(order.call_id) > MAX_CHANNEL_ID:
        # The line feed at the end is Asterisk's own.
        raise RefusedError(f"Uniqueid length exceeds maximum of {MAX_CHANNEL_ID}\n")
    answered = pbx.originate(order)
    if action.get("Async").lower() in {"true", "yes", "y", "t", "1", "on"} or await answered:
        return reply(action, "Success", ("Message", "Originate successfully queued"))
    raise RefusedError("Originate failed")


def _order(action: Action) -> Order:
    """The Originate as values; raises `RefusedError` in Asterisk's words and order."""
    channel, priority, timeout = action.get("Channel")[:CHANNEL_CUT], action.get("Priority"), action.get("Timeout")
    if not channel:
        raise RefusedError("Channel not specified")
    if priority and not re.match(r"\s*[+-]?\d", priority):
        raise RefusedError("Invalid priority")
    milliseconds = re.match(r"\s*([+-]?\d+)", timeout)
    if timeout and not milliseconds:
        raise RefusedError("Invalid timeout")
    if "/" not in channel:
        raise RefusedError("Invalid channel")
    pairs: list[tuple[str, str]] = []
    for header in action.every("Variable"):
        for part in header.split(","):  # Quotes and backslashes do not protect a comma.
            name, equals, value = part.partition("=")
            if equals:
                pairs.append((name.strip(), value))
    return Order(
        action_id=action.action_id,
        channel=channel,
        number=channel.partition("/")[2].partition("@")[0],
        context=action.get("Context"),
        exten=action.get("Exten"),
        priority=priority,
        timeout=int(milliseconds.group(1) if milliseconds else DEFAULT_TIMEOUT_MS) / 1000,
        caller=_caller(action.get("CallerID")),
        call_id=action.get("ChannelId"),
        other_id=action.get("OtherChannelId"),
        application=action.get("Application"),
        data=action.get("Data"),
        variables=tuple(pairs),
    )


def _caller(text: str) -> tuple[str, str] | None:
    """Number and name of a CallerID like `Name <number>` or `number`; None if there is none."""
    if not text.strip():
        return None
    match = re.fullmatch(r'\s*"?([^"<]*?)"?\s*<([^>]*)>\s*', text)
    name, number = match.groups() if match else ("", text)
    return re.sub(r"[() -]", "", number), name


ENTRIES = (
    Entry("Login", _login, before_login=True),
    Entry("Logoff", _logoff, before_login=True),
    Entry("Ping", _ping),
    Entry("Events", _events),
    Entry("ListCommands", _list_commands),
    Entry("CoreStatus", _core_status, frozenset({"system", "reporting"})),
    Entry("CoreSettings", _core_settings, frozenset({"system", "reporting"})),
    Entry("CoreShowChannels", _channels, frozenset({"system", "reporting"})),
    Entry("Status", _status, frozenset({"system", "call", "reporting"})),
    Entry("Getvar", _getvar, frozenset({"call", "reporting"})),
    Entry("DBGet", _db_get, frozenset({"system", "reporting"})),
    Entry("ShowDialPlan", _show_dialplan, frozenset({"config", "reporting"})),
    Entry("PJSIPShowRegistrationsOutbound", _registrations, frozenset({"system", "reporting"})),
    Entry("Hangup", _hangup, frozenset({"system", "call"})),
    Entry("Originate", _originate, frozenset({"originate"})),
    Entry("Command", _not_simulated, frozenset({"command"})),
    Entry("UpdateConfig", _not_simulated, frozenset({"config"})),
    Entry("ModuleLoad", _not_simulated, frozenset({"system"})),
)
"""The last three are what nobody should be allowed: they are listed and refused."""

TABLE = {entry.name.lower(): entry for entry in ENTRIES}
"""AMI does not mind case."""
