"""What is explained is what happens: held against the next claim, for rows in every state."""

import random
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest

from adapter.sandbox.postgres import Postgres
from tests.supabase.helpers import OTHER, USER, Connection, Desk, answered, connected, number, outcome
from tests.supabase.test_plans import ROWS, Fill, fill, touched
from tests.support.db import installation, make_template

__all__ = ["fill"]

TRUNKS = (None, None, None, "SIP-TRUNK-1", "SIP-TRUNK-2", "SIP-TRUNK-9")


async def explain(connection: Connection, what: object, limit: int = 10) -> dict[str, Any]:
    found: dict[str, Any] = await connection.fetchval("select public.call_explain_v1($1, $2)", str(what), limit)
    return found


async def wait(connection: Connection, row: int | None) -> dict[str, Any]:
    (found,) = (await explain(connection, row))["rows"]
    told: dict[str, Any] = found["wait"]
    return told


@dataclass
class World:
    """Rows of two users in campaigns that go on or are paused, some of them tried or in a call."""

    desk: Desk
    dice: random.Random
    lanes: list[tuple[str, str | None]] = field(default_factory=lambda: [(USER, None), (OTHER, None)])
    serial: int = 100

    async def made(self) -> list[int]:
        """The queued rows."""
        execute, dice = self.desk.connection.execute, self.dice
        other = Desk(self.desk.connection, pbx="pbx-2", status={"trunk": "SIP-TRUNK-2"})
        await other.register()
        if dice.random() < 0.7:
            await other.sync()
        await self.campaigns()
        await self.calls()
        if dice.random() < 0.5:
            await execute("update public.call_queue set not_before = now() where status = 'queued'")
        if dice.random() < 0.3:
            await execute("update public.call_tenants set paused = true where user_id = $1", uuid.UUID(OTHER))
        await self.rules()
        for _ in range(12):
            await self.changed(await self.insert(trunk=dice.choice(TRUNKS)))
        # Rows that were put off wake up by a look that comes later; here all is looked at now.
        await execute("update public.call_lanes set ready = true where not paused")
        await execute("update public.call_tenants set ready = true where not paused")
        found = await self.desk.connection.fetch("select id from public.call_queue where status = 'queued' order by id")
        return [row["id"] for row in found]

    async def campaigns(self) -> None:
        for user in (USER, OTHER):
            for status in ("pending", "paused"):
                made = await self.desk.connection.fetchval(
                    "insert into public.campaigns (user_id, campaign_name, status) values ($1, $2, $3) returning id",
                    uuid.UUID(user), str(uuid.uuid4()), status,
                )  # fmt: skip
                self.lanes.append((user, str(made)))

    async def insert(self, **more: Any) -> int:
        user, lane = self.dice.choice(self.lanes)
        self.serial += 1
        serial = self.dice.randrange(3) if self.dice.random() < 0.4 else self.serial
        columns = {"user_id": user, "campaign_id": lane, "priority": self.dice.randrange(10), "max_attempts": 2, **more}
        row = await self.desk.insert(number(serial), **columns)
        assert row is not None
        return row

    async def calls(self) -> None:
        for _ in range(self.dice.randrange(8)):
            await self.insert()
        for row in await self.desk.claim(self.dice.randrange(8)):
            word = self.dice.choice([None, None, "busy", "congestion", "answered"])
            if word:
                await self.desk.sync([outcome(row["call_id"], word)])

    async def rules(self) -> None:
        """Some of what an operator may have set."""
        execute, dice = self.desk.connection.execute, self.dice
        _, campaign = self.lanes[2]
        pauses = (("user", USER), ("campaign", campaign), ("trunk", "SIP-TRUNK-1"), ("all", None))
        if dice.random() < 0.3:
            await self.desk.connection.fetchval("select public.call_pause_v1($1, $2, 'no')", *dice.choice(pauses))
        if dice.random() < 0.3:
            await execute(
                "insert into public.call_trunks (pbx, trunk, user_id, prefixes, max_channels) values "
                "('pbx-1', 'SIP-TRUNK-1', null, '{60}', 90), ('pbx-1', 'SIP-TRUNK-5', $1, '{65}', 90)",
                uuid.UUID(OTHER) if dice.random() < 0.5 else None,
            )
        if dice.random() < 0.3:
            day = await self.desk.connection.fetchval("select extract(isodow from now() + interval '3 days')::integer")
            await execute(
                "insert into public.call_hours (scope, scope_id, days, from_time, to_time) "
                "values ('user', $1, array[$2::integer], '09:00', '17:00')",
                uuid.UUID(dice.choice([USER, OTHER])),
                day,
            )
        if dice.random() < 0.3:
            kind, key, most = dice.choice((("user", USER, 0), ("campaign", campaign, 0), ("user", OTHER, 90)))
            await execute("insert into public.call_limits values ($1, $2, $3)", kind, uuid.UUID(key), most)

    async def changed(self, row: int) -> None:
        """Some are not due, canceled by hand, or hold what no claim takes."""
        execute = self.desk.connection.execute
        match self.dice.randrange(8):
            case 0:
                await execute("update public.call_queue set not_before = now() + interval '1 h' where id = $1", row)
            case 1:
                await execute("set session_replication_role = replica")
                await execute("update public.call_queue set e164 = null, phone_number = '12' where id = $1", row)
                await execute("set session_replication_role = default")
            case 2:
                await execute("set session_replication_role = replica")
                await execute("update public.call_queue set variables = '{\"a\": []}' where id = $1", row)
                await execute("set session_replication_role = default")
            case 3:
                await execute("set session_replication_role = replica")
                await execute("update public.call_queue set cancel_requested = true where id = $1", row)
                await execute("set session_replication_role = default")
            case 4:
                await execute(
                    "update public.call_queue set expires_fixed = true, expires_at = clock_timestamp() where id = $1",
                    row,
                )


