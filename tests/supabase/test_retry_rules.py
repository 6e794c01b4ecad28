"""Retry by outcome: whose rule counts, how many calls follow, how long after, and what nobody can have."""

import uuid
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.simulation import store_retries
from tests.simulation.store_tables import RetryRule, Row, Tables
from tests.supabase.helpers import OTHER, USER, Desk, answered, number, outcome
from tests.supabase.test_campaigns import campaign
from tests.supabase.test_retry import ALL, default


async def rule(desk: Desk, scope: str, of: str | None, word: str, *said: Any) -> dict[str, Any]:
    """Calls, delays, spread; none of them takes the rule away."""
    calls, delays, spread = (*said, None, None, None)[:3]
    found: dict[str, Any] = await desk.connection.fetchval(
        "select call_retry_set_v1($1, $2, $3, $4, $5, $6)", scope, of, word, calls, delays, spread
    )
    return found


async def end(desk: Desk, row: int | None, word: str) -> tuple[str, float]:
    """Dial the row and end its call so: what it is then, and how long it waits."""
    await desk.connection.execute("delete from call_trunk_health")  # Else a trunk that fails cools down.
    await desk.due()
    call = await desk.claim_one()
    assert call["row_id"] == row
    if word == "pbx_error":
        record = {"kind": "release", "call_id": call["call_id"], "cause": "pbx_error", "reason": "no"}
    else:
        record = outcome(call["call_id"], word)
    if word == "answered":
        await desk.sync([answered(call["call_id"])])
    await desk.sync([record])
    await desk.settle()
    found = await desk.row(row)
    return found["status"], (found["not_before"] - found["updated_at"]).total_seconds()


async def waits(desk: Desk, row: int | None, word: str, most: int = 20) -> list[float]:
    """The same outcome until nothing follows."""
    found: list[float] = []
    for _ in range(most):
        status, wait = await end(desk, row, word)
        if status == "done":
            return found
        found.append(wait)
    raise AssertionError(f"{word} is tried again for ever: {found}")


async def test_each_outcome_has_its_own_calls_and_waits(app_desk: Desk) -> None:
    desk = app_desk
    await rule(desk, "default", None, "busy", 3, [60, 300])
    await rule(desk, "default", None, "no_answer", 1, [3600])
    row = await desk.insert()
    for word, expected in (
        ("busy", 60), ("no_answer", 3600), ("busy", 300), ("busy", 300),
    ):  # fmt: skip
        assert await end(desk, row, word) == ("queued", expected)
    assert (await end(desk, row, "no_answer"))[0] == "done"


async def test_a_row_ends_with_the_last_call_of_an_outcome(app_desk: Desk) -> None:
    await rule(app_desk, "default", None, "busy", 2, [60, 300, 900])
    assert await waits(app_desk, await app_desk.insert(), "busy") == [60, 300]


@pytest.mark.parametrize(
    ("of_row", "legacy", "rules", "expected"),
    [
        ({}, {"default": (20, 2)}, {}, [1200, 1200]),  # As it was without rules.
        ({}, {"default": (20, 2)}, {"default": (1, [60])}, [60]),
        ({}, {"user": (20, 2)}, {"default": (1, [60])}, [1200, 1200]),  # A user's own word is nearer.
        ({}, {"user": (20, 2)}, {"user": (1, [60])}, [60]),
        ({}, {"campaign": (20, 2)}, {"user": (1, [60])}, [1200, 1200]),
        ({}, {"campaign": (20, 2)}, {"campaign": (1, [60]), "user": (4, [7])}, [60]),
        ({}, {}, {"default": (4, [9]), "user": (3, None)}, [9, 9, 9]),  # Each part by the nearest that says it.
        ({}, {}, {"default": (4, [9]), "user": (3, None), "campaign": (None, [1, 2])}, [1, 2, 2]),
        ({}, {"default": (20, 2)}, {"campaign": (0, None)}, []),
        ({"max_attempts": 3}, {}, {"campaign": (9, [60])}, [60, 60]),
        ({"max_attempts": 3, "retry_seconds": 5}, {}, {"campaign": (0, [60], 100)}, [5, 5]),
        ({"retry_seconds": 5}, {}, {"campaign": (1, [60], 100)}, [5]),
    ],
)
async def test_the_nearest_word_counts(
    app_desk: Desk,
    of_row: dict[str, Any],
    legacy: dict[str, tuple[int, int]],
    rules: dict[str, tuple[Any, ...]],
    expected: list[float],
) -> None:
    desk, db = app_desk, app_desk.connection
    columns: dict[str, Any] = {}
    if "campaign" in legacy:
        minutes, more = legacy["campaign"]
        columns = {"retry_enabled": True, "retry_interval_minutes": minutes, "max_retry_attempts": more}
    made = await campaign(db, **columns)
    for scope, of in (("user", USER), ("default", ALL)):
        if scope in legacy:
            await default(db, of, True, *legacy[scope])
    ids = {"campaign": made, "user": USER, "default": None}
    for scope, said in rules.items():
        await rule(desk, scope, ids[scope], "busy", *said)
    await rule(desk, "user", OTHER, "busy", 9, [1])
    assert await waits(desk, await desk.insert(campaign_id=made, **of_row), "busy") == expected


