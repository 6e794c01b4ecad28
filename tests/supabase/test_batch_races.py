"""Batch requests that arrive at the same instant, and large ones: nobody is queued twice, nothing is half there, and no
work of the database grows with the queue."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from adapter.sandbox.postgres import Postgres
from tests.supabase.batches import Customer, ask, counts, results, rows
from tests.supabase.helpers import Connection, Desk, connected, number, outcome

MANY = 10_000
WIDE = {"numbers_per_request": MANY, "requests_per_hour": 1000, "numbers_per_hour": 10 * MANY}


async def prepared(connection: Connection) -> Customer:
    """A user with minutes for everything."""
    customer = await Customer(connection=connection).join(minutes=1_000_000)
    await customer.setting("pro_max_concurrent_calls", str(MANY))
    return customer


async def waiting(connection: Connection, most: float = 10) -> None:
    """Until another session waits for a lock."""
    async with asyncio.timeout(most):
        while not await connection.fetchval("select count(*) from pg_locks where not granted"):
            await asyncio.sleep(0.01)


# 1. At the same instant


@pytest.mark.parametrize("source", ["page", "retry"])
async def test_of_two_requests_at_once_the_second_sees_the_first(app_db: str, source: str) -> None:
    async with connected(app_db) as first, connected(app_db) as second, connected(app_db) as watcher:
        customer = await prepared(watcher)
        campaigns = [await customer.campaign(name) for name in ("First", "Second")]
        items = [number(1), number(2)]
        asked = [customer.request(items, source=source, campaign_id=campaign) for campaign in campaigns]
        transaction = first.transaction()
        await transaction.start()
        one = await ask(first, asked[0])
        other = asyncio.create_task(ask(second, {**asked[1], "items": items[::-1]}))
        await waiting(watcher)
        assert not other.done()
        await transaction.commit()
        two = await other
        assert results(one) == ["queued", "queued"]
        assert results(two) == ["returned", "returned"]
        assert rows(two) == rows(one)[::-1]
        assert (two["campaign_id"], two["repeated"]) == (campaigns[0], source == "page")
        assert await watcher.fetchval("select count(*) from call_queue where status = 'queued'") == 2
        assert await watcher.fetchval("select status from campaigns where campaign_name = 'Second'") == "completed"


async def test_if_the_first_of_two_comes_to_nothing_the_second_is_worked_on(app_db: str) -> None:
    async with connected(app_db) as first, connected(app_db) as second, connected(app_db) as watcher:
        customer = await prepared(watcher)
        request = customer.request(campaign_name="Morning")
        transaction = first.transaction()
        await transaction.start()
        assert results(await ask(first, request)) == ["queued"]
        other = asyncio.create_task(ask(second, request))
        await waiting(watcher)
        await transaction.rollback()
        two = await other
        assert (results(two), two["repeated"]) == (["queued"], False)
        assert (await customer.count(), await customer.count("campaigns")) == (1, 1)


@pytest.mark.parametrize("source", ["page", "retry"])
async def test_eight_at_once_queue_each_number_once(app_db: str, source: str) -> None:
    async with connected(app_db) as watcher:
        customer = await prepared(watcher)

        async def send(start: int) -> dict[str, Any]:
            async with connected(app_db) as connection:
                items = [number(i) for i in range(start, start + 50)]
                random.shuffle(items)
                return await ask(
                    connection, customer.request(items, source=source, campaign_name="Morning", limits=WIDE)
                )

        # Four of them the same, the others overlapping.
        replies = await asyncio.gather(*(send(start) for start in (0, 0, 0, 0, 10, 20, 30, 40)))
        assert all(reply["ok"] for reply in replies)
        assert len({reply["campaign_id"] for reply in replies}) == 1
        assert await customer.count() == 90
        assert await watcher.fetchval("select count(distinct e164) from call_queue") == 90
        assert await watcher.fetchval("select total_numbers from campaigns") == 90
        assert sum(reply["counts"]["queued"] for reply in replies if not reply["repeated"]) == 90


async def test_users_do_not_wait_for_each_other(app_db: str) -> None:
    async with connected(app_db) as first, connected(app_db) as second:
        one, other = await prepared(first), await prepared(second)
        async with first.transaction():
            assert (await one.ask(campaign_name="Morning"))["ok"]
            async with asyncio.timeout(10):
                assert (await other.ask(campaign_name="Morning"))["ok"]


async def test_a_request_that_waits_too_long_is_told_so_and_adds_nothing(app_db: str, pg_server: Postgres) -> None:
    async with connected(pg_server.admin_dsn(app_db.rsplit("/", 1)[1])) as admin:
        await admin.execute("alter function call_batch_v1(jsonb) set lock_timeout = '100ms'")
    async with connected(app_db) as first, connected(app_db) as second, connected(app_db) as watcher:
        customer = await prepared(watcher)
        async with first.transaction():
            await ask(first, customer.request())
            busy = await ask(second, customer.request([number(2)], campaign_name="Morning"))
            assert (busy["code"], busy["http_status"], busy["user_id"]) == ("busy", 503, customer.user)
        # The same of a campaign that somebody holds.
        campaign = await customer.campaign()
        async with first.transaction():
            await first.execute("delete from campaigns where id = $1", campaign)
            busy = await ask(second, customer.request([number(3)], campaign_id=campaign))
            assert busy["code"] == "busy"
        assert (await customer.count(), await customer.count("campaigns")) == (1, 0)


async def test_a_campaign_deleted_meanwhile_gets_no_rows(app_db: str) -> None:
    async with connected(app_db) as first, connected(app_db) as second, connected(app_db) as watcher:
        customer = await prepared(watcher)
        campaign = await customer.campaign()
        transaction = first.transaction()
        await transaction.start()
        await first.execute("delete from campaigns where id = $1", campaign)
        request = asyncio.create_task(ask(second, customer.request(campaign_id=campaign)))
        await waiting(watcher)
        await transaction.commit()
        assert (await request)["code"] == "campaign_unknown"
        assert await customer.count() == 0


async def test_deleting_a_campaign_waits_for_the_request_that_fills_it(app_db: str) -> None:
    """So that whoever cancels the rows of a deleted campaign sees all of them."""
    async with connected(app_db) as first, connected(app_db) as second, connected(app_db) as watcher:
        customer = await prepared(watcher)
        campaign = await customer.campaign()
        transaction = first.transaction()
        await transaction.start()
        await ask(first, customer.request(campaign_id=campaign))
        # Pausing and counting it does not wait.
        await second.execute("update campaigns set status = 'paused', failed_calls = 1 where id = $1", campaign)
        delete = asyncio.create_task(second.execute("delete from campaigns where id = $1", campaign))
        await waiting(watcher)
        await transaction.commit()
        await delete
        assert await customer.count() == 1


async def test_requests_claims_and_outcomes_at_once_disturb_nobody(app_db: str) -> None:
    """No deadlock, no error, each number once in the air; PostgREST would run a failed transaction again for ever."""
    async with connected(app_db) as watcher:
        customers = [await prepared(watcher) for _ in range(2)]
        busy = True
        calls: Counter[int] = Counter()

        async def send(place: int) -> None:
            dice = random.Random(place)
            async with connected(app_db) as connection:
                for _ in range(12):
                    customer = dice.choice(customers)
                    items = [number(dice.randrange(60)) for _ in range(20)]
                    reply = await ask(connection, customer.request(
                        items, source=dice.choice(["page", "retry"]), campaign_name=dice.choice(["A", "B"]), limits=WIDE
                    ))  # fmt: skip
                    assert reply["ok"], reply

        async def dial() -> None:
            async with connected(app_db) as connection:
                desk = Desk(connection)
                await desk.register()
                claimed: list[dict[str, Any]] = []
                while busy or claimed:
                    claimed = await desk.claim(10)
                    calls.update(row["row_id"] for row in claimed)
                    reply = await desk.sync([outcome(row["call_id"], "busy") for row in claimed])
                    assert reply["refused"] == []
                    await asyncio.sleep(0)

        dialing = asyncio.create_task(dial())
        await asyncio.gather(*(send(place) for place in range(6)))
        busy = False
        await dialing
        assert calls
        assert max(calls.values()) == 1
        totals = await watcher.fetch(
            "select c.total_numbers, count(q.id) from campaigns c "
            "left join call_queue q on q.campaign_id = c.id group by c.id"
        )
        assert all(row[0] == row[1] for row in totals)


# 2. Large ones


async def scans(connection: Connection) -> Counter[str]:
    """How often each table was looked into by this transaction."""
    found = await connection.fetch(
        "select relname::text as name, seq_scan + coalesce(idx_scan, 0) as scans from pg_stat_xact_user_tables "
        "where schemaname = 'public'"
    )
    return Counter({row["name"]: row["scans"] for row in found})


async def spent(connection: Connection, work: Callable[[], Awaitable[Any]]) -> Counter[str]:
    """The same by `work` alone, in a transaction that is kept."""
    async with connection.transaction():
        before = await scans(connection)
        await work()
        return await scans(connection) - before


async def test_ten_thousand_numbers_are_one_request(app_db: str) -> None:
    async with connected(app_db) as connection:
        customer = await prepared(connection)
        await connection.execute(
            "insert into contacts (user_id, name, phone_number) "
            "select $1::uuid, 'Contact ' || i, '01' || (100000000 + 2 * i) from generate_series(1, 3000) i",
            customer.user,
        )
        few = [f"01{200_000_000 + i}" for i in range(10)]
        many = [f"01{100_000_000 + i}" for i in range(MANY)]
        replies: list[dict[str, Any]] = []

        async def send(items: list[str]) -> None:
            replies.append(await customer.ask(items, limits=WIDE, campaign_name=f"{len(items)} numbers"))

        small = await spent(connection, lambda: send(few))
        large = await spent(connection, lambda: send(many))
        assert replies[1]["counts"] == counts(queued=MANY)
        found = await connection.fetchrow(
            "select count(*), count(distinct e164), count(distinct campaign_id), count(contact_id), "
            "count(*) filter (where status = 'queued') from call_queue where phone_number < '012'"
        )
        assert tuple(found or ()) == (MANY, MANY, 1, 3000, MANY)
        # As many statements on each table as for ten numbers. A number costs one look for its open row, and what every
        # insert costs anyway: its region, three times for each of the two readings, and its calling hours.
        most = {
            "call_queue": 2 * MANY, "call_regions": 10 * MANY, "call_settings": 3 * MANY,
            "call_hours": 3 * MANY, "call_campaign_dates": 2 * MANY, "call_user_zones": MANY, "call_zones": 2 * MANY,
        }  # fmt: skip
        for table, work in (large - small).items():
            assert work <= most.get(table, 0), table
        # One doorbell, one arrival.
        assert await connection.fetchval("select count(*) from call_arrivals") == 2

        again = await spent(connection, lambda: send(many[::-1]))
        assert (replies[2]["repeated"], replies[2]["counts"]) == (True, counts(returned=MANY))
        assert rows(replies[2]) == rows(replies[1])[::-1]
        assert again["call_queue"] <= 10
        assert await customer.count() == MANY + len(few)

        # All of them can be dialed.
        desk = Desk(connection)
        await desk.register()
        assert len(await desk.claim(50)) == 50


async def test_ten_thousand_that_are_no_numbers_are_refused_each(app_db: str) -> None:
    async with connected(app_db) as connection:
        customer = await prepared(connection)
        refused = await customer.ask([f"{i} x" for i in range(MANY)], limits=WIDE, campaign_name="Morning")
        assert (refused["code"], refused["counts"]) == ("nothing_queued", counts(refused=MANY))
        assert (await customer.count(), await customer.count("call_logs")) == (MANY, MANY)
        assert await customer.count("campaigns") == 0


async def test_a_request_cut_off_in_the_middle_leaves_nothing(app_db: str) -> None:
    async with connected(app_db) as connection, connected(app_db) as watcher:
        customer = await prepared(watcher)
        campaign = await customer.campaign()
        request = customer.request([f"01{100_000_000 + i}" for i in range(MANY)], limits=WIDE, campaign_name="Morning")

        async def nothing() -> None:
            assert await watcher.fetchval("select status from campaigns where id = $1", campaign) == "in_progress"
            for table in ("call_queue", "call_logs", "call_batches"):
                assert await customer.count(table) == 0
            assert await customer.count("campaigns") == 1

        for milliseconds in (100, 400, 700):
            await connection.execute(f"set statement_timeout = {milliseconds}")
            with pytest.raises(asyncpg.QueryCanceledError):
                await ask(connection, request)
            await nothing()
        await connection.execute("reset statement_timeout")
        # The connection dies while it works.
        pid = await connection.fetchval("select pg_backend_pid()")
        dying = asyncio.create_task(ask(connection, request))
        async with asyncio.timeout(10):
            while not await watcher.fetchval(
                "select count(*) from pg_locks where pid = $1 and locktype = 'advisory'", pid
            ):
                await asyncio.sleep(0.01)
        await watcher.execute("select pg_terminate_backend($1)", pid)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError)):
            await dying
        await nothing()
        assert (await ask(watcher, request))["counts"] == counts(queued=MANY)


@pytest.mark.parametrize("statistics", ["fresh", "stale", "plans made while it was empty"])
async def test_a_request_costs_the_same_on_a_full_queue(app_db: str, pg_server: Postgres, statistics: str) -> None:
    async with connected(app_db) as connection:
        customer = await prepared(connection)
        await connection.execute("alter table call_queue set (autovacuum_enabled = off)")
        await connection.execute("vacuum analyze call_queue")
        if statistics == "plans made while it was empty":
            for serial in range(7):  # PostgreSQL settles for a general plan after five.
                await customer.ask([f"01{300_000_000 + serial}"], limits=WIDE)
        async with connected(pg_server.admin_dsn(app_db.rsplit("/", 1)[1])) as admin:
            # Without triggers, as reading numbers is not what is measured. All of it this user's.
            await admin.execute("set session_replication_role = replica")
            await admin.execute(
                "insert into call_queue "
                "(user_id, prompt_id, phone_number, e164, country, expires_at, max_attempts, retry_seconds) "
                "select $1::uuid, $2::uuid, n, n, 'MY', now() + interval '1 day', 1, 1800 from "
                "(select '+601' || (100000000 + i) as n from generate_series(0, $3) i) g",
                customer.user, customer.prompt, 100_000,
            )  # fmt: skip
        if statistics == "fresh":
            await connection.execute("analyze")
        async with connection.transaction():
            before = await connection.fetchrow(LOOKED)
            reply = await customer.ask(
                [f"01{100_000_000 + i}" for i in range(500)] + [f"01{200_000_000 + i}" for i in range(500)],
                limits=WIDE, campaign_name="Morning",
            )  # fmt: skip
            after = await connection.fetchrow(LOOKED)
        assert reply["counts"] == counts(queued=500, returned=500)
        assert before is not None
        assert after is not None
        assert after["seq_scan"] == before["seq_scan"]
        assert after["idx_tup_fetch"] - before["idx_tup_fetch"] < 5000


LOOKED = (
    "select seq_scan, coalesce(idx_tup_fetch, 0) as idx_tup_fetch from pg_stat_xact_user_tables "
    "where relid = 'public.call_queue'::regclass"
)
