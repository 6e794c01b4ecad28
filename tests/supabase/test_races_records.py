"""Everybody at once at the same rows: records twice and out of order, cancels, edits by hand, deletions, inserts of a
number that is in a call. Nobody is refused for a conflict, and what is stored in the end is what happened.
"""

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from tests.supabase.helpers import OTHER, USER, Desk, answered, connected, outcome, release


async def test_records_twice_and_out_of_order_from_two_sessions_leave_what_happened(
    lasting_desk: Desk, db: str
) -> None:
    """The adapter and a witness tell the same of each call, unknown among it; the operator cancels and the AI
    handler writes meanwhile."""
    await lasting_desk.fill(160)
    rows = await lasting_desk.claim(160)
    words = {row["call_id"]: random.choice(["answered", "busy", "no_answer", "declined"]) for row in rows}
    lines: list[dict[str, Any]] = []
    for call, word in words.items():
        lines += [outcome(call, word)] * 3 + [outcome(call, "unknown")]
        if word == "answered":
            lines += [answered(call)] * 2

    async def tell(adapter: uuid.UUID) -> list[Any]:
        problems: list[Any] = []
        async with connected(db) as connection:
            me = Desk(connection, adapter)
            await me.register(lasting_desk.incarnation if adapter == lasting_desk.adapter else 0)
            mine = random.sample(lines, len(lines))
            while mine:
                batch = mine[:20]
                reply = await me.sync(batch)
                problems += reply["refused"]
                done = set(reply["recorded"])
                mine = [line for seq, line in enumerate(batch, start=1) if seq not in done] + mine[20:]
                await asyncio.sleep(0)
        return problems

    async def cancel() -> None:
        async with connected(db) as connection:
            for row in random.sample(rows, 60):
                await connection.fetchval("select call_cancel_v1($1)", row["row_id"])

    async def handler() -> None:
        async with connected(db) as connection:
            for call in random.sample(list(words), 60):
                await connection.execute(
                    "update call_logs set metadata = coalesce(metadata, '{}') || '{\"ai\": 1}' where call_id = $1", call
                )

    first, second, _, _ = await asyncio.gather(tell(lasting_desk.adapter), tell(uuid.uuid4()), cancel(), handler())
    assert first == second == []
    async with connected(db) as connection:
        await connection.execute("update call_queue set settle_at = now() where settle_at is not null")
        await Desk(connection).register()
        stored = await connection.fetch(
            "select q.call_id::text, q.status, q.outcome, q.last_outcome, q.attempts, l.metadata ->> 'outcome' as told "
            "from call_queue q join call_logs l on l.call_id = q.call_id::text"
        )
        assert Counter(row["told"] for row in stored) == Counter(words.values())
        for row in stored:
            assert row["told"] == words[row["call_id"]], "evidence replaces unknown, and nothing replaces evidence"
            assert (row["outcome"] or row["last_outcome"]) == words[row["call_id"]]
            assert row["attempts"] == (0 if row["status"] == "talking" else 1)


