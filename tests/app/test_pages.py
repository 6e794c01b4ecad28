"""What each page of the app shows for each outcome: its own reads over rows that the daemon wrote.

`queries.json` holds the reads as facts (table, columns, filters, order); docs/app.md holds what they show.
"""

import asyncio
import json
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from adapter.sandbox.scenarios import number
from adapter.sandbox.world import World, install_sql
from tests.support.db import APP_SCHEMA, ROOT
from tests.test_guide import rows

USER = "00000000-0000-4000-8000-00000000000a"
CAMPAIGN = "00000000-0000-4000-8000-0000000000c1"
CONTACT = "00000000-0000-4000-8000-0000000000d1"
PROMPT = "00000000-0000-4000-8000-0000000000e1"
QUERIES = json.loads(Path(__file__).with_name("queries.json").read_text(encoding="utf-8"))
OUTCOMES = ("answered", "no answer", "busy", "declined", "voicemail", "failed", "canceled", "unknown")
CODES = {"answered": "12", "no answer": "20", "busy": "30", "declined": "40", "voicemail": "12", "failed": "50"}
KEYS = {"contacts": "contact_id", "campaigns": "original_campaign_id", "prompts": "prompt_id", "users": "user_id"}
SIGNS = {"eq": "=", "gte": ">=", "lte": "<="}
DONE = "not exists (select from call_queue where status not in ('done', 'canceled'))"

pytestmark = pytest.mark.timeout(120)


def columns(select: str) -> list[str]:
    """The parts of a select: columns, and embedded tables with theirs."""
    parts, depth = [""], 0
    for sign in select:
        depth += (sign == "(") - (sign == ")")
        if sign == "," and not depth:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def statement(query: dict[str, Any], values: dict[str, Any]) -> str:
    """SQL for a read, filters that the user need not set left out where no value is given."""
    shown = []
    for part in columns(query["select"]):
        name, _, rest = part.partition("(")
        if not rest:
            shown.append(f"t.{part}" if part != "*" else "t.*")
            continue
        table = name.partition("!")[0].partition(":")[0]
        inner = ", ".join(f"'{column}', e.{column}" for column in rest.rstrip(")").split(","))
        shown.append(
            f"(select jsonb_build_object({inner}) from public.{table} e where e.id = t.{KEYS[table]}) as {table}"  # noqa: S608
        )
    where = []
    for column, sign, told, *optional in query["where"]:
        value = told
        if isinstance(value, str) and "{" in value:
            if value.strip("({})%") not in values:
                assert optional, query
                continue
            value = values[value.strip("({})%")]
        if sign in SIGNS:
            where.append(f"t.{column} {SIGNS[sign]} '{value}'")
        elif sign == "in":
            listed = value if isinstance(value, list) else [value]
            where.append(f"t.{column}::text in ({', '.join(map(repr, listed))})")
        elif sign == "ilike":
            where.append(f"t.{column} ilike '%{value}%'")
        else:
            assert (sign, value) == ("not.is", None), query
            where.append(f"t.{column} is not null")
    text = f"select {', '.join(shown)} from public.{query['table']} t"  # noqa: S608 - our own data
    text += f" where {' and '.join(where)}" if where else ""
    text += f" order by {', '.join(query['order'])}" if query["order"] else ""
    return text + (f" limit {query['limit']}" if "limit" in query else "")


async def _fill(world: World) -> None:
    """One person for each outcome, all of one campaign; every row of call_logs is written by our SQL or the daemon."""
    pool = world.pool
    await pool.execute("drop table call_logs, campaigns cascade")
    await world.postgres.run_script("sandbox", APP_SCHEMA.read_text(encoding="utf-8"), source="app_schema.sql")
    await world.postgres.run_script("sandbox", install_sql(), source="install.sql")
    await pool.execute(
        f"insert into prompts (id, user_id, prompt_name, system_prompt, first_message) "  # noqa: S608
        f"values ('{PROMPT}', '{USER}', 'Hello', 'x', 'y');"
        f"insert into campaigns (id, user_id, campaign_name, prompt_id, status) "
        f"values ('{CAMPAIGN}', '{USER}', 'Spring', '{PROMPT}', 'in_progress');"
        f"insert into contacts (id, user_id, name, phone_number) values ('{CONTACT}', '{USER}', 'Aminah', '0123456700')"
    )
    wish = {"user_id": USER, "campaign_id": CAMPAIGN, "contact_id": CONTACT, "prompt_id": PROMPT}
    # An adapter that claims a call and is never heard of again: the sweep of the daemon ends it as unknown.
    await world.queue([{**wish, "customer_name": "unknown", "phone_number": number("10", 99)}])
    lost, status = uuid.uuid4(), json.dumps({"pbx": "lost", "ready": True, "region": "MY"})
    await pool.fetchval("select call_register_v1($1, 0, gen_random_uuid(), 'lost', '{}')", lost)
    await pool.fetchval("select call_sync_v1($1, 1, '[]', $2, 5, gen_random_uuid())", lost, status)
    await pool.execute("update call_queue set deadline = now() - interval '1 hour' where status = 'dialing'")
    await world.queue(
        [
            {**wish, "customer_name": word, "phone_number": number(code, serial)}
            for serial, (word, code) in enumerate(CODES.items(), start=1)
        ]
    )
    await world.queue(
        [{**wish, "customer_name": "canceled", "phone_number": number("10", 50), "cancel_requested": True}]
    )
    await world.daemon.start()
    for _ in range(600):
        await pool.execute(
            "update call_logs set status = 'voicemail' where customer_name = 'voicemail' and status = 'answered'"
        )
        await pool.execute("update call_queue set settle_at = now() where settle_at > now()")
        # The sweep trusts an adapter that has been there for a minute.
        await pool.execute(
            "update call_adapters set steady_since = now() - interval '1 hour' where adapter <> $1", lost
        )
        if await pool.fetchval(f"select {DONE}"):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(world.daemon.tail(40))


