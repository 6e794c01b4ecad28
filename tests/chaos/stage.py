"""What is attacked: one PBX with its carrier, one database, two daemons, a faulty line before each of their sockets."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast
from urllib.parse import urlsplit

from adapter.sandbox.asterisk import RealPbx
from adapter.sandbox.process import Daemon
from adapter.sandbox.world import World
from tests.chaos import witnesses
from tests.chaos.proxy import Proxy

RING_SECONDS = 5
"""The shortest that the adapter takes."""

NAMES = ("first", "second")

SETTINGS = {
    "RING_SECONDS": str(RING_SECONDS),
    "MAX_CALL_SECONDS": "30",
    "ORPHAN_AFTER": "60",
    "SWEEP_SECONDS": "1",
    "CALLS_PER_SECOND": "10",
    # Far more than are ever in the air: calls in doubt hold their place, and every death puts some in doubt for 20 s.
    "MAX_CALLS": "400",
    "MAX_CALLS_PER_USER": "400",
    "LOG_FORMAT": "json",
    "DRAIN_SECONDS": "5",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ward:
    """One adapter with its own STATE_DIR, and the lines on which it depends."""

    name: str
    daemon: Daemon
    state: Path
    ami: Proxy
    web: Proxy

    def adapter_id(self) -> str:
        """Under which the database knows it; empty before its first start."""
        try:
            return str(json.loads((self.state / "identity.json").read_text(encoding="utf-8"))["adapter"])
        except FileNotFoundError:
            return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Everything, running."""

    world: World
    wards: Sequence[Ward]

    @property
    def pbx(self) -> RealPbx:
        """The real pair of Asterisks."""
        return cast("RealPbx", self.world.pbx)

    def ward(self, name: str) -> Ward:
        """The adapter of this name."""
        return next(ward for ward in self.wards if ward.name == name)

    @classmethod
    @asynccontextmanager
    async def set_up(cls, folder: Path, command: Sequence[str] | None = None) -> AsyncIterator[Self]:
        """Start all but the daemons. `command` runs instead of the real one."""
        async with AsyncExitStack() as stack:
            world = await stack.enter_async_context(
                World.started(pbx="asterisk", directory=folder, settings=SETTINGS, daemon=False)
            )
            wards = []
            for name in NAMES:
                ami = await stack.enter_async_context(Proxy.started(world.pbx.port))
                web = await stack.enter_async_context(Proxy.started(urlsplit(world.gateway.url).port or 0))
                state = folder / name
                witnesses.prepare(state)
                settings = {
                    **world.daemon.settings,
                    "STATE_DIR": str(state),
                    "MIKOPBX_AMI_PORT": str(ami.port),
                    "SUPABASE_URL": f"http://127.0.0.1:{web.port}",
                }
                log = folder / f"{name}.log"
                daemon = Daemon(settings, log, command=command) if command else Daemon(settings, log)
                stack.push_async_callback(daemon.stop)
                wards.append(Ward(name=name, daemon=daemon, state=state, ami=ami, web=web))
            yield cls(world=world, wards=wards)
