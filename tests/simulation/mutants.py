"""Deliberate faults in the real program, one at a time: the simulation must see each of them, or it proves nothing.

Each mutant is a switch that patches the program for as long as it is on. `find` runs worlds until one breaks a promise.
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import adapter.core.call as life
import adapter.daemon
import adapter.dialer
import adapter.follower
import adapter.pbx.link
import adapter.supabase_io.outbox
import adapter.ticker
from adapter.core import originate, outcomes, recovery
from adapter.core.call import Call, Input
from adapter.core.model import AmiEvent, ClaimedRow, Ending, Form, Record, ReleaseCause
from adapter.core.originate import Originate
from adapter.core.outcomes import CAUSES, Sense
from adapter.core.recovery import Journal
from adapter.daemon import Daemon
from adapter.dialer import Dialer, Taken
from adapter.follower import Follower
from adapter.pacer import Pacer
from adapter.pbx import Accepted, LastCheck, NotSent, PbxLink, Reply, Unsure
from adapter.pbx.guards import Guards
from adapter.pbx.replies import Order
from adapter.supabase_io import outbox_file
from adapter.supabase_io.database import SyncReply, SyncRequest
from adapter.supabase_io.doorbell import BellState
from adapter.supabase_io.outbox import Outbox
from adapter.supabase_io.records import encode
from adapter.supabase_io.statedir import Identity, StateDir
from adapter.ticker import Ticker
from tests.simulation import disk, store_forbidden, store_hours, store_retries, store_stops, store_trunks
from tests.simulation.loop import PROCESS
from tests.simulation.run import run
from tests.simulation.store import Row, Store
from tests.simulation.store_claim import Claim
from tests.simulation.store_trunks import Told
from tests.simulation.switches import replaced

Switch = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault. `on` patches it in."""

    name: str
    seed: int
    """A world that catches it, as long as nothing has moved it to another one."""

    on: Switch


def find(mutant: Mutant, seeds: Iterable[int]) -> tuple[int, str] | None:
    """The first of these seeds that breaks a promise with the mutant on, and what it says. Inside `simulated`."""
    with mutant.on():
        for seed in seeds:
            if problems := run(seed).problems:
                return seed, problems[0]
    return None


def _patch(target: Any, name: str, value: Any) -> Switch:
    return lambda: replaced(target, name, value)


_judge = recovery.judge


def _judging(**changes: Any) -> Switch:
    """Every doubt is judged as if this were so."""

    def judge(call: Any, **facts: Any) -> Any:
        return _judge(call, **{**facts, **changes})

    return _patch(adapter.follower, "judge", judge)


# The link


_originate = PbxLink.originate


async def _sent_again(self: PbxLink, order: Order, last_check: LastCheck | None = None) -> Reply:
    reply = await _originate(self, order, last_check)
    if isinstance(reply, Unsure):
        while not self.status.connected:
            await asyncio.sleep(0.5)
        return await _originate(self, order)
    return reply


async def _unsure_is_not_sent(self: PbxLink, order: Order, last_check: LastCheck | None = None) -> Reply:
    reply = await _originate(self, order, last_check)
    return NotSent(reply.reason) if isinstance(reply, Unsure) else reply


async def _no_guard(_getvar: object, _show: object, _config: object, ways: Mapping[str, Form]) -> Guards:
    return Guards(ai=None, trunks=dict.fromkeys(ways))


_build = originate.build


def _without(prefix: str) -> Switch:
    """Originates lack a variable."""

    def build(row: ClaimedRow, plan: Any) -> Originate:
        whole = _build(row, plan)
        return replace(whole, headers=tuple(pair for pair in whole.headers if not pair[1].startswith(prefix)))

    return _patch(adapter.dialer, "build", build)


# The dialer


async def _expected_late(self: Dialer, taken: Taken, order: Originate) -> None:
    """The board hears of a call only when its Response is in."""
    reply = await self._link.originate(order, lambda: self._last_look(taken))
    self._follower.expect(taken.row, order)
    if isinstance(reply, Accepted):
        await self._follower.accepted(taken.row.call_id)
    elif isinstance(reply, Unsure):
        self._follower.doubt(taken.row.call_id)
    else:
        self._follower.forget(taken.row.call_id)
        await self._release(taken.row, ReleaseCause.NOT_SENT, "not sent")


