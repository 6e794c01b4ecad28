"""What calls cost: the rate of the longest prefix, in the carrier's increments, once for each call; and the sums."""

import json
import math
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.supabase.helpers import ANSWERED_AT, Desk, answered, number, outcome
from tests.supabase.test_campaigns import campaign

TRUNK = "SIP-TRUNK-1"


async def rate(desk: Desk, prefix: str, price: str, increments: str = "60/60", **more: Any) -> None:
    """A line of the sheet."""
    line = {"line": 2, "prefix": prefix, "per_minute": price, "currency": "MYR", "increments": increments, **more}
    trunk = line.pop("trunk", TRUNK)
    found = await desk.connection.fetchval("select call_rates_import_v1($1, $2)", trunk, [line])
    assert found == {"taken": 1, "bad": []}


async def cost(desk: Desk, e164: str, seconds: int, trunk: str | None = TRUNK, at: str = "2026-11-25") -> Any:
    """As the function says it."""
    return await desk.connection.fetchval(
        "select call_cost_v1($1, $2, $3, $4::text::timestamptz)", trunk, e164, seconds, at
    )


async def talk(desk: Desk, word: str = "answered", seconds: int = 35, **columns: Any) -> str:
    """A call from its insert to its end; its id."""
    await desk.insert(**columns)
    call: str = (await desk.claim_one())["call_id"]
    await desk.sync([answered(call), outcome(call, word, talk_seconds=seconds)])
    await desk.settle()
    return call


async def told(desk: Desk, call: str) -> tuple[Any, Any]:
    """What call_logs says of its cost."""
    metadata = (await desk.the_log(call))["metadata"]
    return metadata.get("cost"), metadata.get("cost_currency")


async def test_the_longest_prefix_of_the_trunk_counts(desk: Desk) -> None:
    for prefix, price in (("*", "9"), ("+60", "0.6"), ("+60 12", "0.12"), ("6012345", "0.05")):
        await rate(desk, prefix, price)
    await rate(desk, "60123", "7", trunk="other")
    for e164, prefix in (("+60123456700", "6012345"), ("+60129", "6012"), ("+60312345678", "60"), ("+12025550143", "")):
        assert (await cost(desk, e164, 60))["prefix"] == prefix
    assert (await cost(desk, "+60123456700", 60, "other"))["cost"] == 7
    assert await cost(desk, "+60312345678", 60, "other") is None
    assert await cost(desk, "+60123456700", 60, None) is None


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prefixes=st.lists(st.tuples(st.text("125", max_size=5), st.integers(0, 2)), max_size=12),
    digits=st.text("125", min_size=1, max_size=6),
)
async def test_the_one_found_is_the_longest_that_holds(
    desk: Desk, prefixes: list[tuple[str, int]], digits: str
) -> None:
    """Of each prefix the latest row that holds already; days from 1 on are still to come."""
    db = desk.connection
    await db.execute("delete from call_rates")
    await db.executemany(
        "insert into call_rates (trunk, prefix, per_minute, currency, valid_from) "
        "values ($1, $2, 1, 'MYR', date '2026-01-01' + $3::integer) on conflict do nothing",
        [(trunk, prefix, day) for prefix, day in prefixes for trunk in ("T", "U")],
    )
    at = "2026-01-01 12:00:00+00"
    found = await db.fetchval("select (call_rate('T', $1, $2::text::timestamptz)).prefix", f"+{digits}", at)
    fitting = [prefix for prefix, day in prefixes if day == 0 and digits.startswith(prefix)]
    assert found == max(fitting, key=len, default=None)


async def test_a_rate_holds_from_its_day_on(desk: Desk) -> None:
    await rate(desk, "60", "1", valid_from="2026-01-01")
    await rate(desk, "60", "2", valid_from="2026-07-01")
    await rate(desk, "6012", "5", valid_from="2027-01-01")
    days = ("2025-12-31", None), ("2026-01-01", 1), ("2026-06-30", 1), ("2026-07-01", 2), ("2027-01-01", 5)
    for at, price in days:
        found = await cost(desk, "+60123456700", 60, at=at)
        assert (found and found["cost"]) == price


