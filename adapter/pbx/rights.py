"""What our AMI user may do: read at login from ListCommands, which names just the actions that it may use.

So a missing right is known before a row is claimed for nothing, and nothing has to be tried. Read rights cannot be
read this way: a missing `system` shows as a missing FullyBooted, a missing `call` as silence (link.py).
"""

from collections.abc import Iterable, Mapping

NEEDED: Mapping[str, str] = {
    "Originate": "originate",
    "Hangup": "call",
    "CoreShowChannels": "reporting",
    "CoreStatus": "reporting",
    "CoreSettings": "reporting",
    "DBGet": "reporting",
    "Getvar": "reporting",
}
"""Action → the write right that opens it, as seen on Asterisk 22.10.1 (Getvar is content with `call` too)."""

ALSO: Mapping[str, str] = {"ShowDialPlan": "reporting", "PJSIPShowRegistrationsOutbound": "reporting"}
"""Actions that only some settings need, or only `doctor` uses, and the write right that opens them."""

RISKY: Mapping[str, str] = {"Command": "command", "UpdateConfig": "config", "ModuleLoad": "system"}
"""Action → a write right that nothing of ours needs and with which one header too many, or the password that AMI sends
in clear text, is enough to run programs on the PBX. So nobody is called while we have it (excess)."""


def missing(allowed: Iterable[str]) -> str | None:
    """Words about the rights that lack, or None. `allowed` are names of actions."""
    known = {name.lower() for name in allowed}
    lacking = sorted({right for action, right in NEEDED.items() if action.lower() not in known})
    if not lacking:
        return None
    return f"the AMI user lacks the write right {_listed(lacking)}: grant it on the PBX (AMI access)"


def excess(allowed: Iterable[str]) -> str | None:
    """Words about rights that must be taken away before anybody is called, or None."""
    known = {name.lower() for name in allowed}
    granted = sorted({right for action, right in RISKY.items() if action.lower() in known})
    if not granted:
        return None
    return (
        f"the AMI user has the write right {_listed(granted)}, which the adapter never needs: a header smuggled into"
        " one of its actions, or anybody who reads the password off the wire, could run programs on the PBX. Nobody is"
        " called until it is taken away (AMI access); the adapter looks again as soon as the PBX has reloaded its AMI"
        " users. Calls in the air are followed"
    )


def denied(action: str) -> str:
    """Words about one action that was refused for want of a right."""
    right = NEEDED.get(action) or ALSO.get(action, "?")
    return f"the AMI user may not use {action}: grant it the write right '{right}'"


def _listed(rights: list[str]) -> str:
    return " and ".join(f"'{right}'" for right in rights)
