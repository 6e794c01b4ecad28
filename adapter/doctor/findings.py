"""What a check found, in words an operator can act on."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARN = "warning"
    """Calls are placed all the same; something will surprise somebody one day."""

    FAIL = "failed"
    """No calls, or wrong ones, until it is mended."""

    SKIPPED = "not checked"
    """`found` says why: something before it failed, or a setting that it needs is not given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check. Texts hold no secret; phone numbers only as examples of documentation ranges."""

    check: str
    """Stable name, such as `pbx.login`: docs/guide/checklist.md and scripts refer to it."""

    verdict: Verdict
    tried: str
    """What was done to find out, such as "GET /rest/v1/ with the secret key"."""

    found: str
    mend: str = ""
    """What to do about it, for WARN and FAIL."""

    seconds: float | None = None
    """How long it took, where that tells something."""

    def as_json(self) -> dict[str, Any]:
        """For `doctor --json`."""
        return asdict(self)


def ok(check: str, tried: str, found: str, *, seconds: float | None = None) -> Finding:
    """All is well."""
    return Finding(check=check, verdict=Verdict.OK, tried=tried, found=found, seconds=seconds)


def warn(check: str, tried: str, found: str, mend: str) -> Finding:
    """It works, but."""
    return Finding(check=check, verdict=Verdict.WARN, tried=tried, found=found, mend=mend)


def fail(check: str, tried: str, found: str, mend: str) -> Finding:
    """It does not work."""
    return Finding(check=check, verdict=Verdict.FAIL, tried=tried, found=found, mend=mend)


def skipped(check: str, tried: str, why: str) -> Finding:
    """It was not looked at."""
    return Finding(check=check, verdict=Verdict.SKIPPED, tried=tried, found=why)