@pytest.mark.parametrize(
    ("increments", "seconds", "billed"),
    [
        ("60/60", 1, 60), ("60/60", 60, 60), ("60/60", 61, 120), ("30/6", 1, 30), ("30/6", 30, 30), ("30/6", 31, 36),
        ("30/6", 36, 36), ("30/6", 37, 42), ("1/1", 1, 1), ("1/1", 59, 59), ("0/60", 1, 60), ("60/1", 61, 61),
        ("60/60", 0, 0),
    ],
)  # fmt: skip
async def test_increments(desk: Desk, increments: str, seconds: int, billed: int) -> None:
    await rate(desk, "60", "0.6", increments, connection_fee="0.1")
    found = await cost(desk, "+60123456700", seconds)
    assert found["billed_seconds"] == billed
    assert Decimal(str(found["cost"])) == (Decimal("0.1") + Decimal("0.01") * billed if seconds else 0)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seconds=st.integers(0, 86400), first=st.integers(0, 3600), step=st.integers(1, 3600))
async def test_what_is_billed_is_never_less_than_the_talk_and_less_than_a_step_more(
    desk: Desk, seconds: int, first: int, step: int
) -> None:
    billed = await desk.connection.fetchval("select call_billed_seconds($1, $2, $3)", seconds, first, step)
    whole = first + math.ceil(max(seconds - first, 0) / step) * step
    assert billed == (whole if seconds else 0)
    assert billed >= seconds


@pytest.mark.parametrize(
    ("e164", "seconds", "words"),
    [("60123456700", 1, "no number with plus"), ("+", 1, "no number"), ("+60123456700", -1, "seconds are 0 to 86400")],
)
async def test_wrong_questions_are_refused(desk: Desk, e164: str, seconds: int, words: str) -> None:
    with pytest.raises(asyncpg.PostgresError, match=words) as error:
        await cost(desk, e164, seconds)
    assert error.value.sqlstate == "PT400"


async def test_a_call_is_priced_once_where_it_ends(app_desk: Desk) -> None:
    desk = app_desk
    await rate(desk, "60", "0.6", "30/6", connection_fee="0.05")
    call = await talk(desk)
    assert await told(desk, call) == ("0.41", "MYR")
    log = await desk.the_log(call)
    assert log["cost"] is None  # The AI handler's.
    # Another rate comes, and the record again: nothing changes.
    await rate(desk, "60", "6", "30/6")
    await desk.sync([outcome(call, "answered")])
    assert await told(desk, call) == ("0.41", "MYR")
    price = await desk.connection.fetchrow("select * from call_prices")
    assert price is not None
    assert (str(price["call_id"]), price["answered"], price["talk_seconds"], price["billed_seconds"]) == (
        call,
        True,
        35,
        36,
    )
    assert (price["trunk"], price["cost"], price["currency"]) == (TRUNK, Decimal("0.41"), "MYR")


async def test_what_was_not_answered_costs_nothing(app_desk: Desk) -> None:
    desk = app_desk
    await rate(desk, "60", "0.6", connection_fee="1")
    await desk.insert()
    call = (await desk.claim_one())["call_id"]
    await desk.sync([outcome(call, "busy")])
    assert await told(desk, call) == (None, None)
    assert await desk.connection.fetchval("select (answered, cost, talk_seconds)::text from call_prices") == "(f,,0)"


async def test_a_call_of_no_whole_second_is_billed_as_one(app_desk: Desk) -> None:
    await rate(app_desk, "60", "0.6", "1/1")
    assert await told(app_desk, await talk(app_desk, "ai_failed", 0)) == ("0.01", "MYR")


