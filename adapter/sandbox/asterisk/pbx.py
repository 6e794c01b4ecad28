"""Two real Asterisks on loopback: a MikoPBX-like PBX and a carrier with a callee behind every number."""

import asyncio
import secrets
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from adapter.sandbox.asterisk import ami_login, dialplan, install, ports, render, rundir, witness
from adapter.sandbox.asterisk.install import Asterisk
from adapter.sandbox.asterisk.instance import AsteriskFailed, Instance
from adapter.sandbox.asterisk.witness import Invite

HOST = "127.0.0.1"

TRUNK = "SIP-TRUNK-5A0D0001"
TRUNK_DOWN = "SIP-TRUNK-5A0D0002"
"""Qualified and dead: calls fail at once, without any channel."""

TRUNK_NO_CONTACT = "SIP-TRUNK-5A0D0003"
"""A provider that should have registered and has not."""

TRUNK_SILENT = "SIP-TRUNK-5A0D0004"
"""Not qualified, and every packet is swallowed: nothing happens until a timer runs out (32 s, or the ring limit)."""

SECOND_TRUNK = "SIP-TRUNK-5A0D0005"
"""Another provider at the same carrier, as for its second proxy."""

AI_EXTENSION = "999"

QUALIFY_SECONDS = 2
"""MikoPBX asks once a minute; a test does not wait that long for a trunk to be found dead."""

TRUNK_SECONDS = 10.0
"""The first OPTIONS is answered within milliseconds, once the PBX has sent it."""

END_SECONDS = 0.5
"""At the end nobody cares for the last calls; one that hangs is killed."""

