"""Minutes: who charges, how much, and never twice."""

import asyncio
import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from tests.supabase.helpers import RINGING_AT, USER, Desk, answered, connected, number, outcome

MINUTES = {"billing": "minutes", "billing_step": 1}
OFF = {"billing": "off", "billing_step": 1}
NOBODY_CHARGES = "the last 5 answered calls changed no balance"


async def user(
    desk: Desk, *, trial: str = "10", pro: str = "0", account: str | None = "trial", used: str = "0"
) -> None:
    """The owner of the rows, in the app's table."""
    await desk.connection.execute(
        "insert into users (id, username, account_type, trial_balance_minutes, pro_balance_minutes, "
        "total_minutes_used) values ($1, 'somebody', $2, $3, $4, $5)",
        uuid.UUID(USER),
        account,
        Decimal(trial),
        Decimal(pro),
        Decimal(used),
    )


async def balances(desk: Desk) -> tuple[str, str, str]:
    """Trial, pro, used."""
    row = await desk.connection.fetchrow(
        "select trial_balance_minutes, pro_balance_minutes, total_minutes_used from users where id = $1",
        uuid.UUID(USER),
    )
    assert row is not None
    return str(row[0]), str(row[1]), str(row[2])


async def charges(desk: Desk) -> list[asyncpg.Record]:
    """What was charged."""
    return await desk.connection.fetch("select * from call_charges order by created_at, call_id")


async def dialing(desk: Desk, serial: int = 0, **columns: Any) -> dict[str, Any]:
    """A row that was inserted and claimed."""
    await desk.insert(number(serial), **columns)
    return await desk.claim_one()


async def talked(desk: Desk, serial: int = 0, word: str = "answered", **fields: Any) -> str:
    """A whole call, settled. Returns its id."""
    call: str = (await dialing(desk, serial))["call_id"]
    await desk.sync([answered(call), outcome(call, word, **fields)])
    await desk.settle()
    return call


@pytest.fixture
def billing_desk(app_desk: Desk) -> Desk:
    """An adapter that charges."""
    app_desk.status = dict(MINUTES)
    return app_desk


async def test_an_answered_call_is_charged_once_and_by_talk(billing_desk: Desk) -> None:
    await user(billing_desk)
    call = await talked(billing_desk, talk_seconds=90)
    assert await balances(billing_desk) == ("8.50", "0.00", "1.50")
    (charge,) = await charges(billing_desk)
    assert (str(charge["call_id"]), charge["talk_seconds"], str(charge["minutes"])) == (call, 90, "1.50")
    assert (charge["account"], str(charge["taken"]), charge["problem"]) == ("trial", "1.50", None)
    assert charge["charged_at"] is not None
    assert (await billing_desk.the_log(call))["duration"] == 90


@pytest.mark.parametrize(
    ("step", "talk", "minutes"),
    [
        (1, 1, "0.02"),
        (1, 60, "1.00"),
        (6, 61, "1.10"),
        (60, 1, "1.00"),
        (60, 60, "1.00"),
        (60, 61, "2.00"),
        (30, 31, "1.00"),
    ],
)
async def test_each_started_step_is_charged_in_full(billing_desk: Desk, step: int, talk: int, minutes: str) -> None:
    await user(billing_desk)
    billing_desk.status["billing_step"] = step
    await talked(billing_desk, talk_seconds=talk)
    assert (await balances(billing_desk))[2] == minutes


@pytest.mark.parametrize(
    "word", ["no_answer", "busy", "declined", "no_reply", "invalid_number", "unknown", "blocked", "canceled"]
)
async def test_ringing_is_never_charged(billing_desk: Desk, word: str) -> None:
    await user(billing_desk)
    call = (await dialing(billing_desk))["call_id"]
    await billing_desk.sync([outcome(call, word, ringing_at=RINGING_AT)])
    await billing_desk.settle()
    assert await balances(billing_desk) == ("10.00", "0.00", "0.00")
    assert await charges(billing_desk) == []


async def test_what_our_side_dropped_is_not_charged_and_a_machine_is(billing_desk: Desk) -> None:
    await user(billing_desk)
    await talked(billing_desk, 1, "ai_failed", talk_seconds=2)
    assert await charges(billing_desk) == []
    call = (await dialing(billing_desk, 2))["call_id"]
    await billing_desk.sync([answered(call), outcome(call, "answered", talk_seconds=30)])
    await billing_desk.connection.execute("update call_logs set status = 'voicemail' where call_id = $1", call)
    await billing_desk.settle()
    assert (await billing_desk.row(await billing_desk.connection.fetchval("select max(id) from call_queue")))[
        "outcome"
    ] == "voicemail"
    assert (await balances(billing_desk))[2] == "0.50"


