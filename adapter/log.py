"""Log lines: one per change of state, JSON for machines, plain for a terminal; numbers masked, secrets never.

Use `say(logger, level, "pbx.up", "PBX link is up", key=value, …)`: the first text is a stable name for machines, the
second words for people. Phone numbers (seven digits or more in a row) are masked in every text unless
`LOG_NUMBERS=full`; the values under `SAFE_KEYS` are ids and times, which stay as they are.
"""

import json
import logging
import re
import sys
import time
from typing import Any, TextIO

SAFE_KEYS = frozenset(
    {
        "row",
        "call",
        "claim",
        "adapter",
        "user",
        "campaign",
        "at",
        "boot",
        "slot",
        "seq",
        "incarnation",
        "version",
    }
)
"""Keys whose values are ids, counters or times of ours, never phone numbers."""

NOISY = ("websockets", "websockets.client", "httpx", "httpcore", "hpack", "realtime", "panoramisk", "asyncio")
"""Library loggers that print keys or customers' data below WARNING (RT-25, AMI-23)."""

_NUMBER = re.compile(r"(?<![0-9A-Za-z-])\+?\d{7,15}(?![0-9A-Za-z-])")
_SECRETS: set[str] = set()
_mask_numbers = True


def hide(secret: str) -> None:
    """Never print this text again, wherever it turns up in a log line."""
    if len(secret) >= 4:
        _SECRETS.add(secret)


def mask(text: str) -> str:
    """Replace all but the last three digits of anything that looks like a phone number."""

    def short(match: re.Match[str]) -> str:
        digits = match.group()
        return ("+" if digits.startswith("+") else "") + "…" + digits[-3:]

    return _NUMBER.sub(short, text) if _mask_numbers else text


def redact(text: str) -> str:
    """`text` without any registered secret."""
    for secret in _SECRETS:
        text = text.replace(secret, "<secret>")
    return text


def clean(text: str) -> str:
    """`text` fit for a log: secrets out, phone numbers masked."""
    return mask(redact(text))


def say(logger: logging.Logger, level: int, event: str, message: str, **fields: Any) -> None:
    """One log line: `event` for machines, `message` for people, `fields` for both."""
    if logger.isEnabledFor(level):
        logger.log(level, message, extra={"event": event, "fields": fields}, stacklevel=2)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        out: dict[str, Any] = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": getattr(record, "event", record.name),
            "message": clean(record.getMessage()),
        }
        for key, value in getattr(record, "fields", {}).items():
            out[key] = (
                redact(str(value)) if key in SAFE_KEYS and not isinstance(value, int | None) else _plain(key, value)
            )
        if record.exc_info:
            out["error"] = clean(self.formatException(record.exc_info))
        return json.dumps(out, ensure_ascii=False, default=str)


class HumanFormatter(logging.Formatter):
    """Time, level, words, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        tail = " ".join(
            f"{k}={redact(str(v)) if k in SAFE_KEYS else clean(str(v))}" for k, v in fields.items() if v is not None
        )
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{clock} {record.levelname:<7} {clean(record.getMessage())}"
        if tail:
            line += f"  [{tail}]"
        if record.exc_info:
            line += "\n" + clean(self.formatException(record.exc_info))
        return line


def _plain(key: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if key in SAFE_KEYS or abs(value) < 1_000_000 else clean(str(value))
    return clean(str(value))


def set_up(*, level: str = "INFO", style: str = "auto", numbers: str = "masked", stream: TextIO | None = None) -> None:
    """Send all logging to `stream` (default: standard error).

    `style` is `json`, `human`, or `auto` (human on a terminal); `numbers` is `masked` or `full`.
    """
    global _mask_numbers  # noqa: PLW0603  one switch for the whole process, set once at start
    _mask_numbers = numbers != "full"
    out = stream or sys.stderr
    human = style == "human" or (style == "auto" and out.isatty())
    handler = logging.StreamHandler(out)
    handler.setFormatter(HumanFormatter() if human else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