def _paced_by_plan(_self: Pacer, _trunk: str) -> None:
    """Nobody asks again when the bytes are written: what was planned apart leaves together after a stall."""


async def _drops_rows(self: Dialer, _row: ClaimedRow, _cause: ReleaseCause, _why: str) -> None:
    """What is not sent is forgotten instead of released."""


# The follower and the life of a call


def _any_leg_ends(call: Call, event: AmiEvent, at: float) -> tuple[Call, Input | None]:
    """Whatever leg hangs up, the call is over."""
    heard, moved = _hangup(call, event, at)
    if event.get("Uniqueid") != call.trunk_leg and call.trunk_leg:
        leg = AmiEvent(name="Hangup", fields={**event.fields, "Uniqueid": call.trunk_leg}, at=event.at)
        return _hangup(call, leg, at)
    return heard, moved


_hangup = life._HANDLERS["Hangup"]


@contextmanager
def _by_uniqueid() -> Iterator[None]:
    """An OriginateResponse belongs to the call whose Uniqueid it names, and Failure is the end."""

    def call_id_of(event: AmiEvent) -> str:
        if event.name == "OriginateResponse" and event.get("Uniqueid") != "<null>":
            return event.get("Uniqueid")
        return _call_id_of(event)

    def response(call: Call, event: AmiEvent, at: float) -> tuple[Call, Input | None]:
        if event.get("Response") == "Success" or call.answered_at is None:
            return _response(call, event, at)
        return replace(call, ended_at=at, down=call.down | {call.trunk_leg}), Input.DOWN

    handlers = {**life._HANDLERS, "OriginateResponse": response}
    with replaced(life, "call_id_of", call_id_of), replaced(life, "_HANDLERS", handlers):
        yield


_call_id_of, _response = life.call_id_of, life._HANDLERS["OriginateResponse"]


def _doubts_nothing(self: Follower, _call_id: str) -> None:
    """An absent call is left on the board."""


def _blind_adoption(self: Follower, calls: Sequence[Any], *, ours: bool) -> None:
    """Calls found open at a start are not looked for."""


def _no_gaps(call: Call) -> Ending:
    """What was missed while the link was lost is taken for not happened."""
    return _judge_call(replace(call, gap=False))


_judge_call = life._judge


# The ticker


_request = Ticker._request


def _new_id_each_time(self: Ticker, claim: Any) -> SyncRequest:
    return replace(_request(self, claim), claim_id=str(uuid.uuid4()) if claim else None)


def _forgotten_when_sent(self: Ticker, claim: Any) -> SyncRequest:
    """Records are dropped as soon as they are on their way."""
    request = _request(self, claim)
    for seq, _ in request.records:
        self._outbox._items.pop(seq)
        self._outbox._stored(seq)
    if request.records:
        self._outbox._statements += [outbox_file.delete(seq) for seq, _ in request.records]
    return request


def _never_back_in_time(self: Ticker, reply: SyncReply) -> None:
    """A lower claim number is not minded."""
    if reply.claim_number > self._outbox.highest_claim_number:
        self._outbox.note_claim_number(reply.claim_number)


@contextmanager
def _trusts_any_database() -> Iterator[None]:
    """The adapter minds no lower claim number, nor does it say what it had seen: either of the two suffices."""

    def request(self: Ticker, claim: Any) -> SyncRequest:
        asked = _request(self, claim)
        return replace(asked, status={name: value for name, value in asked.status.items() if name != "seen"})

    with replaced(Ticker, "_check_time", _never_back_in_time), replaced(Ticker, "_request", request):
        yield


def _claims_first(self: Ticker, claim: Any) -> SyncRequest:
    """Records wait for the next request when this one claims, and may take the PBX over.

    No outcome is lost by it today: nobody doubts a call whose end lies in his own outbox (`Outbox.settled`), and an end
    replaces `unknown`. So 120 worlds broke no other promise, and the rule of the order alone catches it.
    """
    request = _request(self, claim)
    return replace(request, records=()) if claim is not None and self._requests % 2 else request


def _deaf_to_takeovers(self: Ticker, reply: SyncReply) -> None:
    _commands(self, replace(reply, takeover=()))


