"""One world: adapters, PBXs, a project, people, and faults; one seed decides everything.

`World(seed).live()` builds it, lets it live through its troubled time, heals everything and waits until every row has
ended; `checks.py` then looks whether the promises were kept. The real daemon (`adapter.daemon._main`) runs in each
process.
"""

import contextvars
import functools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import adapter.daemon
from adapter.core.model import OpenCall, OutcomeRecord, Record
from adapter.settings import Settings, read
from adapter.supabase_io.database import Registered, SyncReply, SyncRequest
from tests.simulation import network, owner, pbx
from tests.simulation.carrier import Carrier
from tests.simulation.disk import FOLDERS, Folder
from tests.simulation.due import Due
from tests.simulation.loop import Process, TimerHandle, VirtualLoop
from tests.simulation.network import Line, Reply, SimDoorbell
from tests.simulation.pbx import PBXS, TRUNK, Connection, SimPbx
from tests.simulation.store import Store

EPOCH = 1_800_000_000.0

RESTART_SECONDS = (0.1, 8.0)
"""A restart policy starts a process again after so long."""

SETTLE_SECONDS = 3600.0
"""After everything is healed, every row must have ended within this time: expiry, longest call, orphan and lease."""

NUMBERS = tuple(f"+60 12-345 67{last:02d}" for last in range(100))


@dataclass(slots=True, eq=False)
class Machine:
    """Where one adapter lives, its folder, and whoever starts it again."""

    name: str
    settings: dict[str, str]
    pbx: SimPbx
    line: Line
    wall_offset: float = 0.0
    process: Process | None = None
    bell: SimDoorbell | None = None
    wanted: bool = True
    """Somebody wants it to run: it is started again whenever it ends."""

    starts: int = 0
    exits: list[int] = field(default_factory=list)
    adapter: str = ""
    """Id under which it was registered last."""

    seen_before_restore: int = 0
    """The highest claim number on its disk when the database was restored."""

    daemon: Any = None

    @property
    def path(self) -> str:
        """Its STATE_DIR."""
        return self.settings["STATE_DIR"]

    @property
    def folder(self) -> Folder:
        """Its STATE_DIR."""
        return FOLDERS[self.path]


@dataclass(slots=True, kw_only=True)
class Call:
    """One claimed call, as the world knows it."""

    call_id: str
    row_id: int
    number: str
    user: str
    """Whose row it was: after a restore another row may have its number."""

    attempt: int
    claimed_at: float
    process: Process
    adapter: str
    incarnation: int
    trunk: str
    """Through which the claim wants it to go."""

    campaign: str | None
    boot_known: bool = True
    """Whether the row says when its PBX was really started, as its claimant knew it."""

    written: int = 0
    written_at: float = 0.0
    responded: bool = False
    told: list[tuple[float, str, str]] = field(default_factory=list)
    """When, on which machine, which outcome the outbox took: from here on it must not be lost."""

    found: list[tuple[float, Process]] = field(default_factory=list)
    """When which process was told of it, because another one had claimed it."""

    synced: list[tuple[float, str, str]] = field(default_factory=list)
    """When, by which machine, which outcome reached a disk."""

    reported: list[tuple[float, str, str]] = field(default_factory=list)
    """When, by which machine, which outcome the database took, be it from a disk or from the memory of its process."""


@functools.cache
def _settings(items: tuple[tuple[str, str], ...]) -> Settings:
    return read(dict(items))


