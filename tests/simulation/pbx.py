"""A MikoPBX as the adapter meets it: actions in, events out, a journal that SIGKILL can shorten, calls that live on.

It stands behind the library of the real link (`OneShot`), so that the real session, guards, window and supervision
run against it. It can freeze (and then execute late what its sockets had taken), restart in order, be killed, and lose
its connections with and without telling the other side.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.simulation.carrier import Carrier, End, Invite, Story
from tests.simulation.loop import PROCESS, Process, TimerHandle

TRUNK = "SIP-TRUNK-5A0D0001"

USER_TIMEOUT = 10.0
"""TCP_USER_TIMEOUT of the adapter: what is not acknowledged for so long never arrives."""

SYNC_SECONDS = 1.0
"""Asterisk commits its database about once a second: what is younger may be gone after SIGKILL."""

BOOT_SECONDS = (4.0, 12.0)

VOID_SECONDS = 10.0 + 5.0 + 5.0 + 10.0
"""From the AI's disappearance to the last call: guard interval, its answer, age of a claim, a frozen PBX's socket."""

Fields = dict[str, str]


class World:
    """What a PBX needs around it (the real one is `world.World`)."""

    random: Random
    now: float
    epoch: float
    carrier: Carrier

    def later(self, delay: float, act: Callable[..., None], *args: Any) -> TimerHandle:
        """Act after so many seconds, for nobody's account."""
        raise NotImplementedError

    def trace(self, what: str, **facts: object) -> None:
        """One line, if somebody reads."""
        raise NotImplementedError

    def seen(self, what: str) -> None:
        """Count for the coverage."""
        raise NotImplementedError

    def fire(self, moment: str, *args: Any) -> None:
        """A moment at which faults wait."""
        raise NotImplementedError

    def wrote(self, process: Process, connection: "Connection", call_id: str, trunk: str) -> None:
        """An Originate is handed to the kernel."""
        raise NotImplementedError

    def heard(self, answer: Fields) -> None:
        """A Response reached the adapter."""
        raise NotImplementedError

    def linked(self, process: Process, *, up: bool) -> None:
        """This process has logged in to a PBX, or has closed its connection."""
        raise NotImplementedError

    def written_at(self, call_id: str) -> float:
        """When the Originate of this call was written."""
        raise NotImplementedError

    def disturbed(self, what: object) -> None:
        """From here on this process, connection or PBX has missed something, or may have."""
        raise NotImplementedError


@dataclass(slots=True, eq=False)
class Connection:
    """One AMI connection: two streams in order, each of which a fault can hold up."""

    pbx: "SimPbx"
    shot: "SimShot"
    latency: float
    slow: float = 0.0
    """Seconds that each delivery to the adapter takes longer (a slow reader)."""

    open: bool = True
    """As the adapter sees it."""

    there: bool = True
    """As the PBX sees it."""

    hears: bool = False
    blocked: bool = False
    """Nothing passes, and nobody is told (half-open)."""

    stuck: int = 0
    """Bytes that the adapter's kernel has not taken."""

    out_at: float = 0.0
    in_at: float = 0.0
    waiting_out: list[tuple[float, Fields, tuple[str, ...]]] = field(default_factory=list)
    waiting_in: list[Fields] = field(default_factory=list)
    inbox: list[tuple[Fields, tuple[str, ...]]] = field(default_factory=list)
    batch: list[Fields] = field(default_factory=list)
    batch_at: float = -1.0


