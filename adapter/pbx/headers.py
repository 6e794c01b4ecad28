"""The last gate before bytes are written: AMI has no escaping, so nothing that could need it passes (AMI-14)."""

import re
from collections.abc import Iterable

MAX_LINE = 1022
"""Bytes of one line, name included, without CR LF; Asterisk refuses longer ones (outcomes.md section 4)."""

MAX_LINES = 120
"""Asterisk refuses an action of more than 128 lines."""

REPEATABLE = frozenset({"variable"})
"""Of any other header that comes twice Asterisk takes one and ignores the other."""

ORIGINATE = frozenset(
    {
        "channel",
        "context",
        "exten",
        "priority",
        "timeout",
        "callerid",
        "async",
        "channelid",
        "otherchannelid",
        "variable",
    }
)
"""Headers an Originate of ours may carry. EarlyMedia is not among them: it makes a false answer."""


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class BadHeader(ValueError):
    """A value that must never be written; the text names the header, not the value."""


def checked(headers: Iterable[tuple[str, str]]) -> dict[str, str | list[str]]:
    """Headers as panoramisk takes them: a repeated one becomes a list. Raises BadHeader."""
    out: dict[str, str | list[str]] = {}
    seen: set[str] = set()
    lines = 0
    for name, value in headers:
        _check(name, value)
        lines += 1
        key = name.lower()
        if key in REPEATABLE:
            earlier = out.setdefault("Variable", [])
            if isinstance(earlier, list):
                earlier.append(value)
        elif key in seen:
            raise BadHeader(f"header {name} stands twice")
        else:
            out[name] = value
        seen.add(key)
    if lines > MAX_LINES:
        raise BadHeader(f"{lines} headers; Asterisk takes at most {MAX_LINES}")
    return out


def checked_originate(call_id: str, headers: Iterable[tuple[str, str]]) -> dict[str, str | list[str]]:
    """An Originate, whole: only known headers, asynchronous, under the call's own ids. Raises BadHeader."""
    out = checked([("Action", "Originate"), ("ActionID", call_id), *headers])
    names = {name.lower(): value for name, value in out.items()}
    unknown = names.keys() - ORIGINATE - {"action", "actionid"}
    if unknown:
        raise BadHeader(f"an Originate of ours has no header {', '.join(sorted(unknown))}")
    missing = {"channel", "context", "exten", "priority", "timeout", "channelid"} - names.keys()
    if missing:
        raise BadHeader(f"an Originate needs {', '.join(sorted(missing))}")
    if names.get("async") not in {"true", None}:
        raise BadHeader("Async must be true: else the PBX executes nothing else on this connection meanwhile")
    if any("," in value for value in out.get("Variable", [])):
        raise BadHeader("a Variable holds a comma, which would start another variable")
    if names["channelid"] != call_id:
        raise BadHeader("ChannelId is not the call id")
    if len(names.get("otherchannelid", call_id)) != len(call_id) or names.get("otherchannelid") == call_id:
        raise BadHeader("OtherChannelId must be another id of the same length, or one of them is taken for a duplicate")
    for name in [name for name in out if name.lower() == "async"]:
        del out[name]
    # The library understands no other spelling (AMI-10).
    return {**out, "Async": "true"}


def _check(name: str, value: str) -> None:
    if not name.isascii() or not name.replace("-", "").isalnum():
        raise BadHeader(f"{name!r} is no header name")
    if _CONTROL.search(value):
        raise BadHeader(f"header {name} holds a control character")
    try:
        size = len(f"{name}: {value}".encode())
    except UnicodeEncodeError:
        raise BadHeader(f"header {name} holds half a character (a lone surrogate)") from None
    if size > MAX_LINE:
        raise BadHeader(f"header {name} makes a line of {size} bytes; Asterisk takes at most {MAX_LINE}")
