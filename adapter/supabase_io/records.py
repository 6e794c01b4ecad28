"""Frozen values ↔ the JSON of the SQL functions. One place for each direction.

Times: epoch seconds as float here, ISO 8601 with zone there. What goes out is made fit for `jsonb` (no NUL, no lone
surrogate, no NaN), because one unfit text would make PostgreSQL refuse the whole request with all its records. What
comes in is checked field by field; an error names the field.
"""

import math
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, assert_never

from adapter.core.model import (
    AnsweredMark,
    CallTimes,
    ClaimedRow,
    Form,
    NumberStyle,
    OpenCall,
    OutcomeRecord,
    Record,
    ReleaseRecord,
    Way,
)

LAST_INSTANT = 253_402_300_799.0
"""End of the year 9999: the last one that ISO 8601 and Python can write."""

MAX_WAY_ID = 64
"""Characters of a trunk's id, as the database takes them."""


class Unfit(ValueError):
    """A value from the database has not the shape that the functions promise; the text names the field."""


# -- out


def encode(record: Record) -> dict[str, Any]:
    """The JSON object of one record, without its `seq`."""
    match record:
        case AnsweredMark():
            out: dict[str, Any] = {"kind": "answered", "call_id": record.call_id, **_times(record.times)}
            del out["ended_at"]
        case OutcomeRecord():
            ending = record.ending
            out = {
                "kind": "outcome",
                "call_id": record.call_id,
                "outcome": ending.outcome.value,
                "log_status": record.log_status,
                "reason": ending.reason,
                "hangup_cause": ending.hangup_cause,
                "sip_code": ending.sip_code,
                **_times(ending.times),
                "talk_seconds": ending.talk_seconds,
                "estimated": ending.estimated,
                "trunk": record.trunk or None,
                "watched": ending.watched,
            }
        case ReleaseRecord():
            out = {
                "kind": "release",
                "call_id": record.call_id,
                "cause": record.cause.value,
                "reason": record.reason,
            }
        case _:
            assert_never(record)
    fit: dict[str, Any] = sanitize(out)
    return fit


def _times(times: CallTimes) -> dict[str, str | None]:
    return {
        "originated_at": iso(times.originated_at),
        "ringing_at": iso(times.ringing_at),
        "answered_at": iso(times.answered_at),
        "ended_at": iso(times.ended_at),
    }


def iso(at: float | None) -> str | None:
    """Epoch seconds as ISO 8601 in UTC. What no calendar has is written as not known: the outcome counts more."""
    if at is None or not math.isfinite(at) or not 0 <= at <= LAST_INSTANT:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")


def sanitize(value: Any) -> Any:
    """`value` as `jsonb` can hold it: NUL and lone surrogates replaced by U+FFFD, NaN and infinities by null."""
    match value:
        case str():
            return value.encode("utf-8", "replace").decode().replace("\x00", "\N{REPLACEMENT CHARACTER}")
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {sanitize(str(key)): sanitize(item) for key, item in value.items()}
        case list() | tuple():
            return [sanitize(item) for item in value]
        case _:
            return value


# -- in


def decode_row(value: object) -> ClaimedRow:
    """A ClaimedRow of `call_sync_v1`; raises Unfit."""
    row = obj(value, "row")
    variables = row.get("variables")
    return ClaimedRow(
        row_id=integer(row, "row_id"),
        call_id=uuid_text(row, "call_id"),
        claim_number=integer(row, "claim_number"),
        attempt=integer(row, "attempt"),
        user_id=text(row, "user_id"),
        phone_number=text(row, "phone_number"),
        e164=text(row, "e164"),
        campaign_id=text_or_none(row, "campaign_id"),
        contact_id=text_or_none(row, "contact_id"),
        prompt_id=text_or_none(row, "prompt_id"),
        customer_name=text_or_none(row, "customer_name"),
        caller_id=text_or_none(row, "caller_id"),
        ring_seconds=None if row.get("ring_seconds") is None else integer(row, "ring_seconds"),
        variables={} if variables is None else obj(variables, "variables"),
        claimed_at=instant(row, "claimed_at"),
        bell_at=instant_or_none(row, "bell_at"),
        pbx_boot=text_or_none(row, "pbx_boot"),
        way=None if row.get("trunk") is None else decode_way(row["trunk"]),
    )


