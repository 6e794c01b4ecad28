"""Campaigns while everybody works on them at once: nobody waits for long, no deadlock, and the figures are right."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tests.supabase.helpers import Connection, Desk, answered, connected, number, outcome
from tests.supabase.test_campaigns import campaign, counted, shown

SECONDS = 4.0
WORDS = ("answered", "busy", "no_answer", "ai_failed", "congestion", "unknown", "declined")


class Crowd:
    """Adapters, the app and people, each on a connection of its own, until time is over."""

    def __init__(self, dsn: str, campaigns: Sequence[str]) -> None:
        self._dsn = dsn
        self._campaigns = campaigns
        self._over = False
        self.claimed = 0
        self.unknown: list[str] = []

    async def run(self, *works: Callable[[Connection, random.Random], Awaitable[None]]) -> None:
        """Each work again and again. An error of one is an error."""

        async def loop(serial: int, work: Callable[[Connection, random.Random], Awaitable[None]]) -> None:
            chance = random.Random(serial)
            async with connected(self._dsn) as connection:
                while not self._over:
                    await asyncio.wait_for(work(connection, chance), 10)
                    await asyncio.sleep(chance.random() * 0.02)

        async def end() -> None:
            await asyncio.sleep(SECONDS)
            self._over = True

        await asyncio.gather(end(), *(loop(serial, work) for serial, work in enumerate(works)))

    def adapter(self, desk: Desk) -> Callable[[Connection, random.Random], Awaitable[None]]:
        """Claims, and tells how what it has claimed ended."""
        live: list[str] = []

        async def work(connection: Connection, chance: random.Random) -> None:
            desk.connection = connection
            records: list[dict[str, Any]] = []
            for call in live[:]:
                if chance.random() < 0.2:
                    records.append(answered(call))
                if chance.random() < 0.6:
                    word = chance.choice(WORDS)
                    records.append(outcome(call, word))
                    live.remove(call)
                    if word == "unknown":
                        self.unknown.append(call)
            if self.unknown and chance.random() < 0.3:
                records.append(outcome(self.unknown.pop(), chance.choice(("answered", "busy"))))
            reply = await desk.sync(records, room=6)
            assert reply["refused"] == []
            live.extend(row["call_id"] for row in reply["rows"])
            # A record whose rows somebody held comes again, as from the outbox.
            self.claimed += len(reply["rows"])
            left = [record for seq, record in enumerate(records, 1) if seq not in reply["recorded"]]
            while left:
                await asyncio.sleep(0.01)
                reply = await desk.sync(left)
                left = [record for seq, record in enumerate(left, 1) if seq not in reply["recorded"]]
            await connection.execute(
                "update call_queue set settle_at = now() - interval '1 second' where id = any(array("
                "select id from call_queue where settle_at > now() limit 5 for update skip locked))"
            )

        return work

    async def app(self, connection: Connection, chance: random.Random) -> None:
        """Pauses, resumes, counts on."""
        await connection.execute(
            "update campaigns set status = $2, total_numbers = total_numbers + 1 where id = $1",
            chance.choice(self._campaigns),
            chance.choice(("paused", "in_progress")),
        )

    async def inserter(self, connection: Connection, chance: random.Random) -> None:
        """Rows come in, some of them without a number."""
        await connection.executemany(
            "insert into call_queue (user_id, campaign_id, phone_number, max_attempts, retry_seconds) "
            "values (gen_random_uuid(), $1, $2, $3, 0)",
            [
                (chance.choice(self._campaigns), chance.choice(("1", *[number(chance.randrange(200))] * 9)), 2)
                for _ in range(6)
            ],
        )

    async def person(self, connection: Connection, chance: random.Random) -> None:
        """Edits in transactions that hold what they touched for a while; half of them are taken back."""
        waiting = "select id from call_queue where campaign_id = $1 and status = 'queued'"
        queued = f"(array({waiting} limit 3 for update skip locked))"
        logs = "(array(select id from call_logs where campaign_id = $1 limit 2 for update skip locked))"
        edits = (
            f"update call_queue set cancel_requested = true where id = any{queued}",  # noqa: S608 - of ours
            "update campaigns set campaign_name = campaign_name where id = $1",
            f"delete from call_logs where id = any{logs}",  # noqa: S608 - of ours
            f"delete from call_queue where id = any{queued}",  # noqa: S608 - of ours
        )
        change = connection.transaction()
        await change.start()
        try:
            for _ in range(2):
                await connection.execute(chance.choice(edits), chance.choice(self._campaigns))
                await asyncio.sleep(0.01)
        except BaseException:
            await change.rollback()
            raise
        await (change.commit() if chance.random() < 0.5 else change.rollback())


async def test_counters_are_right_whoever_does_what_at_once(app_db: str) -> None:
    async with connected(app_db) as connection:
        campaigns = [await campaign(connection, total_numbers=0) for _ in range(4)]
        desks = [Desk(connection, pbx=f"pbx-{serial}") for serial in (1, 2)]
        for desk in desks:
            await desk.register()
        crowd = Crowd(app_db, campaigns)
        await crowd.run(
            *(crowd.adapter(desk) for desk in desks),
            crowd.app,
            crowd.inserter,
            crowd.inserter,
            crowd.person,
            crowd.person,
        )
        assert crowd.claimed > 50

        desk = desks[0]
        desk.connection = connection
        await connection.execute("update campaigns set status = 'in_progress' where status = 'paused'")
        await connection.execute("update call_queue set cancel_requested = true where status = 'queued'")
        for row in await connection.fetch("select call_id from call_queue where status in ('dialing', 'talking')"):
            await desk.sync([outcome(str(row[0]), "busy")])
        await desk.settle()
        await connection.execute("update call_queue set cancel_requested = true where status = 'queued'")
        await desk.sync()
        assert await connection.fetchval("select count(*) from call_campaign_news") == 0
        for made in campaigns:
            status, *figures, _ = await shown(connection, made)
            assert (status, tuple(figures)) == ("completed", await counted(connection, made))
            assert sum(figures) > 10


async def test_no_row_is_claimed_after_the_pause_is_there(app_db: str) -> None:
    async with connected(app_db) as connection, connected(app_db) as app:
        desk = Desk(connection)
        await desk.register()
        made = await campaign(connection)
        await desk.fill(400, campaign=made)
        for turn in range(30):
            word = ("paused", "in_progress")[turn % 2]
            change = asyncio.ensure_future(
                app.fetchval("update campaigns set status = $2 where id = $1 returning clock_timestamp()", made, word)
            )
            await asyncio.gather(change, desk.claim(3))
            got = await desk.claim(3)
            assert bool(got) is (word == "in_progress")