TRIES = 3
"""Other programs may take a port between our look and Asterisk's bind; three times in a row is no coincidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Ports of 127.0.0.1 of one pair."""

    ami: int
    sip: int
    carrier_sip: int

    @classmethod
    def free(cls) -> Self:
        """Ports that nobody uses right now."""
        return cls(
            ami=ports.free(socket.SOCK_STREAM),
            sip=ports.free(socket.SOCK_DGRAM),
            carrier_sip=ports.free(socket.SOCK_DGRAM),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An Asterisk and the folder in which it runs, as seen from outside its chroot."""

    asterisk: Asterisk
    folder: Path

    @property
    def seen(self) -> Path:
        """The folder as that Asterisk sees it."""
        root = self.asterisk.root
        return "/" / self.folder.relative_to(root) if root else self.folder

    def below(self, name: str) -> Self:
        """The folder of this name in it."""
        return replace(self, folder=self.folder / name)


class RealPbx:
    """The running pair. Use `async with RealPbx.started() as pbx`.

    `port`, `username`, `password` and `trunk` are what the daemon is given; `calls` is the witness. For tests:
    `restart`, `kill` + `start`, `freeze` + `thaw`, `reload`, and the users and trunks that lack something.
    """

    host = HOST
    ai_context = "all_peers"
    ai_extension = AI_EXTENSION

    def __init__(self, pbx: Place, carrier: Place, *, listen: Ports, trunk: str) -> None:
        self.version = pbx.asterisk.version
        self.trunk = trunk
        self.ports = listen
        self.port = listen.ami
        self.username = "dialer"
        self.password = secrets.token_urlsafe(16)
        """Of this user and of all others."""

        self.witness = "witness"
        """A user with the same rights and filters, for a second connection."""

        self.folder = pbx.folder
        self._places = {"pbx": pbx, "carrier": carrier}
        self._carrier_folder = carrier.folder / "carrier"
        self._pbx = Instance(pbx.asterisk, pbx.folder / "pbx")
        self._carrier = Instance(carrier.asterisk, self._carrier_folder)

    @classmethod
    @asynccontextmanager
    async def started(
        cls, *, ports: Ports | None = None, trunk: str = TRUNK, release: str = install.NEWEST, keep: bool = False
    ) -> AsyncIterator[Self]:
        """A running pair, stopped at the end. Without `ports` on free ones; `keep` leaves its files to the next start.

        `release`: the Debian release of the PBX. The carrier is always the newest, so all PBXs meet the same callees.
        Raises `AsteriskMissing` if scripts/asterisk install was not run, `AsteriskFailed` if it does not start.
        """
        asterisk = await asyncio.to_thread(install.find, release)
        carrier = await asyncio.to_thread(install.find)
        with _silence() as silent_port, ExitStack() as stack:
            place = Place(asterisk=asterisk, folder=stack.enter_context(rundir.made(_tmp(asterisk), keep=keep)))
            other = place
            if carrier != asterisk:
                other = Place(asterisk=carrier, folder=stack.enter_context(rundir.made(_tmp(carrier), keep=keep)))
            pbx = await cls._begin(place, other, ports, trunk, silent_port)
            try:
                yield pbx
            finally:
                await pbx.stop()

    @classmethod
    async def _begin(cls, place: Place, carrier: Place, fixed: Ports | None, trunk: str, silent_port: int) -> Self:
        for tried in range(1, TRIES + 1):
            pbx = cls(place.below(str(tried)), carrier.below(str(tried)), listen=fixed or Ports.free(), trunk=trunk)
            pbx._write(silent_port)
            try:
                await pbx._start_both()
            except BaseException as error:
                await pbx.stop()
                if not isinstance(error, AsteriskFailed) or tried == TRIES:
                    raise
            else:
                return pbx
        raise AssertionError("unreachable")

    # ---- what a test may do to it

    async def start(self) -> None:
        """Start the PBX, on the same ports and with the database of the last run; returns when it takes calls."""
        await self._pbx.start()
        if not await ami_login.lets_in(HOST, self.port, self.username, self.password):
            raise AsteriskFailed(f"Nobody answers as our PBX on AMI port {self.port}:\n{self._pbx.log_tail()}")
        if self._carrier.pid is not None:
            await self._trunk_up()

    async def kill(self) -> None:
        """SIGKILL the PBX: no event, all its sockets close; the carrier notices nothing."""
        await self._pbx.kill()

    async def restart(self) -> None:
        """Restart the PBX as MikoPBX does: `core stop now` (calls are cut, with events, then Shutdown), fresh start."""
        await self._pbx.stop()
        await self.start()

    def freeze(self) -> None:
        """Stop the PBX from executing and answering; its sockets still take bytes."""
        self._pbx.freeze()

    def thaw(self) -> None:
        """Let it go on; it executes what has come in meanwhile."""
        self._pbx.send(signal.SIGCONT)

    async def reload(self) -> None:
        """`core reload`: connections and calls survive it."""
        await self._pbx.cli("core reload")

    async def kill_carrier(self) -> None:
        """SIGKILL the carrier: the PBX finds its trunk dead within some seconds."""
        await self._carrier.kill()

    async def start_carrier(self) -> None:
        """Start it again."""
        await self._carrier.start()

    async def cli(self, command: str) -> str:
        """What a CLI command of the PBX prints."""
        return await self._pbx.cli(command)

    # ---- the witness

    @property
    def calls(self) -> list[Invite]:
        """One entry per INVITE that reached the carrier, in order, over all restarts of the PBX."""
        path = self._carrier_folder / "witness"
        return witness.read(path.read_text(encoding="utf-8")) if path.exists() else []

    def invites(self, number: str) -> list[Invite]:
        """The INVITEs for one number, given in any form that ends in the same national number."""
        wanted = _national(number)
        return [invite for invite in self.calls if _national(invite.number) == wanted]

    async def idle(self) -> None:
        """Return when every leg at the carrier has ended."""
        while any(invite.ended is None for invite in self.calls):  # noqa: ASYNC110 - a file gives no sign
            await asyncio.sleep(0.05)

    def logs(self) -> str:
        """The end of both logs, for somebody who looks for the reason of a failure."""
        return f"-- pbx\n{self._pbx.log_tail()}\n-- carrier\n{self._carrier.log_tail()}"

    # ---- begin and end

    def _write(self, silent_port: int) -> None:
        """Both configurations."""
        for role, name, sip in (("pbx", "mikopbx", self.ports.sip), ("carrier", "carrier", self.ports.carrier_sip)):
            place = self._places[role]
            seen = place.seen
            rtp_first, rtp_last = ports.rtp_range()
            values = {
                "DIR": str(seen / role),
                "SYSTEM_NAME": name,
                "SIP_PORT": str(sip),
                "RTP_FIRST": str(rtp_first),
                "RTP_LAST": str(rtp_last),
                "AMI_PORT": str(self.ports.ami),
                "USERNAME": self.username,
                "PASSWORD": self.password,
                "TRUNK": self.trunk,
                "TRUNK_DOWN": TRUNK_DOWN,
                "TRUNK_NO_CONTACT": TRUNK_NO_CONTACT,
                "TRUNK_SILENT": TRUNK_SILENT,
                "SECOND_TRUNK": SECOND_TRUNK,
                "CARRIER_SIP_PORT": str(self.ports.carrier_sip),
                "SILENT_SIP_PORT": str(silent_port),
                "QUALIFY_SECONDS": str(QUALIFY_SECONDS),
                "AI_EXTENSION": self.ai_extension,
                "AI_EXTENSIONS": dialplan.ai(),
                "CALLEE_EXTENSIONS": dialplan.callees(),
                "WITNESS": str(seen / "carrier" / "witness"),
            }
            render.write(role, place.folder / role, values)

    async def _start_both(self) -> None:
        # The carrier first, so that the PBX's first look at its trunk finds somebody.
        await self._carrier.start()
        await self.start()
        for instance, port in ((self._carrier, self.ports.carrier_sip), (self._pbx, self.ports.sip)):
            if f"{HOST}:{port}" not in await instance.cli("pjsip show transports"):
                raise AsteriskFailed(f"SIP port {port} could not be had:\n{instance.log_tail()}")

    async def _trunk_up(self) -> None:
        """Wait until the PBX has asked its carrier for the first time: until then it takes the trunk for dead."""
        try:
            async with asyncio.timeout(TRUNK_SECONDS):
                while "Avail " not in await self._pbx.cli(f"pjsip show aor {self.trunk}"):
                    await self._pbx.cli(f"pjsip qualify {self.trunk}")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AsteriskFailed(f"The carrier does not answer the PBX:\n{self.logs()}") from None

    async def stop(self) -> None:
        """Stop both. `started` does it."""
        await asyncio.gather(self._pbx.stop(END_SECONDS), self._carrier.stop(END_SECONDS))


def _tmp(asterisk: Asterisk) -> Path:
    return asterisk.root / "tmp" if asterisk.root else Path(tempfile.gettempdir())


@contextmanager
def _silence() -> Iterator[int]:
    """A UDP port that takes every packet and never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind((HOST, ports.free(socket.SOCK_DGRAM)))
        yield nobody.getsockname()[1]


def _national(number: str) -> str:
    return "".join(ch for ch in number if ch.isdigit())[-10:]
