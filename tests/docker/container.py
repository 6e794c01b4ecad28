"""One container of compose.yaml: the image's command under Docker's restart policy.

`Played` plays the policy (`policy.py`) over the real process, which runs in the image's content as the image's user
with a read-only root (`image.py`); without root it runs as who we are, from the environment of the tests. `init: true`
needs no stand-in: the process is no process 1 here, as under the init.
"""

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adapter.health import Health, look
from adapter.sandbox.asterisk import keeper
from tests.docker import composefile, dockerfile
from tests.docker.image import Image
from tests.docker.memory import Limit
from tests.docker.policy import UnlessStopped

KEPT = ("LANG", "LC_ALL", "TZ", "COVERAGE_PROCESS_START")

SECRETS = {"SUPABASE_SERVICE_ROLE_KEY": "supabase_key", "MIKOPBX_AMI_PASSWORD": "ami_password"}
"""Setting → file, as compose.yaml has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One life of the process."""

    code: int
    """As Docker shows it: 137 for SIGKILL."""

    began: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """What `docker stop` did."""

    code: int
    seconds: float
    killed: bool
    """The grace period was over."""


@dataclass(slots=True, kw_only=True)
class Place:
    """The folders of a container on this machine: its volume, and its secrets as files."""

    folder: Path
    image: Image | None

    @property
    def state(self) -> Path:
        """The volume."""
        return self.folder / "volume"

    @property
    def run(self) -> Path:
        """Its `/run`."""
        return self.folder / "run"

    def lay_out(self, settings: Mapping[str, str]) -> dict[str, str]:
        """Make what is missing; the environment that env_file and compose.yaml would give."""
        secrets = self.run / "secrets"
        for folder in (self.state, secrets):
            folder.mkdir(parents=True, exist_ok=True)
        for name, file in SECRETS.items():
            (secrets / file).write_text(settings[name] + "\n")
            (secrets / file).chmod(0o400)
        plain = {name: value for name, value in settings.items() if name not in {*SECRETS, "STATE_DIR"}}
        given: Mapping[str, str] = composefile.adapter()["environment"]
        if self.image is None:
            files = {name: value.replace("/run", str(self.run), 1) for name, value in given.items()}
            return {**plain, **files, "STATE_DIR": str(self.state), "PATH": os.environ["PATH"]}
        self.state.chmod(0o700)
        for owned in (self.state, *(secrets / file for file in SECRETS.values())):
            shutil.chown(owned, self.image.user, self.image.user)
        return {**plain, **self.image.environment(), **given}

    def command(self, command: Sequence[str], limit: Limit | None = None) -> list[str]:
        """The command line here for one inside."""
        if self.image is None:
            inside = [str(Path(sys.executable).with_name(command[0])), *command[1:]]
            return [sys.executable, "-I", "-S", keeper.__file__, str(os.getpid()), "/", *inside]
        return self.image.entered(command, state=self.state, run=self.run, cgroup=limit.folder if limit else None)


@dataclass(slots=True, kw_only=True)
class Played:
    """A container whose restart policy is played here."""

    place: Place
    settings: Mapping[str, str]
    limit: Limit | None = None
    ended: list[Run] = field(default_factory=list)
    _policy: UnlessStopped = field(default_factory=UnlessStopped)
    _process: asyncio.subprocess.Process | None = None
    _life: "asyncio.Task[None] | None" = None

    @property
    def log(self) -> Path:
        """What it said, over all its lives."""
        return self.place.folder / "log"

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def health(self) -> Health:
        """As the file in the volume says."""
        return look(self.place.state)

    @property
    def lives(self) -> int:
        """How often it was started."""
        return len(self.ended) + (self.pid is not None)

    async def start(self) -> None:
        """`docker start`."""
        self._policy = UnlessStopped()
        await self._spawn()
        self._life = asyncio.create_task(self._live(), name="restart policy")

    async def stop(self) -> Stopped:
        """`docker stop`: the signal of the image, SIGKILL when the grace period is over, and no restart."""
        self._policy = self._policy.by_hand()
        began, killed = time.monotonic(), False
        if (process := self._process) is not None and process.returncode is None:
            process.send_signal(signal.Signals[dockerfile.ours().image.only("STOPSIGNAL").text])
            try:
                async with asyncio.timeout(composefile.seconds(composefile.adapter()["stop_grace_period"])):
                    await process.wait()
            except TimeoutError:
                killed = True
                process.kill()
                await process.wait()
        seconds = time.monotonic() - began
        if self._life is not None:
            await self._life
        return Stopped(code=self.ended[-1].code, seconds=seconds, killed=killed)

    def kill(self) -> None:
        """SIGKILL from outside Docker: a crash, or the kernel. The policy restarts it."""
        if (pid := self.pid) is not None:
            os.kill(pid, signal.SIGKILL)

    async def exhaust(self) -> None:
        """It runs out of memory. Where there is no limit, the signal that the kernel would send comes from us."""
        pid = self.pid
        assert pid is not None
        if self.limit is None:
            self.kill()
        else:
            await self.limit.exhaust(pid)

    @property
    def handles_sigterm(self) -> bool:
        """True once the process has a handler for it; before, the signal ends it."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text("ascii")
        except OSError:
            return False
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        return bool(caught >> (signal.SIGTERM - 1) & 1)

    async def exec(self, *command: str) -> int:
        """`docker exec`, as the health check: the exit code."""
        process = await asyncio.create_subprocess_exec(
            *self.place.command(command), env=self._environment(), stdin=asyncio.subprocess.DEVNULL
        )
        return await process.wait()

    def tail(self, lines: int = 20) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:]) if self.log.exists() else ""

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        return {**kept, **self.place.lay_out(self.settings)}

    async def _spawn(self) -> None:
        with self.log.open("ab") as out:
            self._process = await asyncio.create_subprocess_exec(
                *self.place.command(dockerfile.ours().command, self.limit),
                env=self._environment(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                process_group=0,
            )

    async def _live(self) -> None:
        while True:
            began, process = time.monotonic(), self._process
            assert process is not None
            code = await process.wait()
            ran = time.monotonic() - began
            self.ended.append(Run(code=128 - code if code < 0 else code, began=began, seconds=ran))
            self._policy = self._policy.ended(ran)
            if (wait := self._policy.restart_in) is None:
                return
            await asyncio.sleep(wait)
            if self._policy.stopped:
                return
            await self._spawn()