async def test_a_machine_costs_as_a_person(app_desk: Desk) -> None:
    await rate(app_desk, "60", "0.6")
    assert await told(app_desk, await talk(app_desk, "voicemail", 61)) == ("1.2", "MYR")


async def test_without_a_rate_there_is_no_cost_and_it_is_said(app_desk: Desk) -> None:
    desk = app_desk
    await rate(desk, "1", "0.6")
    made = await campaign(desk.connection)
    assert await told(desk, await talk(desk, campaign_id=made)) == (None, None)
    found = (await desk.connection.fetchval("select call_costs_v1($1)", made))["campaigns"]
    assert [(one["answered"], one["without_rate"], one["cost"], one["saved"]) for one in found] == [(1, 1, None, None)]


async def test_unknown_has_no_cost_until_its_end_is_told(app_desk: Desk) -> None:
    desk = app_desk
    await rate(desk, "60", "0.6")
    await desk.insert()
    call = (await desk.claim_one())["call_id"]
    await desk.sync([answered(call), outcome(call, "unknown", answered_at=ANSWERED_AT, talk_seconds=9)])
    assert await told(desk, call) == (None, None)
    assert await desk.connection.fetchval("select count(*) from call_prices") == 0
    await desk.sync([outcome(call, "answered", talk_seconds=61)])
    assert await told(desk, call) == ("1.2", "MYR")


@pytest.mark.parametrize("gone", ["moved on", "deleted"])
async def test_a_call_whose_row_is_elsewhere_is_priced_by_what_its_claim_noted(app_desk: Desk, gone: str) -> None:
    desk, db = app_desk, app_desk.connection
    await rate(desk, "60", "0.6")
    made = await campaign(db)
    await db.fetchval("select call_retry_set_v1('default', null, 'unknown', 1, array[3600])")
    row = await desk.insert(campaign_id=made)
    call = (await desk.claim_one())["call_id"]
    await desk.sync([outcome(call, "unknown")])
    if gone == "deleted":
        await db.execute("delete from call_queue where id = $1", row)
    else:
        await desk.due()
        await desk.claim_one()
    await desk.sync([outcome(call, "answered")])
    assert await told(desk, call) == ("0.6", "MYR")
    assert await db.fetchval("select (campaign_id = $1, cost)::text from call_prices", made) == "(t,0.600000)"


async def test_a_campaign_next_to_what_the_old_provider_would_have_taken(app_desk: Desk) -> None:
    desk, db = app_desk, app_desk.connection
    await rate(desk, "60", "0.06", "1/1")
    made, other = await campaign(db), await campaign(db)
    for serial, seconds in enumerate((30, 61, 125)):
        await talk(desk, "answered", seconds, phone_number=number(serial), campaign_id=made)
    await talk(desk, "answered", 10, phone_number=number(9), campaign_id=other)
    await desk.insert(number(10), campaign_id=made)
    await desk.sync([outcome((await desk.claim_one())["call_id"], "busy")])
    ask = (
        "select calls, answered, talk_minutes, billed_minutes, cost, currency, without_rate, reference_cost, saved "
        "from campaign_costs where campaign_id = $1"
    )
    plain = tuple(await db.fetchrow(ask, made) or ())
    assert plain == (4, 3, Decimal("3.60"), Decimal("3.60"), Decimal("0.216"), "MYR", 0, None, None)
    await db.execute("update call_settings set reference_per_minute = 0.2, reference_currency = 'MYR'")
    found = tuple(await db.fetchrow(ask, made) or ())
    assert found[-2:] == (Decimal("1.2"), Decimal("0.984"))  # 1 + 2 + 3 minutes.
    await db.execute("update call_settings set reference_currency = 'USD'")
    assert tuple(await db.fetchrow(ask, made) or ())[-1] is None
    listed = (await db.fetchval("select call_costs_v1()"))["campaigns"]
    assert [one["campaign_id"] for one in listed] == [made, other]


