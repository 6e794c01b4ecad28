"""Many sessions at once on a real PostgreSQL: no limit is exceeded, no row claimed twice, no deadlock escapes."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from tests.supabase.helpers import OTHER, USER, Desk, answered, connected, outcome

CLAIMERS = 16
ROWS = 2000
LIMIT = 10


async def test_sixteen_claimers_never_exceed_a_limit_or_claim_a_row_twice(lasting_desk: Desk, db: str) -> None:
    for user in range(4):
        await lasting_desk.fill(ROWS // 4, user=f"00000000-0000-4000-8000-{user:012d}", start=user * 10_000)
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


async def test_sixteen_sessions_claiming_for_one_adapter_keep_its_limit(lasting_desk: Desk, db: str) -> None:
    await lasting_desk.fill(ROWS)
    await lasting_desk.sync()

    async def claimer() -> list[int]:
        async with connected(db) as connection:
            me = Desk(connection, lasting_desk.adapter, lasting_desk.incarnation)
            got: list[int] = []
            for _ in range(20):
                got += [row["row_id"] for row in await me.claim(5, limits={"pbx": LIMIT})]
            return got

    claimed = [row for rows in await asyncio.gather(*(claimer() for _ in range(CLAIMERS))) for row in rows]
    assert len(claimed) == len(set(claimed)) == LIMIT


async def test_sixteen_sessions_never_overfill_a_trunk_and_take_the_next(lasting_desk: Desk, db: str) -> None:
    await lasting_desk.fill(ROWS)
    await lasting_desk.connection.execute(
        "insert into call_trunks (pbx, trunk, priority, max_channels) values ('pbx-1', 'A', 9, 6), ('pbx-1', 'B', 1, 9)"
    )
    told: dict[str, Any] = {
        "trunks": {name: {"room": 100, "foreign": 1, "problem": None} for name in ("A", "B")},
        "reserved": 2,
    }
    await lasting_desk.sync(**told)

    async def claimer() -> list[str]:
        async with connected(db) as connection:
            me = Desk(connection, lasting_desk.adapter, lasting_desk.incarnation)
            got: list[str] = []
            for _ in range(20):
                got += [row["trunk"]["id"] for row in await me.claim(5, **told)]
            return got

    taken = Counter(name for names in await asyncio.gather(*(claimer() for _ in range(CLAIMERS))) for name in names)
    assert taken == {"A": 6 - 1 - 2, "B": 9 - 1 - 2}


async def test_every_row_is_claimed_though_rows_keep_coming(lasting_desk: Desk, db: str) -> None:
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
        await lasting_desk.connection.execute("update call_settings set repaired_at = 'infinity'")
        got: set[int] = set()
        while True:
            last = finished.is_set()
            rows = await lasting_desk.claim(50)
            got |= {row["row_id"] for row in rows}
            await lasting_desk.sync([outcome(row["call_id"], "busy") for row in rows])
            if last and not rows:
                return got
            await asyncio.sleep(0.001)

    claiming = asyncio.create_task(claimer())
    await asyncio.gather(*(inserter(place) for place in range(3)))
    finished.set()
    assert len(await claiming) == total


@dataclass
class Storm:
    """Everybody who writes to the same rows, in their own sessions, until told to stop."""

    dsn: str
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    calls: dict[str, int] = field(default_factory=dict)
    recorded: int = 0
    deadlocks: list[str] = field(default_factory=list)

    async def adapter(self, pbx: str) -> None:
        """Claims, reports in random order, and lets some answered calls settle."""
        async with connected(self.dsn) as connection:
            me = Desk(connection, pbx=pbx)
            await me.register()
            waiting: list[str] = []
            while not self.stop.is_set():
                records = [answered(call) for call in waiting[:10]]
                records += [outcome(call, random.choice(["busy", "answered", "congestion"])) for call in waiting[:20]]
                reply = await me.sync(records, room=10)
                assert reply["refused"] == []
                done = [records[seq - 1] for seq in reply["recorded"]]
                kept = {record["call_id"] for record in done if record["kind"] == "outcome"}
                self.recorded += len(kept)
                waiting = [call for call in waiting if call not in kept] + [row["call_id"] for row in reply["rows"]]
                self.calls.update((row["call_id"], row["row_id"]) for row in reply["rows"])
                random.shuffle(waiting)
                await connection.execute(
                    "update call_queue set settle_at = now() where id in (select id from call_queue "
                    "where settle_at is not null and id % 7 = 0 for update skip locked)"
                )

    async def inserter(self, place: int) -> None:
        """Adds rows of both users, with keys that often are taken already."""
        async with connected(self.dsn) as connection:
            serial = 0
            while not self.stop.is_set():
                serial += 10
                await connection.execute(
                    "insert into call_queue (user_id, phone_number, idempotency_key) select $1::uuid, "
                    "'+6011' || (10000000 + $2 + i), 'k' || ((i * 7919) % 50) from generate_series(1, 10) i",
                    random.choice([USER, OTHER]),
                    place * 100_000 + serial,
                )

    async def canceler(self) -> None:
        """Cancels calls at random."""
        async with connected(self.dsn) as connection:
            while not self.stop.is_set():
                if self.calls:
                    await connection.fetchval("select call_cancel_v1($1)", random.choice(list(self.calls.values())))
                await asyncio.sleep(0.001)

    async def careless(self, table: str) -> None:
        """Locks several rows in random order and holds them: whoever waited for one of them would deadlock."""
        async with connected(self.dsn) as connection:
            while not self.stop.is_set():
                try:
                    async with connection.transaction():
                        for _ in range(4):
                            await connection.execute(
                                f"update {table} set updated_at = now() where id = "  # noqa: S608 - names of ours
                                f"(select id from {table} order by random() limit 1)"
                            )
                            await asyncio.sleep(0.002)
                except asyncpg.DeadlockDetectedError as error:
                    self.deadlocks.append(str(error.detail))


async def test_nothing_deadlocks_whoever_writes_what_in_which_order(lasting_desk: Desk, db: str) -> None:
    await lasting_desk.fill(200)
    await lasting_desk.fill(200, user=OTHER, start=1000)
    storm = Storm(db)
    actors = [*(storm.adapter(f"pbx-{place}") for place in range(3)), *(storm.inserter(place) for place in range(2))]
    actors += [storm.canceler(), storm.careless("call_queue"), storm.careless("call_logs")]
    tasks = [asyncio.create_task(actor) for actor in actors]
    await asyncio.wait(tasks, timeout=2.5, return_when=asyncio.FIRST_EXCEPTION)
    storm.stop.set()
    await asyncio.gather(*tasks)
    assert storm.recorded > 20
    assert storm.deadlocks == []
