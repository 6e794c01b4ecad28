"""Phoenix frames, versions 1.0.0 (objects) and 2.0.0 (arrays). Pure.

Payloads to the client are JSON *text*, so that rows keep what PostgreSQL wrote: all digits, its own spacing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VERSIONS = ("1.0.0", "2.0.0")

USER_BROADCAST_PUSH = 3
"""Kind byte of the only binary frame that supabase-js 2.9x and later sends (version 2.0.0): a broadcast."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A message from a client. `ref` and `join_ref` come back as they were sent: text, number or null."""

    topic: str
    event: str
    payload: Any
    ref: Any
    join_ref: Any


def dumps(value: Any) -> str:
    """Compact JSON text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def decode(version: str, data: str | bytes) -> Frame | None:
    """A frame, or None for anything that the real server ignores without a word."""
    try:
        if isinstance(data, bytes):
            return _decode_binary(data) if version == "2.0.0" else None
        found = json.loads(data)
    except (ValueError, IndexError):
        return None
    if version == "1.0.0" and isinstance(found, Mapping):
        fields = (found.get("join_ref"), found.get("ref"), found.get("topic"), found.get("event"), found.get("payload"))
    elif version == "2.0.0" and isinstance(found, list) and len(found) == 5:
        fields = tuple(found)
    else:
        return None
    join_ref, ref, topic, event, payload = fields
    if not isinstance(topic, str) or not isinstance(event, str):
        return None
    return Frame(topic=topic, event=event, payload=payload, ref=ref, join_ref=join_ref)


def _decode_binary(data: bytes) -> Frame | None:
    """Kind, five lengths, encoding (1 = JSON), then join_ref, ref, topic, event, metadata and the payload."""
    if data[0] != USER_BROADCAST_PUSH or data[6] != 1:
        return None
    texts, start = [], 7
    for length in data[1:6]:
        texts.append(data[start : start + length].decode())
        start += length
    join_ref, ref, topic, event, _metadata = texts
    payload = {"type": "broadcast", "event": event, "payload": json.loads(data[start:])}
    return Frame(topic=topic, event="broadcast", payload=payload, ref=ref or None, join_ref=join_ref or None)


def encode(version: str, *, topic: str, event: str, payload: str, ref: Any = None, join_ref: Any = None) -> str:
    """One frame for the client; `payload` is JSON text. Version 1.0.0 has no place for `join_ref`."""
    if version == "2.0.0":
        return f"[{dumps(join_ref)},{dumps(ref)},{dumps(topic)},{dumps(event)},{payload}]"
    return f'{{"ref":{dumps(ref)},"event":{dumps(event)},"topic":{dumps(topic)},"payload":{payload}}}'