class World(pbx.World):
    """Everything that is in one world."""

    def __init__(self, seed: int, *, tracing: bool = False) -> None:
        self.seed = seed
        self.loop = VirtualLoop(epoch=EPOCH)
        self.random = Random(f"{seed}:world")
        self.lines: list[str] | None = [] if tracing else None
        self.coverage: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.context = contextvars.Context()
        self.epoch = EPOCH
        self.store = Store(Random(f"{seed}:ids"))
        self.project_down = False
        self.carrier = Carrier(Random(f"{seed}:carrier"), lambda: self.loop.now)
        self.pbxs: list[SimPbx] = []
        self.machines: list[Machine] = []
        self.processes: dict[Process, tuple[Machine, str, bool]] = {}
        self.armed: dict[str, list[Callable[..., None]]] = {}
        self.calls: dict[str, Call] = {}
        self.users: dict[int, str] = {}
        """Row → user, also of rows that were deleted."""

        self.rules = owner.Rules(Random(f"{seed}:rows"))
        self.always: dict[str, Callable[..., None]] = {}
        """What people do at such a moment, each time."""

        self.words: dict[str, str] = {}  # Call id → the AI handler's word.
        self.troubled_seconds = self.troubled_until = 0.0
        self.healed = False
        self.backup: tuple[float, Any] | None = None
        self.disturbances: dict[object, list[float]] = {}
        """Process or PBX → when something was, or may have been, missed there."""

        self.links: dict[Process, list[tuple[float, bool]]] = {}
        """When a process logged in to its PBX, and when it closed a connection."""

        self.deaths: dict[Process, float] = {}
        self.testimonies: dict[tuple[Process, str], float] = {}
        """When a process last heard whether the database knows the end of this call."""

        self.bell_deaf = False
        self.touched: set[int] = set()
        """Rows that people changed or deleted by hand."""

        self.canceled: set[int] = set()
        self.cancels: list[tuple[float, str]] = []
        """When which live call was canceled."""

        self.restored_at: float | None = None
        """The database was restored to an earlier time: what it forgot is nobody's fault here."""

        self.lost_folders: dict[str, float] = {}
        """Machines whose STATE_DIR was lost or went back, and when first: what was only there is gone."""

        self.healed_at = 0.0
        self.refused: list[str] = []  # Records that the database could not take.
        self.folder_faults = self.moved_away = 0
        self.claims_of_nobody: list[str] = []
        self.unflushed: list[str] = []
        """What was claimed or taken over before an outbox was flushed."""

        self.due = Due(self)
        network.WORLD.append(self)

    # -- time and chance

    @property
    def now(self) -> float:  # type: ignore[override]
        """Virtual seconds since the beginning."""
        return self.loop.now

    @property
    def clock(self) -> float:
        """The database's wall clock."""
        return EPOCH + self.loop.now

    def later(self, delay: float, act: Callable[..., None], *args: Any) -> TimerHandle:
        """Act after so many seconds, for nobody's account."""
        return self.loop.call_at(self.loop.now + delay, act, *args, context=self.context)

    def trace(self, what: str, **facts: object) -> None:
        """One line, if somebody reads."""
        if self.lines is not None:
            tail = " ".join(f"{key}={value}" for key, value in facts.items())
            self.lines.append(f"{self.loop.now:11.4f} {what:<12} {tail}".rstrip())

    def seen(self, what: str) -> None:
        """Count for the coverage."""
        self.coverage[what] += 1

    # -- moments at which faults wait

    def arm(self, moment: str, act: Callable[..., None]) -> None:
        """Act once at the next such moment."""
        self.armed.setdefault(moment, []).append(act)

    def fire(self, moment: str, *args: Any) -> None:
        """This is such a moment."""
        if (act := self.always.get(moment)) is not None:
            act(*args)
        if self.armed and (acts := self.armed.pop(moment, None)):
            for act in acts:
                act(*args)

    # -- adapters

    def start(self, machine: Machine, *, path: str | None = None) -> Process:
        """Start the daemon on this machine (`path`: as a second process, on this folder)."""
        machine.starts += 1
        process = Process(self.loop, f"{machine.name}.{machine.starts}")
        process.wall_offset = machine.wall_offset
        folder = path or machine.path
        settings = _settings(tuple({**machine.settings, "STATE_DIR": folder}.items()))
        self.processes[process] = machine, folder, path is not None
        if path is None:
            machine.process = process
        process.on_death = functools.partial(self._died, process)
        self.trace("start", process=process.name)

        async def main() -> None:
            code = await adapter.daemon._main(settings, settings["STATE_DIR"], shadowed=False)
            self.trace("exit", process=process.name, code=code)
            if path is None:
                machine.exits.append(code)
            process.die()

        process.run(main)
        return process

    def _died(self, process: Process) -> None:
        if self.loop.over:
            return
        machine, path, second = self.processes[process]
        self.trace("dead", process=process.name, steps=process.steps)
        self.deaths[process] = self.now
        self.disturbed(process)
        folder = FOLDERS[path]
        if folder.holder is process:
            folder.holder = None
        for sim in self.pbxs:
            for connection in [c for c in sim.connections if c.shot.process is process]:
                connection.open = False
                sim.closed(connection)
        if second:
            return
        machine.bell = machine.daemon = None
        self._where(machine)
        if machine.wanted:
            refused = bool(machine.exits) and machine.exits[-1] in {75, 78}
            self.later(self.random.uniform(*RESTART_SECONDS) + (20.0 if refused else 0.0), self.restart, machine)

    def _where(self, machine: Machine) -> None:
        """In which lines of the crash table this death stands."""
        for call_id in self.store.live_calls(machine.adapter):
            call = self.calls.get(call_id)
            invites = self.carrier.of(call_id)
            if call is None or not call.written:
                self.seen("claim and Originate written")
            elif not call.responded:
                self.seen("Originate and its Response")
            elif not invites or invites[-1].ended_at is None:
                self.seen("Response and end of call")
            else:
                self.seen("end of call and write")

    def disturbed(self, what: object) -> None:
        """From here on this process, connection or PBX has missed something, or may have."""
        if isinstance(what, Connection):
            what = what.shot.process
        self.disturbances.setdefault(what, []).append(self.now)

    def linked(self, process: Process, *, up: bool) -> None:
        """A process has logged in to its PBX, or has closed its connection."""
        self.links.setdefault(process, []).append((self.now, up))

    def testified(self, process: Process, calls: Iterable[str]) -> None:
        """A process heard what the database does not know of these calls."""
        self.testimonies.update({(process, call): self.now for call in calls})

    def held_back(self, process: Process, sent: frozenset[int]) -> bool:
        """Does the disk of a process hold records that are not among those which it sends?"""
        return not FOLDERS[self.processes[process][1]].file.records.keys() <= sent

    def went_ahead(self, process: Process, reply: SyncReply) -> None:
        """A request was executed that left records behind: it may claim nothing, and take nothing over."""
        self.unflushed += [f"{process.name} claimed {row.call_id}" for row in reply.rows if row.claimed_at == reply.now]
        self.unflushed += [f"{process.name} took {call.row.call_id} over" for call in reply.takeover]

    def restart(self, machine: Machine) -> None:
        """The restart policy acts."""
        if machine.wanted and (machine.process is None or not machine.process.alive):
            self.start(machine)

    # -- what the parts tell

    def line_of(self, process: Process) -> Line:
        """The line of its machine."""
        return self.processes[process][0].line

    def bell_made(self, bell: SimDoorbell) -> None:
        """A process listens."""
        machine, _, second = self.processes[bell.process]
        if not second:
            machine.bell = bell

    def insert(self, **values: object) -> int:
        """A person inserts a row."""
        row: int = self.store.insert(**values, now=self.clock)
        self.users[row] = str(values["user_id"])
        self.trace("insert", row=row, number=values["phone_number"])
        return row

    def daemon_made(self, process: Process, daemon: object) -> None:
        """The daemon of a process, for a look at its inside when all is over."""
        machine, _, second = self.processes[process]
        if not second:
            machine.daemon = daemon

    def taken(self, process: Process, records: Iterable[Record]) -> None:
        """The outbox has these: its caller believes from here on that they cannot be lost."""
        if not process.alive:
            return
        machine = self._whose(FOLDERS.get(self.processes[process][1]))
        for record in records:
            if isinstance(record, OutcomeRecord) and (call := self.calls.get(record.call_id)) is not None:
                call.told.append((self.now, machine, record.ending.outcome.value))
                self.fire("told", process)

    def reported(self, process: Process, request: SyncRequest, reply: SyncReply) -> None:
        """The database has executed a request with records."""
        machine = self._whose(FOLDERS.get(self.processes[process][1]))
        for seq, record in request.records:
            if seq in reply.recorded and record["kind"] == "outcome" and record["call_id"] in self.calls:
                self.calls[record["call_id"]].reported.append((self.now, machine, record["outcome"]))

    def _whose(self, folder: Folder | None) -> str:
        """The machine whose STATE_DIR this is; a copy is nobody's."""
        return next((m.name for m in self.machines if FOLDERS.get(m.path) is folder), "another")

    # -- what goes wrong with folders and the database, and what an operator does about it

    def folder_touched(self) -> None:
        """Somebody does with a STATE_DIR what nobody should."""
        self.folder_faults += 1
        self.seen("STATE_DIR lost, shared, cloned, rolled back")

    def lose_folder(self, machine: Machine) -> None:
        """Its disk is gone; an empty one takes its place."""
        self.folder_touched()
        self.lost_folders.setdefault(machine.name, self.now)
        self.new_folder(machine.path)

    def roll_back(self, machine: Machine, backup: Folder) -> None:
        """Its folder is restored from a backup."""
        self.folder_touched()
        self.trace("rolled back", machine=machine.name)
        self.lost_folders.setdefault(machine.name, self.now)
        machine.folder.restore(backup)

    def operator_moves_folder_away(self, machine: Machine) -> None:
        """As the adapter's own words ask for it."""
        if machine.process is not None:
            machine.process.die()
        machine.exits.clear()
        self.trace("moved away", machine=machine.name)
        self.moved_away += 1
        self.lost_folders.setdefault(machine.name, self.now)
        self.new_folder(machine.path)

    def restore_database(self) -> None:
        """Back to the backup."""
        if self.healed or self.backup is None:
            return
        at, snapshot = self.backup
        self.restored_at = self.now
        for machine in self.machines:
            machine.seen_before_restore = machine.folder.file.kept().claim_number
        self.folder_faults += 1
        self.trace("restored", to=f"{at:.3f}")
        self.store.restore(snapshot)
        if any(call.claimed_at > at for call in self.calls.values()):
            self.seen("database restored")

    def operator_ends_what_was_dialed(self) -> None:
        """Rows that wait again though they were dialed after the backup are canceled by hand."""
        assert self.backup is not None
        dialed = {call.row_id for call in self.calls.values() if call.claimed_at > self.backup[0]}
        for row in list(self.store.rows.values()):
            if row.id in dialed and row.status not in {"done", "canceled"}:
                self.canceled.add(row.id)
                self.store.cancel(row.id, "dialed before the restore", self.clock)

    def ring(self) -> None:
        """Rows were inserted or handed over: whoever hears it, hears it after a while, some twice."""
        for machine in self.machines:
            if machine.bell is None or self.bell_deaf or machine.line.cut or self.project_down:
                continue
            for _ in range(self.random.choice((1, 1, 1, 2))):
                self.later(self.random.choice((0.01, 0.1, 0.6, 3.0)) * self.random.random(), self._ring, machine.bell)

    def _ring(self, bell: SimDoorbell) -> None:
        if bell.process.alive:
            bell.process.context.run(self.loop.call_soon, bell.rung.set)

    def asked(self, process: Process, who: tuple[str, int], reply: Reply, *, lost: bool, late: bool) -> None:
        """A request was executed; `lost`: nobody will hear the answer; `late`: it had been given up before."""
        machine, _, second = self.processes[process]
        if isinstance(reply, Registered):
            if reply.accepted and not second:
                machine.adapter = who[0]
                machine.exits.clear()
            self.trace("registered", process=process.name, accepted=reply.accepted, open=len(reply.open), lost=lost)
            self._found(process, reply.open, lost)
            self.fire("registered", process)
            return
        if isinstance(reply, tuple):
            self.trace("witness", process=process.name, wanted=len(reply), lost=lost)
            if reply:
                self.seen("a witness was asked for what it saw")
            return
        self._synced(process, who, reply, lost=lost)

    def _synced(self, process: Process, who: tuple[str, int], reply: SyncReply, *, lost: bool) -> None:
        adapter_id, incarnation = who
        self.rules.look(self.store.tables, self.clock)
        for row in reply.rows:
            if row.call_id not in self.calls:
                if not reply.holder:
                    self.claims_of_nobody.append(row.call_id)
                self.calls[row.call_id] = Call(
                    call_id=row.call_id,
                    row_id=row.row_id,
                    number=row.e164,
                    user=row.user_id,
                    attempt=row.attempt,
                    claimed_at=self.now,
                    process=process,
                    adapter=adapter_id,
                    incarnation=incarnation,
                    trunk=TRUNK if row.way is None else row.way.id,
                    campaign=row.campaign_id,
                    boot_known=row.pbx_boot == self.processes[process][0].pbx.boot,
                )
                self.due.claimed(row.row_id)
                self.trace("claimed", process=process.name, row=row.row_id, call=row.call_id, lost=lost)
        if reply.rows:
            if lost:
                self.seen("claim answered, answer lost")
            self.fire("claimed", process)
        if reply.takeover:
            self.trace("takeover", process=process.name, calls=len(reply.takeover), lost=lost)
            self.seen("adapter gone for good")
            self._found(process, reply.takeover, lost)
        if reply.recorded:
            self.trace("recorded", process=process.name, n=len(reply.recorded), lost=lost)
            self.fire("recorded", process)
        if reply.refused:
            self.trace("refused", process=process.name, refused=reply.refused)
            self.refused += [words for _, words in reply.refused]

    def _found(self, process: Process, calls: Iterable[OpenCall], lost: bool) -> None:
        for call in calls:
            if not lost and (known := self.calls.get(call.row.call_id)) is not None:
                known.found.append((self.now, process))

    def wrote(self, process: Process, connection: Connection, call_id: str, trunk: str) -> None:
        """An Originate is handed to the kernel."""
        self.trace("originate", process=process.name, call=call_id)
        connection.pbx.written_ats.append((self.now, trunk))
        call = self.calls.get(call_id)
        if call is not None:
            call.written += 1
            call.written_at = self.now
        self.fire("written", process, connection)

    def heard(self, answer: pbx.Fields) -> None:
        """A Response reached an adapter."""
        call = self.calls.get(answer["ActionID"])
        if call is not None:
            call.responded = True

    def synced(self, folder: Folder, body: dict[str, Any]) -> None:
        """A record reached a disk."""
        call = self.calls.get(body["call_id"])
        machine = self._whose(folder)
        self.trace("synced", machine=machine, kind=body["kind"], call=body["call_id"], outcome=body.get("outcome"))
        if call is not None and body["kind"] == "outcome":
            call.synced.append((self.now, machine, body["outcome"]))
        self.fire("synced", folder)

    # -- a life

    def live(self) -> None:
        """Build, trouble, heal, wait."""
        from tests.simulation import faults, people  # noqa: PLC0415  # They know the world.

        self.build()
        owner.plan(self)
        people.plan(self)
        self.troubled_until = faults.plan(self)
        while self.now < self.troubled_until:
            self.loop.run(self.troubled_until)
        faults.heal(self)
        self.healed_at = self.now
        end, over = self.now + SETTLE_SECONDS, False
        while self.now < end and not over:
            self.loop.run(self.now + 10.0)
            faults.attend(self)
            if self.settled():
                # A process that is refused by now finds that out with its next request, one that was away may just have
                # come back, and what the AI handler said may send a row that had ended for another call.
                for _ in range(3):
                    self.loop.run(self.now + 15.0)
                    faults.attend(self)
                self.loop.run(self.now + 15.0)
                over = self.settled()
        self.trace("over", rows=len(self.store.rows), steps=self.loop.steps)

    def build(self) -> None:
        """PBXs, adapters and their settings."""
        dice = self.random
        adapters = dice.choices((1, 2, 3), (45, 40, 15))[0]
        for number in range(2 if adapters > 1 and dice.random() < 0.3 else 1):
            sim = SimPbx(self, f"127.0.0.{10 + number}", Random(f"{self.seed}:pbx{number}"))
            self.pbxs.append(sim)
            PBXS[sim.name] = sim
        shared = {
            "RING_SECONDS": str(dice.choice((10, 15, 25))),
            "MAX_CALL_SECONDS": str(dice.choice((30, 60, 90, 300))),
            "MAX_CALLS": str(dice.choice((3, 8, 20))),
            "MAX_CALLS_PER_USER": "3" if dice.random() < 0.3 else "10",
            "CALLS_PER_SECOND": str(dice.choice((1, 3, 10))),
            "ORPHAN_AFTER": str(dice.choice((60, 120, 300))),
            "SWEEP_SECONDS": str(dice.choice((5, 10))),
            "AMI_WINDOW": str(dice.choice((2, 8))),
            # Few, so that retries come upon them; an hour is longer than a world.
            "REPEAT_CALLS": "2" if Random(f"{self.seed}:repeats").random() < 0.25 else "6",
            "REPEAT_HOURS": "1",
            **owner.day_settings(self.seed),
            **owner.trunk_settings(self.seed),
            "FLIGHT_MB": "0",  # Its thread and its files are real ones; tests/recorder has them.
        }
        if int(shared["MAX_CALLS_PER_USER"]) > int(shared["MAX_CALLS"]):
            shared["MAX_CALLS_PER_USER"] = shared["MAX_CALLS"]
        for number in range(adapters):
            sim = self.pbxs[number % len(self.pbxs)]
            settings = {
                "SUPABASE_URL": "https://abcdefgh.supabase.co/",
                "SUPABASE_SERVICE_ROLE_KEY": "key-of-a-test",
                "MIKOPBX_HOST": sim.name,
                "MIKOPBX_AMI_USERNAME": "dialer",
                "MIKOPBX_AMI_PASSWORD": "secret",
                "TRUNK": TRUNK,
                "BILLING": "off",
                "STATE_DIR": f"/state{number}",
                **shared,
            }
            self.new_folder(settings["STATE_DIR"])
            line = Line(Random(f"{self.seed}:line{number}"), latency=dice.choice((0.005, 0.03, 0.2)))
            machine = Machine(f"adapter{number}", settings, sim, line, wall_offset=dice.choice((0.0, 0.0, 5.0, -300.0)))
            self.machines.append(machine)
            self.later(dice.uniform(0.0, 5.0), self.restart, machine)
        seconds = Random(f"{self.seed}:disk")
        self.loop.disk_seconds = lambda: seconds.choice((0.0005, 0.002, 0.005, 0.05))

    def new_folder(self, path: str) -> Folder:
        """An empty folder."""
        folder = FOLDERS[path] = Folder(on_synced=self.synced)
        return folder

    def settled(self) -> bool:
        """Every row has ended and nothing waits to be told."""
        if any(row.status in {"queued", "dialing", "talking"} for row in self.store.rows.values()):
            return False
        if any(sim.calls for sim in self.pbxs):
            return False
        return not any(self._waits(machine) for machine in self.machines if machine.wanted)

    def _waits(self, machine: Machine) -> bool:
        return self.down(machine) or bool(machine.exits) or bool(machine.folder.file.records)

    def down(self, machine: Machine) -> bool:
        return machine.process is None or not machine.process.alive

    # -- what the checks ask

    def stored(self, call_id: str) -> str | None:
        """The outcome that `call_logs` has of this call; None if it has no row, or no outcome."""
        outcome: str | None = self.store.stored_outcome(call_id)
        return outcome

    def written_at(self, call_id: str) -> float:
        """When the Originate of this call was written."""
        return self.calls[call_id].written_at

    def user_of(self, row_id: int) -> str:
        """Whose row it is (also of one that was deleted)."""
        return self.users[row_id]

    def kept_folders(self) -> frozenset[str]:
        """Machines that run and have all that they ever wrote."""
        return frozenset(machine.name for machine in self.machines if machine.wanted) - set(self.lost_folders)

    def came_back_for(self, call: Call) -> bool:
        """The machine that claimed this call kept its folder, and no other one was given the call meanwhile."""
        machine = self.processes[call.process][0]
        others = [process for _, process in call.found if self.processes[process][0] is not machine]
        return machine.wanted and machine.name not in self.lost_folders and not others

    def watched(self, process: Process, since: float, until: float) -> bool:
        """This process was logged in to its PBX all that time, and awake, and missed nothing there."""
        links = self.links.get(process, [])
        login, up = max(((at, up) for at, up in links if at < since), default=(0.0, False))
        return (
            up
            and not any(login < at <= until for at in self.processes[process][0].pbx.downs)
            and not any(since <= at <= until for at, _ in links)
            and not any(since <= at <= until for at in self.disturbances.get(process, ()))
            and not process.stood_still(since, until)
        )

    def holders(self) -> Iterable[Machine]:
        """Machines whose process lives."""
        return [machine for machine in self.machines if machine.process is not None and machine.process.alive]

    def close(self) -> None:
        """Drop everything."""
        self.loop.finish()
        network.WORLD.remove(self)
        PBXS.clear()
        FOLDERS.clear()
        pbx.ITEMS.clear()