class _Transport:
    """For `Session.backlog`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get_write_buffer_size(self) -> int:
        """What the kernel has not taken."""
        return self._connection.stuck


class _Wire:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.transport = _Transport(connection)

    @property
    def closed(self) -> bool:
        return not self._connection.open


class SimShot:
    """Stands for `adapter.pbx.wire.OneShot`."""

    def __init__(
        self, config: Any, *, on_event: Callable[[Fields], None], on_lost: Callable[[str], None], **_: Any
    ) -> None:
        self.process = PROCESS.get()
        self.pbx: SimPbx = PBXS[config.host]
        self.on_event = on_event
        self.on_lost = on_lost
        self.unreadable = 0
        self.logged_in: asyncio.Future[Any] | None = None
        self.connection: Connection | None = None
        self.wire: _Wire | None = None
        self.asked: dict[str, tuple[asyncio.Future[Any], bool]] = {}

    async def connect(self) -> None:
        """Connect and begin the login."""
        self.process.check()
        pbx = self.pbx
        if pbx.unreachable:
            await asyncio.sleep(60)
        await asyncio.sleep(pbx.latency())
        if not pbx.listening:
            raise ConnectionRefusedError(111, "Connection refused")
        self.process.check()
        self.connection = pbx.accept(self)
        self.wire = _Wire(self.connection)
        self.logged_in = asyncio.get_running_loop().create_future()

    def send(self, action: Mapping[str, Any], *, as_list: bool | None) -> "asyncio.Future[Any]":
        """Write one action."""
        self.process.check()
        if self.connection is None or not self.connection.open:
            raise ConnectionError("there is no connection to the PBX")
        future = asyncio.get_running_loop().create_future()
        fields = {key: value for key, value in action.items() if isinstance(value, str)}
        variables = tuple(action.get("Variable", ()))
        self.asked[fields["ActionID"]] = future, as_list is None
        if fields["Action"] == "Originate":
            self.process.write()
            trunk = fields["Channel"].partition("@")[2]
            self.pbx.world.wrote(self.process, self.connection, fields["ActionID"], trunk)
            self.pbx.written(self.connection, fields, variables)
            self.process.write()
        else:
            self.pbx.written(self.connection, fields, variables)
        return future

    def forget(self, action_id: str) -> None:
        """Nobody waits for this answer any more."""
        self.asked.pop(action_id, None)

    def close(self) -> None:
        """The adapter closes: linger 0, so the other side hears of it at once if it can."""
        connection = self.connection
        if self.process.alive and connection is not None and connection.open:
            connection.open = False
            self.pbx.closed(connection)
        self._fail("the connection is closed")

    def lost(self, reason: str) -> None:
        """The connection is gone."""
        if self.connection is not None:
            self.connection.open = False
        self._fail(reason)
        self.on_lost(reason)

    def take(self, messages: list[Fields]) -> None:
        """What came over the wire, in order. Runs as a step of the adapter's process."""
        for fields in messages:
            if self.connection is None or not self.connection.open:
                return
            if "Event" in fields:
                self.on_event(fields)
            elif fields.get("ActionID") == "login":
                if self.logged_in is not None and not self.logged_in.done():
                    self.logged_in.set_result(fields)
            else:
                self._answer(fields)

    def _answer(self, fields: Fields) -> None:
        future, many = self.asked.pop(fields["ActionID"], (None, False))
        self.pbx.world.heard(fields)
        if future is None or future.done():
            return
        items = ITEMS.pop(id(fields), None)
        future.set_result([fields, *items] if many and items is not None else fields)

    def _fail(self, reason: str) -> None:
        futures = [future for future, _ in self.asked.values()]
        self.asked.clear()
        if self.logged_in is not None:
            futures.append(self.logged_in)
        for future in futures:
            if not future.done():
                future.set_exception(ConnectionError(reason))
                future.exception()


ITEMS: dict[int, list[Fields]] = {}
"""The list that belongs to a response, by the identity of the response."""

PBXS: dict[str, "SimPbx"] = {}
"""By host, in the world that runs."""


@dataclass(slots=True, eq=False)
class Leg:
    """One channel."""

    name: str
    uniqueid: str
    linkedid: str
    born: float
    shown_at: float
    state: str = "0"


@dataclass(slots=True, eq=False)
class PbxCall:
    """One Originate that the PBX executes."""

    call_id: str
    number: str
    trunk: str
    timeout: float
    absolute: float
    connection: Connection
    leg: Leg | None = None
    side: Leg | None = None
    """A leg of the AI's side, which shares our Linkedid."""

    invite: Invite | None = None
    timers: list[TimerHandle] = field(default_factory=list)
    told: bool = False
    """OriginateResponse was sent."""