@pytest.fixture
async def owner_desk(pg_server: Postgres) -> AsyncIterator[Desk]:
    """As `desk`, by one who may switch triggers off."""
    database = await make_template(pg_server, "desk_ours", installation())
    async with connected(pg_server.admin_dsn(database)) as connection:
        transaction = connection.transaction()
        await transaction.start()
        made = Desk(connection)
        await made.register()
        yield made
        await transaction.rollback()


LIMITS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"pbx": 50, "user": 40, "campaign": 30},
    {"user": 1},
    {"campaign": 1},
    {"pbx": 1},
)


@pytest.mark.parametrize("seed", range(60))
async def test_what_it_says_of_each_row_is_what_the_next_claim_does(owner_desk: Desk, seed: int) -> None:
    desk, dice = owner_desk, random.Random(seed)
    await desk.sync()
    queued = await World(desk=desk, dice=dice).made()
    limits = dice.choice(LIMITS)
    # Explained is what the last heartbeat makes of it. A request would sweep what has expired.
    await desk.connection.execute(
        "update public.call_adapters set status = status || jsonb_build_object('limits', $2::jsonb) where adapter = $1",
        desk.adapter,
        limits,
    )
    numbers = {row: (await desk.row(row))["e164"] for row in queued}
    said = {row: await wait(desk.connection, row) for row in queued if (await desk.row(row))["status"] == "queued"}
    tight = any(most == 1 for most in limits.values())  # Reached on the way: then some of what may be dialed is left.
    taken = {row["row_id"] for row in await desk.claim(500, limits=limits)}
    by_number: dict[str, set[int]] = defaultdict(set)
    for row, told in said.items():
        after = await desk.row(row)
        if told["verdict"] == "now":
            by_number[numbers[row]].add(row)
            # Of several adapters that which would dial it answers; one that has no way for it may be first, and end it.
            assert after["status"] != "dialing" or told["pbx"] == "pbx-1"
        elif told["verdict"] == "ends":
            assert after["status"] in ("done", "canceled") or tight, told
            if after["status"] == "done" and not told["why"].startswith(("its time ran out", "it was canceled")):
                assert (after["outcome"], after["ended_reason"]) == ("blocked", told["why"])
        else:
            assert after["status"] == "queued", told
            assert told["why"]
    ours = {key: {row for row in rows if said[row]["pbx"] == "pbx-1"} for key, rows in by_number.items()}
    assert taken <= set().union(*ours.values())
    # Of several rows for one person one is called.
    if not tight:
        assert all(len(rows & taken) == 1 for rows in ours.values() if rows)


async def test_a_row_that_would_be_dialed_says_so_with_every_step(desk: Desk) -> None:
    await desk.sync()
    row = await desk.insert(number(1))
    ahead = await desk.insert(number(2), priority=9)
    assert ahead is not None
    told = await wait(desk.connection, row)
    assert (told["verdict"], told["why"], told["pbx"], told["trunk"]) == ("now", None, "pbx-1", "SIP-TRUNK-1")
    steps = {step["rule"]: step for step in told["steps"]}
    assert list(steps)[:7] == ["time", "due", "adapter", "pause", "room", "cancel", "number"]
    assert {"number", "variables", "answered", "trunk", "person"} < set(steps)
    assert all(step["passed"] for step in steps.values())
    assert steps["adapter"]["words"] == "the PBX pbx-1 is ready"
    assert list(steps)[-1] == "turn"
    assert steps["turn"]["words"] == "1 of its campaign come first"


async def test_why_it_waits_and_until_when(desk: Desk) -> None:
    connection = desk.connection
    first, row = await desk.insert(number(1)), await desk.insert(number(1), user_id=OTHER)
    await connection.execute("update public.call_adapters set seen_at = null")
    assert (await wait(connection, row))["why"] == "no adapter is running: none was heard of for a minute"
    await desk.sync(ready=False, problem="the AI extension is not there")
    told = await wait(connection, row)
    assert (told["verdict"], told["at"]) == ("waits", None)
    assert told["why"] == "the adapter does not dial at the moment: the AI extension is not there"
    await desk.claim_one()
    told = await wait(connection, row)
    assert (told["verdict"], told["why"]) == ("waits", "another call to this number is going on")
    assert told["at"] is not None
    assert await desk.claim() == []
    told = await wait(connection, row)  # It was put off, and still says why.
    assert [step["rule"] for step in told["steps"] if not step["passed"]] == ["due", "person"]
    assert told["why"] == "another call to this number is going on"
    late = await desk.insert(number(2), not_before=await connection.fetchval("select now() + interval '1 hour'"))
    told = await wait(connection, late)
    assert (told["verdict"], told["why"]) == ("waits", "it is not due yet (not_before)")
    assert (await explain(connection, first))["rows"][0]["wait"] is None  # In a call.


