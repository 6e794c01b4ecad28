"""What the commands `call` and `status` ask of the database, as typed calls; one request is one try, as in `Database`.

`wish` may be sent again with the same key until it is answered: it is one row all the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import httpx

from adapter.supabase_io import explanations, forbidden, hours, money, records, refusals, sights, stops
from adapter.supabase_io.config import SupabaseConfig
from adapter.supabase_io.database import Database
from adapter.supabase_io.explanations import Explanation, Page
from adapter.supabase_io.forbidden import Entry, Listing
from adapter.supabase_io.hours import Hours
from adapter.supabase_io.money import Costs, Imported, Retries, RetryRule
from adapter.supabase_io.records import Unfit
from adapter.supabase_io.refusals import DatabaseRefused
from adapter.supabase_io.sights import Following, Overview
from adapter.supabase_io.stops import Paused, Piece, Resumed, Target

_Answer = TypeVar("_Answer")


class NumberRefused(Exception):
    """The number cannot be dialed; nothing was queued. The text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One call to be queued."""

    key: str
    """UUID, made once for each wish: whatever is sent again with it stays one row."""

    user_id: str
    number: str
    """As the user typed it; `call_number_v1` reads it."""

    more: dict[str, Any] = field(default_factory=dict)
    """Further columns of the row: `customer_name`, `prompt_id`, `campaign_id`, …"""

    @property
    def idempotency_key(self) -> str:
        """Under which `call_wish_v1` keeps the row."""
        return f"desk:{self.key}"


class Desk:
    """A connection for people's questions. Made inside the event loop; close it with `aclose`."""

    def __init__(self, config: SupabaseConfig, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """`transport` replaces the network in tests. Raises ValueError for a proxy that cannot be used."""
        self._database = Database(config, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._database.aclose()

    async def wish(self, wish: Wish) -> Following:
        """Queue a call; the row as it is then. Raises NumberRefused, DatabaseAway, DatabaseRefused."""
        answer = await self._database.ask(
            "call_wish_v1",
            {"p_key": wish.key, "p_user": wish.user_id, "p_number": wish.number, "p_more": wish.more},
        )
        if isinstance(answer, dict) and isinstance(answer.get("refused"), str):
            raise NumberRefused(records.printable(answer["refused"]))
        return _decoded("call_wish_v1", sights.following, answer)

    async def follow(self, row: int) -> Following:
        """A row as it is now. Raises DatabaseAway, DatabaseRefused (also for a row that is not there)."""
        return _decoded("call_follow_v1", sights.following, await self._database.ask("call_follow_v1", {"p_row": row}))

    async def stop(self, row: int, reason: str | None = None) -> Following:
        """Cancel a row; how it is then. Raises DatabaseAway, DatabaseRefused (also for a row that is not there)."""
        arguments = {"p_row": row, "p_reason": reason or "canceled at a terminal"}
        return _decoded("call_stop_v1", sights.following, await self._database.ask("call_stop_v1", arguments))

    async def pause(self, target: Target, reason: str | None) -> Paused:
        """Pause it; may be asked again. Raises DatabaseAway, DatabaseRefused (also for what is not there)."""
        arguments = {**target.arguments, "p_reason": reason}
        return _decoded("call_pause_v1", stops.paused, await self._database.ask("call_pause_v1", arguments))

    async def resume(self, target: Target) -> Resumed:
        """Let it go on; may be asked again. Raises DatabaseAway, DatabaseRefused."""
        return _decoded(
            "call_resume_v1", stops.resumed, await self._database.ask("call_resume_v1", {**target.arguments})
        )

    async def cancel_all(self, target: Target, reason: str, before: str | None) -> Piece:
        """Cancel a piece of it; `before`: what the first piece told. Raises DatabaseAway, DatabaseRefused."""
        arguments = {**target.arguments, "p_reason": reason, "p_before": before}
        return _decoded("call_cancel_all_v1", stops.piece, await self._database.ask("call_cancel_all_v1", arguments))

    async def hours(self, target: Target | None) -> Hours:
        """Calling hours that apply to a user or campaign; without one, all. Raises DatabaseAway, DatabaseRefused."""
        kind, key = ("", None) if target is None else (target.kind, target.key or None)
        arguments = {"p_user": key if kind == "user" else None, "p_campaign": key if kind == "campaign" else None}
        return _decoded("call_hours_v1", hours.hours, await self._database.ask("call_hours_v1", arguments))

    async def set_hours(self, target: Target, windows: str | None) -> Hours:
        """Set them instead of what is set, None: none; may be asked again. Raises DatabaseAway, DatabaseRefused."""
        arguments = {"p_scope": target.kind, "p_id": target.key or None, "p_windows": windows}
        return _decoded("call_hours_set_v1", hours.hours, await self._database.ask("call_hours_set_v1", arguments))

    async def set_dates(self, campaign: str, dates: Mapping[str, str | None]) -> Hours:
        """Set `starts_at`, `ends_at` or both of a campaign, ISO 8601 with offset, None: none; may be asked again.
        Raises DatabaseAway, DatabaseRefused."""
        arguments = {"p_campaign": campaign, "p_dates": dict(dates)}
        return _decoded("call_hours_dates_v1", hours.hours, await self._database.ask("call_hours_dates_v1", arguments))

    async def set_zone(self, user: str, zone: str | None) -> Hours:
        """Set the time zone of a user, None: none; may be asked again. Raises DatabaseAway, DatabaseRefused."""
        arguments = {"p_user": user, "p_zone": zone}
        return _decoded("call_hours_zone_v1", hours.hours, await self._database.ask("call_hours_zone_v1", arguments))

    async def retries(self, user: str | None, campaign: str | None) -> Retries:
        """What follows after each outcome, for a user, a campaign or all. Raises DatabaseAway, DatabaseRefused."""
        arguments = {"p_user": user, "p_campaign": campaign}
        return _decoded("call_retry_v1", money.retries, await self._database.ask("call_retry_v1", arguments))

    async def set_retry(self, rule: RetryRule) -> Retries:
        """Set a rule; may be asked again. Raises DatabaseAway, DatabaseRefused."""
        arguments = {
            "p_scope": rule.scope,
            "p_id": rule.scope_id,
            "p_outcome": rule.outcome,
            "p_calls": rule.calls,
            "p_delays": None if rule.delays is None else list(rule.delays),
            "p_spread": rule.spread,
        }
        return _decoded("call_retry_set_v1", money.retries, await self._database.ask("call_retry_set_v1", arguments))

    async def costs(self, campaign: str | None, most: int) -> Costs:
        """What a campaign cost, or the `most` dearest. Raises DatabaseAway, DatabaseRefused."""
        arguments = {"p_campaign": campaign, "p_limit": most}
        return _decoded("call_costs_v1", money.costs, await self._database.ask("call_costs_v1", arguments))

    async def import_rates(self, trunk: str, lines: Sequence[Mapping[str, Any]]) -> Imported:
        """Lines of a rate sheet; may be sent again. Raises DatabaseAway, DatabaseRefused."""
        arguments = {"p_trunk": trunk, "p_lines": [dict(line) for line in lines]}
        return _decoded(
            "call_rates_import_v1", money.imported, await self._database.ask("call_rates_import_v1", arguments)
        )

    async def forbid(
        self, numbers: Sequence[str], *, user: str | None, source: str, reason: str | None, expires_at: str | None
    ) -> Listing:
        """List numbers as people wrote them; may be asked again. Raises DatabaseAway, DatabaseRefused."""
        arguments = {
            "p_numbers": list(numbers),
            "p_user": user,
            "p_source": source,
            "p_reason": reason,
            "p_expires_at": expires_at,
        }
        answer = await self._database.ask("call_do_not_call_import_v1", arguments)
        return _decoded("call_do_not_call_import_v1", forbidden.listing, answer)

    async def allow(self, number: str, user: str | None) -> int:
        """Take a number out of the list; how many entries went. Raises DatabaseAway, DatabaseRefused."""
        answer = await self._database.ask("call_do_not_call_remove_v1", {"p_number": number, "p_user": user})
        return _decoded("call_do_not_call_remove_v1", forbidden.whole, answer)

    async def forbidden(self, number: str | None, user: str | None, most: int) -> tuple[Entry, ...]:
        """Entries of a number, else the latest ones. Raises DatabaseAway, DatabaseRefused."""
        arguments = {"p_number": number, "p_user": user, "p_limit": most}
        return _decoded(
            "call_do_not_call_v1", forbidden.entries, await self._database.ask("call_do_not_call_v1", arguments)
        )

    async def status(self, most: int) -> Overview:
        """Everything as it is now, lists with `most` entries. Raises DatabaseAway, DatabaseRefused."""
        answer = await self._database.ask("call_status_v1", {"p_limit": most})
        return _decoded("call_status_v1", sights.overview, answer)

    async def explain(self, what: str, most: int) -> Explanation:
        """Why a row waits or somebody was called; lists with `most` entries. Raises DatabaseAway, DatabaseRefused."""
        answer = await self._database.ask("call_explain_v1", {"p_what": what, "p_limit": most})
        return _decoded("call_explain_v1", explanations.explanation, answer)

    async def dry_run(self, campaign: str, after: Mapping[str, Any] | None, most: int) -> Page:
        """What would become of the next `most` rows of a campaign. Raises DatabaseAway, DatabaseRefused."""
        arguments = {"p_campaign": campaign, "p_after": None if after is None else dict(after), "p_limit": most}
        return _decoded("call_dry_run_v1", explanations.page, await self._database.ask("call_dry_run_v1", arguments))


def _decoded(function: str, decode: Callable[[object], _Answer], answer: object) -> _Answer:
    try:
        return decode(answer)
    except Unfit as error:
        raise DatabaseRefused(
            f"{function} answered in a shape this version does not know ({error}): {refusals.INSTALL}"
        ) from None
