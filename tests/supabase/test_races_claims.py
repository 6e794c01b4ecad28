"""Claims in a race, judged by a history that the database itself writes: who was in the air at each instant."""

import asyncio
import random
import uuid
from collections import Counter
from typing import Any

import asyncpg
import pytest

from tests.supabase.helpers import Desk, connected, outcome

CLAIMERS = 16
ROWS = 20_000
USERS = 8
LIMIT = 40
USER_LIMIT = 20
"""Four PBXs at their limit are as many calls as eight users at theirs: once nobody's calls end, both are reached."""
SECONDS = 9.0
"""Long enough for some thousand claims on two cores; whoever finds rows left finds them by claiming on."""
ENOUGH = 1000
"""Calls that must have begun, however long a busy machine takes for them."""
FULL_SECONDS = 1.5
"""The last part of them, in which no call ends: the race is for the last places of each limit."""

HISTORY = """
create table history (
  at bigint generated always as identity, row_id bigint, pbx text, user_id uuid, call_id uuid, step integer
);
create function history_of_calls() returns trigger language plpgsql security definer set search_path = '' as $$
declare
  v_was boolean := tg_op = 'UPDATE' and old.status in ('dialing', 'talking') and old.outcome is null;
  v_is boolean := new.status in ('dialing', 'talking') and new.outcome is null;
begin
  if v_is and not v_was then
    insert into public.history (row_id, pbx, user_id, call_id, step)
    values (new.id, new.pbx, new.user_id, new.call_id, 1);
  elsif v_was and not v_is then
    insert into public.history (row_id, pbx, user_id, call_id, step)
    values (old.id, old.pbx, old.user_id, old.call_id, -1);
  elsif v_is and new.call_id <> old.call_id then
    raise exception 'row % got another call while it was in one', old.id;
  end if;
  return null;
end
$$;
create trigger history after insert or update on call_queue for each row execute function history_of_calls();
"""
"""Each call as it takes and leaves its place. Claims and records are serialized, so the order of the identity is
that of the commits; a claim that saw less than was committed shows as a count above a limit."""


async def test_sixteen_claimers_on_twenty_thousand_rows_by_the_databases_own_history(
    lasting_desk: Desk, db: str
) -> None:
    for user in range(USERS):
        await lasting_desk.fill(
            ROWS // USERS, user=f"00000000-0000-4000-8000-{user:012d}", start=user * 100_000, campaign=None
        )
    await lasting_desk.connection.execute(HISTORY)
    until = asyncio.get_running_loop().time() + SECONDS
    problems: list[Any] = []
    taken = 0

    async def claimer(place: int) -> None:
        nonlocal taken, until
        async with connected(db) as connection:
            # Four claimers share one adapter: the limit is theirs together.
            me = Desk(connection, pbx=f"pbx-{place % 4}", adapter=uuid.UUID(int=place % 4 + 1))
            if place < 4:
                await me.register()
            me.incarnation = 1
            mine: list[str] = []
            # Each claims once more after the time, so that places are left to none however slow the machine is.
            last = False
            while not last:
                now = asyncio.get_running_loop().time()
                if taken <= ENOUGH and now >= until - FULL_SECONDS:
                    until = now + FULL_SECONDS + 0.1
                last = now >= until
                reply = await me.sync(
                    [outcome(call, "busy") for call in mine] if now < until - FULL_SECONDS else [],
                    room=60 if last else random.choice([3, 20, 60]),
                    limits={"pbx": LIMIT, "user": USER_LIMIT},
                )
                problems.extend([*reply["notes"], *reply["refused"]])
                done = set(reply["recorded"])
                mine = [call for seq, call in enumerate(mine, start=1) if seq not in done]
                mine += [row["call_id"] for row in reply["rows"]]
                taken += len(reply["rows"])
                random.shuffle(mine)
                if random.random() < 0.2:
                    await asyncio.sleep(0.02)

    first = [asyncio.create_task(claimer(place)) for place in range(4)]
    await asyncio.sleep(0.3)
    await asyncio.gather(*first, *(claimer(place) for place in range(4, CLAIMERS)))
    assert problems == []

    history = await lasting_desk.connection.fetch("select * from history order by at")
    begun = Counter(step["row_id"] for step in history if step["step"] == 1)
    assert max(begun.values()) == 1, "each row once"
    assert len(begun) > ENOUGH
    assert len({step["call_id"] for step in history if step["step"] == 1}) == len(begun)
    most = _most(history)
    assert most == {"pbx": LIMIT, "user_id": USER_LIMIT}, "each limit reached, none passed"


def _most(history: list[asyncpg.Record]) -> dict[str, int]:
    """Most calls at one instant, of one PBX and of one user."""
    most = {"pbx": 0, "user_id": 0}
    now: Counter[Any] = Counter()
    for step in history:
        for name in most:
            now[step[name]] += step["step"]
        most = {name: max(before, now[step[name]]) for name, before in most.items()}
    return most


