"""What became of a call, in memory: supabase/migrations/…500, function by function and in its order."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from tests.simulation import store_forbidden, store_hours, store_retries, store_trunks
from tests.simulation.store_tables import (
    DAY,
    LIVE,
    MONTH,
    RULES,
    Log,
    Refused,
    Row,
    Tables,
    changed,
    instant_text,
    uncalled,
    without_nulls,
)

SETTLE = 10.0
"""For so long an answered call is held for the AI handler's word."""

_UNTOLD = ("initiated", "queued", "ringing", "in-progress", "connected")
_MACHINE = ("voicemail", "no-answer")
_ANSWERED = ("answered", "voicemail", "ai_failed")
_LOG_WORDS = ("answered", "no_answered", "no_answer", "voicemail", "failed")
_BY_MACHINE = "an answering machine took the call (told by the AI)"


class Ended(NamedTuple):
    """How a call ended, as it is to be written."""

    outcome: str
    status: str
    reason: str
    talk: int
    facts: dict[str, Any]


class Told(NamedTuple):
    """A record, and what the queue knows of its call."""

    adapter: str
    call: str
    record: Mapping[str, Any]
    row: Row | None
    known: str | None


def handler_word(status: str | None, noted: str | None) -> str | None:
    """As `call_handler_word`."""
    if noted in _MACHINE:
        return noted
    return status if status in {*_MACHINE, "completed", "ended"} else noted


