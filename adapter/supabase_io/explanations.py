"""What `call_explain_v1` and `call_dry_run_v1` tell, as frozen values. As in `sights`, texts steer no terminal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapter.supabase_io import records, sights
from adapter.supabase_io.records import printable
from adapter.supabase_io.sights import Sight


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that a row must pass to be dialed."""

    rule: str
    passed: bool
    words: str | None
    until: float | None
    """It is put off until then; None: nobody knows, or never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What would become of a queued row in a claim that has room for it."""

    verdict: str
    """`now`, `waits` or `ends`."""

    why: str | None
    at: float | None
    """From when on it may be dialed, as far as that is known."""

    pbx: str | None
    trunk: str | None
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """For whom somebody is called."""

    user_id: str
    user_name: str | None
    campaign_id: str | None
    campaign_name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of `call_queue`."""

    sight: Sight
    owner: Owner
    forecast: Forecast | None
    """None: it does not wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call, or the end of a row without one."""

    call_id: str
    row_id: int | None
    owner: Owner
    e164: str | None
    phone_number: str
    created_at: float | None
    """When its row was inserted."""

    claimed_at: float
    trunk: str | None
    dialed: bool
    attempt: str | None
    outcome: str | None
    """None: it lives."""

    reason: str | None
    talk_seconds: int | None
    facts: Mapping[str, str] | None
    """What each rule said when it let the call through; None: not kept any more."""

    cost: str | None = None
    follows: str | None = None
    """What follows after it and who says so; None: it is not the last call of its row, or lives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """An answer of `call_explain_v1`."""

    now: float
    kind: str | None
    """`row`, `call` or `number`; None: there is no such thing."""

    problem: str | None
    limit: int
    e164: str | None
    rules: tuple[Step, ...]
    """Of a number: what the rules would say to one more row."""

    rows: tuple[Row, ...]
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows of a campaign of which the same would become."""

    verdict: str
    """`now`, `later`, `waits` or `ends`."""

    rule: str | None
    why: str | None
    trunk: str | None
    count: int
    first: int
    """Id of one of them."""

    from_at: float
    to_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a page's rows cost in one currency, if each is answered; currency None: rows without a rate."""

    currency: str | None
    rows: int
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """An answer of `call_dry_run_v1`."""

    now: float
    campaign_id: str
    campaign_name: str
    user_id: str
    user_name: str | None
    pbx: str | None
    stops: tuple[str, ...]
    places: int | None
    """Calls at a time; None: no limit is known."""

    calls_per_second: float | None
    last_calls: int
    last_seconds: float | None
    """How long the latest calls took."""

    rows: int
    next: Mapping[str, Any] | None
    """Where the next page begins; None: there is none."""

    groups: tuple[Group, ...]
    last_answered: int = 0
    """Of the latest calls."""

    last_talked: int | None = None
    """Seconds of talk of those that were answered, on the average."""

    costs: tuple[Price, ...] = ()


def explanation(value: object) -> Explanation:
    """Decode the answer of `call_explain_v1`; raises Unfit."""
    reply = records.obj(value, "the reply")
    rules = reply.get("rules")
    return Explanation(
        now=records.instant(reply, "now"),
        kind=records.text_or_none(reply, "kind"),
        problem=_words(reply, "problem"),
        limit=records.integer(reply, "limit"),
        e164=records.text_or_none(reply, "e164"),
        rules=() if rules is None else tuple(_step(item) for item in records.array(reply, "rules")),
        rows=tuple(_row(item) for item in records.array(reply, "rows")),
        calls=tuple(_call(item) for item in records.array(reply, "calls")),
    )