async def test_why_did_you_call_me(app_desk: Desk) -> None:
    connection = app_desk.connection
    user = await connection.fetchval("insert into public.users (username) values ('aminah') returning id")
    campaign = await connection.fetchval(
        "insert into public.campaigns (user_id, campaign_name) values ($1, 'November') returning id", user
    )
    row = await app_desk.insert(number(7), user_id=user, campaign_id=campaign, max_attempts=2)
    calls = []
    for word in ("busy", "answered"):
        await app_desk.due()
        call = (await app_desk.claim_one())["call_id"]
        await app_desk.sync([outcome(call, word)])
        await app_desk.settle()
        calls.append(call)
    await connection.execute(
        "update public.call_dials set facts = '{\"hours\": \"open\"}', claimed_at = claimed_at - interval '1 h' "
        "where call_id = $1",
        uuid.UUID(calls[0]),
    )
    for what in (row, number(7), "012-340 0007"):
        found = await explain(connection, what)
        assert found["kind"] == ("row" if what == row else "number")
        assert [told["row_id"] for told in found["rows"]] == [row]
        assert [call["call_id"] for call in found["calls"]] == calls[::-1]
        last, first = found["calls"]
        assert (first["outcome"], first["facts"], first["attempt"]) == ("busy", {"hours": "open"}, "1")
        assert (last["outcome"], last["attempt"], last["trunk"]) == ("answered", "2", "SIP-TRUNK-1")
        assert (last["user_name"], last["campaign_name"], last["row_id"]) == ("aminah", "November", row)
    one = await explain(connection, calls[0].upper())
    assert (one["kind"], [call["call_id"] for call in one["calls"]]) == ("call", calls[:1])
    assert [told["row_id"] for told in one["rows"]] == [row]


async def test_a_call_of_which_the_rules_are_no_longer_kept(desk: Desk) -> None:
    row = await desk.insert(number(1))
    call = (await desk.claim_one())["call_id"]
    await desk.sync([answered(call)])
    await desk.connection.execute("delete from public.call_dials")
    for what in (row, call):
        (told,) = (await explain(desk.connection, what))["calls"]
        assert (told["call_id"], told["row_id"], told["facts"], told["dialed"]) == (call, row, None, True)


async def test_a_number_says_what_the_rules_would_say_to_one_more_row(desk: Desk) -> None:
    await desk.sync()
    found = await explain(desk.connection, number(5))
    assert (found["kind"], found["e164"], found["rows"], found["calls"]) == ("number", number(5), [], [])
    assert all(step["passed"] for step in found["rules"])
    await desk.insert(number(5))
    await desk.claim_one()
    steps = {step["rule"]: step for step in (await explain(desk.connection, number(5)))["rules"]}
    assert (steps["person"]["passed"], steps["person"]["words"]) == (False, "another call to this number is going on")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("4711", "call_queue has no row 4711"),
        (str(uuid.UUID(int=7)), "there is no call of this id"),
        ("12345678901234567890", "there is no row 12345678901234567890, and as a phone number: "),
        ("'; drop table call_queue; --", "there is no row '; drop table call_queue; --, and as a phone number: "),
    ],
)
async def test_what_is_not_there(desk: Desk, what: str, words: str) -> None:
    found = await explain(desk.connection, what)
    assert (found["kind"], found["rows"], found["calls"]) == (None, [], [])
    assert found["problem"].startswith(words)


@pytest.mark.parametrize("what", ["", "  ", "1" * 101])
async def test_what_it_cannot_be_asked(desk: Desk, what: str) -> None:
    with pytest.raises(asyncpg.PostgresError, match="call_explain_v1") as error:
        await explain(desk.connection, what)
    assert error.value.sqlstate == "PT400"


async def test_it_costs_the_same_on_a_full_queue(lasting_desk: Desk, fill: Fill) -> None:
    await fill()
    await lasting_desk.sync()
    connection = lasting_desk.connection
    row = await connection.fetchval("select max(id) from public.call_queue")
    phone = await connection.fetchval("select e164 from public.call_queue where id = $1", row)

    async def ask() -> None:
        assert (await explain(connection, row))["kind"] == "row"
        assert (await explain(connection, phone))["rows"][0]["row_id"] == row

    cost = await touched(connection, ask)
    assert await connection.fetchval("select count(*) from public.call_queue") > ROWS / 2
    assert all(whole == 0 for whole, _ in cost.values()), cost
    assert cost["call_queue"][1] < 1000, cost
