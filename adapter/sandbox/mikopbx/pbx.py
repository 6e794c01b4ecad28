"""The simulated PBX itself: its socket, its calls, its database, and what a test may do to it."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from enum import Enum
from typing import Any, Self

from adapter.sandbox import scenarios
from adapter.sandbox.mikopbx import answers, dead_end, dialplan
from adapter.sandbox.mikopbx.call import SHUTDOWN_FLAG, Call, Invite, Order, Why, report_failure
from adapter.sandbox.mikopbx.leg import NOBODY, Leg, Pairs
from adapter.sandbox.mikopbx.routed import Pair, RoutedCall
from adapter.sandbox.mikopbx.session import Session
from adapter.sandbox.mikopbx.wire import Action, message

TRUNK = "SIP-TRUNK-5A4DB0C5"
"""Provider id of the sandbox; a real one is random."""

READ = frozenset({"call", "system", "user"})
WRITE = frozenset({"originate", "call", "reporting"})
"""Rights of the AMI user: exactly those that the documentation asks an operator for."""

AI_EXTENSION = "999"

ROUTES = ("^60[0-9]{8}", "^6012")
"""The first takes the whole number plan; numbers that begin with 6012 are taken by both, as on the real pair."""

SHUTDOWN_SECONDS = 1.1
"""Between the last Hangup and the event Shutdown."""

UNKNOWN_NUMBER = scenarios.BY_CODE["50"]
FAILS = scenarios.BY_CODE["70"]

SECOND_TRUNK = "SIP-TRUNK-5A0D0005"
"""Another provider, as for the second proxy of the same carrier: the same callees are behind it."""
"""A number that is not of the plan does not exist at this carrier either."""


class TrunkState(Enum):
    """The trunk as PJSIP sees it: contact status (empty: no contact), device state, and whether it can dial."""

    UP = ("Reachable", "NOT_INUSE", True)
    UNWATCHED = ("NonQualified", "NOT_INUSE", True)
    """Without qualify nobody knows; calls are tried."""

    DOWN = ("Unreachable", "UNAVAILABLE", False)
    NO_CONTACT = ("", "UNAVAILABLE", False)
    GONE = ("", "INVALID", False)
    """The provider was deleted."""

    def __init__(self, contact: str, device: str, dials: bool) -> None:
        self.contact = contact
        self.device = device
        self.dials = dials

    @property
    def watched(self) -> bool:
        """True if the PBX asks again and again whether the carrier is there (qualify)."""
        return self.contact in {"Reachable", "Unreachable"}

    @property
    def known(self) -> bool:
        """False once the endpoint itself is gone."""
        return self.device != "INVALID"


class SimulatedPbx:
    """An AMI server with a callee behind every number. Use `async with SimulatedPbx.started() as pbx`.

    For tests: `restart`, `kill` + `start`, `freeze` + `thaw`, `drop_connections`, `reload`, the attributes
    `trunk_state`, `applications`, `booted`, and the hooks `before_action` and `before_reply`.
    """

    ai_context = "all_peers"
    ai_extension = AI_EXTENSION

    def __init__(self, *, speed: float, trunk: str, host: str, read: Iterable[str], write: Iterable[str]) -> None:
        self.host = host
        self.port = 0
        self.username = "dialer"
        self.password = secrets.token_urlsafe(16)
        self.trunk = trunk
        self.speed = speed
        self.read = frozenset(read)
        self.write = frozenset(write)
        self.trunks = {trunk: TrunkState.UP, SECOND_TRUNK: TrunkState.UP}
        """Each provider, and how it is."""

        self.failing: set[str] = set()
        """Providers whose carrier gives a 503 to every call, whoever is called."""

        self.applications = {AI_EXTENSION}
        self.routes = list(ROUTES)
        """Outgoing routes: a pattern each, in order, all through the one trunk."""

        self.journal: dict[str, str] = {}
        """The PBX's own database, `family/key` → value; it survives a restart."""

        self.calls: list[Invite] = []
        """The witness: one entry per INVITE, in order, over all restarts."""

        self.live: dict[str, Call] = {}
        """Calls with a channel, by its Uniqueid."""

        self.before_action: Callable[[Session, Action], Awaitable[bool]] | None = None
        """Called with each action before it is executed; False throws it away, unanswered."""

        self.before_reply: Callable[[Session, Action], Awaitable[bool]] | None = None
        """Called after an action took effect, before its Response is written; False keeps the Response back."""

        self.boot = 0
        """Start time, whole epoch seconds; differs after every start."""

        self.booted = False
        self.stopping = False
        self._written: dict[str, float] = {}
        self._sessions: set[Session] = set()
        self._broken: BaseException | None = None
        """First error in a task of ours: a mistake in the simulation, raised when the PBX is put away."""

        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._running = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._ids = 0
        self._legs = 0
        self._pairs = 0

    @property
    def trunk_state(self) -> TrunkState:
        """How the first provider is."""
        return self.trunks[self.trunk]

    @trunk_state.setter
    def trunk_state(self, state: TrunkState) -> None:
        self.trunks[self.trunk] = state

    @classmethod
    @asynccontextmanager
    async def started(
        cls,
        *,
        speed: float = 1.0,
        trunk: str = TRUNK,
        host: str = "127.0.0.1",
        read: Iterable[str] = READ,
        write: Iterable[str] = WRITE,
    ) -> AsyncIterator[Self]:
        """A running PBX on a free port of `host`; `speed` makes its seconds that many times shorter."""
        pbx = cls(speed=speed, trunk=trunk, host=host, read=read, write=write)
        await pbx.start()
        try:
            yield pbx
        finally:
            await pbx.kill()
        if pbx._broken:
            raise pbx._broken

    # ---- what a test may do to it

    async def start(self, *, boot_seconds: float = 0.0) -> None:
        """Start listening, on the same port as before if there was one; calls are possible after `boot_seconds`."""
        self.boot = max(int(time.time()), self.boot + 1)
        self.stopping = False
        self._running.set()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Session(self), self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        if boot_seconds:
            self._spawn(self._boot(boot_seconds))
        else:
            self.booted = True

    async def kill(self, *, lose_seconds: float = 0.0) -> None:
        """End as by SIGKILL: no event, all sockets closed; journal entries younger than `lose_seconds` are lost."""
        now = time.monotonic()
        for path in [path for path, at in self._written.items() if now - at < lose_seconds]:
            self.journal.pop(path, None)
        self.booted = False
        if self._server:
            self._server.close()
            self._server = None
        self.drop_connections()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        ended = time.time()
        for invite in self.calls:
            invite.ended = invite.ended or ended
        self.live.clear()
        self._idle.set()

    async def restart(self, *, boot_seconds: float = 0.0) -> None:
        """Restart as by `core restart now`: cut calls with their events, tell Shutdown, close, start again."""
        self.stopping = True
        calls = list(self.live.values())
        for call in calls:
            for leg in call.legs:
                self.emit("SoftHangupRequest", "call", [*leg.source(), ("Cause", SHUTDOWN_FLAG)], call.clock())
        for call in calls:
            call.cut(Why.SHUTDOWN)
        await asyncio.sleep(SHUTDOWN_SECONDS / self.speed)
        self.emit("Shutdown", "system", [("Shutdown", "Cleanly"), ("Restart", "True")])
        for session in list(self._sessions):
            session.close()
        await asyncio.sleep(0)  # Let the closing transports flush before they are aborted.
        await self.kill()
        await self.start(boot_seconds=boot_seconds)

    def freeze(self) -> None:
        """Stop executing and answering; sockets still take bytes, as those of a stopped process do."""
        self._running.clear()

    def thaw(self) -> None:
        """Go on, and execute what has come in meanwhile."""
        self._running.set()

    def drop_connections(self) -> None:
        """Cut every AMI connection at once; calls go on."""
        for session in list(self._sessions):
            session.close(hard=True)

    def reload(self) -> None:
        """Tell a `core reload`; connections and calls survive it."""
        self.emit("Reload", "system", [("Module", "All"), ("Status", "0")])

    async def idle(self) -> None:
        """Return when no call is live."""
        await self._idle.wait()

    # ---- what sessions and calls need

    async def awake(self) -> None:
        """Return when the PBX is not frozen."""
        await self._running.wait()

    def adopt(self, session: Session) -> None:
        """A new connection: serve it."""
        self._sessions.add(session)
        self._spawn(session.serve())

    def forget(self, session: Session) -> None:
        """The connection is gone."""
        self._sessions.discard(session)

    async def answer(self, session: Session, action: Action) -> bool:
        """Execute one action and write its answer; False when the connection ends with it."""
        if self.before_action and not await self.before_action(session, action):
            return True
        stay = True
        try:
            answer = await answers.execute(self, session, action)
        except answers.LeaveError as leaving:
            answer, stay = leaving.answer, False
        if not self.before_reply or await self.before_reply(session, action):
            session.write(answer)
        return stay

    def originate(self, order: Order) -> asyncio.Future[bool]:
        """Place a call; the future tells whether its first leg was answered."""
        technology, _, _target = order.channel.partition("/")
        trunk = order.channel.rpartition("@")[2]
        holder = self._holder(order.call_id)
        if technology == "Local" and trunk.removesuffix("/n") == "all_peers" and not holder:
            return self._originate_by_route(order)
        if technology == "Local" and not holder and not dialplan.exists(self, trunk, order.number, "1"):
            return self._originate_into_nowhere(order)
        if technology != "PJSIP" or trunk not in self.trunks or not self.trunks[trunk].dials or holder:
            failed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._spawn(self._refuse(order, holder or order.call_id or NOBODY, failed))
            return failed
        self._legs += 1
        leg = Leg(
            name=f"PJSIP/{trunk}-{self._legs - 1:08x}",
            uniqueid=order.call_id or self.next_uniqueid(),
            context=f"{trunk}-incoming",
            exten="s",
            born=time.time(),
        )
        scenario = FAILS if trunk in self.failing else scenarios.scenario_of(order.number) or UNKNOWN_NUMBER
        invite = Invite(
            number=order.number, call_id=leg.uniqueid, scenario=scenario.code, started=leg.born, trunk=trunk
        )
        call = Call(self, order, leg, scenario, invite)
        self.live[leg.uniqueid] = call
        self._idle.clear()
        self.calls.append(invite)
        self._spawn(self._live(call))
        return call.answered

    def _originate_by_route(self, order: Order) -> asyncio.Future[bool]:
        """A Local pair whose second half dials by the first route that takes the number. Unlike a real PBX (the
        Asterisk pair has that) it does not go on to a second one, and plays no announcement."""
        self._pairs += 1
        name = f"{order.channel.removesuffix('/n')}-{self._pairs - 1:08x}"
        first = order.call_id or self.next_uniqueid()
        route = dialplan.route_of(self, order.number)
        scenario = scenarios.scenario_of(order.number) or UNKNOWN_NUMBER
        born = time.time()
        trunk_leg = None
        if route is not None and self.trunk_state.dials:
            self._legs += 1
            trunk_leg = Leg(
                name=f"PJSIP/{self.trunk}-{self._legs - 1:08x}",
                uniqueid=self.next_uniqueid(),
                linkedid=first,
                context=f"{self.trunk}-incoming",
                exten="s",
                born=born,
            )
        half = Leg(name=f"{name};1", uniqueid=first, context="all_peers", exten=order.number, born=born)
        other = Leg(
            name=f"{name};2",
            uniqueid=order.other_id or f"{first};2",
            linkedid=first,
            context="all_peers",
            exten=order.number,
            born=born,
            state=4,
        )
        invite = Invite(number=order.number, call_id=first, scenario=scenario.code, started=born)
        call = RoutedCall(
            self,
            order,
            Pair(first=half, second=other, trunk=trunk_leg, route=route or ""),
            scenario,
            invite,
            invited=self.calls.append,
        )
        self.live[first] = call
        self._idle.clear()
        self._spawn(self._live(call))
        return call.answered

    def _originate_into_nowhere(self, order: Order) -> asyncio.Future[bool]:
        self._pairs += 1
        failed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._spawn(self._end_at_once(order, f"{order.channel.removesuffix('/n')}-{self._pairs - 1:08x}", failed))
        return failed

    def emit(self, event: str, rights: str, pairs: Pairs, at: float | None = None) -> None:
        """Send an event to every connection that may and wants to hear it."""
        head = [
            ("Event", event),
            ("Privilege", f"{rights},all"),
            ("Timestamp", f"{time.time() if at is None else at:.6f}"),
            ("SystemName", "mikopbx"),
        ]
        data = message(*head, *pairs)
        for session in list(self._sessions):
            if session.hears(rights):
                session.write(data)

    def booted_event(self) -> Pairs:
        """FullyBooted as a login gets it: the one event without Timestamp and SystemName."""
        age = str(int(time.time()) - self.boot)
        return [
            ("Event", "FullyBooted"),
            ("Privilege", "system,all"),
            ("Uptime", age),
            ("LastReload", age),
            ("Status", "Fully Booted"),
        ]

    def next_uniqueid(self) -> str:
        """An id of the PBX's own: system name, start of the second, running number."""
        self._ids += 1
        return f"mikopbx-{int(time.time())}.{self._ids}"

    def store(self, path: str, value: str) -> None:
        """Write an entry of the journal."""
        self.journal[path] = value
        self._written[path] = time.monotonic()

    def has_application(self, context: str, exten: str) -> bool:
        """True if an answered callee that is sent there reaches a dialplan application."""
        return context in {"all_peers", "applications"} and dialplan.exists(self, "applications", exten, "1")

    def variables_of(self, call: Call) -> dict[str, str]:
        """Channel variables of a live call."""
        return dict(call.order.variables)

    # ---- inside

    def _holder(self, call_id: str) -> str:
        """Uniqueid of the live call that keeps `call_id` from being used, or an empty string.

        Since 22.5 the check is a prefix match without regard to case, so ids of unequal length can collide.
        """
        if not call_id:
            return ""
        return next((uniqueid for uniqueid in self.live if uniqueid.lower().startswith(call_id.lower())), "")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._broken = self._broken or error

    async def _live(self, call: Call) -> None:
        try:
            await call.run()
        finally:
            self.live.pop(call.legs[0].uniqueid, None)
            if not self.live:
                self._idle.set()

    async def _refuse(self, order: Order, uniqueid: str, failed: asyncio.Future[bool]) -> None:
        """An Originate for which no channel can be made: nothing is dialed, no variable is set."""
        await asyncio.sleep(0.001)
        await self.awake()
        report_failure(self, order, uniqueid=uniqueid, clock=time.time)
        failed.set_result(False)

    async def _end_at_once(self, order: Order, name: str, failed: asyncio.Future[bool]) -> None:
        await asyncio.sleep(0.001)
        await self.awake()
        dead_end.tell(self, order, name=name, uniqueid=order.call_id or self.next_uniqueid())
        failed.set_result(False)

    async def _boot(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.booted = True
        _, _, *rest = self.booted_event()
        self.emit("FullyBooted", "system", rest)
