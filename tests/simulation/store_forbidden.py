"""Who must not be called, in memory: supabase/migrations/…1800, function by function and in its order."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from tests.simulation.store_tables import REGION, Day, Dial, Row, Tables

ZONE = ZoneInfo("Asia/Kuala_Lumpur")
"""Of the default region."""

NO_LIMIT = 2147483647
REPEAT_CALLS = 6
REPEAT_HOURS = 24
HOUR = 3600.0
DAYS_KEPT = timedelta(days=60)


class Left(NamedTuple):
    """As the out columns of `call_day_left`."""

    calls: int | None = None
    why: str | None = None


def listed(tables: Tables, row: Row, now: float) -> str | None:
    """As `call_rule_do_not_call`."""
    for user, whose in ((None, ""), (row.user_id, " of this user")):
        entry = tables.do_not_call.get((str(row.e164), user))
        if entry is not None and (entry.expires_at is None or entry.expires_at > now):
            return f"the number is on the do-not-call list{whose} ({entry.source})"
    return None


def abroad(row: Row, status: Mapping[str, Any]) -> str | None:
    """As `call_rule_country`."""
    told = status.get("countries")
    allowed: list[str] = told if isinstance(told, list) else [REGION]
    if "*" in allowed or row.country in allowed:
        return None
    of = "numbers of no country (satellites and the like)" if row.country == "001" else row.country
    return f"calls to {of} are not allowed: ALLOWED_COUNTRIES is {','.join(allowed) or 'empty'}"


def repeated(tables: Tables, row: Row, status: Mapping[str, Any], now: float) -> tuple[str, float] | None:
    """As `call_rule_repeat`: why, and until when."""
    caps = status.get("caps") or {}
    most, hours = caps.get("repeat", REPEAT_CALLS), caps.get("repeat_hours", REPEAT_HOURS)
    rang = sorted(
        (dial.claimed_at for dial in tables.dials.values() if dial.e164 == row.e164 and not dial.quiet), reverse=True
    )
    if len(rang) < most or rang[most - 1] <= now - hours * HOUR:
        return None
    words = f"this number was called {most} times within {hours} hours, and more is not allowed"
    return f"{words} (REPEAT_CALLS, REPEAT_HOURS)", rang[most - 1] + hours * HOUR


def day(at: float) -> date:
    """As `call_day`."""
    return datetime.fromtimestamp(at, ZONE).date()


def day_after(at: float) -> float:
    """As `call_day_after`."""
    following = day(at) + timedelta(days=1)
    return datetime(following.year, following.month, following.day, tzinfo=ZONE).timestamp()


def day_left(tables: Tables, user: str, status: Mapping[str, Any], now: float) -> Left:
    """As `call_day_left`."""
    caps = status.get("caps") or {}
    calls, minutes = tables.user_caps.get(user, (caps.get("calls_per_day"), caps.get("minutes_per_day")))
    if calls is None and minutes is None:
        return Left()
    today = tables.days.get((user, day(now)), Day())
    if minutes is not None and today.seconds >= minutes * 60:
        return Left(0, f"the {minutes} minutes of this user for the day are used up (MAX_MINUTES_PER_USER_DAY)")
    if calls is None:
        return Left()
    left = max(calls - today.calls, 0)
    return Left(
        left, None if left else f"the {calls} calls of this user for the day are used up (MAX_CALLS_PER_USER_DAY)"
    )


def user_day(tables: Tables, user: str, status: Mapping[str, Any], now: float) -> int:
    """As `call_user_day`."""
    left = day_left(tables, user, status, now).calls
    if left is None or left > 0:
        return NO_LIMIT if left is None else left
    until = min(day_after(now), now + 240.0 + int(user[-4:], 16) % 60)
    tenant = tables.tenants[user]
    tables.last_turn += 1
    tenant.ready, tenant.wake_at, tenant.capped_until, tenant.served = False, until, until, tables.last_turn
    today = tables.days.setdefault((user, day(now)), Day())
    today.closed_at = now if today.closed_at is None else today.closed_at
    return 0


def expired_words(tables: Tables, row: Row, now: float) -> str:
    """As `call_expired_words`."""
    days = (
        when
        for (user, when), known in tables.days.items()
        if user == row.user_id and known.closed_at is not None and day(row.not_before) <= when <= day(now)
    )
    capped = "the calls of its user for a day were used up" if any(days) else None
    waited = capped if row.wait_reason is None else row.wait_reason
    return "expired before it could be dialed" + ("" if waited is None else f": {waited}")


def dialed(tables: Tables, row: Row, now: float) -> None:
    """What the claim keeps of a call, and `call_day_count`."""
    tables.dials[str(row.call_id)] = Dial(user_id=row.user_id, e164=str(row.e164), claimed_at=now)
    today = day(now)
    if (row.user_id, today) not in tables.days:
        for user, when in list(tables.days):
            if user == row.user_id and when < today - DAYS_KEPT:
                del tables.days[user, when]
    tables.days.setdefault((row.user_id, today), Day()).calls += 1


def undone(tables: Tables, call_id: str) -> None:
    """As `call_dial_undone`."""
    dial = tables.dials.pop(call_id, None)
    if dial is not None and (known := tables.days.get((dial.user_id, day(dial.claimed_at)))) is not None:
        known.calls, known.seconds = max(known.calls - 1, 0), max(known.seconds - dial.talk_seconds, 0)


def talked(tables: Tables, call_id: str, seconds: int) -> None:
    """As `call_dial_talked`."""
    dial = tables.dials.get(call_id)
    if dial is None or dial.talk_seconds == seconds:
        return
    before, dial.talk_seconds = dial.talk_seconds, seconds
    if (known := tables.days.get((dial.user_id, day(dial.claimed_at)))) is not None:
        known.seconds = max(known.seconds + seconds - before, 0)


def quiet(tables: Tables, row: Row) -> None:
    """A call that spent no try, and of which the phone cannot have heard anything (`call_settle`)."""
    dial = tables.dials.get(str(row.call_id))
    if dial is not None and row.ringing_at is None and row.answered_at is None:
        dial.quiet = True


def forget(tables: Tables, now: float) -> None:
    """As `call_dials_forget`."""
    old = [call for call, dial in tables.dials.items() if dial.claimed_at < now - 30 * 86400.0]
    for call in sorted(old, key=lambda call: tables.dials[call].claimed_at)[:100]:
        del tables.dials[call]