_commands = Ticker._commands


def _deaf_to_cancels(self: Ticker, reply: SyncReply) -> None:
    _commands(self, replace(reply, hangups=()))


_turn, _wait = Ticker._turn, Ticker._wait


async def _claims_when_rung(self: Ticker, *, rung: bool) -> None:
    """A sweep renews the lease and takes no row; only the bell does."""
    heard = rung or self._trail_at is not None
    with replaced(self, "_room", self._room if heard else lambda: 0):
        await _turn(self, rung=rung)


TRUSTED_SECONDS = 30.0
"""Long enough to be no sweep, short enough to keep the lease of a minute."""


async def _trusts_the_bell(self: Ticker) -> bool:
    """A bell that says it is live is believed, and the sweep left for now and then."""
    live = self._doorbell.status.state is BellState.LIVE
    with replaced(self, "_sweep", TRUSTED_SECONDS if live else self._sweep):
        return await _wait(self)


# The daemon


_drain = Daemon._drain


async def _hangs_up_at_exit(self: Daemon, ticker: "asyncio.Task[None]") -> None:
    for call in self._follower._board:
        await self._parts.link.hangup(call.hangup_id)
    await _drain(self, ticker)


async def _says_nothing(self: Follower, _wanted: Sequence[Any]) -> None:
    """A witness forgets what it is asked for."""
    self._witness.answered(())


def _asks_nothing(_self: Follower) -> tuple[str, ...]:
    """A witness keeps what it saw to itself."""
    return ()


# Disks


async def _put_unsynced(self: Outbox, record: Record) -> None:
    """Said to be kept before it is on the disk."""
    task = asyncio.create_task(_put(self, record))
    await asyncio.sleep(0)
    del task


async def _put_never_written(self: Outbox, record: Record) -> None:
    seq, self._next = self._next, self._next + 1
    self._items[seq] = adapter.supabase_io.outbox._Item(0.0, encode(record))


_put = Outbox.put


def _opens_empty(path: Any) -> Any:
    """What waits in the file is not read."""
    connection, kept = disk.open_file(path)
    return connection, replace(kept, records=())


def _new_nonce(self: StateDir) -> tuple[str, int, str]:
    """A registration that may have been accepted is begun as another one."""
    nonce = str(uuid.uuid4())
    self._write(Identity(adapter=self._identity.adapter, incarnation=self._identity.incarnation, nonce=nonce))
    return self._identity.adapter, self._identity.incarnation, nonce


# The database


@contextmanager
def _fenced_by_owner() -> Iterator[None]:
    """An outcome is taken only from the adapter that claimed the call."""
    real = Store.sync

    def sync(self: Any, adapter_id: str, incarnation: int, request: SyncRequest, now: float) -> SyncReply:
        owner = {row.call_id: row.adapter for row in self.rows.values()}
        foreign = tuple(
            seq
            for seq, record in request.records
            if record["kind"] == "outcome" and owner.get(record["call_id"], adapter_id) != adapter_id
        )
        request = replace(request, records=tuple(pair for pair in request.records if pair[0] not in foreign))
        reply: SyncReply = real(self, adapter_id, incarnation, request, now)
        return replace(reply, recorded=(*reply.recorded, *foreign))

    with replaced(Store, "sync", sync):
        yield


@contextmanager
def _without_limits() -> Iterator[None]:
    """The claim does not count the calls of a user."""
    real = Store.sync

    def sync(self: Any, adapter_id: str, incarnation: int, request: SyncRequest, now: float) -> SyncReply:
        status = {**request.status, "limits": {"pbx": 999, "user": 999, "campaign": None}}
        reply: SyncReply = real(self, adapter_id, incarnation, replace(request, status=status), now)
        return reply

    with replaced(Store, "sync", sync):
        yield


_following = store_retries.following


def _again_whatever_it_was(*_: Any) -> store_retries.Following:
    """Whoever was reached is called again."""
    return store_retries.Following(person=True, seconds=10)


def _uncounted(tables: Any, row: Row, outcome: str) -> store_retries.Following:
    """Tries are spent, and nobody looks how many."""
    return _following(tables, replace(row, attempts=0), outcome)


