"""`Store` against PostgreSQL: the same random histories through both, replies and all rows compared after each step.

`python -m tests.simulation.test_store FIRST COUNT` runs more of them and prints each step at which they differ.
"""

import asyncio
import math
import sys
from collections import Counter
from collections.abc import AsyncIterator
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from adapter.core.hours import Window
from adapter.sandbox.postgres import Postgres
from adapter.supabase_io.database import Registered, SyncReply, SyncRequest
from tests.simulation.clocked import ClockedPostgres, call_id, contents_of_store, make_project
from tests.simulation.histories import USERS, History, Step
from tests.simulation.store import Refused, Store
from tests.simulation.store_tables import NO_LANE

STEPS = 50
PARTS = 4
HISTORIES = 160

LIST = ("rows", "logs", "tenants", "lanes", "adapters", "pbxs", "trunks", "health", "dials", "days", "stops")


HOURS_WORDS = (
    "calls to", "the number is",
    "outside its calling hours", "its campaign begins", "its campaign ended", "its time zone is not known",
    "its calling hours do not open", "its campaign ends before", "callee_zone",
)  # fmt: skip


class Differs(AssertionError):
    """The model and PostgreSQL disagree."""


def _on_store(store: Store, step: Step) -> Any:
    try:
        return getattr(store, step.name)(**step.arguments)
    except Refused as error:
        return error.code, error.words


async def _on_postgres(postgres: ClockedPostgres, step: Step) -> Any:
    try:
        return await getattr(postgres, step.name)(**step.arguments)
    except Refused as error:
        return error.code, error.words


def _difference(ours: dict[str, Any], real: dict[str, Any]) -> str:
    """The first thing that is not the same, in words; empty if all is."""
    for name in LIST:
        for key in ours[name].keys() | real[name].keys():
            left, right = ours[name].get(key), real[name].get(key)
            if left is None or right is None:
                return f"{name} {key}: model {left}, PostgreSQL {right}"
            wrong = {column: (left[column], right[column]) for column in left if left[column] != right[column]}
            if wrong:
                return f"{name} {key}: (model, PostgreSQL) {wrong}"
    wrong = {name: (ours[name], real[name]) for name in ours if name not in LIST and ours[name] != real[name]}
    return f"(model, PostgreSQL) {wrong}" if wrong else ""


async def both(postgres: ClockedPostgres, store: Store, step: Step, where: str) -> Any:
    """One step on both; returns what it said. Raises Differs."""
    ours, real = _on_store(store, step), await _on_postgres(postgres, step)
    problem = f"model {ours}, PostgreSQL {real}" if ours != real else ""
    if problem := problem or _difference(contents_of_store(store), await postgres.contents()):
        raise Differs(f"{where}, {step}:\n{problem}")
    return ours


async def run(postgres: ClockedPostgres, seed: int, seen: Counter[str] | None = None) -> None:
    """One history. Raises Differs with the step that did it."""
    await postgres.reset()
    store = Store(Random(seed), call_id)
    known: dict[str, str | None] = {}
    for serial, step in enumerate(History(seed, store).steps(STEPS)):
        ours = await both(postgres, store, step, f"seed {seed}, step {serial}")
        if seen is not None:
            known = _seen(store, step, ours, known, seen)


def _seen(
    store: Store, step: Step, reply: Any, before: dict[str, str | None], seen: Counter[str]
) -> dict[str, str | None]:
    """Count what this step met; returns the outcomes that are stored now."""
    _count(store, step, reply, seen)
    known = {call: store.stored_outcome(call) for call in store.logs}
    seen["unknown replaced"] += sum(was == "unknown" != known.get(call, was) for call, was in before.items())
    return known