def merged(metadata: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
    """As `call_merged`; metadata here is an object or nothing."""
    return {**(metadata or {}), **without_nulls(facts)}


def end_uncalled(tables: Tables, row: Row, reason: str, now: float) -> None:
    """As `call_end_uncalled`."""
    outcome, words = uncalled(row, reason)
    row = changed(row, {"status": "done", "outcome": outcome, "ended_reason": words})
    if row.attempts == 0:
        row.call_id = tables.new_id(row.id, now)
        tables.log_uncalled(row, now)
    changes = {"status": "done", "outcome": outcome, "ended_reason": words, "call_id": row.call_id}
    tables.update(row, now, {**changes, "ended_at": now, "updated_at": now}, at_work=True)


def room_made(tables: Tables, row: Row) -> None:
    """As `call_room_made`."""
    for turn in (tables.tenants.get(row.user_id), tables.lanes.get((row.user_id, row.lane))):
        if turn is not None and not turn.ready and turn.wake_at is not None:
            turn.ready, turn.wake_at = True, None


def number_answered(tables: Tables, row: Row) -> bool:
    """As `call_number_answered`."""
    return row.campaign_id is not None and any(
        other.campaign_id == row.campaign_id
        and other.e164 == row.e164
        and other.status == "done"
        and other.outcome in {"answered", "ai_failed"}
        for other in tables.rows.values()
    )


def settle(tables: Tables, row: Row, ended: tuple[str, str, dict[str, Any]], now: float) -> None:
    """As `call_settle`; `ended`: outcome, words, facts."""
    outcome, reason, facts = ended
    rule = RULES[outcome]
    spends = rule.spends or (outcome == "canceled" and (row.ringing_at is not None or row.answered_at is not None))
    attempts, spent, faults = row.attempts + spends, dict(row.spent), dict(row.faults)
    counted = spent if spends else faults
    counted[outcome] = counted.get(outcome, 0) + 1
    again = store_retries.following(
        tables, changed(row, {"attempts": attempts, "spent": spent, "faults": faults}), outcome
    )
    if not spends:
        store_forbidden.quiet(tables, row)
    again_at, expires_at, clock_at = math.inf, row.expires_at, row.clock_at
    tried: list[str] = []
    if row.cancel_requested:
        pass
    elif rule.retried != "never" and store_trunks.fails_over(tables, row, outcome):
        again_at = min(row.not_before, now)
        tried = [*row.trunks_tried, str(row.dialed_trunk)]
        faults = {**row.faults, "failover": row.faults.get("failover", 0) + 1}
    elif again.seconds is not None and again.person and not number_answered(tables, row):
        again_at = store_hours.after(tables, row, now + again.seconds)
        if not row.expires_fixed:
            expires_at = min(again_at + DAY, row.created_at + MONTH)
    elif again.seconds is not None and not again.person:
        soon = now + again.seconds
        again_at = store_hours.after(tables, row, soon)
        if again_at > soon and not row.expires_fixed:
            expires_at = min(expires_at + (again_at - soon), row.created_at + MONTH)
            clock_at = max(again_at, again_at if row.clock_at is None else row.clock_at)
    changes = {
        "attempts": attempts, "spent": spent, "faults": faults, "last_outcome": outcome, "last_reason": reason,
        "call_facts": facts, "deadline": None, "settle_at": None, "originated_at": row.originated_at,
        "ringing_at": row.ringing_at, "answered_at": row.answered_at, "ended_at": row.ended_at, "updated_at": now,
    }  # fmt: skip
    if again_at < expires_at:
        if not spends:
            tables.logs.pop(str(row.call_id), None)
        changes |= {"status": "queued", "outcome": None, "ended_reason": None, "not_before": again_at}
        changes |= {"expires_at": expires_at, "clock_at": clock_at, "claim_id": None, "trunks_tried": tried}
    else:
        changes |= {"status": "done", "outcome": outcome, "ended_reason": reason}
        changes["ended_at"] = now if row.ended_at is None else row.ended_at
    tables.update(row, now, changes, at_work=True)


def log_end(tables: Tables, log: Log, ended: Ended, answered: bool, now: float) -> tuple[str, str, dict[str, Any]]:
    """As `call_log_end`: outcome, words and facts with the AI handler's word heard."""
    outcome, status, reason, talk, facts = ended
    before = log.metadata if isinstance(log.metadata, dict) else {}
    ours = before.get("outcome") == "unknown"
    noted: str | None = before.get("handler_status")
    word = handler_word(log.status, noted)
    if log.status in _UNTOLD:
        new = status
    elif outcome == "unknown" and log.status == "answered":
        new = log.status
    elif not answered or ours or log.status == "answered":
        new = status
        if not answered and not ours and log.status != status:
            noted = noted or log.status
    else:
        new = log.status
        noted = noted or log.status
    if answered and word is not None:
        noted = word
        new = "voicemail" if word in _MACHINE else "answered"
        if word in _MACHINE and outcome in {"answered", "ai_failed"}:
            outcome, reason = "voicemail", _BY_MACHINE
    told = {**facts, **without_nulls({"outcome": outcome, "ended_reason": reason, "handler_status": noted})}
    duration = talk if log.duration is None or (ours and log.duration == 0) else log.duration
    tables.log_update(
        log.call_id,
        {"status": new, "duration": duration, "metadata": merged(log.metadata, told), "updated_at": now},
    )
    return outcome, reason, told


def end(tables: Tables, row: Row, ended: Ended, now: float) -> None:
    """As `call_end`. `row` is what was read, with times set since."""
    outcome, _, reason, talk, facts = ended
    answered = row.answered_at is not None or outcome in _ANSWERED
    live = row.status in LIVE
    log = tables.logs.get(str(row.call_id))
    if log is not None:
        told = log_end(tables, log, ended, answered, now)
    else:
        told = outcome, reason, {**facts, "outcome": outcome, "ended_reason": reason}
    if live:
        room_made(tables, row)
    store_forbidden.talked(tables, str(row.call_id), talk)
    if live and answered and outcome != "unknown":
        changes = {
            "status": "talking", "outcome": outcome, "ended_reason": reason, "settle_at": now + SETTLE,
            "call_facts": told[2], "deadline": None, "originated_at": row.originated_at, "ringing_at": row.ringing_at,
            "answered_at": row.answered_at, "ended_at": now if row.ended_at is None else row.ended_at,
            "updated_at": now,
        }  # fmt: skip
        tables.update(row, now, changes, at_work=True)
    elif row.status == "canceled":
        changes = {"attempts": row.attempts, "spent": row.spent, "last_outcome": told[0], "last_reason": told[1]}
        tables.update(row, now, {**changes, "call_facts": told[2], "updated_at": now}, at_work=True)
    else:
        settle(tables, row, told, now)


def settle_held(tables: Tables, row: Row, now: float) -> None:
    """As `call_settle_held`."""
    log = tables.logs.get(str(row.call_id))
    facts, outcome, reason = row.call_facts or {}, str(row.outcome), str(row.ended_reason)
    status = log.status if log is not None else None
    word = handler_word(status, facts.get("handler_status"))
    if word in _MACHINE:
        status = "voicemail"
        if outcome in {"answered", "ai_failed"}:
            outcome, reason = "voicemail", _BY_MACHINE
    elif word in {"completed", "ended"}:
        status = "answered"
    facts = {**facts, **without_nulls({"outcome": outcome, "ended_reason": reason, "handler_status": word})}
    if log is not None:
        tables.log_update(log.call_id, {"status": status, "metadata": merged(log.metadata, facts), "updated_at": now})
    settle(tables, row, (outcome, reason, facts), now)


def release(tables: Tables, row: Row, now: float) -> None:
    """As `call_release`."""
    tables.logs.pop(str(row.call_id), None)
    room_made(tables, row)
    store_forbidden.undone(tables, str(row.call_id))
    nothing = dict.fromkeys((
        "call_id", "claim_number", "claim_id", "adapter", "incarnation", "pbx", "pbx_boot", "claimed_at",
        "originated_at", "deadline", "dialed_trunk", "way",
    ))  # fmt: skip
    faults = {**row.faults, "released": row.faults.get("released", 0) + 1}
    changes = {**nothing, "status": "queued", "faults": faults, "updated_at": now}
    tables.update(row, now, changes, at_work=True)
    if row.cancel_requested:
        tables.update(row, now, {"cancel_requested": True}, at_work=True)


def record(tables: Tables, adapter: str, told: Mapping[str, Any], now: float) -> str | None:
    """As `call_record`: words for the log, if any. Raises Refused for what can never be taken."""
    call, kind = _uuid(told.get("call_id")), told.get("kind")
    if call is None:
        raise Refused("a record must name its call_id")
    take = {"answered": _answered, "outcome": _outcome, "release": _release}.get(str(kind))
    if take is None:
        raise Refused(f'a record cannot be of kind "{_null(kind)}"')
    row = tables.rows.get(tables.by_call.get(call, 0))
    known = None
    if row is not None:
        known = row.outcome if row.status in LIVE else row.last_outcome
    return take(tables, Told(adapter, call, told, row, known), now)


def _answered(tables: Tables, told: Told, now: float) -> str | None:
    _, call, record, row, known = told
    if row is not None and known is not None:
        return None
    originated, ringing, answered = (_instant(record, key) for key in ("originated_at", "ringing_at", "answered_at"))
    log = tables.logs.get(call)
    if row is not None and row.status in LIVE:
        changes = {
            "status": "talking",
            "originated_at": _first(row.originated_at, originated),
            "ringing_at": _first(row.ringing_at, ringing),
            "answered_at": _first(row.answered_at, answered, now),
            "updated_at": now,
        }
        tables.update(row, now, changes, at_work=True)
    if log is not None and log.status in _UNTOLD:
        facts = {"originated_at": originated, "ringing_at": ringing, "answered_at": answered}
        texts = {key: instant_text(at) for key, at in facts.items()}
        tables.log_update(call, {"status": "answered", "updated_at": now, "metadata": merged(log.metadata, texts)})
    elif row is None and log is None:
        return f"call {call} is not known: its rows were deleted"
    return None


def _release(tables: Tables, told: Told, now: float) -> str | None:
    adapter, call, record, row, known = told
    if row is None:
        return f"call {call} is not known: released before, or its rows were deleted"
    if known is not None:
        return f"call {call} has ended as {known} and was not released"
    if row.status not in LIVE:
        return f"call {call} is not live and was not released"
    if row.adapter != adapter:
        raise Refused(f"call {call} was claimed by another adapter, only that one may release it")
    if row.status == "talking":
        raise Refused(f"call {call} was answered and cannot be released")
    cause = record.get("cause")
    if cause in {"not_sent", "never_executed"}:
        release(tables, row, now)
    elif cause == "pbx_error":
        reason = record.get("reason") or RULES["pbx_error"].words
        facts = {"attempt": str(row.attempts + 1), "talk_seconds": "0"}
        end(tables, changed(row, {"ended_at": now}), Ended("pbx_error", "failed", reason, 0, facts), now)
    else:
        raise Refused(f'a call cannot be released for cause "{_null(cause)}"')
    return None


def _outcome(tables: Tables, told: Told, now: float) -> str | None:
    _, call, record, row, known = told
    outcome, status = _null(record.get("outcome")), _null(record.get("log_status"))
    talk = max(record.get("talk_seconds") or 0, 0)
    originated, ringing, answered, ended = (
        _instant(record, key) for key in ("originated_at", "ringing_at", "answered_at", "ended_at")
    )
    if outcome not in RULES:
        raise Refused(f'outcome "{outcome}" is not known')
    if status not in _LOG_WORDS:
        raise Refused(f'log_status cannot be "{status}"')
    reason = record.get("reason")
    reason = RULES[outcome].words if reason is None else reason
    facts = without_nulls(
        {
            "hangup_cause": _text(record.get("hangup_cause")),
            "sip_code": _text(record.get("sip_code")),
            "trunk": record.get("trunk"),
            "talk_seconds": str(talk),
            "originated_at": instant_text(originated),
            "ringing_at": instant_text(ringing),
            "answered_at": instant_text(answered),
            "ended_at": instant_text(ended),
            "estimated": "true" if record.get("estimated") else None,
        }
    )
    if row is None:
        log = tables.logs.get(call)
        if log is None:
            return f"call {call} is not known: its rows were deleted"
        if not isinstance(log.metadata, dict) or log.metadata.get("outcome", "unknown") == "unknown":
            spoke = answered is not None or outcome in _ANSWERED
            log_end(tables, log, Ended(outcome, status, reason, talk, facts), spoke, now)
            store_forbidden.talked(tables, call, talk)
            return f"call {call} has no queue row any more; call_logs was told"
        return None
    if known is not None and (known != "unknown" or outcome == "unknown"):
        return None
    attempts, spent = row.attempts, row.spent
    if known == "unknown":
        attempts, spent = max(attempts - 1, 0), {**spent, "unknown": max(spent.get("unknown", 0) - 1, 0)}
    facts["attempt"] = str(attempts + 1)
    row = changed(
        row,
        {
            "attempts": attempts,
            "spent": spent,
            "originated_at": _first(originated, row.originated_at),
            "ringing_at": _first(ringing, row.ringing_at),
            "answered_at": _first(answered, row.answered_at),
            "ended_at": _first(ended, now),
        },
    )
    end(tables, row, Ended(outcome, status, reason, talk, facts), now)
    if known is None:
        store_trunks.heard(tables, row, outcome, record.get("watched", True), now)
    return None


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _null(value: object) -> str:
    """As `raise` and `format` of PL/pgSQL write it."""
    return "<NULL>" if value is None else str(value)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _instant(record: Mapping[str, Any], key: str) -> float | None:
    text = record.get(key)
    return None if text is None else datetime.fromisoformat(text).timestamp()


def _uuid(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return str(UUID(text))
    except ValueError:
        raise Refused(f'invalid input syntax for type uuid: "{text}"', "22P02") from None
