"""One running Asterisk: start it, ask its CLI, stop it, kill it."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from adapter.sandbox.asterisk.install import Asterisk

BOOT_SECONDS = 30.0
"""Takes two seconds; a machine under load may need ten."""

STOP_SECONDS = 20.0
"""A stop takes up to a second, but 15 s where Asterisk waits for a channel that will never go: it loses one whenever it
refuses an Originate for its ChannelId."""

KEEPER = Path(__file__).with_name("keeper.py")


class AsteriskFailed(Exception):
    """An Asterisk did not start, or did not do what it was told; the text ends with what it logged last."""


class Instance:
    """An Asterisk with the configuration in `folder`/etc. The path is the one seen from outside a chroot."""

    def __init__(self, asterisk: Asterisk, folder: Path) -> None:
        self._asterisk = asterisk
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Start it and return when its dialplan is loaded. Raises `AsteriskFailed`."""
        if self.pid is not None:
            raise AsteriskFailed(f"{self._folder.name} is running already")
        # A socket left by an Asterisk that was killed would be mistaken for the new one's.
        (self._folder / "run" / "asterisk.ctl").unlink(missing_ok=True)
        with (self._folder / "console.log").open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command("-f", "-n", *_user()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
                start_new_session=True,  # Ctrl-C in a terminal is ours to handle.
            )
        try:
            async with asyncio.timeout(BOOT_SECONDS):
                while not (self._folder / "run" / "asterisk.ctl").exists():
                    self._require_alive()
                    await asyncio.sleep(0.02)
                while "has fully booted" not in await self.cli("core waitfullybooted"):
                    self._require_alive()
                    await asyncio.sleep(0.02)
        except TimeoutError:
            await self.kill()
            raise AsteriskFailed(self._explain(f"was not ready within {BOOT_SECONDS:g} s")) from None

    async def cli(self, command: str) -> str:
        """What a CLI command prints. An Asterisk that is not there gives an error text, not an exception."""
        process = await asyncio.create_subprocess_exec(
            *self._command("-rx", command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return output.decode(errors="replace")

    async def stop(self, patience: float = STOP_SECONDS) -> None:
        """Stop as `core stop now` does: every call is hung up, AMI clients get Shutdown. Kill it after `patience`."""
        await self._end(signal.SIGTERM, patience)

    async def kill(self) -> None:
        """SIGKILL: no Hangup, no Shutdown, the sockets just close."""
        await self._end(signal.SIGKILL, STOP_SECONDS)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, e.g. SIGSTOP and SIGCONT to freeze and thaw it."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):  # It may end this very moment.
                self._process.send_signal(number)

    def freeze(self) -> None:
        """SIGSTOP, and wait (blocking, for milliseconds) until no thread of it runs any more."""
        self.send(signal.SIGSTOP)
        deadline = time.monotonic() + 2.0
        while self.pid is not None and time.monotonic() < deadline:
            threads = Path(f"/proc/{self.pid}/task").glob("*/stat")
            # "123 (asterisk) T …": the name may hold anything but ends with the last parenthesis.
            if all(stat.read_text("ascii", "replace").rpartition(")")[2].split()[0] == "T" for stat in threads):
                return
            time.sleep(0.002)

    def log_tail(self, lines: int = 30) -> str:
        """The last lines of its log, for error messages."""
        texts = [self._read("console.log"), self._read("log/full")]
        return "\n".join(line for text in texts for line in text.splitlines()[-lines:])

    def _require_alive(self) -> None:
        if self.pid is None:
            raise AsteriskFailed(self._explain("ended while it started"))

    def _read(self, name: str) -> str:
        path = self._folder / name
        return path.read_text(errors="replace") if path.exists() else ""

    def _explain(self, what: str) -> str:
        return f"The sandbox's {self._folder.name} (Asterisk) {what}. Its last words:\n{self.log_tail()}"

    async def _end(self, number: signal.Signals, patience: float) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        self.send(signal.SIGCONT)  # One that is frozen would not hear anything milder than SIGKILL.
        self.send(number)
        try:
            await asyncio.wait_for(process.wait(), patience)
        except TimeoutError:
            self.send(signal.SIGKILL)
            await process.wait()

    def _command(self, *arguments: str) -> tuple[str, ...]:
        root = self._asterisk.root
        seen = f"/{self._folder.relative_to(root)}" if root else str(self._folder)
        return (
            *(sys.executable, "-I", "-S", str(KEEPER), str(os.getpid()), str(root or "/")),
            *(self._asterisk.binary, "-C", f"{seen}/etc/asterisk.conf", *arguments),
        )


def _user() -> tuple[str, ...]:
    """Debian's Asterisk would become user asterisk, who may not write here."""
    return ("-U", "root", "-G", "root") if os.geteuid() == 0 else ()