def _count(store: Store, step: Step, reply: Any, seen: Counter[str]) -> None:
    """What was met, so that the test can show that nothing is missing."""
    seen[step.name] += 1
    if step.name == "witness":
        for call in reply:
            row = store.rows[call.row.row_id]
            seen[f"wanted of a {row.status} row"] += 1
            seen["wanted of another adapter"] += row.adapter != step.arguments["adapter"]
        seen["none wanted"] += bool(step.arguments["calls"]) and not reply
    elif isinstance(reply, tuple):
        seen[f"refused {reply[0]}"] += 1
    elif step.name == "insert" and reply == 0:
        seen["key taken"] += 1
    elif isinstance(reply, Registered):
        seen["registered" if reply.accepted else "not registered"] += 1
        seen["found open"] += bool(reply.open)
    elif isinstance(reply, SyncReply):
        request: SyncRequest = step.arguments["request"]
        for name in ("fenced", "rows", "more", "hangups", "takeover", "recorded"):
            seen[name] += bool(getattr(reply, name))
        seen["record refused"] += len(reply.refused)
        held = store.tables.pbxs.get(str(request.status["pbx"]))
        seen["taken over"] += held is not None and held.taken_at == reply.now and held.epoch > 1
        seen["not the holder"] += not reply.holder and not reply.fenced
        seen["claimed again"] += bool(reply.rows) and reply.rows[0].claimed_at != reply.now
        seen["overtaken"] += _overtaken(store, step, reply)
        known: Any = request.status.get("seen", 0)
        seen["restored"] += not reply.fenced and reply.told is not None and known > reply.told
        kinds = {seq: record for seq, record in request.records if seq in reply.recorded}
        seen.update(f"{record['kind']} {record.get('outcome') or record.get('cause')}" for record in kinds.values())
        for note in reply.notes:
            seen["note: " + " ".join(word for word in note.split() if word.isalpha())] += 1
    for row in store.rows.values():
        if row.updated_at == step.arguments.get("now"):
            seen[f"{row.status} {row.outcome}"] += 1
            seen["not heard of"] += "not heard of" in (row.last_reason or "")
            seen["released"] += "released" in row.faults
            again = row.status == "queued"
            seen[f"{row.last_outcome}, tried again"] += again
            seen["more of one outcome than the row has tries"] += (
                again and max(row.spent.values(), default=0) >= row.max_attempts
            )
            seen["held"] += row.settle_at is not None
            seen["tried again"] += row.status == "queued" and row.last_outcome is not None
            told = row.wait_reason or row.ended_reason or ""
            seen.update(words for words in HOURS_WORDS if told.startswith(words))
            seen["failed over"] += bool(row.trunks_tried)
            seen["handed to another PBX"] += row.handed_to is not None
            seen["by a trunk of the table"] += row.way is not None and row.status == "dialing"
            seen["put off: " + " ".join(str(row.wait_reason).split()[:2])] += row.wait_reason is not None
            seen["expired for a cap"] += told.endswith("for a day were used up")
    seen["a cap is used up"] += any(day.closed_at == step.arguments.get("now") for day in store.tables.days.values())
    for health in store.tables.health.values():
        seen["a trunk cools down"] += health.cooled_at == step.arguments.get("now")
        seen["a trunk is stopped"] += health.stopped_at == step.arguments.get("now")
        seen["a trunk is tried"] += health.probed_at is not None and health.probed_at == step.arguments.get("now")


def _overtaken(store: Store, step: Step, reply: SyncReply) -> bool:
    """Executed after a newer request of this adapter."""
    if reply.fenced:
        return False
    return bool(
        step.arguments["request"].status.get("request", math.inf)
        < (store.tables.adapters[step.arguments["adapter"]].request or 0)
    )


def _history(store: Store, seed: int) -> list[Any]:
    """What a history answers, and all that it leaves behind."""
    replies = [_on_store(store, step) for step in History(seed, store).steps(STEPS)]
    return [*replies, contents_of_store(store)]


def test_the_same_seed_gives_the_same_ids_and_answers() -> None:
    assert _history(Store(Random(7)), 7) == _history(Store(Random(7)), 7)