async def test_the_owner_says_which_outcomes_are_charged(billing_desk: Desk) -> None:
    await user(billing_desk)
    await billing_desk.connection.execute("update call_outcomes set charged = outcome = 'ai_failed'")
    await talked(billing_desk, 1)
    await talked(billing_desk, 2, "ai_failed", talk_seconds=3)
    assert (await balances(billing_desk))[2] == "0.05"


@pytest.mark.parametrize(
    ("account", "trial", "pro", "after"),
    [
        ("trial", "10", "5", ("9.00", "5.00", "1.00")),
        ("pro", "10", "5", ("10.00", "4.00", "1.00")),
        (None, "10", "5", ("9.00", "5.00", "1.00")),
        ("pro", "10", "0.40", ("10.00", "0.00", "1.00")),
        ("trial", "0", "5", ("0.00", "5.00", "1.00")),
        ("trial", "-2", "5", ("-2.00", "5.00", "1.00")),
    ],
)
async def test_the_balance_of_the_account_is_taken_and_never_below_zero(
    billing_desk: Desk, account: str | None, trial: str, pro: str, after: tuple[str, str, str]
) -> None:
    await user(billing_desk, account=account, trial=trial, pro=pro)
    await talked(billing_desk, talk_seconds=60)
    assert await balances(billing_desk) == after


async def test_a_balance_that_is_null_counts_as_none(billing_desk: Desk) -> None:
    await user(billing_desk)
    await billing_desk.connection.execute("update users set trial_balance_minutes = null, total_minutes_used = null")
    await talked(billing_desk, talk_seconds=60)
    assert await balances(billing_desk) == ("0.00", "0.00", "1.00")


async def test_told_twice_by_a_witness_and_after_unknown_it_is_one_charge(billing_desk: Desk) -> None:
    await user(billing_desk)
    call = (await dialing(billing_desk))["call_id"]
    record = outcome(call, "answered", talk_seconds=60)
    witness = Desk(billing_desk.connection, status=dict(MINUTES))
    await witness.register()
    await billing_desk.sync([answered(call), outcome(call, "unknown")])
    assert await charges(billing_desk) == []
    for teller in (witness, billing_desk, witness):
        await teller.sync([record, record])
        await teller.settle()
        await teller.sync([outcome(call, "unknown"), record])
    assert (await balances(billing_desk))[2] == "1.00"
    assert len(await charges(billing_desk)) == 1


async def test_evidence_about_an_earlier_call_is_charged_as_well(billing_desk: Desk) -> None:
    """The row was retried because of unknown, and is in its next call when a witness tells of the first."""
    await user(billing_desk)
    await billing_desk.connection.execute("update call_outcomes set retried = 'policy' where outcome = 'unknown'")
    first = await dialing(billing_desk, max_attempts=2, retry_seconds=0)
    await billing_desk.sync([outcome(first["call_id"], "unknown")])
    await billing_desk.due()
    second = await billing_desk.claim_one()
    assert second["row_id"] == first["row_id"]
    for _ in range(2):
        await billing_desk.sync([outcome(first["call_id"], "answered", talk_seconds=60)])
    await billing_desk.sync([answered(second["call_id"]), outcome(second["call_id"], "answered", talk_seconds=30)])
    await billing_desk.settle()
    assert (await balances(billing_desk))[2] == "1.50"
    assert len(await charges(billing_desk)) == 2


async def test_a_call_whose_queue_row_was_deleted_is_charged(billing_desk: Desk) -> None:
    await user(billing_desk)
    call = (await dialing(billing_desk))["call_id"]
    await billing_desk.connection.execute("delete from call_queue")
    for _ in range(2):
        await billing_desk.sync([outcome(call, "answered", talk_seconds=60)])
    assert (await balances(billing_desk))[2] == "1.00"