def _no_rules(tables: Any, row: Row, outcome: str) -> store_retries.Plan:
    """What the owner wants to follow after an outcome is not asked."""
    with replaced(tables, "retries", {}):
        return _plan(tables, row, outcome)


_plan, _left = store_retries.plan, store_trunks.left


def _channels_uncounted(tables: Any, told: Told, trunk: str, most: int | None) -> store_trunks.Left:
    """Nobody counts the calls through a trunk."""
    return _left(tables, replace(told, in_air=Counter()), trunk, most)


def _through_the_settings(row: ClaimedRow, plan: Any) -> Originate:
    """The trunk of the claim is not minded: every call goes through the one of the settings."""
    return _build(replace(row, way=None), plan)


@contextmanager
def _campaigns_unpaused() -> Iterator[None]:
    """The claim knows no paused campaign."""
    told = store_stops.told

    def deaf(tables: Any, kind: str, key: str | None) -> str | None:
        return None if kind == "campaign" else told(tables, kind, key)

    with replaced(store_stops, "told", deaf), replaced(store_stops, "campaign_stands", lambda *_: False):
        yield


OVERLAP_SECONDS = 2.0
"""So long before a claim without its lock is written, it has read what it counts."""


def _read_before(self: Claim, row: Row) -> bool:
    """Claims of two adapters run at the same time: neither sees the calls of the other.

    The same as if both had read the counts before either wrote: only the counts hang on that lock alone. A row is
    claimed once (its own lock), and a person is in one call (a unique index), whoever runs beside whom.
    """
    at_once = row.adapter != self._asked.adapter and (row.claimed_at or 0.0) > self._now - OVERLAP_SECONDS
    return row.in_air and not at_once


