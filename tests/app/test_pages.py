"""What each page of the app shows for each outcome: its own reads, sent as it sends them, over rows of the daemon.

`queries.json` holds the reads as facts: table, columns, filters, orders; `role` and `count` where they are not those of
a page in the browser; `sent` false for one that the page defines and never sends. docs/app.md holds what they show.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from aiohttp import web

from adapter.sandbox.gateway.faults import Forward
from adapter.sandbox.process import Daemon
from adapter.sandbox.scenarios import number
from adapter.sandbox.world import World, install_sql
from tests.support.db import APP_SCHEMA, ROOT
from tests.test_guide import rows

PAGE = (ROOT / "docs" / "app.md").read_text(encoding="utf-8")
USER = "00000000-0000-4000-8000-00000000000a"
OTHER = "00000000-0000-4000-8000-00000000000b"
CAMPAIGN = "00000000-0000-4000-8000-0000000000c1"
AUTUMN = "00000000-0000-4000-8000-0000000000c2"
CONTACT = "00000000-0000-4000-8000-0000000000d1"
PROMPT = "00000000-0000-4000-8000-0000000000e1"
QUERIES = json.loads(Path(__file__).with_name("queries.json").read_text(encoding="utf-8"))
OUTCOMES = ("answered", "no answer", "busy", "declined", "voicemail", "failed", "canceled", "unknown")
CODES = {"answered": "12", "no answer": "20", "busy": "30", "declined": "40", "voicemail": "12", "failed": "50"}
DONE = "not exists (select from call_queue where status not in ('done', 'canceled') and user_id = $1)"
EVER = {"date_from": "2020-01-01T00:00:00+08:00", "date_to": "2100-01-01T00:00:00+08:00"}

Rows = list[dict[str, Any]]

pytestmark = pytest.mark.timeout(120)


def parameters(query: Mapping[str, Any], values: Mapping[str, Any], order: Sequence[str]) -> list[tuple[str, str]]:
    """A read in PostgREST's words, as supabase-js writes it; filters that nobody has set are left out."""
    sent = [("select", query["select"])]
    for column, sign, told, *optional in query["where"]:
        value = told
        if isinstance(told, str) and "{" in told:
            name = told.strip("({})%")
            if name not in values:
                assert optional, query
                continue
            value = values[name] if sign == "in" else told.replace(f"{{{name}}}", values[name])
        text = f"({','.join(value)})" if sign == "in" else "null" if value is None else value
        sent.append((column, f"{sign}.{text}"))
    if order:
        sent.append(("order", ",".join(each.replace(" ", ".") if " " in each else f"{each}.asc" for each in order)))
    if "limit" in query:
        sent.append(("limit", str(query["limit"])))
    if "range" in query:
        first, last = query["range"]
        sent += [("offset", str(first)), ("limit", str(last - first + 1))]
    return sent


class Browser:
    """The app's reads, with the key of who makes them."""

    def __init__(self, world: World, http: httpx.AsyncClient) -> None:
        self.http = http
        gateway = world.gateway
        self.keys = {"anon": gateway.anon_key, "service_role": gateway.service_role_key}

    async def ask(self, query: Mapping[str, Any], values: Mapping[str, Any], order: Sequence[str]) -> httpx.Response:
        key = self.keys[query.get("role", "anon")]
        headers = {"apikey": key, "Authorization": f"Bearer {key}"}
        if "single" in query:
            headers["Accept"] = "application/vnd.pgrst.object+json"
        if "count" in query:
            headers["Prefer"] = f"count={query['count']}"
        return await self.http.get(
            f"/rest/v1/{query['table']}", params=urlencode(parameters(query, values, order)), headers=headers
        )

    async def read(self, query: Mapping[str, Any], values: Mapping[str, Any], order: Sequence[str] = ()) -> Rows:
        """The rows; one that is asked for alone is a list of one."""
        answer = await self.ask(query, values, order or query["order"])
        assert answer.status_code == 200, (query, answer.text)
        found = answer.json()
        if "count" in query:
            assert answer.headers["content-range"] == f"0-{len(found) - 1}/{len(found)}"
        return [found] if "single" in query else found

    async def all(self, values: Mapping[str, Any]) -> dict[str, Rows]:
        """Every read that can be answered, by its name; those that cannot fail as they always did."""
        found = {}
        for query in QUERIES:
            if "fails" in query:
                refused = await self.ask(query, values, query["order"])
                assert (refused.status_code, refused.json()["code"]) == (400, query["fails"])
            else:
                found[query["name"]] = await self.read(query, values)
                for column in query.get("orders", ()):
                    other = await self.read(query, values, [column])
                    assert sorted(row["id"] for row in other) == sorted(row["id"] for row in found[query["name"]])
        return found

    async def set_status(self, campaign: str, status: str) -> None:
        """The page's buttons pause and resume."""
        headers = {"apikey": self.keys["anon"], "Prefer": "return=minimal"}
        answer = await self.http.patch(
            "/rest/v1/campaigns", params={"id": f"eq.{campaign}"}, json={"status": status}, headers=headers
        )
        assert answer.status_code == 204


