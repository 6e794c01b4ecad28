"""Why a row waits, and why somebody was called, in lines for a person. Pure: an explanation in, lines out."""

from collections.abc import Iterator, Sequence

from adapter.commands.view import words
from adapter.commands.view.words import counted, span, stamp
from adapter.supabase_io.explanations import Call, Explanation, Owner, Row, Step

LABEL = 11
"""Columns of the words in front of facts; the longest name of a rule has ten."""

NOBODY_OBJECTED = "no rule had anything against it"
FORGOTTEN = "what the rules said is no longer known: it is kept for 30 days"


def lines(seen: Explanation, *, full: bool) -> tuple[str, ...]:
    """All there is to say; phone numbers masked unless `full`."""
    return tuple(words.text(line, full=full) for line in _lines(seen, full=full))


def _lines(seen: Explanation, *, full: bool) -> Iterator[str]:
    if seen.kind is None:
        yield f"Nothing to explain: {seen.problem}"
        return
    if seen.kind == "number":
        yield from _number(seen, full=full)
    # Asked for a call, people want that call, and the row behind it only while it still waits.
    for row in seen.rows:
        if seen.kind != "call" or row.forecast is not None:
            yield from _row(row, full=full)
    for call in seen.calls:
        yield from _call(call, full=full)
    if seen.kind == "row" and not seen.calls:
        yield ""
        yield "It was not called yet."


def _number(seen: Explanation, *, full: bool) -> Iterator[str]:
    most = seen.limit
    rows = counted(len(seen.rows), "row of call_queue", "rows of call_queue", most=most)
    calls = counted(len(seen.calls), "call in the last 30 days", "calls in the last 30 days", most=most)
    yield f"The number {words.number(seen.e164, '', full=full)}: {rows}, {calls}."
    against = next((step for step in seen.rules if not step.passed), None)
    if against is None:
        yield "One more row for it would not be kept from being dialed by any rule."
    else:
        yield f"One more row for it would not be dialed now: {against.words}{_until(against)}."
    yield from _steps(seen.rules)


def _row(row: Row, *, full: bool) -> Iterator[str]:
    sight = row.sight
    yield ""
    yield (
        f"Row {sight.row_id}: {words.number(sight.e164, sight.phone_number, full=full)}, {_owner(row.owner)}, "
        f"inserted {stamp(sight.created_at)}"
    )
    if row.forecast is None:
        yield f"  {_state(row)}"
        return
    told = row.forecast
    match told.verdict:
        case "now":
            way = f" through {told.trunk}" if told.trunk else ""
            yield f"  Would be dialed now{way}, by the adapter's next look, as soon as it has room."
        case "ends":
            yield f"  Will end without a call: {told.why}."
        case _:
            yield f"  Waits: {told.why}."
            if told.at is not None:
                yield f"  Not before {stamp(told.at)}."
    yield from _steps(told.steps)


def _state(row: Row) -> str:
    sight = row.sight
    if not sight.final:
        return "It is in a call now."
    return f"It is over: {sight.reason or sight.outcome or sight.status}."


def _steps(steps: Sequence[Step]) -> Iterator[str]:
    for step in steps:
        mark = "ok" if step.passed else "NO"
        yield f"    {mark}  {step.rule:{LABEL}}{step.words or ''}{_until(step)}".rstrip()


def _until(step: Step) -> str:
    return "" if step.passed or step.until is None else f", until {stamp(step.until)}"


def _call(call: Call, *, full: bool) -> Iterator[str]:
    number = words.number(call.e164, call.phone_number, full=full)
    yield ""
    if not call.dialed:
        yield f"{number} was not called: {call.reason or call.outcome or 'its row ended without a call'}"
        yield from _facts({"For": _owner(call.owner), "At": stamp(call.claimed_at), "Row": str(call.row_id or "?")})
        return
    yield f"Why {number} was called on {stamp(call.claimed_at)}"
    inserted = f", inserted {stamp(call.created_at)}" if call.created_at is not None else ""
    yield from _facts(
        {
            "For": _owner(call.owner),
            "Because": f"row {call.row_id or '?'} of call_queue asked for it{inserted}; try {call.attempt or '?'}",
            "Through": call.trunk or "the routes of MikoPBX",
            "Permitted": _permission(call),
            "Ended": _end(call),
            **({"Cost": call.cost} if call.cost else {}),
            **({"Follows": words.text(call.follows, full=full)} if call.follows else {}),
            "Call": call.call_id,
        }
    )


def _facts(facts: dict[str, str]) -> Iterator[str]:
    for label, told in facts.items():
        yield f"    {label:{LABEL}}{told}"


def _permission(call: Call) -> str:
    if call.facts is None:
        return FORGOTTEN
    return "; ".join(f"{rule}: {told}" for rule, told in call.facts.items()) or NOBODY_OBJECTED


def _end(call: Call) -> str:
    if call.outcome is None:
        return "not yet, or it is not known how"
    talk = f", {span(call.talk_seconds)} of talk" if call.talk_seconds else ""
    return f"{call.outcome}: {call.reason}{talk}" if call.reason else f"{call.outcome}{talk}"


def _owner(owner: Owner) -> str:
    name = f"{owner.user_name} (user {owner.user_id})" if owner.user_name else f"user {owner.user_id}"
    if owner.campaign_id is None:
        return f"for {name}, in no campaign"
    return f"for {name}, campaign {owner.campaign_name or owner.campaign_id}"
