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

RISKY: Mapping[str, str] = {"Command": "command", "UpdateConfig": "config", "ModuleLoad": "system"}
"""Action → a write right that nothing of ours needs and that would hand over the PBX with the AMI password."""


def missing(allowed: Iterable[str]) -> str | None:
    """Words about the rights that lack, or None. `allowed` are names of actions."""
    known = {name.lower() for name in allowed}
    lacking = sorted({right for action, right in NEEDED.items() if action.lower() not in known})
    if not lacking:
        return None
    return f"the AMI user lacks the write right {_listed(lacking)}: grant it on the PBX (AMI access)"


def excess(allowed: Iterable[str]) -> str | None:
    """Words about rights that should be taken away, or None."""
    known = {name.lower() for name in allowed}
    granted = sorted({right for action, right in RISKY.items() if action.lower() in known})
    if not granted:
        return None
    return (
        f"the AMI user has the write right {_listed(granted)}, which the adapter does not need: whoever learns the"
        " password, which AMI sends in clear text, owns the PBX. Take it away"
    )


def denied(action: str) -> str:
    """Words about one action that was refused for want of a right."""
    return f"the AMI user may not use {action}: grant it the write right '{NEEDED.get(action, '?')}'"


def _listed(rights: list[str]) -> str:
    return " and ".join(f"'{right}'" for right in rights)