MUTANTS = (
    Mutant("Originate sent again after a reconnect", 8, _patch(PbxLink, "originate", _sent_again)),
    Mutant("Originate without a Response released as not sent", 8, _patch(PbxLink, "originate", _unsure_is_not_sent)),
    Mutant("row released by an adapter that did not claim it", 132, _judging(ours=True)),
    Mutant("release by time alone", 2, _judging(journal=Journal(), same_boot=True, accepted=False, ours=True)),
    Mutant("journal ignored", 2, _judging(journal=Journal())),
    Mutant("journal believed after a restart of the PBX", 5, _judging(same_boot=True)),
    Mutant("absence believed too early", 11, _judging(settle=0.0)),
    Mutant("journal not written", 2, _without("DB(")),
    Mutant("longest call not bound in the PBX", 2, _without("TIMEOUT(absolute)")),
    Mutant("outcome fenced by owner", 13, _fenced_by_owner),
    Mutant("limits not counted in the claim", 5, _without_limits),
    Mutant("called again whatever it was", 1, _patch(store_retries, "following", _again_whatever_it_was)),
    Mutant("tries not counted", 1, _patch(store_retries, "following", _uncounted)),
    Mutant("do-not-call list not asked", 1, _patch(store_forbidden, "listed", lambda *_: None)),
    Mutant("repeats not counted", 46, _patch(store_forbidden, "repeated", lambda *_: None)),
    Mutant("pauses not asked", 2, _patch(store_stops, "standing", lambda *_: None)),
    Mutant("pause of a campaign not asked", 28, _campaigns_unpaused),
    Mutant("hours not asked", 7, _patch(store_hours, "week_of", lambda *_: None)),
    Mutant("calls of a day not counted", 1, _patch(store_forbidden, "day_left", lambda *_: store_forbidden.Left())),
    Mutant("rules of retries not asked", 71, _patch(store_retries, "plan", _no_rules)),
    Mutant("cool-down not asked", 5, _patch(store_trunks, "fit", lambda *_: (None, None, False))),
    Mutant("another PBX not asked", 10, _patch(store_trunks, "pbx_for", lambda *_: (None, False))),
    Mutant("rows of another PBX not taken", 10, _patch(store_trunks, "handed_take", lambda *_: None)),
    Mutant("no failover", 16, _patch(store_trunks, "fails_over", lambda *_: False)),
    Mutant("channels of a trunk not counted", 5, _patch(store_trunks, "left", _channels_uncounted)),
    Mutant("pace of a trunk not kept", 20, _patch(Pacer, "know", lambda *_: None)),
    Mutant("trunk of the claim not minded", 5, _patch(adapter.dialer, "build", _through_the_settings)),
    Mutant("claim without its lock", 29, _patch(Claim, "_counts", _read_before)),
    Mutant("takeover before flush", 1, _patch(Ticker, "_request", _claims_first)),
    Mutant("witness that says nothing", 23, _patch(Follower, "testify", _says_nothing)),
    Mutant("witness that is not asked", 208, _patch(Follower, "unsure_of", _asks_nothing)),
    Mutant("claim asked again under another id", 18, _patch(Ticker, "_request", _new_id_each_time)),
    Mutant("stale claim sent after suspension", 12, _patch(adapter.dialer, "FRESH_SECONDS", 1e9)),
    Mutant(
        "age of a claim on a clock that sleeps", 63, _patch(adapter.clock, "boot", lambda: PROCESS.get().monotonic())
    ),
    Mutant(
        "waits measured on a clock that can be set", 114, _patch(adapter.clock, "steady", lambda: adapter.clock.wall)
    ),
    Mutant("record forgotten when it is sent", 14, _patch(Ticker, "_request", _forgotten_when_sent)),
    Mutant("outcome sent to Supabase before it is synced to disk", 33, _patch(Outbox, "put", _put_unsynced)),
    Mutant("record kept in memory alone", 34, _patch(Outbox, "put", _put_never_written)),
    Mutant("outbox opened as if empty", 30, _patch(outbox_file, "open_file", _opens_empty)),
    Mutant("registration begun anew after a crash", 34, _patch(StateDir, "begin_incarnation", _new_nonce)),
    Mutant("database that went back in time believed", 126, _trusts_any_database),
    Mutant("take-over not heard", 1303, _patch(Ticker, "_commands", _deaf_to_takeovers)),
    Mutant("cancel not heard", 77, _patch(Ticker, "_commands", _deaf_to_cancels)),
    Mutant("sweep that takes no rows", 1, _patch(Ticker, "_turn", _claims_when_rung)),
    Mutant("sweep left to a bell that says it is live", 2, _patch(Ticker, "_wait", _trusts_the_bell)),
    Mutant(
        "hang-up of any leg taken as the end", 1, _patch(life, "_HANDLERS", {**life._HANDLERS, "Hangup": _any_leg_ends})
    ),
    Mutant("OriginateResponse matched by Uniqueid", 2, _by_uniqueid),
    Mutant("busy told as no answer", 1, _patch(outcomes, "CAUSES", {**CAUSES, 17: Sense.ABSENT})),
    Mutant("absent calls never doubted", 8, _patch(Follower, "_doubt", _doubts_nothing)),
    Mutant("open calls of the last run not looked for", 130, _patch(Follower, "adopt", _blind_adoption)),
    Mutant("what was missed taken for not happened", 32, _patch(life, "_judge", _no_gaps)),
    Mutant("events before the Response have no owner", 358, _patch(Dialer, "_send", _expected_late)),
    Mutant("pace kept by planning alone", 1, _patch(Pacer, "turn", _paced_by_plan)),
    Mutant("rows not sent are forgotten", 1, _patch(Dialer, "_release", _drops_rows)),
    Mutant("live calls hung up at exit", 2, _patch(Daemon, "_drain", _hangs_up_at_exit)),
    Mutant("AI not looked for", 31, _patch(adapter.pbx.link, "look", _no_guard)),
)
"""Every switch.

Not among them: a take-over that ignores what was witnessed. It breaks no promise here. A witness is asked 10 s after an
end (`ASK_AFTER`), doubt ends after 20 s (`SETTLE`), and a take-over comes a lease (60 s) after the last heartbeat: then
no call rings any more with the ring limits of these worlds, its end has been told, and one that talks ends by its
events. What was witnessed was handed over in 1 of 120 worlds, and the outcomes stayed the same without it. With a ring
limit of 110 s ten calls that rang were handed over in 160 worlds: without what was witnessed a silent carrier was told
as no answer, which spends a try as well, and two worlds kept calls on the board for longer. It is caught by
`test_the_witness_takes_over_knowing`.
"""

MUTANT_NAMES = tuple(mutant.name for mutant in MUTANTS)
"""As docs/guarantees.md names them."""
