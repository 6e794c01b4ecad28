"""What of the real program is replaced while worlds run: the edges to the machine, and nothing behind them."""

import asyncio
import contextlib
import gc
import inspect
import logging
import os
import random
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import tenacity._utils

import adapter.clock
import adapter.daemon
import adapter.follower
import adapter.pbx.session
import adapter.supabase_io.outbox
from adapter.core.model import Record
from adapter.daemon import Daemon
from adapter.supabase_io import outbox_file, statedir
from adapter.watchdog import Watchdog
from tests.simulation import disk, network, pbx
from tests.simulation.loop import PROCESS, quiet_death
from tests.simulation.switches import replaced

READINESS_SECONDS = 2.0
"""Instead of a tenth of a second: nothing is decided by it but how soon a claim follows a login."""

BREATH_SECONDS = 1.0
"""Instead of half of that: still a fifth of the shortest wait in the core."""


class SimWatchdog(Watchdog):
    """Without its thread, on the process's own clock."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: PROCESS.get().monotonic())

    async def run(self) -> None:
        """The half that turns in the loop."""
        await self.watch_tasks()


class SimDaemon(Daemon):
    """The real one, known to the world."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        network.WORLD[-1].daemon_made(PROCESS.get(), self)

    async def _store(self, records: Sequence[Record]) -> None:
        await super()._store(records)
        network.WORLD[-1].taken(PROCESS.get(), records)


async def _no_health_file(_path: Path, _status: Callable[[], Mapping[str, object]]) -> None:
    await asyncio.get_running_loop().create_future()


def _leave(_code: int) -> None:
    """Stands for `os._exit`."""
    PROCESS.get().die()
    PROCESS.get().check()


_is_coroutine_callable = tenacity._utils.is_coroutine_callable


def _makes_coroutines(call: Callable[..., Any]) -> bool:
    """As tenacity finds out for five callables with every request; a twentieth of a world went into it."""
    code = getattr(getattr(call, "__func__", call), "__code__", None)
    return _is_coroutine_callable(call) if code is None else bool(code.co_flags & inspect.CO_COROUTINE)


PATCHES: tuple[tuple[Any, str, Any], ...] = (
    (os, "_exit", _leave),
    (tenacity._utils, "is_coroutine_callable", _makes_coroutines),
    (adapter.clock, "wall", lambda: PROCESS.get().wall()),
    (adapter.clock, "boot", lambda: PROCESS.get().boot()),
    (adapter.daemon, "READINESS_SECONDS", READINESS_SECONDS),
    (adapter.daemon, "Daemon", SimDaemon),
    (adapter.daemon, "Watchdog", SimWatchdog),
    (adapter.daemon, "Database", network.SimDatabase),
    (adapter.daemon, "Doorbell", network.SimDoorbell),
    (adapter.daemon, "StateDir", disk.SimStateDir),
    (adapter.daemon, "keep", _no_health_file),
    (adapter.follower, "BREATH_SECONDS", BREATH_SECONDS),
    (adapter.pbx.session, "OneShot", pbx.SimShot),
    (adapter.supabase_io.outbox, "ThreadPoolExecutor", disk.Executor),
    (outbox_file, "open_file", disk.open_file),
    (outbox_file, "commit", disk.commit),
    (statedir, "_make", disk.make),
    (statedir, "_take_lock", disk.take_lock),
    (statedir, "identity_in", disk.identity_in),
    (statedir, "_write_identity", disk.write_identity),
    (statedir, "file_system", lambda _path: "ext4"),
)


@contextlib.contextmanager
def simulated(*, logging_on: bool = False) -> Iterator[None]:
    """Worlds may run inside. The garbage of a world is collected when it is over, never in its midst."""
    disabled = logging.root.manager.disable
    collects = gc.isenabled()
    state = random.getstate()
    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet_death())
        for target, name, value in PATCHES:
            stack.enter_context(replaced(target, name, value))
        gc.collect()
        gc.freeze()
        gc.disable()
        if not logging_on:
            logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(disabled)
            gc.unfreeze()
            if collects:
                gc.enable()
            random.setstate(state)


@contextlib.contextmanager
def chance(seed: int) -> Iterator[None]:
    """What the program draws itself (jitter, ids) comes from the seed too."""
    ids = Random(f"{seed}:uuid")
    random.seed(f"{seed}:jitter")

    def drawn() -> uuid.UUID:
        return uuid.UUID(int=ids.getrandbits(128), version=4)

    with replaced(uuid, "uuid4", drawn):
        yield