async def test_deleting_the_rows_of_a_charged_call_takes_nothing_back_and_charges_nothing_again(
    billing_desk: Desk,
) -> None:
    await user(billing_desk)
    call = await talked(billing_desk, talk_seconds=60)
    await billing_desk.connection.execute("delete from call_logs")
    await billing_desk.sync([outcome(call, "answered", talk_seconds=60)])
    await billing_desk.connection.execute("delete from call_queue")
    await billing_desk.sync([outcome(call, "answered", talk_seconds=60)])
    assert (await balances(billing_desk))[2] == "1.00"


@pytest.mark.parametrize(("at_claim", "at_end", "used"), [(MINUTES, OFF, "1.00"), (OFF, MINUTES, "0.00")])
async def test_who_charges_is_fixed_at_the_claim(
    app_desk: Desk, at_claim: dict[str, Any], at_end: dict[str, Any], used: str
) -> None:
    await user(app_desk)
    app_desk.status = at_claim
    call = (await dialing(app_desk))["call_id"]
    app_desk.status = at_end
    await app_desk.sync([answered(call), outcome(call, "answered", talk_seconds=60)])
    await app_desk.settle()
    assert (await balances(app_desk))[2] == used


async def test_without_the_setting_nothing_is_charged(app_desk: Desk) -> None:
    await user(app_desk)
    await talked(app_desk)
    assert await charges(app_desk) == []
    row = await app_desk.connection.fetchrow("select billing_step, minutes_before from call_queue")
    assert row is not None
    assert (row["billing_step"], row["minutes_before"]) == (None, None)


async def test_calls_of_nobody_are_noted_and_end_as_they_should(billing_desk: Desk) -> None:
    call = await talked(billing_desk)
    (charge,) = await charges(billing_desk)
    assert (charge["problem"], charge["taken"]) == ("there is no such user", 0)
    assert (await billing_desk.the_log(call))["status"] == "answered"


async def test_in_a_project_without_users_calls_end_as_they_should(desk: Desk) -> None:
    desk.status = dict(MINUTES)
    await talked(desk)
    (charge,) = await charges(desk)
    assert charge["problem"] == "there is no table users"
    desk.status = dict(OFF)
    for serial in range(1, 7):
        await talked(desk, serial)
    assert (await desk.sync())["notes"] == []


async def test_a_table_of_another_kind_harms_no_call_and_what_failed_comes_again(billing_desk: Desk) -> None:
    await user(billing_desk)
    await billing_desk.connection.execute("alter table users rename column total_minutes_used to minutes_used")
    await talked(billing_desk, talk_seconds=60)
    (charge,) = await charges(billing_desk)
    assert charge["charged_at"] is None
    assert "total_minutes_used" in charge["problem"]
    await billing_desk.connection.execute("update call_charges set try_at = now()")
    (note,) = (await billing_desk.sync())["notes"]
    assert "minutes cannot be charged" in note
    await billing_desk.connection.execute("alter table users rename column minutes_used to total_minutes_used")
    await billing_desk.connection.execute("update call_charges set try_at = now()")
    await billing_desk.sync()
    assert await balances(billing_desk) == ("9.00", "0.00", "1.00")


async def test_a_user_whose_row_is_held_is_not_waited_for_and_charged_afterwards(app_db: str) -> None:
    async with connected(app_db) as connection, connected(app_db) as other:
        me = Desk(connection, status=dict(MINUTES))
        await me.register()
        await user(me)
        call = (await dialing(me))["call_id"]
        transaction = other.transaction()
        await transaction.start()
        await other.execute("update users set email = 'a@example.com'")
        await me.sync([answered(call), outcome(call, "answered", talk_seconds=60)])
        await asyncio.wait_for(me.settle(), 5)
        (row,) = await connection.fetch("select status from call_queue")
        assert row["status"] == "done", "the outcome does not wait for the user's row"
        assert await balances(me) == ("10.00", "0.00", "0.00")
        await transaction.commit()
        await connection.execute("update call_charges set try_at = now()")
        assert (await me.sync())["notes"] == []
        assert await balances(me) == ("9.00", "0.00", "1.00")


