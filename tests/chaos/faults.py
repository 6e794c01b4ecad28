"""What goes wrong, how often and for how long. A seed decides everything but what the real parts make of it.

Each target is a lane with faults of its own, one after the other; the lanes run side by side, so that faults of
different targets overlap in every way.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import asyncpg

from tests.chaos.history import Span
from tests.chaos.proxy import Line, Proxy
from tests.chaos.stage import Stage

Act = Callable[["Attack", str, float], Awaitable[None]]
"""Does it to the target (its name), for about so many seconds, and puts it right."""

KILLS = frozenset({"adapter.kill", "adapter.gone", "pbx.kill", "database.crash"})
"""SIGKILL of a process."""


AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""What a client sees of a database that was just killed."""

RESTS = 0.12
REST_SECONDS = (21.0, 26.0)
"""Now and then a target is left alone for longer than the 20 s after which an adapter judges its calls in doubt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of trouble. `seconds`: shortest and longest."""

    kind: str
    act: Act
    weight: int = 1
    seconds: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One target, the quiet time between two of its faults, and what can happen to it."""

    target: str
    quiet: tuple[float, float]
    faults: Sequence[Fault]


@dataclass(slots=True)
class Attack:
    """The faults at work on a stage, and the record of them."""

    stage: Stage
    spans: list[Span] = field(default_factory=list)
    deaths: list[str] = field(default_factory=list)
    """Adapters that ended by themselves, with their exit code."""

    _busy: dict[str, asyncio.Lock] = field(default_factory=dict)

    @property
    def kills(self) -> int:
        """How many processes were killed so far."""
        return sum(span.kind in KILLS for span in self.spans)

    @asynccontextmanager
    async def span(self, kind: str, target: str) -> AsyncIterator[None]:
        """Record a fault while it is at work."""
        place = len(self.spans)
        self.spans.append(Span(kind=kind, target=target, began=time.time()))
        try:
            yield
        finally:
            self.spans[place] = replace(self.spans[place], ended=time.time())

    def hold(self, target: str) -> asyncio.Lock:
        """Whoever starts or stops a process has this."""
        return self._busy.setdefault(target, asyncio.Lock())

    async def run(self, seed: int, lanes: Sequence[Lane]) -> None:
        """Until canceled; a fault that has begun is put right first."""
        async with asyncio.TaskGroup() as group:
            for lane in lanes:
                group.create_task(self._lane(lane, random.Random(f"{seed}:{lane.target}")))
            for ward in self.stage.wards:
                group.create_task(self._restart_policy(ward.name))

    async def _lane(self, lane: Lane, dice: random.Random) -> None:
        for quiet, fault, seconds in plan(lane, dice):
            await asyncio.sleep(quiet)
            doing = asyncio.ensure_future(self._one(fault, lane.target, seconds))
            try:
                await asyncio.shield(doing)
            except asyncio.CancelledError:
                await doing
                raise

    async def _one(self, fault: Fault, target: str, seconds: float) -> None:
        async with self.span(fault.kind, target):
            await fault.act(self, target, seconds)

    async def _restart_policy(self, name: str) -> None:
        """As Docker does: whoever ended by itself is started again."""
        daemon = self.stage.ward(name).daemon
        while True:
            await asyncio.sleep(0.5)
            async with self.hold(name):
                if not daemon.running:
                    self.deaths.append(f"{name}: {await daemon.ended()}")
                    await daemon.start()


def plan(lane: Lane, dice: random.Random) -> Iterator[tuple[float, Fault, float]]:
    """What happens to one target: quiet seconds, then the fault and how long it lasts. Never ends."""
    weights = [fault.weight for fault in lane.faults]
    while True:
        fault = dice.choices(lane.faults, weights)[0]
        rest = REST_SECONDS if dice.random() < RESTS else lane.quiet
        yield dice.uniform(*rest), fault, dice.uniform(*fault.seconds)


# ---- adapters


async def _kill(attack: Attack, target: str, seconds: float) -> None:
    daemon = attack.stage.ward(target).daemon
    async with attack.hold(target):
        await daemon.kill()
        await asyncio.sleep(seconds)
        await daemon.start()


async def _stop(attack: Attack, target: str, seconds: float) -> None:
    daemon = attack.stage.ward(target).daemon
    async with attack.hold(target):
        await daemon.stop()
        await daemon.start()


async def _freeze(attack: Attack, target: str, seconds: float) -> None:
    async with attack.hold(target):
        pid = attack.stage.ward(target).daemon.pid
        if pid is None:
            return
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        os.kill(pid, signal.SIGCONT)


# ---- the PBX


async def _pbx_kill(attack: Attack, target: str, seconds: float) -> None:
    await attack.stage.pbx.kill()
    await asyncio.sleep(seconds)
    await attack.stage.pbx.start()


async def _pbx_restart(attack: Attack, target: str, seconds: float) -> None:
    await attack.stage.pbx.restart()


async def _pbx_freeze(attack: Attack, target: str, seconds: float) -> None:
    attack.stage.pbx.freeze()
    await asyncio.sleep(seconds)
    attack.stage.pbx.thaw()


# ---- PostgreSQL


async def _crash(attack: Attack, target: str, seconds: float) -> None:
    """SIGKILL of one backend: the server throws all others out, recovers from its log and starts afresh."""
    home = attack.stage.world.postgres.directory
    for _ in range(100):
        if _backend_killed(home):
            break
        await asyncio.sleep(0.1)
    else:
        raise AssertionError("PostgreSQL had no backend to kill for 10 s")
    await _database_answers(attack)


def _backend_killed(home: Path) -> bool:
    """Kill one; False if there was none. It may end by itself between two looks at it."""
    try:
        master = int((home / "data" / "postmaster.pid").read_text(encoding="ascii").split()[0])
        for child in Path(f"/proc/{master}/task/{master}/children").read_text(encoding="ascii").split():
            if b" 127.0.0.1(" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(int(child), signal.SIGKILL)
                return True
    except OSError:
        pass
    return False


async def _throw_out(attack: Attack, target: str, seconds: float) -> None:
    """Every connection is ended by the server, as at a fail-over."""
    words = (
        "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname is not null"
    )
    try:
        connection = await asyncpg.connect(attack.stage.world.dsn)
        try:
            await connection.execute(words)
        finally:
            await connection.close()
    except AWAY:
        await _database_answers(attack)


async def _database_answers(attack: Attack) -> None:
    for _ in range(300):
        try:
            connection = await asyncpg.connect(attack.stage.world.dsn)
        except AWAY:
            await asyncio.sleep(0.1)
            continue
        await connection.close()
        return
    raise AssertionError("PostgreSQL did not come back within 30 s")


# ---- lines


def _line(action: Line, kind: str, side: str) -> Act:
    async def act(attack: Attack, target: str, seconds: float) -> None:
        ward = attack.stage.ward(target.partition(" ")[0])
        await action(ward.ami if side == "ami" else ward.web, kind, seconds)

    return act


LINES: Mapping[str, tuple[Line, tuple[float, float], int]] = {
    "cut": (Proxy.cut, (0.0, 0.0), 3),
    "reset": (Proxy.reset, (0.0, 3.0), 3),
    "stall": (Proxy.stall, (0.5, 12.0), 2),
    "stall_up": (Proxy.stall_up, (0.5, 6.0), 1),
    "stall_down": (Proxy.stall_down, (0.5, 12.0), 2),
    "swallow_down": (Proxy.swallow_down, (0.2, 4.0), 2),
    "half_open": (Proxy.half_open, (0.0, 0.0), 1),
    "delay": (Proxy.delay, (1.0, 5.0), 2),
}
"""Faults of a line: what, for how long, how often."""


def _lines(side: str, kind: str) -> Sequence[Fault]:
    return [
        Fault(
            kind=f"{side}.{name}",
            act=_line(action, kind, side if side == "ami" else "web"),
            weight=weight,
            seconds=seconds,
        )
        for name, (action, seconds, weight) in LINES.items()
    ]


ADAPTER = (
    Fault(kind="adapter.kill", act=_kill, weight=6, seconds=(0.0, 1.5)),
    Fault(kind="adapter.freeze", act=_freeze, weight=2, seconds=(0.5, 9.0)),
    Fault(kind="adapter.stop", act=_stop, weight=1),
)

GONE = Fault(kind="adapter.gone", act=_kill, seconds=(65.0, 80.0))
"""Killed and away for longer than the lease of 60 s: the other adapter takes the PBX over."""

PBX = (
    Fault(kind="pbx.kill", act=_pbx_kill, weight=2, seconds=(0.0, 2.0)),
    Fault(kind="pbx.restart", act=_pbx_restart, weight=1),
    Fault(kind="pbx.freeze", act=_pbx_freeze, weight=2, seconds=(0.5, 8.0)),
)

DATABASE = (
    Fault(kind="database.crash", act=_crash, weight=2),
    Fault(kind="database.throw_out", act=_throw_out, weight=1),
)

LANES: Sequence[Lane] = (
    Lane(target="first", quiet=(3.0, 10.0), faults=ADAPTER),
    Lane(target="second", quiet=(4.0, 14.0), faults=ADAPTER),
    Lane(target="pbx", quiet=(8.0, 24.0), faults=PBX),
    Lane(target="database", quiet=(8.0, 24.0), faults=DATABASE),
    Lane(target="first ami", quiet=(5.0, 20.0), faults=_lines("ami", "")),
    Lane(target="second ami", quiet=(8.0, 30.0), faults=_lines("ami", "")),
    Lane(target="first http", quiet=(4.0, 15.0), faults=_lines("http", "http")),
    Lane(target="first realtime", quiet=(4.0, 15.0), faults=_lines("realtime", "realtime")),
    Lane(target="second http", quiet=(8.0, 30.0), faults=_lines("http", "http")),
)
"""Who is attacked, and how much rest there is in between: a start takes two seconds, and calls must come about."""

WIDOWED: Sequence[Lane] = (Lane(target="first", quiet=(10.0, 25.0), faults=(GONE,)), *LANES[1:])
"""The same, but the adapter that dials goes away for good, as far as the other one can tell."""

SPARED: Sequence[Lane] = [lane for lane in LANES if not lane.target.startswith("second")]
"""The same, but nobody touches the second adapter: it is a witness all the time, so the deaths of the first and the
broken lines of the first leave no unknown outcome among the calls that the PBX took."""