class SimPbx:
    """One PBX."""

    def __init__(self, world: World, name: str, random: Random) -> None:
        self.world = world
        self.name = name
        self.random = random
        self.connections: list[Connection] = []
        self.calls: dict[str, PbxCall] = {}
        self.journal: dict[int, tuple[str, float, tuple[str, float] | None]] = {}
        """Slot → value, when it was written, what stood there before."""

        self.originates: dict[str, int] = {}
        """How often the Originate of each call id was executed: the fence's witness."""

        self.written_ats: list[tuple[float, str]] = []
        """When each Originate was handed to a kernel, whoever did it, and through which trunk."""

        self.trunks: tuple[str, ...] = (TRUNK,)
        self.trunks_down: set[str] = set()
        """No call through these gets a channel."""

        self.trunks_failing: dict[str, Story] = {}
        """What becomes of every call through such a trunk."""

        self.ways: dict[str, str] = {}
        """Through which trunk the Originate of each call id was executed."""

        self.accepted: dict[str, float] = {}
        """Call ids whose Originate was executed, and when."""

        self.downs: list[float] = []
        """When it was shut down or killed."""

        self.boot_at = -1000.0 - random.random() * 1e6
        self.booted = True
        self.up = True
        self.frozen = False
        self.unreachable = False
        self.refuses = 0.0
        """Chance that an Originate is answered with an error."""

        self.no_channel = 0.0
        """Chance that a call gets no channel."""

        self.wall_offset = random.uniform(-2.0, 2.0)
        self.slow_start = 0.0
        self.ai_there = True
        self.ai_gone_at: float | None = None
        self.into_void: list[str] = []
        self.serial = 0
        self.base_latency = random.choice((0.0005, 0.002, 0.03))
        self.generation = 0
        self.held: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        """What should have happened while it was frozen."""

        self.journal_kept = True
        """No SIGKILL has taken anything from the journal."""

    def set_ai(self, *, there: bool) -> None:
        """The extension of the AI exists, or not."""
        if there is not self.ai_there:
            self.ai_gone_at = None if there else self.world.now
        self.ai_there = there

    # -- the adapter's side

    def latency(self) -> float:
        """Of one way."""
        return self.base_latency * self.random.uniform(0.5, 2.0)

    @property
    def listening(self) -> bool:
        """The AMI port is open."""
        return self.up

    def accept(self, shot: SimShot) -> Connection:
        """A connection; the login is answered, and FullyBooted follows once the PBX is."""
        connection = Connection(pbx=self, shot=shot, latency=self.latency())
        self.connections.append(connection)
        self.world.later(connection.latency, self._login, connection)
        return connection

    def _login(self, connection: Connection) -> None:
        if not connection.there:
            return
        if self.frozen:
            connection.inbox.append(({"Action": "Login", "ActionID": "login"}, ()))
            return
        connection.hears = True
        self.world.linked(connection.shot.process, up=True)
        self.send(connection, {"Response": "Success", "ActionID": "login", "Message": "Authentication accepted"})
        if self.booted:
            self.send(connection, {"Event": "FullyBooted", "Privilege": "system,all"})

    def written(self, connection: Connection, fields: Fields, variables: tuple[str, ...]) -> None:
        """The adapter's kernel has these bytes."""
        now = self.world.now
        if connection.blocked:
            connection.waiting_out.append((now, fields, variables))
            return
        at = max(now + connection.latency, connection.out_at)
        connection.out_at = at
        self.world.later(at - now, self._arrived, connection, fields, variables, self.generation)

    def _arrived(self, connection: Connection, fields: Fields, variables: tuple[str, ...], generation: int) -> None:
        if generation != self.generation:
            return
        if connection.blocked:
            connection.waiting_out.append((self.world.now, fields, variables))
        elif self.frozen:
            connection.inbox.append((fields, variables))
        elif connection.there:
            self.execute(connection, fields, variables)

    def closed(self, connection: Connection) -> None:
        """The adapter has closed its end."""
        self.world.linked(connection.shot.process, up=False)
        if connection.blocked:
            connection.waiting_out.clear()  # Linger 0: what was not sent is gone. The PBX finds out by itself.
            return
        self.world.later(connection.latency, self._forget, connection)

    def _forget(self, connection: Connection) -> None:
        if self.frozen:
            # The reset is not read before what came earlier; a good part of that is executed (design section 6).
            if self.random.random() < 0.3:
                connection.inbox.clear()
            return
        connection.there = False
        connection.hears = False
        if connection in self.connections:
            self.connections.remove(connection)

    def send(self, connection: Connection, fields: Fields, items: list[Fields] | None = None) -> None:
        """To one connection, in order. Messages of one instant are one delivery."""
        if items is not None:
            ITEMS[id(fields)] = items
        if connection.blocked:
            connection.waiting_in.append(fields)
            return
        now = self.world.now
        if connection.batch_at == now:
            connection.batch.append(fields)
            return
        at = max(now + connection.latency + connection.slow, connection.in_at)
        connection.in_at = at
        connection.batch_at = now
        connection.batch = batch = [fields]
        process = connection.shot.process
        self.world.later(at - now, self._deliver, process, connection, batch)

    def _deliver(self, process: Process, connection: Connection, batch: list[Fields]) -> None:
        if connection.batch is batch:
            connection.batch_at = -1.0
        if connection.blocked:
            connection.waiting_in += batch
        elif connection.open and process.alive:
            process.context.run(process.loop.call_soon, connection.shot.take, batch)

    def drop(self, connection: Connection, *, told: bool) -> None:
        """The connection breaks; `told`: the adapter hears of it at once."""
        self.world.disturbed(connection)
        connection.there = False
        connection.hears = False
        connection.waiting_in.clear()
        if connection in self.connections:
            self.connections.remove(connection)
        process = connection.shot.process
        if told and process.alive and connection.open:
            process.context.run(process.loop.call_soon, connection.shot.lost, "the PBX closed the connection")

    def block(self, connection: Connection) -> None:
        """From now on nothing passes, in either direction."""
        self.world.disturbed(connection)
        connection.blocked = True

    def unblock(self, connection: Connection) -> None:
        """It passes again: what was held up for less than TCP_USER_TIMEOUT arrives now, else the connection is dead."""
        connection.blocked = False
        now = self.world.now
        late = [at for at, _, _ in connection.waiting_out if now - at >= USER_TIMEOUT]
        out, connection.waiting_out = connection.waiting_out, []
        inward, connection.waiting_in = connection.waiting_in, []
        if late or not connection.open or not connection.there:
            self.drop(connection, told=True)
            return
        for _, fields, variables in out:
            self.written(connection, fields, variables)
        for fields in inward:
            self.send(connection, fields)

    # -- actions

    def execute(self, connection: Connection, fields: Fields, variables: tuple[str, ...]) -> None:
        """One action is read and executed."""
        action = fields["Action"]
        if action == "Login":
            self._login(connection)
            return
        answer, items = _ACTIONS.get(action, SimPbx._unknown)(self, connection, fields, variables)
        self.send(connection, {**answer, "ActionID": fields["ActionID"]}, items)

    def _unknown(self, _c: Connection, fields: Fields, _v: tuple[str, ...]) -> tuple[Fields, list[Fields] | None]:
        return {"Response": "Error", "Message": f"Invalid/unknown command: {fields['Action']}"}, None

    def _ping(self, _c: Connection, _f: Fields, _v: tuple[str, ...]) -> tuple[Fields, list[Fields] | None]:
        return {"Response": "Success", "Ping": "Pong"}, None

    @property
    def boot(self) -> str:
        """When it was started, as an adapter knows it (`questions.boot`)."""
        return f"{self.name} {self.boot_at:.3f}"

    def _core_status(self, _c: Connection, _f: Fields, _v: tuple[str, ...]) -> tuple[Fields, list[Fields] | None]:
        return {"Response": "Success", "CoreStartupDate": self.name, "CoreStartupTime": f"{self.boot_at:.3f}"}, None

    def _core_settings(self, _c: Connection, _f: Fields, _v: tuple[str, ...]) -> tuple[Fields, list[Fields] | None]:
        return {"Response": "Success", "AsteriskVersion": "22.10.1"}, None

    def _getvar(self, _c: Connection, _f: Fields, variables: tuple[str, ...]) -> tuple[Fields, list[Fields] | None]:
        expression = variables[0]
        value = ""
        if expression.startswith("DIALPLAN_EXISTS("):
            value = "1" if self.ai_there and self.booted else "0"
        elif expression.startswith("PJSIP_ENDPOINT("):
            name = expression.partition("(")[2].partition(",")[0]
            value = name if name in self.trunks else ""
        elif expression.startswith("DEVICE_STATE("):
            name = expression.partition("/")[2].rstrip(")")
            value = "UNAVAILABLE" if name in self.trunks_down else "NOT_INUSE"
        return {"Response": "Success", "Value": value}, None

    def _db_get(self, _c: Connection, fields: Fields, _v: tuple[str, ...]) -> tuple[Fields, list[Fields] | None]:
        entry = self.journal.get(int(fields["Key"]))
        if entry is None:
            return {"Response": "Error", "Message": "Database entry not found"}, None
        return {"Response": "Success"}, [{"Event": "DBGetResponse", "Val": entry[0]}, {"EventList": "Complete"}]

    def _channels(self, _c: Connection, _f: Fields, _v: tuple[str, ...]) -> tuple[Fields, list[Fields] | None]:
        now = self.world.now
        legs = [leg for call in self.calls.values() for leg in (call.leg, call.side) if leg and leg.shown_at <= now]
        items = [
            {
                "Event": "CoreShowChannel",
                "Channel": leg.name,
                "Uniqueid": leg.uniqueid,
                "Linkedid": leg.linkedid,
                "ChannelState": leg.state,
                "Duration": _clock(now - leg.born),
            }
            for leg in legs
        ]
        items.append({"Event": "CoreShowChannelsComplete", "EventList": "Complete", "ListItems": str(len(legs))})
        return {"Response": "Success"}, items

    def _hangup(self, _c: Connection, fields: Fields, _v: tuple[str, ...]) -> tuple[Fields, list[Fields] | None]:
        for call in self.calls.values():
            if call.leg is not None and fields["Channel"] in {call.leg.uniqueid, call.leg.name}:
                self.world.later(0.002, self._cut, call, End.HANGUP, int(fields.get("Cause", "16")), self.generation)
                return {"Response": "Success", "Message": "Channel Hungup"}, None
        return {"Response": "Error", "Message": "No such channel"}, None

    def _originate(
        self, connection: Connection, fields: Fields, variables: tuple[str, ...]
    ) -> tuple[Fields, list[Fields] | None]:
        call_id = fields["ChannelId"]
        if self.random.random() < self.refuses:
            self.world.trace("pbx refuses", pbx=self.name, call=call_id)
            return {"Response": "Error", "Message": "Originate failed"}, None
        self.originates[call_id] = self.originates.get(call_id, 0) + 1
        self.accepted.setdefault(call_id, self.world.now)
        self.world.fire("taken", self, connection)
        self.world.trace("pbx takes", pbx=self.name, call=call_id)
        self.taken_without_ai(call_id)
        values = dict(variable.split("=", 1) for variable in variables)
        entry = next(((name, value) for name, value in values.items() if name.startswith("DB(")), ("DB(/-1)", ""))
        self.ways[call_id] = fields["Channel"].partition("@")[2]
        call = PbxCall(
            call_id=call_id,
            number=fields["Channel"].partition("/")[2].partition("@")[0],
            trunk=fields["Channel"].partition("@")[2],
            timeout=int(fields["Timeout"]) / 1000,
            absolute=float(values.get("TIMEOUT(absolute)", "inf")),
            connection=connection,
        )
        # The thread that dials starts a moment after the Response; a loaded PBX takes its time.
        delay = 0.001 if self.random.random() < 0.9 else self.random.uniform(0.01, 2.0)
        slot = int(entry[0].partition("/")[2].rstrip(")"))
        self.world.later(delay, self._dial, call, slot, entry[1], self.generation)
        return {"Response": "Success", "Message": "Originate successfully queued"}, None

    def taken_without_ai(self, call_id: str) -> None:
        """Note a call into a void: the guard looks every ten seconds, and an answer takes five at most."""
        # Judged by when it was written: a frozen PBX may execute it much later.
        if self.ai_gone_at is not None and self.world.written_at(call_id) - self.ai_gone_at > VOID_SECONDS:
            self.into_void.append(call_id)

    # -- the life of a call

    def emit(self, fields: Fields) -> None:
        """An event for everybody who is logged in."""
        fields["Timestamp"] = f"{self.world.epoch + self.world.now + self.wall_offset:.6f}"
        for connection in self.connections:
            if connection.hears:
                self.send(connection, fields)

    def _dial(self, call: PbxCall, slot: int, value: str, generation: int) -> None:
        if self.gone(generation, self._dial, call, slot, value):
            return
        now = self.world.now
        before = self.journal.get(slot)
        self.journal[slot] = value, now, None if before is None else (before[0], before[1])
        if call.call_id in self.calls:
            # A duplicate: refused, under the id of the living one.
            self._respond(call, "Failure", 0, uniqueid=call.call_id)
            return
        if self.random.random() < self.no_channel or call.trunk not in self.trunks or call.trunk in self.trunks_down:
            self._respond(call, "Failure", 0, uniqueid="<null>")
            return
        self.serial += 1
        shown = now if self.random.random() < 0.7 else now + self.random.uniform(0.05, 3.0)
        leg = Leg(f"PJSIP/{call.trunk}-{self.serial:08x}", call.call_id, call.call_id, now, shown)
        call.leg = leg
        self.calls[call.call_id] = call
        call.invite = invite = self.world.carrier.invite(
            call.call_id, call.number, self.name, call.trunk, self.trunks_failing.get(call.trunk)
        )
        self.world.trace(
            "invite", pbx=self.name, call=call.call_id, number=call.number, story=invite.story.name, trunk=call.trunk
        )
        self._tell("Newchannel", leg)
        self.emit({"Event": "DialBegin", "Privilege": "call,all", **_dest(leg)})
        if invite.rings_at is not None:
            self._plan(call, invite.rings_at - now, self._ring, call)
        if invite.answers_at is not None:
            self._plan(call, invite.answers_at - now, self._answer, call)
        if invite.refuses_at is not None:
            self._plan(call, invite.refuses_at - now, self._cut, call, End.CARRIER, invite.story.cause)
        self._plan(call, call.timeout, self._cut, call, End.TIMEOUT, 19)
        self._plan(call, call.absolute, self._cut, call, End.ABSOLUTE, 0)

    def _plan(self, call: PbxCall, delay: float, act: Callable[..., None], *args: Any) -> None:
        call.timers.append(self.world.later(max(0.0, delay), act, *args, self.generation))

    def gone(self, generation: int, act: Callable[..., None], *args: Any) -> bool:
        """True if this must not happen (the PBX is another one by now) or not yet (it is frozen)."""
        if generation != self.generation:
            return True
        if self.frozen:
            self.held.append((act, (*args, generation)))
            return True
        return False

    def _tell(self, event: str, leg: Leg, **extra: str) -> None:
        self.emit(
            {
                "Event": event,
                "Privilege": "call,all",
                "Channel": leg.name,
                "ChannelState": leg.state,
                "ChannelStateDesc": {"0": "Down", "5": "Ringing", "6": "Up"}[leg.state],
                "Uniqueid": leg.uniqueid,
                "Linkedid": leg.linkedid,
                **extra,
            }
        )

    def _ring(self, call: PbxCall, generation: int) -> None:
        if self.gone(generation, self._ring, call) or call.call_id not in self.calls:
            return
        assert call.leg is not None
        assert call.invite is not None
        call.invite.rang_at = self.world.now
        self.world.trace("rings", call=call.call_id)
        if call.invite.story.media:
            self.emit({"Event": "DialState", "Privilege": "call,all", "DialStatus": "PROGRESS", **_dest(call.leg)})
            return
        call.leg.state = "5"
        self._tell("Newstate", call.leg)
        self.emit({"Event": "DialState", "Privilege": "call,all", "DialStatus": "RINGING", **_dest(call.leg)})

    def _answer(self, call: PbxCall, generation: int) -> None:
        if self.gone(generation, self._answer, call) or call.call_id not in self.calls:
            return
        assert call.leg is not None
        assert call.invite is not None
        invite = call.invite
        invite.answered_at = self.world.now
        self.world.trace("answered", call=call.call_id)
        self.world.fire("answered", self, call.call_id)
        for timer in call.timers[:-1]:
            timer.cancel()
        call.leg.state = "6"
        self._tell("Newstate", call.leg)
        self.emit({"Event": "DialEnd", "Privilege": "call,all", "DialStatus": "ANSWER", **_dest(call.leg)})
        self._respond(call, "Success", 4, uniqueid=call.call_id)
        if self.random.random() < 0.5:
            # The AI's side is a Local channel, which leaves the call long before its end.
            call.side = side = Leg(
                f"Local/999@applications-{self.serial:08x};1",
                f"{self.name}-{self.serial}.2",
                call.call_id,
                self.world.now,
                0.0,
            )
            self._tell("Newchannel", side)
            self._plan(call, self.random.uniform(0.1, 5.0), self._side_ends, call)
        if self.random.random() < 0.1:
            # Another program sends an Originate with this ChannelId: refused, told with the living one's Uniqueid.
            self._plan(call, self.random.uniform(0.1, 3.0), self._foreign, call)
        self._plan(call, invite.talk, self._cut, call, invite.story.by, 16)

    def _side_ends(self, call: PbxCall, generation: int) -> None:
        if self.gone(generation, self._side_ends, call) or call.call_id not in self.calls or call.side is None:
            return
        self._tell("Hangup", call.side, Cause="16")
        call.side = None

    def _foreign(self, call: PbxCall, generation: int) -> None:
        if self.gone(generation, self._foreign, call) or call.call_id not in self.calls:
            return
        self.emit(
            {
                "Event": "OriginateResponse",
                "Privilege": "call,all",
                "ActionID": f"another-{self.serial}",
                "Response": "Failure",
                "Reason": "0",
                "Uniqueid": call.call_id,
            }
        )

    def _respond(self, call: PbxCall, word: str, reason: int, *, uniqueid: str) -> None:
        self.emit(
            {
                "Event": "OriginateResponse",
                "Privilege": "call,all",
                "ActionID": call.call_id,
                "Response": word,
                "Reason": str(reason),
                "Uniqueid": uniqueid,
            }
        )

    def _cut(self, call: PbxCall, end: End, cause: int, generation: int) -> None:
        """The call ends, for whatever reason."""
        if self.gone(generation, self._cut, call, end, cause) or self.calls.get(call.call_id) is not call:
            return
        leg, invite = call.leg, call.invite
        assert leg is not None
        assert invite is not None
        answered = invite.answered_at is not None
        self._over(call, end)
        sip = invite.story.sip if end is End.CARRIER else None
        tech = {"TechCause": str(sip)} if sip else {}
        if end in {End.CARRIER, End.CALLEE}:
            self._tell("HangupRequest", leg, Cause=str(cause), **tech)
        if answered:
            self._tell("SoftHangupRequest", leg, Cause="16")
            self._tell("Hangup", leg, Cause=str(cause))
            return
        if end is End.CARRIER:
            status = {17: "BUSY", 34: "CONGESTION"}.get(cause, "NOANSWER")
            self.emit({"Event": "DialEnd", "Privilege": "call,all", "DialStatus": status, **_dest(leg)})
        reason = 3 if end is End.TIMEOUT else 0
        if self.random.random() < 0.05:
            self._respond(call, "Failure", reason, uniqueid="<null>")
            self._tell("Hangup", leg, Cause=str(cause), **tech)
        else:
            self._tell("Hangup", leg, Cause=str(cause), **tech)
            self._respond(call, "Failure", reason, uniqueid="<null>")

    def _over(self, call: PbxCall, end: End) -> None:
        for timer in call.timers:
            timer.cancel()
        del self.calls[call.call_id]
        if call.invite is not None:
            call.invite.ended_at, call.invite.end = self.world.now, end
            self.world.trace("ended", call=call.call_id, by=end.value)
            self.world.fire("ended", self, call.call_id)

    # -- what can happen to it

    def freeze(self) -> None:
        """SIGSTOP: nothing is read or told; the carrier's side of the calls goes on when it thaws."""
        self.frozen = True

    def thaw(self) -> None:
        """SIGCONT: what the sockets had taken is executed now, and what should have happened happens."""
        self.frozen = False
        for connection in list(self.connections):
            inbox, connection.inbox = connection.inbox, []
            for fields, variables in inbox:
                self.execute(connection, fields, variables)
            if not connection.open and not connection.blocked:
                self._forget(connection)
        late, self.held = self.held, []
        for act, args in late:
            act(*args)

    def shut_down(self) -> None:
        """An orderly restart: calls are ended and told, the journal is written."""
        calls = len(self.calls)
        for call in list(self.calls.values()):
            assert call.leg is not None
            if self.random.random() < 0.7:
                self._tell("SoftHangupRequest", call.leg, Cause="4")
        self.emit({"Event": "Shutdown", "Privilege": "system,all", "Shutdown": "Cleanly", "Restart": "False"})
        for call in list(self.calls.values()):
            leg = call.leg
            assert leg is not None
            self._over(call, End.PBX)
            if self.random.random() < 0.5:
                self._tell("Hangup", leg, Cause="0")
        self._down(lost_seconds=0.0, lost_calls=calls)

    def kill(self) -> None:
        """SIGKILL: nobody is told, and the last second of the journal may be gone."""
        calls = len(self.calls)
        for call in list(self.calls.values()):
            self._over(call, End.PBX)
        self._down(lost_seconds=self.random.uniform(0.0, SYNC_SECONDS), lost_calls=calls)

    def _down(self, *, lost_seconds: float, lost_calls: int) -> None:
        now = self.world.now
        self.world.disturbed(self)
        self.downs.append(now)
        if lost_calls:
            self.world.seen("PBX restarts")
        self.generation += 1
        self.up = self.booted = self.frozen = False
        self.held.clear()
        for slot, (_, at, before) in list(self.journal.items()):
            if at > now - lost_seconds:
                self.journal_kept = False
                if before is None:
                    del self.journal[slot]
                else:
                    self.journal[slot] = before[0], before[1], None
        for connection in list(self.connections):
            connection.inbox.clear()
            self.drop(connection, told=not connection.blocked and self.random.random() < 0.8)
        # Asterisk tells its start time in whole seconds.
        self.world.later(self.random.uniform(2.0, 20.0), self._start, self.generation)

    def _start(self, generation: int) -> None:
        if generation != self.generation:
            return
        self.up = True
        self.boot_at = float(int(self.world.now))
        self.world.later(self.random.uniform(*BOOT_SECONDS), self._boot, generation)

    def _boot(self, generation: int) -> None:
        if generation != self.generation:
            return
        self.booted = True
        for connection in self.connections:
            if connection.hears:
                self.send(connection, {"Event": "FullyBooted", "Privilege": "system,all"})


_ACTIONS: dict[str, Callable[..., tuple[Fields, list[Fields] | None]]] = {
    "Ping": SimPbx._ping,
    "CoreStatus": SimPbx._core_status,
    "CoreSettings": SimPbx._core_settings,
    "CoreShowChannels": SimPbx._channels,
    "Getvar": SimPbx._getvar,
    "DBGet": SimPbx._db_get,
    "Hangup": SimPbx._hangup,
    "Originate": SimPbx._originate,
}


def _dest(leg: Leg) -> Fields:
    return {"DestChannel": leg.name, "DestUniqueid": leg.uniqueid, "DestLinkedid": leg.linkedid}


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"