def decode_way(value: object) -> Way:
    """A trunk: of a claimed row, or of the list in an answer; raises Unfit."""
    found = obj(value, "trunk")
    form, style = text(found, "form"), text(found, "number_style")
    if form not in set(Form):
        raise Unfit(f"the form {form[:40]!r} of the trunk is not known to this version of the adapter")
    if style not in set(NumberStyle):
        raise Unfit(f"the number style {style[:40]!r} of the trunk is not known to this version of the adapter")
    try:
        return Way(
            id=text(found, "id"),
            form=Form(form),
            number_style=NumberStyle(style),
            strip=text_or_none(found, "strip") or "",
            add=text_or_none(found, "add") or "",
            caller_id=text_or_none(found, "caller_id"),
            calls_per_second=None if found.get("calls_per_second") is None else number(found, "calls_per_second"),
            max_channels=None if found.get("max_channels") is None else integer(found, "max_channels"),
        )
    except Unfit:
        raise
    except ValueError as error:
        raise Unfit(str(error)) from None


def way_id_of(value: object) -> str | None:
    """The id in a trunk that could not be read as a whole, if at least that is a text of sane length."""
    found = value.get("id") if isinstance(value, Mapping) else None
    return found if isinstance(found, str) and 0 < len(found) <= MAX_WAY_ID else None


def decode_open(value: object) -> OpenCall:
    """An open call of `call_register_v1` or of a take-over; raises Unfit."""
    found = obj(value, "open call")
    return OpenCall(
        row=decode_row(found.get("row")),
        incarnation=integer(found, "incarnation"),
        originated_at=instant_or_none(found, "originated_at"),
        answered_at=instant_or_none(found, "answered_at"),
        cancel_requested=boolean(found, "cancel_requested"),
    )


def call_id_of(value: object) -> str | None:
    """The call id in a row or open call that could not be read as a whole, if at least that much is there."""
    if not isinstance(value, Mapping):
        return None
    inner = value.get("row", value)
    try:
        return uuid_text(inner, "call_id") if isinstance(inner, Mapping) else None
    except Unfit:
        return None


def obj(value: object, name: str) -> Mapping[str, Any]:
    """A JSON object; raises Unfit."""
    if not isinstance(value, dict):
        raise Unfit(f"{name} is {_kind(value)}, not an object")
    return value


def array(value: Mapping[str, Any], key: str) -> list[Any]:
    """A JSON array; raises Unfit."""
    found = value.get(key)
    if not isinstance(found, list):
        raise Unfit(f"{key} is {_kind(found)}, not an array")
    return found


def text(value: Mapping[str, Any], key: str) -> str:
    """A text; raises Unfit."""
    found = value.get(key)
    if not isinstance(found, str):
        raise Unfit(f"{key} is {_kind(found)}, not a text")
    return found


def text_or_none(value: Mapping[str, Any], key: str) -> str | None:
    """A text or null; raises Unfit."""
    return None if value.get(key) is None else text(value, key)


def uuid_text(value: Mapping[str, Any], key: str) -> str:
    """A UUID in its one canonical spelling, lower case with hyphens; raises Unfit."""
    found = text(value, key)
    try:
        canonical = str(uuid.UUID(found))
    except ValueError:
        canonical = None
    if canonical != found:
        raise Unfit(f"{key} is no lower-case UUID")
    return found


def integer(value: Mapping[str, Any], key: str) -> int:
    """A whole number; raises Unfit."""
    found = value.get(key)
    if not isinstance(found, int) or isinstance(found, bool):
        raise Unfit(f"{key} is {_kind(found)}, not a whole number")
    if not -(2**63) <= found < 2**63:
        raise Unfit(f"{key} is beyond bigint")
    return found


def number(value: Mapping[str, Any], key: str) -> float:
    """A number; raises Unfit."""
    found = value.get(key)
    if not isinstance(found, int | float) or isinstance(found, bool) or not abs(found) < LAST_INSTANT:
        raise Unfit(f"{key} is {_kind(found)}, not a number to reckon with")
    return float(found)


def boolean(value: Mapping[str, Any], key: str) -> bool:
    """True or false; raises Unfit."""
    found = value.get(key)
    if not isinstance(found, bool):
        raise Unfit(f"{key} is {_kind(found)}, not true or false")
    return found


def instant(value: Mapping[str, Any], key: str) -> float:
    """A timestamp with zone as epoch seconds; raises Unfit."""
    found = text(value, key)
    try:
        at = datetime.fromisoformat(found)
    except ValueError:
        raise Unfit(f"{key} is no timestamp") from None
    if at.tzinfo is None:
        raise Unfit(f"{key} is a timestamp without a zone")
    return at.timestamp()


def instant_or_none(value: Mapping[str, Any], key: str) -> float | None:
    """A timestamp with zone as epoch seconds, or null; raises Unfit."""
    return None if value.get(key) is None else instant(value, key)


def _kind(value: object) -> str:
    return "missing" if value is None else f"a {type(value).__name__}"


def printable(text: str) -> str:
    """`text` without what steers a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)
