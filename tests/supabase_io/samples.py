"""Values for the tests: keys made at run time, rows and replies in the promised shape."""

import base64
import json
import secrets
import time
import uuid
from typing import Any

from adapter.core.model import (
    AnsweredMark,
    CallTimes,
    Ending,
    Outcome,
    OutcomeRecord,
    ReleaseCause,
    ReleaseRecord,
)


def _part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def jwt(role: str = "service_role", *, lives: float = 3600.0, ref: str | None = None) -> str:
    """A JWT with a signature that nobody can verify."""
    body: dict[str, Any] = {"role": role, "iss": "supabase", "exp": int(time.time() + lives)}
    if ref is not None:
        body["ref"] = ref
    return f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(body)}.{secrets.token_urlsafe(32)}"


def new_id() -> str:
    """A call id."""
    return str(uuid.uuid4())


def row(**changes: Any) -> dict[str, Any]:
    """A claimed row as `call_sync_v1` returns it."""
    return {
        "row_id": 7,
        "call_id": new_id(),
        "claim_number": 41,
        "attempt": 1,
        "user_id": new_id(),
        "phone_number": "012-345 6701",
        "e164": "+60123456701",
        "campaign_id": None,
        "contact_id": None,
        "prompt_id": None,
        "customer_name": "Any Body",
        "caller_id": None,
        "ring_seconds": 25,
        "variables": {"LANG": "ms"},
        "claimed_at": "2026-11-23T03:24:06.18407+00:00",
        "pbx_boot": "2026-11-20 10:00:00",
        **changes,
    }


def reply(**changes: Any) -> dict[str, Any]:
    """An answer of `call_sync_v1` with nothing to do."""
    return {
        "now": "2026-11-23T03:24:06.184+00:00",
        "fenced": False,
        "holder": True,
        "lease_until": "2026-11-23T03:25:06.184+00:00",
        "claim_number": 41,
        "recorded": [],
        "refused": [],
        "notes": [],
        "rows": [],
        "more": False,
        "commands": [],
        "takeover": [],
        **changes,
    }


def accepted(incarnation: int = 1, **changes: Any) -> dict[str, Any]:
    """An answer of `call_register_v1`."""
    return {
        "accepted": True,
        "incarnation": incarnation,
        "now": "2026-11-23T03:24:06.184+00:00",
        "claim_number": 40,
        "open": [],
        **changes,
    }


def outcome(reason: str = "nobody answered", **times: float | None) -> OutcomeRecord:
    """The record of a call that nobody answered."""
    return OutcomeRecord(
        call_id=new_id(),
        ending=Ending(
            outcome=Outcome.NO_ANSWER,
            reason=reason,
            times=CallTimes(originated_at=1_795_404_246.25, ended_at=1_795_404_276.5, **times),
            hangup_cause=19,
        ),
        log_status="no_answered",
        trunk="SIP-TRUNK-0123ABCD",
    )


def mark() -> AnsweredMark:
    """An answer."""
    return AnsweredMark(call_id=new_id(), times=CallTimes(originated_at=1.5, answered_at=3.25))


def release() -> ReleaseRecord:
    """A row that was never sent."""
    return ReleaseRecord(call_id=new_id(), cause=ReleaseCause.NOT_SENT, reason="shutting down")