async def test_several_currencies_are_not_added_up(app_desk: Desk) -> None:
    desk, made = app_desk, await campaign(app_desk.connection)
    await rate(desk, "6012", "1")
    await rate(desk, "60123", "1", currency="USD")
    await talk(desk, phone_number="+60129999999", campaign_id=made)
    await talk(desk, phone_number="+60123999999", campaign_id=made)
    (found,) = (await desk.connection.fetchval("select call_costs_v1($1)", made))["campaigns"]
    assert (found["cost"], found["currency"], found["without_rate"]) == (None, "MYR, USD", 0)


async def test_bad_lines_are_told_and_the_others_taken(desk: Desk) -> None:
    good = {"prefix": "60", "per_minute": "0.05", "currency": "MYR"}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"prefix": "sixty"}, 'prefix "sixty" is no digits'),
        ({"prefix": None}, "it has no prefix"),
        ({"prefix": "1" * 16}, "is no digits"),
        ({"per_minute": "0,05"}, 'price "0,05" is no number with a point'),
        ({"per_minute": "-1"}, "price"),
        ({"per_minute": None}, "price"),
        ({"currency": "ringgit"}, "three capital letters"),
        ({"increments": "60"}, 'increments "60" are not like 60/60'),
        ({"increments": "60/0"}, "increments"),
        ({"connection_fee": "free"}, "connection fee"),
        ({"valid_from": "tomorrow morning"}, "valid_from"),
    ]
    lines = [{"line": serial, **good, **change} for serial, (change, _) in enumerate(wrong, 2)]
    lines += [{"line": 99, **good}]
    for _ in range(2):
        found = await desk.connection.fetchval("select call_rates_import_v1($1, $2)", TRUNK, lines)
        assert found["taken"] == 1
        assert [one["line"] for one in found["bad"]] == list(range(2, 2 + len(wrong)))
        for one, (_, words) in zip(found["bad"], wrong, strict=True):
            assert words in one["problem"]
    assert await desk.connection.fetchval("select count(*) from call_rates") == 1


async def test_a_long_rate_sheet_is_not_read_through(desk: Desk) -> None:
    """100,000 lines: a handful of pages, by the index, also before anybody analyzed the table."""
    db = desk.connection
    await db.execute(
        "insert into call_rates (trunk, prefix, per_minute, currency) "
        "select 'T', (100000 + i)::text, 1, 'MYR' from generate_series(1, 100000) i"
    )
    for _ in range(2):
        plan = json.loads(
            await db.fetchval(
                "explain (analyze, buffers, format json) select * from call_rate('T', '+150000123456', now())"
            )
        )
        pages = plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"]
        assert pages < 400, pages  # The table has more than a thousand.
        await db.execute("analyze call_rates")
    assert await db.fetchval("select (call_rate('T', '+150000123456', now())).prefix") == "150000"


async def test_explain_tells_the_cost_and_what_follows(app_desk: Desk) -> None:
    desk, db = app_desk, app_desk.connection
    await rate(desk, "60", "0.6")

    async def explained(call: str) -> tuple[str | None, str | None]:
        found = (await db.fetchval("select call_explain_v1($1)", call))["calls"][0]
        return found["cost"], found["follows"]

    assert await explained(await talk(desk)) == ("0.6 MYR", "no call: the person was reached")
    await db.fetchval("select call_retry_set_v1('default', null, 'busy', 1, array[600])")
    await desk.insert(number(1))
    ends = [None, "call 1 of 1 that may follow after busy (default), 600 s later (default)"], [
        None, "no call: 1 calls may follow after busy and did (default)",
    ]  # fmt: skip
    for expected in ends:
        await desk.due()
        call = (await desk.claim_one())["call_id"]
        assert await explained(call) == (None, None)
        await desk.sync([outcome(call, "busy")])
        assert await explained(call) == tuple(expected)
