"""What became of a wish sent to the PBX. The difference between the replies is the fence against double calls."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

LastCheck = Callable[[], str | float | None]
"""Asked in the last step before an Originate is written. None: the bytes follow, with no await in between. A text: it
is not sent, for this reason. A number: look again after so many seconds, as if for the first time."""


class Order(Protocol):
    """The part of `adapter.core.originate.Originate` that the link needs."""

    @property
    def call_id(self) -> str: ...

    @property
    def headers(self) -> tuple[tuple[str, str], ...]: ...


@dataclass(frozen=True, slots=True)
class Accepted:
    """`Response: Success`: the PBX has queued the call. Everything else comes as events."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Certainly not executed, and would not be if tried again the same way.

    Either the PBX said `Response: Error`, or the last gate found a value that must never be written.
    """

    message: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """Certainly not one byte was handed to the connection."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unsure:
    """Bytes were handed to the connection and no Response came: the call may exist."""

    reason: str


@dataclass(frozen=True, slots=True)
class Shown:
    """Checked and logged in place of being sent (`run --shadow`): there is no such call."""


Reply = Accepted | Refused | NotSent | Unsure | Shown


class LinkDown(Exception):
    """The PBX could not be asked, or did not answer in time. Nothing follows about calls."""


class Denied(LinkDown):
    """The PBX answered that our AMI user may not do this; the text names the right that is missing."""
