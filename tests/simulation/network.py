"""What lies between an adapter and its project: a line that delays, drops and delivers late, and a bell that goes deaf.

A request is executed by the world, not by the process that sent it: it happens although the process has died meanwhile,
although nobody hears the answer, and sometimes long after the asker has given it up.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol, Self, TypeAlias

from adapter.core.model import OpenCall, Record
from adapter.supabase_io.database import DatabaseAway, DatabaseRefused, Registered, SyncReply, SyncRequest
from adapter.ticker import BATCH
from tests.simulation.loop import PROCESS, Process, TimerHandle
from tests.support.doubles import BELL

MOST_RECORDS = BATCH // 2
"""In a request that is not full."""

TOTAL_SECONDS = 20.0
"""After so long the real client gives a request up."""


@dataclass(slots=True)
class Line:
    """Between one machine and the project: how bad it is now. Chances of one request."""

    random: Random
    latency: float = 0.02
    before: float = 0.0
    """Lost before it was executed."""

    after: float = 0.0
    """Executed, the answer lost."""

    late: float = 0.0
    """Given up by the asker, executed later."""

    cut: bool = False
    """Nothing passes."""

    lose: str = ""
    """The next answer that has this (`rows`, `recorded`, `takeover`) is lost, whatever the chances."""


Reply: TypeAlias = Registered | SyncReply | tuple[OpenCall, ...]
"""What a request is answered with; the calls are what a witness is asked for."""


class Around(Protocol):
    """What this module needs of the world."""

    store: Any
    due: Any
    project_down: bool

    @property
    def clock(self) -> float:
        """The database's wall clock."""
        ...

    def later(self, delay: float, act: Callable[..., None], *args: Any) -> TimerHandle:
        """Act after so many seconds, for nobody's account."""
        ...

    def line_of(self, process: Process) -> Line:
        """The line of its machine."""
        ...

    def bell_made(self, bell: "SimDoorbell") -> None:
        """A process listens."""
        ...

    def ring(self) -> None:
        """The database rings the bell."""
        ...

    def daemon_made(self, process: Process, daemon: object) -> None:
        """The daemon of a process."""
        ...

    def taken(self, process: Process, records: Iterable[Record]) -> None:
        """An outbox has these records."""
        ...

    def asked(self, process: Process, who: tuple[str, int], reply: Reply, *, lost: bool, late: bool) -> None:
        """A request was executed; `lost`: nobody will hear the answer; `late`: it had been given up before."""
        ...

    def held_back(self, process: Process, sent: frozenset[int]) -> bool:
        """Does the disk of a process hold records that are not among those which it sends?"""
        ...

    def reported(self, process: Process, request: SyncRequest, reply: SyncReply) -> None:
        """A request was executed."""
        ...

    def went_ahead(self, process: Process, reply: SyncReply) -> None:
        """A request was executed that left records behind."""
        ...

    def testified(self, process: Process, calls: Iterable[str]) -> None:
        """A process heard what the database does not know of these calls."""
        ...


WORLD: list[Around] = []
"""The world that runs, last."""