def shown(found: dict[str, list[asyncpg.Record]]) -> dict[str, dict[str, str]]:
    """Page -> outcome -> what the page shows, by the words on which its code switches."""
    cards = {"answered": "answered", "no_answered": "unanswered", "failed": "failed", "voicemail": "voicemail"}
    detail = {**cards, "failed": "voicemail/failed", "voicemail": "voicemail/failed"}
    labels = {"no_answer": "Tidak Angkat", "failed": "Gagal", "voicemail": "Voicemail"}
    hidden = {row["phone_number"] for row in found["failed_calls_answered_numbers"]}
    failed = {
        row["customer_name"]: labels[row["status"]]
        for row in found["failed_calls_list"]
        if row["phone_number"] not in hidden
    }

    def each(query: str, words: dict[str, str], other: str) -> dict[str, str]:
        return {row["customer_name"]: words.get(row["status"], other) for row in found[query]}

    two = {"answered": "answered"}
    return {
        "Dashboard, card": each("dashboard_calls", cards, "in the total only"),
        "Call Logs, card": each("call_logs_page_stats", cards, "in the total only"),
        "Call Logs, list": {row["customer_name"]: f"`{row['status']}`" for row in found["call_logs_table"]},
        "Call Logs, filter": each("call_logs_table", two, "not answered"),
        "Failed Calls": {word: failed.get(word, "not listed") for word in OUTCOMES},
        "Campaign, card": each("campaign_detail_calls", detail, "in the total only"),
        "Campaign Batch": each("campaign_batch_detail_calls", two, "not answered"),
        "Admin analytics": each("admin_all_calls", {**cards, "no_answered": "no answer"}, "in the total only"),
    }


async def test_every_page_shows_what_the_table_says(tmp_path: Path) -> None:
    async with World.started(speed=5.0, directory=tmp_path, daemon=False) as world:
        await _fill(world)
        log = await world.pool.fetchval("select id from call_logs where customer_name = 'answered'")
        values = {
            "user_id": USER, "campaign_id": CAMPAIGN, "campaign_ids": [CAMPAIGN], "contact_ids": [CONTACT],
            "campaign_name": "Spring", "call_log_id": log,
            "date_from": "2020-01-01", "date_to": "2100-01-01",
        }  # fmt: skip
        found = {}
        async with world.pool.acquire() as connection:
            await connection.execute("set role anon")
            for query in QUERIES:
                if "fails" not in query:
                    found[query["name"]] = await connection.fetch(statement(query, values))
            await connection.execute("reset role")
            # Reads that embed users fail, with or without us: there is no such key.
            keys = await connection.fetchval(
                "select count(*) from pg_constraint where contype = 'f' and confrelid = 'users'::regclass "
                "and conrelid = any (array['call_logs'::regclass, 'campaigns'::regclass])"
            )
        assert keys == 0
        assert len(found) == len(QUERIES) - 3
        assert all(found[name] for name in found if name != "campaign_batch_stage_filter"), found
        pages = shown(found)
        table = rows((ROOT / "docs" / "app.md").read_text(encoding="utf-8"), "page", *OUTCOMES)
        assert [[page, *(told[word] for word in OUTCOMES)] for page, told in pages.items()] == table
        assert Counter(row["status"] for row in found["contact_call_stats"])["answered"] == 1
        assert len(found["campaigns_list_call_stats"]) == len(OUTCOMES)
        assert len(found["batch_form_last_campaign_numbers"]) == len(OUTCOMES)
        assert {json.loads(row["prompts"])["prompt_name"] for row in found["call_logs_table"]} == {"Hello"}
        assert all(row["duration"] is not None for row in found["campaign_detail_calls"])
