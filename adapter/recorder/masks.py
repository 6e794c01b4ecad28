"""What may stand in the record: an allow-list of headers and keys, each with the form its value must have.

Whatever is not listed is left out, so a new header, a variable or a customer's name needs no rule to stay out. Phone
numbers become tokens, `<#` and twelve digits of an HMAC under a random key that never leaves `STATE_DIR`: the same
number gives the same token in every spelling (`+60 12-345 6700`, `60123456700`, `0123456700`), and without the key
nobody can try all numbers. A bundle replaces the tokens once more (`bundle.py`).
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from adapter.core.numbers import NumberRefused, parse

MAX_TEXT = 300
"""Characters of one value. The longest words of ours (an `ended_reason`) are below 200."""

MAX_ITEMS = 250
"""Items of one list in a body. A tick carries at most 200 records."""

MOST_CACHED = 4096
"""Numbers whose token is kept: a busy hour's; parsing one takes a tenth of a millisecond."""

TOKEN = re.compile(r"<#[0-9a-f]{12}>")
"""A phone number in the record."""

_TORN_TOKEN = re.compile(r"<#?[0-9a-f]{0,12}\Z")

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

_SECRET = re.compile(
    r"eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?|sb_(?:secret|publishable)_[\w-]+|sbp_[\w-]+|(?i:\b(?:bearer|basic)\s+[\w+/.=~-]+)"
)
"""Keys by their looks: the second fence, for one that no setting of ours names."""

_FOUND = re.compile(
    # What only looks like a phone number: ids, times, provider ids.
    rf"(?P<kept>(?<![0-9A-Za-z-]){_UUID}(?![0-9A-Za-z-])|mikopbx-adapter-[0-9a-f]{{12}}-\d+"
    r"|(?<![\d+-])(?:19|20)\d\d-(?:0\d|1[0-2])-(?:[0-2]\d|3[01])"
    r"(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?(?![\d-])"
    r"|\b(?:SIP|IAX)-TRUNK-[0-9A-F]{8}\b)"
    r"|(?P<number>\+?\d(?:[ ().\-/\u00a0\u2010-\u2015\u2212]{0,2}\d){4,})"
)
"""What in a text is kept although it has many digits, and what can be a phone number."""

_CHANNEL = re.compile(r"(.*)(-[0-9a-f]{8}(?:;[12])?)")
"""A channel's name ends in its own number."""

_UNIQUEID = re.compile(rf"(?:[a-z][a-z0-9-]*-)?1\d{{9}}\.\d{{1,6}}|{_UUID}(?:;[12])?")
"""Ids as Asterisk makes them (seconds since the epoch, a counter) or as we do."""


class Masks:
    """The rules under one key. Not thread-safe: it belongs to the thread that writes."""

    def __init__(self, key: bytes, *, secrets: Iterable[str] = (), region: str = "MY") -> None:
        self._key = key
        self._secrets = tuple(sorted((secret for secret in secrets if len(secret) >= 4), key=len, reverse=True))
        self._region = region
        self._tokens: dict[str, str] = {}
        self._seen: dict[tuple[str, str], str | None] = {}

    def number(self, written: str) -> str:
        """The token of a phone number, and the plus that stood before it."""
        plus = "+" if written.startswith("+") else ""
        token = self._tokens.get(written)
        if token is None:
            if len(self._tokens) >= MOST_CACHED:
                self._tokens.clear()
            digest = hmac.new(self._key, self._canonical(written).encode(), hashlib.sha256)
            token = self._tokens[written] = f"<#{digest.hexdigest()[:12]}>"
        return plus + token

    def text(self, value: str) -> str:
        """Free words: secrets out, everything that can be a phone number (five digits or more) as a token, cut."""
        for secret in self._secrets:
            value = value.replace(secret, "<secret>")
        value = _SECRET.sub("<secret>", value)
        value = _FOUND.sub(lambda found: found["kept"] or self.number(found["number"]), value)
        return value if len(value) <= MAX_TEXT else _TORN_TOKEN.sub("", value[:MAX_TEXT]) + "…"

    def headers(self, headers: Mapping[str, Any]) -> dict[str, str]:
        """An AMI message: the listed headers, in the order they came."""
        out: dict[str, str] = {}
        for name, value in headers.items():
            rule = HEADERS.get(name)
            if rule is None:
                continue
            kept = rule(self, headers, value) if name in _ALONE else self._again(name, value, rule)
            if kept is not None:
                out[name] = kept
        return out

    def _again(self, name: str, value: Any, rule: "_Rule") -> str | None:
        """Headers of one call repeat in each of its messages."""
        key = name, str(value)
        if key not in self._seen:
            if len(self._seen) >= MOST_CACHED:
                self._seen.clear()
            self._seen[key] = rule(self, {}, value)
        return self._seen[key]

    def body(self, value: Any) -> Any:
        """A JSON body: the listed keys, however deep."""
        match value:
            case Mapping():
                return {key: self._keyed(key, item) for key, item in value.items() if key in KEYS}
            case list() | tuple():
                return [self.body(item) for item in value[:MAX_ITEMS]]
            case str():
                return self.text(value)
            case bool() | int() | float() | None:
                return value
            case _:
                return None

    def _keyed(self, key: str, value: Any) -> Any:
        if isinstance(value, str) and key in NUMBERS:
            return self.number(value) if any(char.isdigit() for char in value) else None
        return self.body(value)

    def _canonical(self, written: str) -> str:
        """One spelling for all: E.164 without the plus. What is no possible number stands for itself."""
        digits = "".join(char for char in written if char.isdigit())
        # A trunk is often told 60123456700: as a national number that would be another one.
        tries = (written,) if written.startswith(("+", "0")) else ("+" + digits, digits)
        for spelling in tries:
            try:
                return parse(spelling, self._region).e164.lstrip("+")
            except NumberRefused:
                continue
        return digits