def test_a_restored_database_is_as_it_was_and_can_be_restored_again() -> None:
    store = Store(Random(11), call_id)
    steps = History(11, store).steps(STEPS)
    for _, step in zip(range(STEPS // 2), steps, strict=False):
        _on_store(store, step)
    kept, before = store.snapshot(), repr(contents_of_store(store))
    assert store.tables.open
    for _ in range(2):
        for step in steps:
            _on_store(store, step)
        _on_store(store, Step(name="forget_turns", arguments={"user": USERS[0], "now": 0.0}))
        for row in list(store.rows):
            store.delete_row(row, 0.0)
        assert repr(contents_of_store(store)) != before
        store.restore(kept)
        assert repr(contents_of_store(store)) == before


@pytest.fixture
async def postgres(pg_server: Postgres) -> AsyncIterator[ClockedPostgres]:
    dsn = await make_project(pg_server, "clocked")
    connection = await asyncpg.connect(dsn)
    yield await ClockedPostgres.on(connection)
    await connection.close()
    await pg_server.drop_database("clocked")


NEEDED = (
    "insert", "edit", "cancel", "delete_row", "delete_log", "handler_word", "pause", "register", "sync",
    "forget_turns", "witness", "none wanted", "wanted of another adapter",
    "wanted of a dialing row", "wanted of a talking row", "wanted of a done row",
    "refused 23514", "refused 23502", "refused PT404", "key taken", "registered", "not registered", "found open",
    "fenced", "rows", "more", "hangups", "taken over", "takeover", "recorded", "record refused", "not the holder",
    "claimed again", "overtaken", "restored",
    "answered None", "release not_sent", "release never_executed", "release pbx_error",
    "released", "held", "tried again", "unknown replaced", "not heard of",
    "done blocked", "canceled canceled", "queued None", "dialing None",
    "talking None", "done answered", "done unknown", "done voicemail", "done canceled",
    "note: call is not its rows were deleted",
    "hours", "dates", "user_zone", "outside its calling hours", "its calling hours do not open", "callee_zone",
    "stop", "unstop", "put off: this row", "refused PT409",
    "trunk", "drop_trunk", "forgive", "limit", "failed over", "by a trunk of the table", "a trunk cools down",
    "a trunk is stopped", "put off: another call", "retry", "declined, tried again", "unknown, tried again",
    "more of one outcome than the row has tries", "handed to another PBX",
    "forbid", "user_cap", "put off: this number", "calls to", "the number is", "a cap is used up", "expired for a cap",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(PARTS))
async def test_model_and_postgres_agree(postgres: ClockedPostgres, part: int) -> None:
    each = HISTORIES // PARTS
    for seed in range(part * each, (part + 1) * each):
        await run(postgres, seed)


class Scripted:
    """One adapter and one user, step by step on both; for what takes longer than histories do."""

    ADAPTER, NONCE = str(UUID(int=1)), str(UUID(int=2))
    HOUR = 3600.0

    def __init__(self, postgres: ClockedPostgres) -> None:
        self._postgres = postgres
        self.store = Store(Random(0), call_id)

    async def at(self, hour: float, name: str, **arguments: Any) -> Any:
        """One step, at this hour of the story."""
        step = Step(name=name, arguments={**arguments, "now": 1_800_000_000.0 + hour * self.HOUR})
        return await both(self._postgres, self.store, step, f"hour {hour}")

    async def begin(self) -> None:
        """Register."""
        await self._postgres.reset()
        start = {"adapter": self.ADAPTER, "expected": 0, "nonce": self.NONCE, "pbx": "pbx", "info": {}}
        await self.at(0, "register", **start)

    async def sync(self, hour: float, *records: dict[str, Any], most: int = 0) -> SyncReply:
        """One request, for `most` calls in the air."""
        status: dict[str, Any] = {
            "pbx": "pbx",
            "ready": True,
            "trunk": "T",
            "region": "MY",
            "limits": {"pbx": most},
            "countries": ["*"],
        }
        request = SyncRequest(
            records=tuple(enumerate(records, 1)), status=status, room=5, claim_id=str(UUID(int=int(hour * 3600) + 9))
        )
        reply: SyncReply = await self.at(hour, "sync", adapter=self.ADAPTER, incarnation=1, request=request)
        return reply


async def test_the_clock_of_a_paused_user_stands_in_both(postgres: ClockedPostgres) -> None:
    story = Scripted(postgres)
    await story.begin()
    rows = [await story.at(0, "insert", user_id=USERS[0], phone_number=f"+60 12-345 67{n:02d}") for n in range(3)]
    for hour, paused in ((1, True), (5, False), (23.75, True)):
        await story.sync(hour)
        await story.at(hour, "pause", user=USERS[0], lane=None, paused=paused)
    await story.sync(24)
    assert [story.store.rows[row].clock_at for row in rows] != [None] * 3
    for hour in (27.75, 28.5, 29, 40, 60):
        await story.sync(hour)
    assert {story.store.rows[row].status for row in rows} == {"queued"}
    await story.at(60, "pause", user=USERS[0], lane=None, paused=False)
    for hour in (60.5, 62, 64.2):
        await story.sync(hour)
    assert {story.store.rows[row].status for row in rows} == {"queued"}  # 4.25 hours were left.
    for hour in (64.3, 65.3):
        await story.sync(hour)
    assert {story.store.rows[row].outcome for row in rows} == {"blocked"}


async def test_hours_and_dates_are_kept_in_both(postgres: ClockedPostgres) -> None:
    """From a Friday, 16:00 in Kuala Lumpur, over a weekend; people are called from nine to six."""
    story = Scripted(postgres)
    await story.begin()
    campaign, start = str(UUID(int=7)), 1_800_000_000.0
    working = Window(days=frozenset(range(1, 6)), start=9 * 3600, end=18 * 3600)
    numbers = iter(f"+60 12-345 67{n:02d}" for n in range(100))

    async def wish(hour: float, **columns: Any) -> int:
        number = {"phone_number": next(numbers)} if "phone_number" not in columns else {}
        row: int = await story.at(hour, "insert", user_id=USERS[0], **number, **columns)
        return row

    later = await wish(0, campaign_id=campaign)
    nowhere = await wish(0, phone_number="+800 1234 5678")
    await story.at(0, "hours", scope="all", of=NO_LANE, windows=[working])
    await story.at(0, "dates", campaign=campaign, starts_at=start + 3600.0, ends_at=start + 80 * 3600.0)
    assert (await story.sync(0.01, most=9)).rows == ()
    assert (story.store.rows[later].wait_reason or "").startswith("its campaign begins")
    assert (story.store.rows[nowhere].ended_reason or "").startswith("its time zone is not known")
    early = [await wish(0, max_attempts=2, retry_seconds=7200) for _ in range(4)]
    await wish(0, callee_zone="America/New_York")
    fixed = await wish(0, expires_at=start + 20 * 3600.0)
    (row,) = (await story.sync(0.1, most=1)).rows
    assert row.row_id in early
    ended = {"kind": "outcome", "call_id": row.call_id, "outcome": "busy", "reason": None, "talk_seconds": 0}
    await story.sync(0.5, {**ended, "log_status": "no_answered"})
    await story.at(1.5, "pause", user=USERS[0], lane=None, paused=True)
    await story.at(2.5, "pause", user=USERS[0], lane=None, paused=False)
    for hour in (2.6, 3, 20, 24.5, 30):
        assert (await story.sync(hour, most=0 if hour < 2.8 else 5)).rows == ()
    assert story.store.rows[fixed].outcome == "blocked"
    waiting = [story.store.rows[row] for row in early if story.store.rows[row].attempts == 0]
    monday = start + 65 * 3600.0
    assert {one.not_before for one in waiting} == {monday}
    # The clock stood from 17:30, when the pause began, to Monday; the rest of the pause counts once.
    assert {one.expires_at for one in waiting} == {start + 24 * 3600 + monday - (start + 1.5 * 3600)}
    assert len((await story.sync(65, most=3)).rows) == 3
    over = await wish(66, campaign_id=campaign)
    await story.at(66, "dates", campaign=campaign, starts_at=None, ends_at=start + 67 * 3600.0)
    await story.sync(68, most=9)
    assert (story.store.rows[over].ended_reason or "").startswith("its campaign ended")
    for hour in (74, 90, 100, 130, 200):
        await story.sync(hour, most=9)
    assert all(one.status in {"done", "dialing"} for one in story.store.rows.values())


async def test_a_number_answered_in_its_campaign_is_not_tried_again_in_both(postgres: ClockedPostgres) -> None:
    story = Scripted(postgres)
    await story.begin()
    wish = {"user_id": USERS[0], "phone_number": "+60 12-345 6700", "campaign_id": str(UUID(int=7)), "max_attempts": 3}
    for _ in range(3):
        await story.at(0, "insert", **wish)
    hour = 0.0
    for word in ("busy", "answered", "busy"):
        (row,) = (await story.sync(hour + 0.1, most=1)).rows
        ended = {
            "kind": "outcome", "call_id": row.call_id, "outcome": word, "reason": None, "talk_seconds": 0,
            "log_status": "answered" if word == "answered" else "no_answered",
        }  # fmt: skip
        await story.sync(hour + 0.2, ended)
        await story.sync(hour + 0.3)
        hour += 0.4
    assert (await story.sync(hour + 1, most=5)).rows == ()
    assert sorted(str(row.outcome) for row in story.store.rows.values()) == ["answered", "busy", "busy"]


async def test_a_trunk_that_fails_cools_down_and_is_tried_again_in_both(postgres: ClockedPostgres) -> None:
    story = Scripted(postgres)
    await story.begin()
    for name, priority in (("A", 9), ("B", 1)):
        await story.at(0, "trunk", pbx="pbx", trunk=name, priority=priority)
    for serial in range(60):
        await story.at(0, "insert", user_id=USERS[0], phone_number=f"+60 12-345 {6700 + serial}")
    seen: list[str | None] = []
    hour = 0.01
    for serial in range(40):
        row = next(iter((await story.sync(hour, most=1)).rows), None)
        dialed = None if row is None else story.store.rows[row.row_id].dialed_trunk
        seen.append(dialed)
        ended = {"kind": "outcome", "talk_seconds": 0, "log_status": "failed", "reason": None}
        if row is not None:
            word = "congestion" if dialed == "A" and serial < 25 else "busy"
            await story.sync(hour + 0.001, {**ended, "call_id": row.call_id, "outcome": word})
        hour += 0.002
    # Five failures, each taken over by B; then B alone, and A is tried after one minute and two more until it works.
    assert seen[:10] == ["A", "B"] * 5
    assert seen[10:34].count("A") == 1
    assert seen[-3:] == ["A"] * 3


async def test_a_silent_trunk_is_stopped_until_it_is_resumed_in_both(postgres: ClockedPostgres) -> None:
    story = Scripted(postgres)
    await story.begin()
    for serial in range(60):
        await story.at(0, "insert", user_id=USERS[0], phone_number=f"+60 12-345 {6700 + serial}")
    hour, dialed = 0.001, []
    for _ in range(40):
        rows = (await story.sync(hour, most=1)).rows
        dialed.append(len(rows))
        for row in rows:
            ended = {"kind": "outcome", "talk_seconds": 0, "log_status": "failed", "reason": None, "outcome": "busy"}
            await story.sync(hour + 0.0005, {**ended, "call_id": row.call_id})
        hour += 0.001
    # Twenty, and one try at once; the next comes after five minutes.
    assert dialed == [1] * 21 + [0] * 19
    assert len((await story.sync(hour + 0.09, most=1)).rows) == 1
    assert await story.at(hour + 0.091, "forgive", trunk="T")
    assert not await story.at(hour + 0.091, "forgive", trunk="T")


def test_the_histories_leave_nothing_out() -> None:
    seen: Counter[str] = Counter()
    for seed in range(HISTORIES):
        store, known = Store(Random(seed), call_id), dict[str, str | None]()
        for step in History(seed, store).steps(STEPS):
            known = _seen(store, step, _on_store(store, step), known, seen)
    assert {name: seen[name] for name in NEEDED if not seen[name]} == {}


async def _main(first: int, count: int) -> None:
    with Postgres.running() as server:
        dsn = await make_project(server, "clocked")
        connection = await asyncpg.connect(dsn)
        postgres = await ClockedPostgres.on(connection)
        seen: Counter[str] = Counter()
        differ = 0
        for seed in range(first, first + count):
            try:
                await run(postgres, seed, seen)
            except Differs as problem:
                differ += 1
                print(problem)
        for name, times in sorted(seen.items()):
            print(f"{times:7} {name}")
        print(f"{count} histories from seed {first}, {differ} differ")
        await connection.close()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2])))