async def test_sixteen_claimers_of_four_pbxs_call_each_number_where_it_may_be_called(
    lasting_desk: Desk, db: str
) -> None:
    """All rows wait in one lane, and three of four that a PBX comes to are for others: none waits for its minute."""
    each = 200
    run = lasting_desk.connection.execute
    for place in range(4):
        await lasting_desk.fill(each, start=place * 1_000_000)
        await run(
            "insert into call_trunks (pbx, trunk, prefixes) values ($1, $2, $3)",
            f"quarter-{place}", f"SIP-{place}", [f"60110{place}"],
        )  # fmt: skip
    await run(HISTORY)
    problems: list[Any] = []
    left = 4 * each

    async def claimer(place: int) -> None:
        nonlocal left
        async with connected(db) as connection:
            me = Desk(connection, pbx=f"quarter-{place % 4}", adapter=uuid.UUID(int=place % 4 + 1))
            if place < 4:
                await me.register()
            me.incarnation = 1
            mine: list[str] = []
            while left > 0 or mine:
                status = {f"SIP-{place % 4}": {"room": 20, "foreign": 0, "problem": None}}
                records = [outcome(call, "busy") for call in mine]
                reply = await me.sync(records, room=random.choice([3, 20, 60]), trunks=status)
                problems.extend([*reply["notes"], *reply["refused"]])
                done = set(reply["recorded"])
                mine = [call for seq, call in enumerate(mine, start=1) if seq not in done]
                mine += [row["call_id"] for row in reply["rows"]]
                left -= len(reply["rows"])

    async with asyncio.timeout(50):  # Below the minute after which any PBX may look at a row once more.
        first = [asyncio.create_task(claimer(place)) for place in range(4)]
        await asyncio.sleep(0.3)
        await asyncio.gather(*first, *(claimer(place) for place in range(4, CLAIMERS)))
    assert problems == []
    history = await lasting_desk.connection.fetch(
        "select h.pbx, q.e164 from history h join call_queue q on q.id = h.row_id where h.step = 1"
    )
    assert len(history) == 4 * each, "each row once"
    assert all(call["e164"].startswith(f"+60110{call['pbx'][-1]}") for call in history)


async def test_a_claim_asked_by_many_at_once_is_one_claim(lasting_desk: Desk, db: str) -> None:
    """A client that gave an answer up asks again while the first request still runs."""
    await lasting_desk.fill(200)
    for _ in range(8):
        claim = uuid.uuid4()

        async def ask(claim_id: uuid.UUID) -> frozenset[str]:
            async with connected(db) as connection:
                me = Desk(connection, lasting_desk.adapter, lasting_desk.incarnation)
                return frozenset(row["call_id"] for row in (await me.sync(room=10, claim_id=claim_id))["rows"])

        answers = await asyncio.gather(*(ask(claim) for _ in range(8)))
        assert len(set(answers)) == 1
        assert len(answers[0]) == 10
    assert await lasting_desk.connection.fetchval("select count(*) from call_queue where status = 'dialing'") == 80


@pytest.mark.parametrize("same_id", [True, False])
async def test_a_claim_races_with_the_registration_of_the_next_run(lasting_desk: Desk, db: str, same_id: bool) -> None:
    """Whatever the order: no row is given to two runs, and the next run is told of all that the old one got."""
    await lasting_desk.fill(300)
    given: Counter[str] = Counter()
    for run in range(1, 13):
        old = Desk(lasting_desk.connection, lasting_desk.adapter, run)
        claim = uuid.uuid4()
        async with connected(db) as connection, connected(db) as third:
            new = Desk(connection, old.adapter, run)
            again = Desk(third, old.adapter, run)
            late, registered, later = await asyncio.gather(
                old.sync(room=5, claim_id=claim),
                new.register(),
                again.sync(room=5, claim_id=claim if same_id else uuid.uuid4()),
            )
            assert registered["accepted"]
            got = {row["call_id"] for row in late["rows"]} | {row["call_id"] for row in later["rows"]}
            open_now = {found["row"]["call_id"] for found in registered["open"]}
            fresh = {row["call_id"] for row in (await new.sync(room=5, claim_id=uuid.uuid4()))["rows"]}
            repeated = {row["call_id"] for row in (await new.sync(room=5, claim_id=claim))["rows"]}
            assert got <= open_now, "what the old run was given, the new one was told"
            assert not fresh & open_now
            assert not repeated & fresh
            assert (await old.sync(room=5, claim_id=claim))["rows"] == [], "fenced"
            given.update(fresh | open_now)
            await new.sync([outcome(call, "busy") for call in open_now | fresh | repeated])
    assert max(given.values()) == 1