_Rule = Callable[[Masks, Mapping[str, Any], Any], str | None]


def _words(masks: Masks, _headers: Mapping[str, Any], value: Any) -> str | None:
    return masks.text(_last(value))


def _channel(masks: Masks, _headers: Mapping[str, Any], value: Any) -> str | None:
    """`PJSIP/<number>@<provider>` in an Originate, `PJSIP/<provider>-0000001a` afterwards."""
    text = _last(value)
    parts = _CHANNEL.fullmatch(text)
    return masks.text(parts[1]) + parts[2] if parts else masks.text(text)


def _id(masks: Masks, _headers: Mapping[str, Any], value: Any) -> str | None:
    text = _last(value)
    return text if _UNIQUEID.fullmatch(text) else masks.text(text)


def _like(pattern: str) -> _Rule:
    """As it stands where it has this form, else not at all."""
    compiled = re.compile(pattern)

    def rule(_masks: Masks, _headers: Mapping[str, Any], value: Any) -> str | None:
        text = _last(value)
        return text if compiled.fullmatch(text) else None

    return rule


def _value(_masks: Masks, headers: Mapping[str, Any], value: Any) -> str | None:
    """Answer to a Getvar of ours; the same header in an event (VarSet) may be a customer's name."""
    text = _last(value)
    return text if "Event" not in headers and re.fullmatch(r"\d{1,2}|[A-Z_]{2,16}", text) else None


_OURS = re.compile(r"(?:TIMEOUT\(absolute\)=\d{1,7}|DB\(mikopbx-adapter/\d{1,4}\)=\d+:" + _UUID + r")")


def _variable(_masks: Masks, headers: Mapping[str, Any], value: Any) -> str | None:
    """Of an Originate the longest call and the journal entry; what the AI is told about the person is left out."""
    if headers.get("Action") == "Getvar":
        return _last(value) if re.fullmatch(r"[A-Z_]+\([\w,./-]*\)", _last(value)) else None
    values = value if isinstance(value, list) else [value]
    kept = [text for text in values if isinstance(text, str) and _OURS.fullmatch(text)]
    return " ".join(kept) or None


def _last(value: Any) -> str:
    return str(value[-1] if isinstance(value, list) and value else value)


_WHOLE = _like(r"-?\d{1,7}")
_NAME = _like(r"[A-Za-z][A-Za-z_ -]{0,39}")

HEADERS: Mapping[str, _Rule] = {
    **dict.fromkeys(("Action", "Event", "Response", "ChannelStateDesc", "DestChannelStateDesc", "DialStatus"), _NAME),
    **dict.fromkeys(("EventList", "Shutdown", "Restart", "Application", "Module", "EarlyMedia", "Async"), _NAME),
    **dict.fromkeys(("Cause", "TechCause", "Reason", "Timeout", "Priority", "ListItems"), _WHOLE),
    **dict.fromkeys(("ChannelState", "DestChannelState"), _WHOLE),
    **dict.fromkeys(("Message", "Status", "Context", "Exten", "Forward"), _words),
    **dict.fromkeys(("Channel", "DestChannel"), _channel),
    **dict.fromkeys(("ActionID", "Uniqueid", "Linkedid", "DestUniqueid", "DestLinkedid"), _id),
    **dict.fromkeys(("ChannelId", "OtherChannelId"), _id),
    "Timestamp": _like(r"\d{1,11}\.\d{1,9}"),
    "Duration": _like(r"\d{1,6}:\d\d:\d\d"),
    "Variable": _variable,
    "Value": _value,
    # The journal on the PBX, and when the PBX was started.
    "Family": _like(r"mikopbx-adapter"),
    "Key": _like(r"\d{1,4}"),
    "Val": _like(r"\d+:" + _UUID),
    "CoreStartupDate": _like(r"\d{4}-\d\d-\d\d"),
    "CoreStartupTime": _like(r"\d\d:\d\d:\d\d"),
    "AsteriskVersion": _like(r"[\w.~+-]{1,60}"),
}
"""AMI headers that are written, and how. The core hears no other ones (`test_what_the_core_hears_is_recorded`)."""

_ALONE = frozenset({"Timestamp", "Variable", "Value"})
"""Headers that never repeat, or whose rule looks at others too."""

KEYS = frozenset(
    {
        # What is asked of call_register_v1 and call_sync_v1.
        *("p_adapter", "p_incarnation", "p_expected", "p_info", "p_records", "p_status", "p_room", "p_claim_id"),
        *("version", "pid", "process", "ready", "pbx_boot", "trunk", "form", "live", "problem", "doorbell", "outbox"),
        "pace",
        *("state", "listens", "deaf", "missed", "waiting", "request", "seen"),
        # Records.
        *("seq", "kind", "call_id", "outcome", "log_status", "reason", "hangup_cause", "sip_code", "talk_seconds"),
        *("originated_at", "ringing_at", "answered_at", "ended_at", "estimated", "cause"),
        # What is told.
        *("accepted", "incarnation", "now", "claim_number", "open", "fenced", "holder", "lease_until", "epoch"),
        *("recorded", "refused", "error", "notes", "rows", "more", "commands", "takeover", "row", "cancel_requested"),
        *("told", "row_id", "attempt", "phone_number", "e164", "caller_id", "ring_seconds", "claimed_at", "bell_at"),
    }
)
"""Keys of bodies that are written. Not among them: names, variables, users, campaigns, contacts, prompts, the nonce."""

NUMBERS = frozenset({"phone_number", "e164", "caller_id"})
"""Keys whose whole value is a phone number, however it is written."""
