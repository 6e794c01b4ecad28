"""The real daemon as a process of its own, started, watched and stopped as a container would."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from adapter.sandbox.asterisk import keeper

STOP_SECONDS = 15.0
"""After SIGTERM: the daemon's own DRAIN_SECONDS (8) and some; then it is killed, and that is an error."""

KEPT_ENVIRONMENT = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "VIRTUAL_ENV",
    "PYTHONPATH",
    "COVERAGE_PROCESS_START",
)
"""Nothing else of our environment reaches the daemon: a real project's keys or a proxy in it would be used."""


class Daemon:
    """`mikopbx-adapter run` with settings of its own. Its output goes to `log`, or to our own standard error.

    Should this process be killed, the kernel kills the daemon too: nobody would want an orphan that keeps trying.
    """

    def __init__(
        self,
        settings: Mapping[str, str],
        log: Path,
        *,
        echo: bool = False,
        command: Sequence[str] = (sys.executable, "-m", "adapter.cli", "run"),
    ) -> None:
        self.settings = dict(settings)
        self.log = log
        self._echo = echo
        self._command = tuple(command)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self.running and self._process else None

    @property
    def running(self) -> bool:
        """True between `start` and the end of the process."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it; what it says is appended to the log."""
        kept = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
        with self.log.open("ab") as out:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", keeper.__file__, str(os.getpid()), "/"),
                *self._command,
                env={**kept, **self.settings},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=None if self._echo else out,
                stderr=None if self._echo else asyncio.subprocess.STDOUT,
                # A group of its own, so that Ctrl-C on the terminal reaches us alone and we stop it in order.
                process_group=0,
            )

    async def ended(self) -> int:
        """Exit code of the running process, once it has ended; negative for a signal."""
        if self._process is None:
            raise RuntimeError("the daemon was not started")
        return await self._process.wait()

    async def stop(self, *, seconds: float = STOP_SECONDS) -> int:
        """SIGTERM, and SIGKILL if it does not end in time; its exit code."""
        if self._process is None:
            return 0
        if self.running:
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(seconds):
                return await self._process.wait()
        except TimeoutError:
            return await self.kill()

    async def kill(self) -> int:
        """SIGKILL, as a crash or a cut of power; its exit code."""
        if self._process is None:
            return 0
        if self.running:
            self._process.kill()
        return await self._process.wait()

    def tail(self, lines: int = 15) -> str:
        """The last lines of the log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""
