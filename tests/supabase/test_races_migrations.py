"""The installation runs again, and an older one becomes a newer one, while adapters work: they wait, no more."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import asyncpg
import pytest

from tests.supabase.helpers import OTHER, USER, Desk, connected, outcome
from tests.supabase.test_install import INSTALL

MAY_PASS = {"55P03"}
"""lock_timeout: an adapter waits 5 s for a migration that holds a table and asks again, with the same claim id."""

"""They ring: twenty calls in a row without a sound stop a trunk."""

OLDER = """
create or replace function call_open(p_adapter uuid, p_pbx text) returns jsonb language sql volatile security definer
set search_path = '' as $$ select '[]'::jsonb $$;
create or replace function call_variables_fit(p_variables jsonb) returns boolean language sql immutable
set search_path = '' as $$ select true $$;
drop trigger if exists call_queue_before_update on call_queue;
"""
"""Stands for an older version: functions with another body, and a trigger less."""


@dataclass
class Work:
    """Adapters that sync in a loop and clients that insert, while something else happens to the functions."""

    dsn: str
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    errors: Counter[str] = field(default_factory=Counter)
    claimed: Counter[int] = field(default_factory=Counter)
    inserted: int = 0
    slowest: float = 0.0

    async def adapter(self, place: int) -> None:
        """As the ticker: the same request again after an error, the same claim id until it is answered."""
        async with connected(self.dsn) as connection:
            me = Desk(connection, pbx=f"pbx-{place}")
            await me.register()
            told: list[str] = []
            while not (self.stop.is_set() and not told):
                started = asyncio.get_running_loop().time()
                try:
                    reply = await me.sync(
                        [outcome(call, "busy") for call in told],
                        room=0 if self.stop.is_set() else 5,
                    )
                except asyncpg.PostgresError as error:
                    self.errors[f"{error.sqlstate} {error}"] += 1
                    continue
                self.slowest = max(self.slowest, asyncio.get_running_loop().time() - started)
                self.errors.update(f"note: {words}" for words in (*reply["notes"], *map(str, reply["refused"])))
                done = set(reply["recorded"])
                told = [call for seq, call in enumerate(told, start=1) if seq not in done]
                told += [row["call_id"] for row in reply["rows"]]
                self.claimed.update(row["row_id"] for row in reply["rows"])
                await asyncio.sleep(0.002)

    async def inserter(self) -> None:
        """Three rows at a time, of two users in turn."""
        async with connected(self.dsn) as connection:
            while not self.stop.is_set():
                try:
                    await connection.execute(
                        "insert into call_queue (user_id, phone_number) "
                        "select $1::uuid, '+6011' || (20000000 + $2 + i) from generate_series(0, 2) i",
                        USER if self.inserted % 2 else OTHER,
                        self.inserted,
                    )
                except asyncpg.PostgresError as error:
                    self.errors[f"{error.sqlstate} {error}"] += 1
                    continue
                self.inserted += 3
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("older", [False, True], ids=["again", "older to newer"])
async def test_an_installation_while_adapters_run_loses_no_row_and_no_error_escapes(
    lasting_desk: Desk, db: str, older: bool
) -> None:
    work = Work(db)
    tasks = [asyncio.create_task(work.adapter(place)) for place in range(3)]
    tasks += [asyncio.create_task(work.inserter()) for _ in range(1)]
    installed = 0
    async with connected(db) as owner:
        until = asyncio.get_running_loop().time() + 5.0
        while asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.3)
            for script in [OLDER, INSTALL] if older else [INSTALL]:
                try:
                    await owner.execute(script)
                except asyncpg.PostgresError as error:
                    work.errors[f"install: {error.sqlstate} {error}"] += 1
                    await owner.execute("rollback")
            installed += 1
    work.stop.set()
    await asyncio.gather(*tasks)
    assert {words: n for words, n in work.errors.items() if words[:5] not in MAY_PASS} == {}
    assert installed > 3
    assert max(work.claimed.values()) == 1
    # What was not claimed while all this happened is claimed now, each once.
    await lasting_desk.connection.execute("update call_settings set repaired_at = '-infinity'")
    rest = Desk(lasting_desk.connection, pbx="pbx-rest")
    await rest.register()
    empty = 0
    while empty < 5:
        rows = await rest.claim(500)
        work.claimed.update(row["row_id"] for row in rows)
        await rest.sync([outcome(row["call_id"], "busy") for row in rows])
        empty = 0 if rows else empty + 1
        await asyncio.sleep(0.25)
    assert max(work.claimed.values()) == 1
    assert len(work.claimed) == work.inserted > 100
    assert work.slowest < 5.5