async def test_who_changes_it_in_the_row_says_it_for_the_row(app_desk: Desk) -> None:
    await rule(app_desk, "default", None, "busy", 9, [60])
    row = await app_desk.insert()
    await app_desk.connection.execute("update call_queue set max_attempts = 2 where id = $1", row)
    assert await waits(app_desk, row, "busy") == [60]


@pytest.mark.parametrize("word", ["answered", "ai_failed", "invalid_number"])
async def test_who_was_reached_or_cannot_be_is_never_called_again(app_desk: Desk, word: str) -> None:
    """Neither by a rule, which is refused, nor by what the owner writes into call_outcomes."""
    desk, db = app_desk, app_desk.connection
    with pytest.raises(asyncpg.PostgresError, match=f"nothing ever follows after {word}"):
        async with db.transaction():
            await rule(desk, "default", None, word, 1)
    with pytest.raises(asyncpg.CheckViolationError):
        async with db.transaction():
            await db.execute("insert into call_retry_rules (scope, outcome, calls) values ('default', $1, 1)", word)
    await db.execute("update call_outcomes set retried = 'policy' where outcome = $1", word)
    row = await desk.insert(max_attempts=5)
    assert (await end(desk, row, word))[0] == "done"


async def test_declined_and_unknown_only_by_a_rule(app_desk: Desk) -> None:
    desk = app_desk
    assert await waits(desk, await desk.insert(number(1), max_attempts=5), "declined") == []
    assert await waits(desk, await desk.insert(number(2), max_attempts=5), "unknown") == []
    await rule(desk, "default", None, "declined", 1, [86400])
    await rule(desk, "default", None, "unknown", 2, [3600, 7200])
    assert await waits(desk, await desk.insert(number(3)), "declined") == [86400]
    assert await waits(desk, await desk.insert(number(4)), "unknown") == [3600, 7200]
    assert await waits(desk, await desk.insert(number(5), max_attempts=3), "declined") == [86400, 86400]
    # Nobody saw the end of it: never within the hour, whatever the row says.
    assert await waits(desk, await desk.insert(number(6), max_attempts=2, retry_seconds=5), "unknown") == [3600]


async def test_a_retry_after_unknown_is_taken_back_with_its_count(app_desk: Desk) -> None:
    desk = app_desk
    await rule(desk, "default", None, "unknown", 1, [3600])
    row = await desk.insert()
    call = await desk.claim_one()
    await desk.sync([outcome(call["call_id"], "unknown")])
    assert (await desk.row(row))["spent"] == {"unknown": 1}
    await desk.sync([outcome(call["call_id"], "busy")])
    found = await desk.row(row)
    assert (found["status"], found["attempts"], found["spent"]) == ("done", 1, {"unknown": 0, "busy": 1})


async def test_faults_have_bounds_of_their_own_and_spend_nothing(app_desk: Desk) -> None:
    desk = app_desk
    assert await waits(desk, await desk.insert(number(1)), "rejected") == [60, 60]  # As call_outcomes says.
    await rule(desk, "default", None, "rejected", 4, [10, 20])
    row = await desk.insert(number(2))
    assert await waits(desk, row, "rejected") == [10, 20, 20, 20]
    assert (await desk.row(row))["attempts"] == 0


async def test_all_faults_of_the_carrier_and_all_of_ours_have_a_budget(app_desk: Desk) -> None:
    desk, db = app_desk, app_desk.connection
    await rule(desk, "default", None, "carrier", 3)
    row = await desk.insert()
    said = [
        (await end(desk, row, word))[0] for word in ("rejected", "pbx_error", "congestion", "pbx_error", "rejected")
    ]
    assert said == ["queued"] * 5
    assert (await end(desk, row, "congestion"))[0] == "done"
    await rule(desk, "user", USER, "us", 0)
    assert (await end(desk, await desk.insert(number(2)), "pbx_error"))[0] == "done"
    await db.execute("update call_outcomes set bound = 100 where outcome = 'rejected'")
    assert len(await waits(desk, await desk.insert(number(3)), "rejected")) == 3


