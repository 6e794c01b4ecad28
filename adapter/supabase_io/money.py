"""Retry rules, rates and costs as the database tells them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapter.supabase_io import records
from adapter.supabase_io.records import Unfit


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRow:
    """What follows after one outcome, and who says so."""

    outcome: str
    words: str
    never: str | None
    """Why nothing ever does."""

    calls: int
    by_row: bool
    """The calls are counted over all tries of a row, not over this outcome."""

    calls_from: str
    delays: tuple[int, ...] = ()
    delays_from: str | None = None
    spread: int = 0
    """Percent of the wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Most faults of a row together: of the carrier, or ours."""

    name: str
    calls: int
    calls_from: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """All that applies to what was asked for."""

    outcomes: tuple[RetryRow, ...]
    budgets: tuple[Budget, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRule:
    """A rule to be set; all None takes it away."""

    scope: str
    scope_id: str | None
    outcome: str
    calls: int | None = None
    delays: tuple[int, ...] | None = None
    spread: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignCosts:
    """A line of `campaign_costs`."""

    campaign_id: str | None
    name: str | None
    calls: int
    answered: int
    talk_minutes: float
    billed_minutes: float | None
    cost: float | None
    currency: str | None
    without_rate: int
    reference_cost: float | None
    saved: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Campaigns, the dearest first, and what they are compared with."""

    campaigns: tuple[CampaignCosts, ...]
    rates: bool
    """There is a rate at all."""

    reference_per_minute: float | None
    reference_currency: str | None
    reference_increments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of lines of a rate sheet."""

    taken: int
    bad: tuple[tuple[int, str], ...]
    """Number of the line, and what is wrong with it."""


def retries(value: object) -> Retries:
    """Decode the answer of `call_retry_v1` and `call_retry_set_v1`; raises Unfit."""
    reply = records.obj(value, "the reply")
    return Retries(
        outcomes=tuple(_row(records.obj(one, "an outcome")) for one in records.array(reply, "outcomes")),
        budgets=tuple(
            Budget(
                name=records.text(one, "outcome"),
                calls=records.integer(one, "calls"),
                calls_from=records.text(one, "calls_from"),
            )
            for one in (records.obj(item, "a budget") for item in records.array(reply, "budgets"))
            if one.get("calls") is not None
        ),
    )


def _row(found: Mapping[str, Any]) -> RetryRow:
    delays = found.get("delays") or []
    if not isinstance(delays, list) or not all(isinstance(delay, int) for delay in delays):
        raise Unfit("delays are no whole numbers")
    return RetryRow(
        outcome=records.printable(records.text(found, "outcome")),
        words=records.printable(records.text(found, "words")),
        never=records.text_or_none(found, "never"),
        calls=records.integer(found, "calls"),
        by_row=records.text(found, "counted") == "tries",
        calls_from=records.text(found, "calls_from"),
        delays=tuple(delays),
        delays_from=records.text_or_none(found, "delays_from"),
        spread=0 if found.get("spread") is None else records.integer(found, "spread"),
    )


def costs(value: object) -> Costs:
    """Decode the answer of `call_costs_v1`; raises Unfit."""
    reply = records.obj(value, "the reply")
    reference = records.obj(reply.get("reference"), "the reference")
    return Costs(
        campaigns=tuple(_costs(records.obj(one, "a campaign")) for one in records.array(reply, "campaigns")),
        rates=records.boolean(reply, "rates"),
        reference_per_minute=_number(reference, "per_minute"),
        reference_currency=records.text_or_none(reference, "currency"),
        reference_increments=records.text(reference, "increments"),
    )


def _costs(found: Mapping[str, Any]) -> CampaignCosts:
    name = records.text_or_none(found, "campaign_name")
    return CampaignCosts(
        campaign_id=records.text_or_none(found, "campaign_id"),
        name=None if name is None else records.printable(name),
        calls=records.integer(found, "calls"),
        answered=records.integer(found, "answered"),
        talk_minutes=records.number(found, "talk_minutes"),
        billed_minutes=_number(found, "billed_minutes"),
        cost=_number(found, "cost"),
        currency=records.text_or_none(found, "currency"),
        without_rate=records.integer(found, "without_rate"),
        reference_cost=_number(found, "reference_cost"),
        saved=_number(found, "saved"),
    )


def imported(value: object) -> Imported:
    """Decode the answer of `call_rates_import_v1`; raises Unfit."""
    reply = records.obj(value, "the reply")
    return Imported(
        taken=records.integer(reply, "taken"),
        bad=tuple(
            (records.integer(one, "line"), records.printable(records.text(one, "problem")))
            for one in (records.obj(item, "a bad line") for item in records.array(reply, "bad"))
        ),
    )


def _number(value: Mapping[str, Any], key: str) -> float | None:
    return None if value.get(key) is None else records.number(value, key)