def named(name: str) -> dict[str, Any]:
    """The read of this name."""
    query: dict[str, Any]
    (query,) = (query for query in QUERIES if query["name"] == name)
    return query


async def _app(world: World) -> None:
    """The app's schema, ours on top, and what its user made: a prompt, a contact, two campaigns."""
    pool = world.pool
    await pool.execute("drop table call_logs, campaigns cascade")
    await world.postgres.run_script("sandbox", APP_SCHEMA.read_text(encoding="utf-8"), source="app_schema.sql")
    await world.postgres.run_script("sandbox", install_sql(), source="install.sql")
    await pool.execute(
        f"insert into prompts (id, user_id, prompt_name, system_prompt, first_message) "  # noqa: S608
        f"values ('{PROMPT}', '{USER}', 'Hello', 'x', 'y');"
        f"insert into contacts (id, user_id, name, phone_number) "
        f"values ('{CONTACT}', '{USER}', 'Aminah', '0123456700');"
        f"insert into campaigns (id, user_id, campaign_name, prompt_id, status, total_numbers) values "
        f"('{CAMPAIGN}', '{USER}', 'Spring', '{PROMPT}', 'in_progress', {len(OUTCOMES)}), "
        f"('{AUTUMN}', '{OTHER}', 'Autumn', '{PROMPT}', 'in_progress', 2)"
    )


async def _lose(world: World, wish: Mapping[str, Any]) -> None:
    """A daemon that is killed during a call, and whose disk is gone: nobody will ever tell how it ended."""
    place = world.directory / "lost"
    settings = {**world.daemon.settings, "STATE_DIR": str(place), "PBX_NAME": "lost"}
    lost = Daemon(settings, world.directory / "lost.log")
    await lost.start()
    await world.queue([{**wish, "customer_name": "unknown", "phone_number": number("20", 99)}])
    async with asyncio.timeout(30):
        while not await world.pool.fetchval("select exists (select from call_queue where status = 'dialing')"):
            await asyncio.sleep(0.02)
    await lost.kill()
    await world.pool.execute("update call_queue set deadline = now() - interval '1 hour' where status = 'dialing'")


def _handler(world: World) -> None:
    """The AI handler writes of the call of `answered`, always before us: the daemon's next request waits for it."""

    async def first(request: web.Request, forward: Forward) -> web.StreamResponse:
        if request.path.endswith("/rpc/call_sync_v1"):
            await world.pool.execute(
                "update call_logs set status = 'answered', duration = 33, transcript = 'AI: hello', "
                "stage_reached = 'Offer', recording_url = 'https://example.com/1.wav' "
                "where customer_name = 'answered' and status = 'initiated'"
            )
        return await forward()

    world.gateway.http_fault = first


async def _finished(world: World, user: str) -> None:
    """Until every row of the user is final; holds and waits are not sat through."""
    for _ in range(600):
        # The verdict of the AI handler, after our answer.
        await world.pool.execute(
            "update call_logs set status = 'voicemail' where customer_name = 'voicemail' and status = 'answered'"
        )
        await world.pool.execute("update call_queue set settle_at = now() where settle_at > now()")
        # The sweep trusts an adapter that has been there for a minute.
        await world.pool.execute("update call_adapters set steady_since = now() - interval '1 hour'")
        if await world.pool.fetchval(f"select {DONE}", user):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(world.daemon.tail(40))


