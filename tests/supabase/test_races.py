"""Many sessions at once on a real PostgreSQL: no limit is exceeded, no row claimed twice, no deadlock escapes."""

import asyncio
import random
from collections import Counter

import asyncpg

from tests.supabase.helpers import OTHER, USER, Desk, answered, connected, outcome

CLAIMERS = 16
ROWS = 2000
LIMIT = 10


async def test_sixteen_claimers_never_exceed_a_limit_or_claim_a_row_twice(desk: Desk, db: str) -> None:
    for user in range(4):
        await desk.fill(ROWS // 4, user=f"00000000-0000-4000-8000-{user:012d}", start=user * 10_000)
    most: Counter[str] = Counter()
    claimed: Counter[int] = Counter()

    async def claimer(place: int) -> None:
        async with connected(db) as connection, connected(db) as watcher:
            me = Desk(connection, pbx=f"pbx-{place % 4}")
            await me.register()
            idle = 0
            while idle < 3:
                reply = await me.sync(room=7, limits={"pbx": LIMIT, "user": LIMIT})
                assert reply["notes"] == []
                rows = reply["rows"]
                idle = 0 if rows or not reply["holder"] else idle + 1
                if not reply["holder"]:
                    return
                claimed.update(row["row_id"] for row in rows)
                for name in ("pbx", "user_id"):
                    counts = await watcher.fetch(
                        f"select {name}::text, count(*) from call_queue "  # noqa: S608 - names of ours
                        "where status in ('dialing', 'talking') and outcome is null group by 1"
                    )
                    most[name] = max(most[name], *(row[1] for row in counts), 0)
                # Half of them sometimes stay in the air for a while, so that the limit is really reached.
                await asyncio.sleep(0)
                ended = [outcome(row["call_id"], "busy") for row in rows]
                random.shuffle(ended)
                done = await me.sync(ended)
                assert len(done["recorded"]) == len(rows)

    await asyncio.gather(*(claimer(place) for place in range(CLAIMERS)))
    assert max(claimed.values()) == 1
    assert most["pbx"] <= LIMIT
    assert most["user_id"] <= LIMIT


async def test_sixteen_sessions_claiming_for_one_adapter_keep_its_limit(desk: Desk, db: str) -> None:
    await desk.fill(ROWS)
    await desk.sync()

    async def claimer() -> list[int]:
        async with connected(db) as connection:
            me = Desk(connection, desk.adapter, desk.incarnation)
            got: list[int] = []
            for _ in range(20):
                got += [row["row_id"] for row in await me.claim(5, limits={"pbx": LIMIT})]
            return got

    claimed = [row for rows in await asyncio.gather(*(claimer() for _ in range(CLAIMERS))) for row in rows]
    assert len(claimed) == len(set(claimed)) == LIMIT


async def test_every_row_is_claimed_though_rows_keep_coming(desk: Desk, db: str) -> None:
    """A lane must not be taken for empty while a session that has not committed yet adds rows to it."""
    total = 300
    finished = asyncio.Event()

    async def inserter(place: int) -> None:
        async with connected(db) as connection:
            for serial in range(total // 3):
                async with connection.transaction():
                    await connection.execute(
                        "insert into call_queue (user_id, phone_number) values ($1, '+6011' || $2::int)",
                        USER,
                        10_000_000 + place * 1000 + serial,
                    )
                    await asyncio.sleep(random.random() * 0.004)

    async def claimer() -> set[int]:
        await desk.connection.execute("update call_settings set repaired_at = 'infinity'")
        got: set[int] = set()
        while True:
            last = finished.is_set()
            rows = await desk.claim(50)
            got |= {row["row_id"] for row in rows}
            await desk.sync([outcome(row["call_id"], "busy") for row in rows])
            if last and not rows:
                return got
            await asyncio.sleep(0.001)

    claiming = asyncio.create_task(claimer())
    await asyncio.gather(*(inserter(place) for place in range(3)))
    finished.set()
    assert len(await claiming) == total


async def test_nothing_deadlocks_whoever_writes_what_in_which_order(desk: Desk, db: str) -> None:
    """Sync, inserts, cancels, edits of many rows at once, and the AI handler, all on the same rows."""
    await desk.fill(200)
    await desk.fill(200, user=OTHER, start=1000)
    stop = asyncio.Event()
    calls: dict[str, int] = {}
    theirs: list[str] = []

    async def adapter(pbx: str) -> int:
        done = 0
        async with connected(db) as connection:
            me = Desk(connection, pbx=pbx)
            await me.register()
            waiting: list[str] = []
            while not stop.is_set():
                records = [answered(call) for call in waiting[:10]]
                records += [outcome(call, random.choice(["busy", "answered", "congestion"])) for call in waiting[:20]]
                reply = await me.sync(records, room=10)
                assert reply["refused"] == []
                kept = {
                    records[seq - 1]["call_id"] for seq in reply["recorded"] if records[seq - 1]["kind"] == "outcome"
                }
                done += len(kept)
                waiting = [call for call in waiting if call not in kept] + [row["call_id"] for row in reply["rows"]]
                calls.update((row["call_id"], row["row_id"]) for row in reply["rows"])
                random.shuffle(waiting)
                await connection.execute(
                    "update call_queue set settle_at = now() where settle_at is not null and id % 7 = 0"
                )
        return done

    async def inserter(place: int) -> None:
        async with connected(db) as connection:
            serial = 0
            while not stop.is_set():
                serial += 10
                await connection.execute(
                    "insert into call_queue (user_id, phone_number, idempotency_key) select $1::uuid, "
                    "'+6011' || (10000000 + $2 + i), 'k' || ((i * 7919) % 50) from generate_series(1, 10) i",
                    random.choice([USER, OTHER]),
                    place * 100_000 + serial,
                )

    async def canceler() -> None:
        async with connected(db) as connection:
            while not stop.is_set():
                if calls:
                    await connection.fetchval("select call_cancel_v1($1)", random.choice(list(calls.values())))
                await asyncio.sleep(0.001)

    async def careless(table: str) -> None:
        """Locks many rows in random order, holds them, and never has a deadlock with us on its account."""
        async with connected(db) as connection:
            while not stop.is_set():
                try:
                    async with connection.transaction():
                        for _ in range(4):
                            await connection.execute(
                                f"update {table} set updated_at = now() where id = "  # noqa: S608 - names of ours
                                f"(select id from {table} order by random() limit 1)"
                            )
                            await asyncio.sleep(0.002)
                except asyncpg.DeadlockDetectedError as error:
                    theirs.append(str(error.detail))

    tasks = [
        asyncio.create_task(work)
        for work in (
            adapter("pbx-1"), adapter("pbx-2"), adapter("pbx-3"), inserter(1), inserter(2), canceler(),
            careless("call_queue"), careless("call_logs"),
        )
    ]  # fmt: skip
    await asyncio.sleep(3)
    stop.set()
    results = await asyncio.gather(*tasks)
    assert sum(count or 0 for count in results[:3]) > 20
    assert theirs == []