def page(value: object) -> Page:
    """Decode the answer of `call_dry_run_v1`; raises Unfit."""
    reply = records.obj(value, "the reply")
    campaign = records.obj(reply.get("campaign"), "campaign")
    following = reply.get("next")
    return Page(
        now=records.instant(reply, "now"),
        campaign_id=records.text(campaign, "id"),
        campaign_name=printable(records.text(campaign, "name")),
        user_id=records.text(campaign, "user_id"),
        user_name=_words(campaign, "user_name"),
        pbx=_words(reply, "pbx"),
        stops=tuple(printable(str(words)) for words in records.array(reply, "stops")),
        places=None if reply.get("places") is None else records.integer(reply, "places"),
        calls_per_second=_float(reply, "calls_per_second"),
        last_calls=records.integer(reply, "last_calls"),
        last_seconds=_float(reply, "last_seconds"),
        rows=records.integer(reply, "rows"),
        next=None if following is None else dict(records.obj(following, "next")),
        groups=tuple(_group(item) for item in records.array(reply, "groups")),
        last_answered=records.integer(reply, "last_answered"),
        last_talked=None if reply.get("last_talked") is None else records.integer(reply, "last_talked"),
        costs=tuple(_price(item) for item in records.array(reply, "costs")),
    )


def _price(value: object) -> Price:
    price = records.obj(value, "cost")
    return Price(
        currency=_words(price, "currency"), rows=records.integer(price, "rows"), cost=_float(price, "cost") or 0.0
    )


def _row(value: object) -> Row:
    row = records.obj(value, "row")
    wait = row.get("wait")
    return Row(
        sight=sights.sight(row),
        owner=_owner(row),
        forecast=None if wait is None else _forecast(records.obj(wait, "wait")),
    )


def _forecast(wait: Mapping[str, Any]) -> Forecast:
    return Forecast(
        verdict=records.text(wait, "verdict"),
        why=_words(wait, "why"),
        at=records.instant_or_none(wait, "at"),
        pbx=_words(wait, "pbx"),
        trunk=_words(wait, "trunk"),
        steps=tuple(_step(item) for item in records.array(wait, "steps")),
    )


def _step(value: object) -> Step:
    step = records.obj(value, "step")
    return Step(
        rule=printable(records.text(step, "rule")),
        passed=records.boolean(step, "passed"),
        words=_words(step, "words"),
        until=records.instant_or_none(step, "until"),
    )


def _owner(value: Mapping[str, Any]) -> Owner:
    return Owner(
        user_id=records.text(value, "user_id"),
        user_name=_words(value, "user_name"),
        campaign_id=records.text_or_none(value, "campaign_id"),
        campaign_name=_words(value, "campaign_name"),
    )


def _call(value: object) -> Call:
    call = records.obj(value, "call")
    facts, talk = call.get("facts"), call.get("talk_seconds")
    return Call(
        call_id=records.text(call, "call_id"),
        row_id=None if call.get("row_id") is None else records.integer(call, "row_id"),
        owner=_owner(call),
        e164=records.text_or_none(call, "e164"),
        phone_number=printable(records.text(call, "phone_number")),
        created_at=records.instant_or_none(call, "created_at"),
        claimed_at=records.instant(call, "claimed_at"),
        trunk=_words(call, "trunk"),
        dialed=records.boolean(call, "dialed"),
        attempt=_words(call, "attempt"),
        outcome=_words(call, "outcome"),
        reason=_words(call, "reason"),
        talk_seconds=int(talk) if isinstance(talk, str) and talk.isdecimal() else None,
        cost=_words(call, "cost"),
        follows=_words(call, "follows"),
        facts=None
        if facts is None
        else {printable(str(rule)): printable(str(words)) for rule, words in records.obj(facts, "facts").items()},
    )


def _group(value: object) -> Group:
    group = records.obj(value, "group")
    return Group(
        verdict=records.text(group, "verdict"),
        rule=_words(group, "rule"),
        why=_words(group, "why"),
        trunk=_words(group, "trunk"),
        count=records.integer(group, "count"),
        first=records.integer(group, "first"),
        from_at=records.instant(group, "from_at"),
        to_at=records.instant(group, "to_at"),
    )


def _words(value: Mapping[str, Any], key: str) -> str | None:
    found = records.text_or_none(value, key)
    return None if found is None else printable(found)


def _float(value: Mapping[str, Any], key: str) -> float | None:
    found = value.get(key)
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None