async def _fill(world: World, browser: Browser) -> None:
    """One person for each outcome in Spring; in Autumn, paused for a while, one who answers and one twice busy."""
    wish = {"user_id": USER, "campaign_id": CAMPAIGN, "contact_id": CONTACT, "prompt_id": PROMPT}
    await _lose(world, wish)
    people = [
        {**wish, "customer_name": word, "phone_number": number(code, serial)}
        for serial, (word, code) in enumerate(CODES.items(), start=1)
    ]
    await world.queue(people)
    canceled = {**wish, "customer_name": "canceled", "phone_number": number("10", 50), "cancel_requested": True}
    await world.queue([canceled])
    await browser.set_status(AUTUMN, "paused")
    again = {**wish, "user_id": OTHER, "campaign_id": AUTUMN, "max_attempts": 2, "retry_seconds": 0}
    await world.queue(
        [
            {**again, "customer_name": name, "phone_number": number(code, 70), "contact_id": CONTACT}
            for name, code in (("Answers", "12"), ("Twice busy", "30"))
        ]
    )
    _handler(world)
    await world.daemon.start()
    await _finished(world, USER)
    assert await world.pool.fetchval("select bool_and(status = 'queued') from call_queue where user_id = $1", OTHER)
    (card,) = await browser.read(named("campaigns_list"), {"user_id": OTHER})
    assert (card["status"], card["successful_calls"], card["failed_calls"]) == ("paused", 0, 0)
    await browser.set_status(AUTUMN, "in_progress")
    await _finished(world, OTHER)


def shown(found: Mapping[str, Rows]) -> dict[str, dict[str, str]]:
    """Page -> outcome -> what the page shows, by the words on which its code switches."""
    cards = {"answered": "answered", "no_answered": "unanswered", "failed": "failed", "voicemail": "voicemail"}
    detail = {**cards, "failed": "voicemail/failed", "voicemail": "voicemail/failed"}
    labels = {"no_answer": "Tidak Angkat", "failed": "Gagal", "voicemail": "Voicemail"}
    failed = {row["customer_name"]: labels[row["status"]] for row in failed_calls(found)}

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


def failed_calls(found: Mapping[str, Rows]) -> Rows:
    """What the page Failed Calls lists: the newest row of each number that never answered."""
    hidden = {row["phone_number"] for row in found["failed_calls_answered_numbers"]}
    newest = {row["phone_number"]: row for row in reversed(found["failed_calls_list"])}
    return [row for number_, row in newest.items() if number_ not in hidden]


def figures(found: Mapping[str, Rows]) -> dict[str, str]:
    """Page -> the numbers on its cards and lists, of one campaign and user."""

    def count(query: str, *words: str) -> int:
        return sum(not words or row["status"] in words for row in found[query])

    def answered(query: str, kind: str) -> str:
        total, good = count(query), count(query, "answered")
        return f"{total} {kind}: {good} answered, {total - good} not"

    def cards(query: str, kind: str, *groups: str) -> str:
        words = {"answered": ["answered"], "unanswered": ["no_answered"], "failed": ["failed"]}
        words |= {"voicemail": ["voicemail"], "voicemail/failed": ["voicemail", "failed"]}
        told = ", ".join(f"{count(query, *words[group])} {group}" for group in groups)
        return f"{count(query)} {kind}: {told}"

    four = ("answered", "unanswered", "voicemail", "failed")
    (card,) = found["campaigns_list"]
    (batch,) = found["campaign_batch_groups"]
    (header,) = found["campaign_detail"]
    badge: dict[str, str] = {
        "completed": "Selesai",
        "in_progress": "Sedang Berjalan",
        "failed": "Gagal",
        "pending": "Menunggu",
    }
    (overview,) = found["edge_campaign_batch_list"]
    numbers = [row["phone_number"] for row in found["batch_form_last_campaign_numbers"]]
    return {
        "Dashboard, cards": cards("dashboard_calls", "calls", *four),
        "Call Logs, cards": cards("call_logs_page_stats", "calls", *four),
        "Call Logs, list": answered("call_logs_table", "rows"),
        "Failed Calls": f"{len(failed_calls(found))} numbers",
        "Campaigns, list": f"{count('campaigns_list_call_stats')} numbers, under "
        + ("answered" if card["successful_calls"] else "none answered"),
        "Campaign, badge": badge.get(header["status"], str(header["status"])),
        "Campaign, cards": cards("campaign_detail_calls", "contacts", "answered", "unanswered", "voicemail/failed"),
        "Campaign Batch, list": f"{batch['total_numbers']} numbers",
        "Campaign Batch, numbers": answered("campaign_batch_detail_calls", "numbers"),
        "Contacts": answered("contact_call_stats", "calls"),
        "Batch form, repeat last": f"{len(numbers)} numbers, {len(set(numbers))} different",
        "Batch overview": f"{overview['total_numbers']} calls: {overview['successful_calls']} successful, "
        f"{overview['failed_calls']} failed",
    }


def told(text: str, *columns: str) -> list[dict[str, str]]:
    """A table of the page: for each column after the first, first cell -> cell."""
    table = rows(text, *columns)
    return [{row[0]: row[place] for row in table} for place in range(1, len(columns))]