class SimDatabase:
    """Stands for `adapter.supabase_io.database.Database`."""

    def __init__(self, _config: object, **_: object) -> None:
        self._world = WORLD[-1]
        self._process = PROCESS.get()
        self._identity: tuple[str, int] | None = None
        self._stored: set[int] = set()
        """Records of which this process has heard that they are stored, or cannot be."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def register(
        self, *, adapter: str, expected: int, nonce: str, pbx: str, info: Mapping[str, object]
    ) -> Registered:
        """As the real one."""
        store = self._world.store
        reply: Registered = await self._call(
            (adapter, expected + 1),
            lambda now: store.register(adapter, expected, nonce, pbx, info, now),
        )
        if reply.accepted:
            if reply.incarnation != expected + 1:
                raise DatabaseRefused("not ours")
            self._identity = adapter, reply.incarnation
        return reply

    async def sync(self, request: SyncRequest) -> SyncReply:
        """As the real one."""
        if self._identity is None:
            raise RuntimeError("sync before register was accepted")
        adapter, incarnation = self._identity
        store = self._world.store
        sent = frozenset(seq for seq, _ in request.records)
        # What is known to be stored may stay on the disk for a while.
        behind = len(sent) < MOST_RECORDS and self._world.held_back(self._process, sent | self._stored)

        def execute(now: float) -> SyncReply:
            rings = store.tables.rings
            reply: SyncReply = store.sync(adapter, incarnation, request, now)
            if store.tables.rings > rings:
                self._world.ring()
            self._world.reported(self._process, request, reply)
            if behind:
                self._world.went_ahead(self._process, reply)
            return reply

        self._world.due.asks(self._process, self._identity)
        try:
            synced: SyncReply = await self._call((adapter, incarnation), execute)
        except DatabaseAway:
            self._world.due.failed(self._process)
            raise
        self._stored |= {*synced.recorded, *(seq for seq, _ in synced.refused)}
        self._world.due.answered(self._process, full=0 < request.room <= len(synced.rows))
        return synced

    async def witness(self, calls: Sequence[str]) -> tuple[OpenCall, ...]:
        """As the real one."""
        if self._identity is None:
            raise RuntimeError("witness before register was accepted")
        adapter, store = self._identity[0], self._world.store
        reply: tuple[OpenCall, ...] = await self._call(self._identity, lambda now: store.witness(adapter, calls, now))
        self._world.testified(self._process, calls)
        return reply

    async def _call(self, identity: tuple[str, int], execute: Callable[[float], Any]) -> Any:
        world, process = self._world, self._process
        process.write()
        line = world.line_of(process)
        random = line.random
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        there, back = line.latency * random.uniform(0.5, 2.0), line.latency * random.uniform(0.5, 2.0)
        dice = random.random()
        give_up = random.choice((there + back, 1.0, TOTAL_SECONDS))

        def deliver(result: Any, error: Exception | None) -> None:
            if process.alive:
                process.context.run(process.loop.call_soon, self._settle, future, result, error)

        def executed(*, lost: bool, late: bool = False) -> None:
            if world.project_down:
                if not lost:
                    world.later(back, deliver, None, DatabaseAway("no answer"))
                return
            reply = execute(world.clock)
            lost = lost or line.cut
            if line.lose and getattr(reply, line.lose, None):
                lost, line.lose = True, ""
            world.asked(process, identity, reply, lost=lost, late=late)
            if lost:
                world.later(TOTAL_SECONDS, deliver, None, DatabaseAway("no answer"))
            else:
                world.later(back, deliver, reply, None)

        if line.cut or world.project_down or dice < line.before:
            world.later(give_up, deliver, None, DatabaseAway("no connection"))
        elif dice < line.before + line.after:
            world.later(there, lambda: executed(lost=True))
            world.later(there + give_up, deliver, None, DatabaseAway("the answer was lost"))
        elif dice < line.before + line.after + line.late:
            world.later(TOTAL_SECONDS + random.uniform(0.0, 30.0), lambda: executed(lost=True, late=True))
            world.later(TOTAL_SECONDS, deliver, None, DatabaseAway("too late"))
        else:
            world.later(there, lambda: executed(lost=False))
        process.write()
        return await future

    def _settle(self, future: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)


class SimDoorbell:
    """Stands for `adapter.supabase_io.doorbell.Doorbell`: says that it is live, whatever it hears."""

    def __init__(self, _config: object) -> None:
        self.process = PROCESS.get()
        self.rung = asyncio.Event()
        self.missed_rows = 0
        self.status = BELL
        WORLD[-1].bell_made(self)

    async def run(self) -> None:
        """Ring once, as a line does that begins to hear, and live for ever."""
        self.rung.set()
        await asyncio.get_running_loop().create_future()

    def missed(self, rows: int) -> None:
        """Count."""
        self.missed_rows += rows
