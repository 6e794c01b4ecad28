"""The dialplan and the functions of the simulated PBX, as far as a client may ask for them."""

import hashlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from adapter.sandbox.mikopbx import files
from adapter.sandbox.mikopbx.call import Call

if TYPE_CHECKING:
    from adapter.sandbox.mikopbx.pbx import SimulatedPbx

ANYTHING = re.compile(r"[0-9*#+a-zA-Z].*")
"""What `all_peers` accepts; `outgoing` wants two characters of it."""

OUTGOING = "_[0-9*#+a-zA-Z][0-9*#+a-zA-Z]!"
"""The extension of context `outgoing`."""

Steps = list[tuple[str, str]]
"""Application and argument of each priority."""

AI: Steps = [("Answer", ""), ("Goto", "ai,stay,1")]
"""What an application of the AI does. How long it talks is the number's business."""

QUALIFY_SECONDS = "60"
"""MikoPBX's own choice for a provider that is looked after."""

LAST_PRIORITY = 16
"""Length of MikoPBX's pattern in `all_peers`; a higher priority does not exist."""


def exists(pbx: "SimulatedPbx", context: str, exten: str, priority: str) -> bool:
    """True if the dialplan has this extension and priority; while the PBX boots there is none."""
    if not pbx.booted or not re.fullmatch(r"\s*\d+\s*", priority) or not 1 <= int(priority) <= LAST_PRIORITY:
        return False
    match context:
        case "applications":
            return exten in pbx.applications
        case "all_peers":
            return bool(ANYTHING.fullmatch(exten))
        case "outgoing":
            return len(exten) >= 2 and bool(ANYTHING.fullmatch(exten))
        case _:
            return False


def shown(pbx: "SimulatedPbx", context: str, exten: str) -> list[tuple[str, Steps]] | None:
    """Extensions of a context (of `exten` alone where one is given), each with its steps; None: no such context.

    Only the two contexts that a client has to read are shown.
    """
    match context if pbx.booted else "":
        case "applications":
            found = [(name, AI) for name in sorted(pbx.applications)]
            return [(name, steps) for name, steps in found if exten in {"", name}]
        case "outgoing":
            return [(OUTGOING, outgoing(pbx))] if not exten or exists(pbx, context, exten, "1") else []
        case _:
            return None


def outgoing(pbx: "SimulatedPbx") -> Steps:
    """Application and argument of each step of context `outgoing`, as MikoPBX generates the routes."""
    routes = [
        ("ExecIf", f'$["${{REGEX("{pattern}" ${{EXTEN}})}}" == "1"]?Gosub({pbx.trunk}-{number}-outgoing,${{EXTEN}},1)')
        for number, pattern in enumerate(pbx.routes, 1)
    ]
    return [("Ringing", ""), *routes, ("Playback", "silence/2,noanswer"), ("Hangup", "")]


def route_of(pbx: "SimulatedPbx", number: str) -> str | None:
    """Context of the first route that takes this number, or None."""
    digits = number.removeprefix("+")
    found = (n for n, pattern in enumerate(pbx.routes, 1) if re.search(pattern, digits))
    return next((f"{pbx.trunk}-{n}-outgoing" for n in found), None)


def contact_of(trunk: str) -> str:
    """Id of the one contact of the trunk's AOR, as PJSIP makes it."""
    uri = f"sip:{trunk.lower()}.example.com:5060"
    return f"{trunk}@@{hashlib.md5(uri.encode(), usedforsecurity=False).hexdigest()}"


def value_of(pbx: "SimulatedPbx", name: str, call: Call | None) -> str:
    """Value of a variable or function, empty if there is none."""
    match = re.fullmatch(r"([A-Z_]+)\((.*)\)", name)
    if match:
        function, arguments = match.groups()
        handler = FUNCTIONS.get(function)
        return handler(pbx, [part.strip() for part in arguments.split(",")]) if handler else ""
    return pbx.variables_of(call).get(name, "") if call else ""


def _dialplan_exists(pbx: "SimulatedPbx", arguments: list[str]) -> str:
    context, exten, priority = [*arguments, "", "1"][:3] if len(arguments) < 3 else arguments[:3]
    return "1" if exists(pbx, context, exten, priority) else "0"


def _endpoint(pbx: "SimulatedPbx", arguments: list[str]) -> str:
    name, option = [*arguments, ""][:2]
    state = pbx.trunks.get(name)
    if state is None or not state.known:
        return ""
    options = {
        "aors": name,
        "context": f"{name}-incoming",
        "outbound_auth": f"{name}-OUT",
        "transport": "transport-udp",
        "allow": "(alaw|ulaw)",
        "dtmf_mode": "rfc4733",
        "from_user": "sandbox",
        "send_pai": "false",
        "send_rpid": "false",
    }
    return options.get(option, "")


def _aor(pbx: "SimulatedPbx", arguments: list[str]) -> str:
    name, option = [*arguments, ""][:2]
    state = pbx.trunks.get(name)
    if state is None or not state.known:
        return ""
    options = {
        "contact": contact_of(name) if state.contact else "",
        "max_contacts": "1",
        "qualify_frequency": QUALIFY_SECONDS if state.watched else "0",
    }
    return options.get(option, "")


def _contact(pbx: "SimulatedPbx", arguments: list[str]) -> str:
    name, option = [*arguments, ""][:2]
    trunk = name.partition("@@")[0]
    state = pbx.trunks.get(trunk)
    if state is None or name != contact_of(trunk) or not state.contact:
        return ""
    return {"status": state.contact, "aor": trunk}.get(option, "")


def _device_state(pbx: "SimulatedPbx", arguments: list[str]) -> str:
    trunk = arguments[0].removeprefix("PJSIP/")
    state = pbx.trunks.get(trunk)
    if state is None:
        return "INVALID"
    if state.device != "NOT_INUSE":
        return state.device
    states = {call.leg.state for call in pbx.live.values() if call.leg.name.startswith(f"PJSIP/{trunk}-")}
    if 6 in states:
        return "RINGINUSE" if 5 in states else "INUSE"
    return "RINGING" if 5 in states else "NOT_INUSE"


def _config(pbx: "SimulatedPbx", arguments: list[str]) -> str:
    file, section, name, index = [*arguments, "", "", "", "-1"][:4] if len(arguments) < 4 else arguments[:4]
    values = files.lines(pbx).get((file, section, name), ())
    place = int(index) if re.fullmatch(r"-1|\d+", index) else len(values)
    return values[place] if place < len(values) and values else ""


FUNCTIONS: dict[str, Callable[["SimulatedPbx", list[str]], str]] = {
    "DIALPLAN_EXISTS": _dialplan_exists,
    "PJSIP_ENDPOINT": _endpoint,
    "PJSIP_AOR": _aor,
    "PJSIP_CONTACT": _contact,
    "DEVICE_STATE": _device_state,
    "AST_CONFIG": _config,
}
