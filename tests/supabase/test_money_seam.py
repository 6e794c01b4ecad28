"""What the commands retries, rates and costs ask for, answered by the real functions."""

import json
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from adapter.commands.view.money import costs_told, retries_told
from adapter.core import ratesheet
from adapter.supabase_io.config import SupabaseConfig
from adapter.supabase_io.desk import Desk as Terminal
from adapter.supabase_io.money import RetryRule
from adapter.supabase_io.refusals import DatabaseRefused
from tests.supabase.helpers import USER, Desk, answered, outcome
from tests.supabase.test_campaigns import campaign


class Functions(httpx.AsyncBaseTransport):
    """As PostgREST: a request is a call of a function, its arguments by name."""

    def __init__(self, desk: Desk) -> None:
        self._connection = desk.connection

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        function = request.url.path.rsplit("/", 1)[-1]
        arguments: dict[str, Any] = json.loads(await request.aread())
        types = await self._connection.fetchrow(
            "select proargnames, array(select format_type(t, null) from unnest(proargtypes) t) as types "
            "from pg_proc where proname = $1",
            function,
        )
        assert types is not None, function
        of = dict(zip(types["proargnames"], types["types"], strict=False))
        names = ", ".join(f"{name} => ${place}::{of[name]}" for place, name in enumerate(arguments, 1))
        try:
            async with self._connection.transaction():
                found = await self._connection.fetchval(
                    f"select public.{function}({names})",
                    *arguments.values(),
                )
        except asyncpg.PostgresError as error:
            words = {"code": error.sqlstate, "message": error.args[0], "details": None, "hint": None}
            return httpx.Response(400, json=words)
        return httpx.Response(200, json=found)


@pytest.fixture
def terminal(app_desk: Desk) -> Terminal:
    """A person's connection to that database."""
    config = SupabaseConfig(url="http://127.0.0.1:1", key="sb_secret_" + "k" * 22)
    return Terminal(config, transport=Functions(app_desk))


async def test_a_rule_is_set_shown_and_taken_away(app_desk: Desk, terminal: Terminal) -> None:
    async with terminal as asked:
        rule = RetryRule(scope="user", scope_id=USER, outcome="busy", calls=3, delays=(60, 300), spread=20)
        said = retries_told(await asked.set_retry(rule))
        assert "busy               3           1min, 5min  +0-20%  user" in said
        assert said == retries_told(await asked.retries(USER, None))
        made = await campaign(app_desk.connection)
        assert said == retries_told(await asked.retries(None, made))  # Of the same user.
        assert "busy" not in retries_told(await asked.retries(None, None)).split("Nothing follows")[0]
        await asked.set_retry(RetryRule(scope="user", scope_id=USER, outcome="busy"))
        assert await asked.retries(USER, None) == await asked.retries(None, None)


async def test_a_rule_that_cannot_be_meant_is_refused_with_the_words_of_the_database(terminal: Terminal) -> None:
    async with terminal as asked:
        with pytest.raises(DatabaseRefused, match="nothing ever follows after answered: the person was reached"):
            await asked.set_retry(RetryRule(scope="default", scope_id=None, outcome="answered", calls=1))


async def test_a_sheet_prices_a_call_and_the_campaign(app_desk: Desk, terminal: Terminal, tmp_path: Path) -> None:
    desk, db = app_desk, app_desk.connection
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("prefix,per_minute,note\n60,0.60,all\n6012,free,wrong\n+60 123,0.30,\n", encoding="utf-8")
    async with terminal as asked:
        with sheet.open(encoding="utf-8-sig", newline="") as text:
            lines = list(ratesheet.read(text, {"currency": "MYR", "increments": "30/6"}))
        found = await asked.import_rates("SIP-TRUNK-1", lines)
        assert (found.taken, [line for line, _ in found.bad]) == (2, [3])
        made = await campaign(db)
        await desk.insert(campaign_id=made)
        call = (await desk.claim_one())["call_id"]
        await desk.sync([answered(call), outcome(call, "answered")])
        await db.execute("update call_settings set reference_per_minute = 1, reference_currency = 'MYR'")
        told = await asked.costs(made, 5)
        (one,) = told.campaigns
        assert (one.calls, one.cost, one.currency, one.reference_cost, one.saved) == (1, 0.18, "MYR", 1.0, 0.82)
        assert await asked.costs(None, 5) == told
        assert "0.18 MYR" in costs_told(told)