async def test_the_retries_of_a_campaign_do_not_come_back_at_once(desk: Desk) -> None:
    await rule(desk, "default", None, "busy", 1, [600], 50)
    await desk.fill(50)
    calls = [row["call_id"] for row in await desk.claim(50)]
    await desk.sync([outcome(call, "busy") for call in calls])
    found = [
        row[0] for row in await desk.connection.fetch(
            "select extract(epoch from not_before - updated_at)::integer from call_queue where status = 'queued'"
        )
    ]  # fmt: skip
    assert len(found) == 50
    assert all(600 <= wait < 900 for wait in found)
    assert len(set(found)) > 30
    assert max(found) - min(found) > 200


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    call=st.uuids(), times=st.integers(1, 30), delays=st.lists(st.integers(0, 2592000), min_size=1, max_size=20),
    spread=st.integers(0, 100), calls=st.integers(0, 99), word=st.sampled_from(["busy", "declined", "congestion"]),
)  # fmt: skip
async def test_delays_keep_their_bounds_and_the_model_agrees(  # noqa: PLR0917 - drawn
    desk: Desk, call: uuid.UUID, times: int, delays: list[int], spread: int, calls: int, word: str
) -> None:
    connection = desk.connection
    await connection.execute("delete from call_retry_rules")
    await rule(desk, "user", USER, word, calls, delays, spread)
    kind = "faults" if word == "congestion" else "spent"
    ask = (
        "select n.why, n.seconds, n.person from jsonb_populate_record(null::call_queue, $1) r, call_retry_next(r, $2) n"
    )
    values: dict[str, Any] = {
        "user_id": USER, "call_id": str(call), "attempts": times, kind: {word: times}, "max_attempts": 1,
        "retry_seconds": 1800, "attempts_from": "nothing", "wait_from": "nothing",
    }  # fmt: skip
    found = await connection.fetchrow(ask, values, word)
    assert found is not None
    assert dict(found) == dict(await connection.fetchrow(ask, values, word) or {})  # A repeated record says the same.
    if times > calls:
        assert (found["seconds"], found["why"] is None) == (None, False)
    else:
        wait = delays[min(times, len(delays)) - 1]
        assert wait <= found["seconds"] <= wait + wait * spread / 100
    model = Row(
        id=1, phone_number="", created_at=0.0, updated_at=0.0, not_before=0.0, expires_at=0.0, **values
    )  # fmt: skip
    tables = Tables(lambda _row, _now: "")
    tables.retries["user", USER, word] = RetryRule(calls, tuple(delays), spread)
    ours = store_retries.following(tables, model, word)
    assert (ours.seconds, ours.person) == (found["seconds"], found["person"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("all", None, "busy", 1), 'a rule is for default, user or campaign, not for "all"'),
        ((None, None, "busy", 1), "not for nothing"),
        (("default", USER, "busy", 1), "takes none"),
        (("user", None, "busy", 1), "needs its id"),
        (("default", None, "bored", 1), '"bored" is no outcome: take one of ai_failed, answered, blocked, busy'),
        (("default", None, None, 1), "nothing is no outcome"),
        (("default", None, "canceled", 1), "it was canceled"),
        (("default", None, "busy", 100), "calls that may follow are 0 to 99"),
        (("default", None, "busy", -1), "calls that may follow are 0 to 99"),
        (("default", None, "busy", 1, []), "waits are 1 to 20 numbers of seconds"),
        (("default", None, "busy", 1, [1] * 21), "waits are 1 to 20 numbers of seconds"),
        (("default", None, "busy", 1, [60, None]), "each wait is 0 to 2592000 seconds"),
        (("default", None, "busy", 1, [60, 2592001]), "each wait is 0 to 2592000 seconds"),
        (("default", None, "unknown", 1, [3600, 60]), "an hour"),
        (("default", None, "busy", 1, [60], 101), "the spread is 0 to 100 percent"),
        (("default", None, "us", 1, [60]), "us is a budget of calls"),
    ],
)
async def test_nonsense_is_refused_with_the_reason(desk: Desk, arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(asyncpg.PostgresError, match=words) as error:
        async with desk.connection.transaction():
            await rule(desk, *arguments)
    assert error.value.sqlstate == "PT400"
    assert await desk.connection.fetchval("select count(*) from call_retry_rules") == 0


async def test_the_table_that_holds_and_who_says_so(app_desk: Desk) -> None:
    desk, db = app_desk, app_desk.connection
    made = await campaign(db, retry_enabled=True, retry_interval_minutes=10, max_retry_attempts=2)
    await rule(desk, "default", None, "busy", 5, [60, 300], 20)
    await rule(desk, "user", USER, "declined", 1, [86400])
    await rule(desk, "default", None, "carrier", 7)
    await rule(desk, "campaign", made, "carrier", 4)
    found = await db.fetchval("select call_retry_v1(null, $1)", made)
    of = {one["outcome"]: one for one in found["outcomes"]}
    assert found["user_id"] == USER
    assert set(of) == {row[0] for row in await db.fetch("select outcome from call_outcomes")}
    told = ("again", "calls", "counted", "calls_from", "delays", "spread")
    # The campaign's own fields are nearer than the rule for all.
    assert [of["busy"][key] for key in told] == [True, 2, "tries", "campaign", [600], 0]
    assert [of["declined"][key] for key in told] == [True, 1, "outcome", "user", [86400], 0]
    assert [of["rejected"][key] for key in told] == [True, 2, "outcome", "call_outcomes", [60], 0]
    assert (of["answered"]["again"], of["answered"]["never"]) == (False, "the person was reached")
    assert found["budgets"] == [{"outcome": "carrier", "calls": 4, "calls_from": "campaign"}]
    everybody = await db.fetchval("select call_retry_v1()")
    assert next(one for one in everybody["outcomes"] if one["outcome"] == "busy")["delays"] == [60, 300]
    await rule(desk, "default", None, "busy")
    assert await db.fetchval("select count(*) from call_retry_rules where outcome = 'busy'") == 0