@pytest.mark.parametrize(
    ("log_rows", "word"), [("attempt", "no_answered"), ("person", "no_answered"), ("attempt", "no_answer")]
)
async def test_every_page_shows_what_the_tables_say(tmp_path: Path, log_rows: str, word: str) -> None:
    settings = {"LOG_ROWS": log_rows, "NO_ANSWER_WORD": word}
    async with (
        World.started(speed=5.0, directory=tmp_path, daemon=False, settings=settings) as world,
        httpx.AsyncClient(base_url=world.gateway.url, trust_env=False) as http,
    ):
        browser = Browser(world, http)
        await _app(world)
        await _fill(world, browser)
        log = await world.pool.fetchval("select id::text from call_logs where customer_name = 'answered'")
        values = {
            "user_id": USER, "campaign_id": CAMPAIGN, "campaign_ids": [CAMPAIGN], "contact_ids": [CONTACT],
            "campaign_name": "Spring", "call_log_id": log, **EVER,
        }  # fmt: skip
        found = await browser.all(values)
        assert len(found) == len(QUERIES) - 3
        assert all(found.values()), found
        spring = {name: [row for row in read if row.get("user_id") != OTHER] for name, read in found.items()}
        head = ("page", *OUTCOMES)
        section = PAGE.partition("`NO_ANSWER_WORD=no_answer`")[2 if word == "no_answer" else 0]
        pages = shown(spring)
        assert {word: {page: each[word] for page, each in pages.items()} for word in OUTCOMES} == dict(
            zip(OUTCOMES, told(section, *head), strict=True)
        )
        _beside_the_tables(spring)
        values |= {"user_id": OTHER, "campaign_id": AUTUMN, "campaign_ids": [AUTUMN], "campaign_name": "Autumn"}
        autumn = await browser.all(values)
        if word == "no_answered":
            _numbers(spring, autumn, log_rows)
        calls = sorted(
            (row["customer_name"], row["retry_count"], row["is_retry"], row["campaigns"]["campaign_name"])
            for row in autumn["call_logs_table"]
        )
        first, *retry = [("Twice busy", 0, False, "Autumn"), ("Twice busy", 1, True, "Autumn")]
        earlier = [first] if log_rows == "attempt" else []
        assert calls == [("Answers", 0, False, "Autumn"), *earlier, *retry]
        by_duration = await browser.read(named("call_logs_table"), values, ["duration desc"])
        assert [row["customer_name"] for row in by_duration] == [name for name, *_ in calls]


def _beside_the_tables(found: Mapping[str, Rows]) -> None:
    """Columns of lists that do not hang on the outcome."""
    listed = found["call_logs_table"]
    assert {row["campaigns"]["campaign_name"] for row in listed} == {"Spring"}
    assert {row["prompts"]["prompt_name"] for row in listed} == {"Hello"}
    assert {row["contacts"]["name"] for row in found["campaign_detail_calls"]} == {"Aminah"}
    assert {row["prompts"]["prompt_name"] for row in found["campaigns_list"]} == {"Hello"}
    assert {row["original_campaign_id"] for row in listed} == {None}
    # The handler wrote first: nothing of it is lost, and its seconds of talk stand.
    (first,) = (row for row in listed if row["customer_name"] == "answered")
    assert (first["status"], first["duration"], first["transcript"]) == ("answered", 33, "AI: hello")
    assert (first["stage_reached"], first["recording_url"]) == ("Offer", "https://example.com/1.wav")
    assert found["campaign_batch_stage_filter"] == [{"stage_reached": "Offer"}]
    # Sorted downwards a null would stand first; and only talk is minutes.
    assert all(row["duration"] is not None for row in listed)
    assert {row["customer_name"] for row in listed if row["duration"]} == {"answered", "voicemail"}
    assert all(isinstance(row["metadata"].get("ended_reason", ""), str) for row in found["campaign_batch_detail_calls"])
    assert Counter(row["status"] for row in found["contact_call_stats"])["answered"] == 1


def _numbers(spring: Mapping[str, Rows], autumn: Mapping[str, Rows], log_rows: str) -> None:
    """The tables of figures, which are those of the default word."""
    one, *two = told(
        PAGE,
        "page",
        "eight persons, one for each outcome",
        "two persons, `LOG_ROWS=attempt`",
        "the same, `LOG_ROWS=person`",
    )
    assert figures(spring) == one
    assert figures(autumn) == two[log_rows == "person"]
