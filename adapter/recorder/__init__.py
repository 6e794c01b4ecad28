"""The flight recorder: what was said on both links, masked, in a bounded ring of files (docs/flight-recorder.md).

The links know the `Recorder` below and nothing else of this package; `SILENT` is the one that records nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One HTTP request and what came of it. Headers are not part of it: they hold the key."""

    method: str
    path: str
    status: int | None
    """None where no answer came."""

    seconds: float
    asked: Any
    """Body of the request, as an object; it is masked before it is written."""

    told: Any = None
    """Body of the answer."""

    problem: str | None = None


class Recorder(Protocol):
    """What the links tell. No method blocks, raises, or keeps the caller from going on."""

    def ami(self, session: int, *, sent: bool, headers: Mapping[str, Any]) -> None:
        """One AMI message as it stands, by us (`sent`) or by the PBX."""

    def closed(self, session: int, reason: str) -> None:
        """This AMI connection is over."""

    def http(self, exchange: Exchange) -> None:
        """One request to Supabase is over."""


class _Silent:
    """Records nothing."""

    def ami(self, session: int, *, sent: bool, headers: Mapping[str, Any]) -> None:
        """Nothing."""

    def closed(self, session: int, reason: str) -> None:
        """Nothing."""

    def http(self, exchange: Exchange) -> None:
        """Nothing."""


SILENT: Recorder = _Silent()