@dataclass
class Mix:
    """Everybody who may write, in sessions of their own, for some seconds; every error is kept."""

    dsn: str
    seconds: float
    errors: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    calls: dict[str, int] = field(default_factory=dict)
    numbers: list[str] = field(default_factory=list)
    until: float = 0.0

    async def repeat(self, name: str, step: Callable[[Desk], Awaitable[None]], *, adapter: bool = False) -> None:
        """Do it again and again in a session of its own."""
        async with connected(self.dsn) as connection:
            me = Desk(connection, pbx=name)
            if adapter:
                await me.register()
            while asyncio.get_running_loop().time() < self.until:
                try:
                    await step(me)
                except asyncpg.PostgresError as error:
                    if error.sqlstate == "PT404":  # Canceled after its row was deleted: told so, as documented.
                        continue
                    self.errors.append(f"{name}: {error!r} {error.sqlstate}")
                self.done[name] += 1
                await asyncio.sleep(0)

    async def adapter(self, me: Desk) -> None:
        """Claims, tells of some, tells again of what others claimed, releases."""
        known = random.sample(list(self.calls)[-100:], min(15, len(self.calls)))
        records = [
            random.choice([outcome(c, random.choice(["busy", "answered", "unknown"])), answered(c)]) for c in known
        ]
        mine = await me.connection.fetchval(
            "select array(select call_id::text from call_queue where adapter = $1 and status = 'dialing' limit 5)",
            me.adapter,
        )
        records += [release(call, random.choice(["not_sent", "pbx_error"])) for call in mine[:2]]
        reply = await me.sync(records, room=10, limits={"pbx": 60})
        self.errors.extend(
            f"sync: {words}"
            for words in (*map(str, reply["refused"]), *reply["notes"])
            if "40001" in words or "40P01" in words
        )
        self.errors.extend(f"sync: {line}" for line in reply["refused"] if "cannot be released" not in line["error"])
        self.calls.update((row["call_id"], row["row_id"]) for row in reply["rows"])
        self.numbers.extend(row["e164"] for row in reply["rows"])

    async def same_number(self, me: Desk) -> None:
        """Inserts numbers that are in a call, and some with a key that is taken."""
        number = random.choice(self.numbers) if self.numbers else "+60123456700"
        await me.connection.execute(
            "insert into call_queue (user_id, phone_number, idempotency_key) "
            "select $1::uuid, $2::text, case when i = 1 then $3::text end from generate_series(1, 4) i",
            random.choice([USER, OTHER]),
            number,
            f"key {random.randrange(20)}",
        )

    async def cancel(self, me: Desk) -> None:
        """By function, and by hand several at once."""
        if self.calls:
            await me.connection.fetchval("select call_cancel_v1($1)", random.choice(list(self.calls.values())))
        await me.connection.execute(
            "update call_queue set status = 'canceled' where id in "
            "(select id from call_queue where status in ('queued', 'dialing') order by random() limit 2)"
        )

    async def edit(self, me: Desk) -> None:
        """By hand: priorities, numbers, dates, of rows in any state, several in one statement."""
        change = random.choice(
            [
                "priority = 9",
                "customer_name = 'x'",
                "not_before = now()",
                "phone_number = phone_number",
                "retry_seconds = 0",
            ]
        )
        await me.connection.execute(
            f"update call_queue set {change} where id in "  # noqa: S608 - words of ours
            "(select id from call_queue order by random() limit 5)"
        )

    async def pause(self, me: Desk) -> None:
        """Pauses and resumes a user, one row in one statement: several in one may deadlock with a claim."""
        user = random.choice([USER, OTHER])
        await me.connection.execute("update call_tenants set paused = true where user_id = $1", user)
        await me.connection.execute("update call_tenants set paused = false where user_id = $1", user)

    async def delete(self, me: Desk) -> None:
        """Deletes logs, and now and then queue rows, of calls that live."""
        if self.calls:
            await me.connection.execute("delete from call_logs where call_id = $1", random.choice(list(self.calls)))
            await me.connection.execute(
                "delete from call_queue where id in (select id from call_queue order by random() limit 1)"
            )

    async def handler(self, me: Desk) -> None:
        """The AI handler and the app: words into logs, several in one transaction, in any order."""
        async with me.connection.transaction():
            for call in random.sample(list(self.calls)[-60:], min(4, len(self.calls))):
                word = random.choice(["voicemail", "completed", "in-progress"])
                await me.connection.execute("update call_logs set status = $1 where call_id = $2", word, call)
                await asyncio.sleep(0.005)  # Whoever waited for one of them while it holds another would deadlock.


async def test_no_conflict_escapes_whoever_does_what(lasting_desk: Desk, db: str) -> None:
    await lasting_desk.fill(1500)
    await lasting_desk.fill(1500, user=OTHER, start=10_000)
    mix = Mix(db, 6.0)
    mix.until = asyncio.get_running_loop().time() + mix.seconds
    await asyncio.gather(
        *(mix.repeat(f"pbx-{place}", mix.adapter, adapter=True) for place in range(3)),
        *(mix.repeat(name, getattr(mix, name)) for name in ("same_number", "same_number", "pause", "delete")),
        *(mix.repeat(name, getattr(mix, name)) for name in ("cancel", "edit", "handler")),
    )
    assert Counter(mix.errors) == Counter()
    assert all(mix.done[name] > 5 for name in ("pbx-0", "same_number", "cancel", "edit", "delete", "handler", "pause"))
    async with connected(db) as connection:
        twice = await connection.fetch(
            "select e164 from call_queue where status in ('dialing', 'talking') group by 1 having count(*) > 1"
        )
        assert twice == [], "one person, one call"