async def test_many_calls_of_one_user_told_from_many_sessions_lose_no_deduction(app_db: str) -> None:
    """Beside an AI handler or a page that writes the same row by reading it first, in a transaction of its own."""
    async with connected(app_db) as connection:
        me = Desk(connection, status={**MINUTES, "limits": {"user": 1000, "pbx": 1000}})
        await me.register()
        await user(me, trial="1000")
        # The app's own limit of calls at once would be three.
        await connection.execute("delete from system_settings where setting_key = 'max_concurrent_calls'")
        await me.fill(60)
        calls = [row["call_id"] for row in await me.claim(60)]
        assert len(calls) == 60
        stop = asyncio.Event()

        async def tell() -> None:
            async with connected(app_db) as own:
                teller = Desk(own, status=dict(MINUTES))
                await teller.register()
                for call in calls:
                    waiting: Sequence[dict[str, Any]] = [answered(call), outcome(call, "answered", talk_seconds=60)]
                    while len((await teller.sync(waiting))["recorded"]) < len(waiting):
                        await asyncio.sleep(0.01)

        async def tops_up() -> int:
            times = 0
            async with connected(app_db) as own:
                while not stop.is_set():
                    async with own.transaction():
                        await own.execute("update users set trial_balance_minutes = trial_balance_minutes + 1")
                    times += 1
                    await asyncio.sleep(0.005)
            return times

        topping = asyncio.create_task(tops_up())
        await asyncio.gather(*(tell() for _ in range(4)))
        await connection.execute("update call_queue set settle_at = now() where settle_at is not null")
        while await connection.fetchval("select count(*) from call_queue where status <> 'done'"):
            await me.sync()
        stop.set()
        times = await topping
        while await connection.fetchval("select count(*) from call_charges where charged_at is null"):
            await connection.execute("update call_charges set try_at = now() where charged_at is null")
            await me.sync()
        assert await balances(me) == (f"{1000 + times - 60}.00", "0.00", "60.00")


async def test_with_off_five_answered_calls_that_changed_no_balance_are_told(app_desk: Desk) -> None:
    await user(app_desk)
    app_desk.status = dict(OFF)
    for serial in range(4):
        await talked(app_desk, serial)
    await talked(app_desk, 4, "ai_failed", talk_seconds=2)
    call = (await dialing(app_desk, 5))["call_id"]
    await app_desk.sync([outcome(call, "busy")])
    assert (await app_desk.sync())["notes"] == []
    await talked(app_desk, 6)
    (note,) = (await app_desk.sync())["notes"]
    assert NOBODY_CHARGES in note
    assert "BILLING=minutes" in note
    app_desk.status = dict(MINUTES)
    assert (await app_desk.sync())["notes"] == []
    app_desk.status = dict(OFF)
    # Then the handler charges again.
    call = (await dialing(app_desk, 7))["call_id"]
    await app_desk.sync([answered(call), outcome(call, "answered")])
    await app_desk.connection.execute("update users set total_minutes_used = total_minutes_used + 0.5")
    await app_desk.settle()
    assert (await app_desk.sync())["notes"] == []
    assert await balances(app_desk) == ("10.00", "0.00", "0.50"), "with off we change nothing"


@pytest.mark.parametrize(
    "column", ["trial_balance_minutes", "pro_balance_minutes", "total_minutes_used", "credits_balance"]
)
@pytest.mark.parametrize("moment", ["before the mark", "in the hold"])
async def test_a_handler_that_charges_anything_at_any_moment_is_seen(app_desk: Desk, column: str, moment: str) -> None:
    await user(app_desk)
    app_desk.status = dict(OFF)
    for serial in range(7):
        call = (await dialing(app_desk, serial))["call_id"]
        charge = f"update users set {column} = {column} + 1"  # noqa: S608 - names of ours
        if moment == "before the mark":
            await app_desk.connection.execute(charge)
        await app_desk.sync([answered(call), outcome(call, "answered")])
        if moment == "in the hold":
            await app_desk.connection.execute(charge)
        assert (await app_desk.settle())["notes"] == []


async def test_a_call_whose_metadata_was_replaced_and_whose_queue_row_was_deleted_is_not_charged_again(
    billing_desk: Desk,
) -> None:
    """Nothing is left that says how it ended, so its end is told anew to call_logs; only call_charges remembers."""
    await user(billing_desk)
    call = await talked(billing_desk, talk_seconds=60)
    await billing_desk.connection.execute("delete from call_queue")
    await billing_desk.connection.execute("update call_logs set metadata = '{}'")
    await billing_desk.sync([outcome(call, "answered", talk_seconds=60)])
    assert (await billing_desk.the_log(call))["metadata"]["outcome"] == "answered"
    assert (await balances(billing_desk))[2] == "1.00"
