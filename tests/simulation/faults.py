"""What can go wrong: a table of faults. Each world draws some, at random times or at the most awkward moment.

Moments (`World.arm`) are those in which a crash or a cut leaves the most doubt: rows just claimed, an Originate just
written or taken, a call just answered or ended, an outcome just synced or stored.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from signal import SIGTERM
from typing import TYPE_CHECKING, Any

from adapter.exits import EXIT_BUSY
from tests.simulation import owner
from tests.simulation.carrier import OUT_OF_ORDER
from tests.simulation.disk import FOLDERS, Folder
from tests.simulation.loop import Process
from tests.simulation.pbx import Connection, SimPbx

if TYPE_CHECKING:
    from tests.simulation.world import Machine, World

FAULTS_PER_WORLD = (3, 8)

TRUNK_FAILURES = (1, 3)
"""Of one of several trunks, where there are several."""

MOMENTS = ("registered", "claimed", "written", "taken", "answered", "ended", "told", "synced", "recorded")


@dataclass(frozen=True, slots=True)
class Fault:
    """A way in which something breaks. `act` returns False where there was nothing to break."""

    name: str
    weight: int
    act: Callable[["World", Random], bool]


def plan(world: "World") -> float:
    """Draw the faults of this world; returns how long it is troubled."""
    dice = Random(f"{world.seed}:faults")
    for _ in range(dice.randint(*FAULTS_PER_WORLD)):
        fault = dice.choices(TABLE, _WEIGHTS)[0]
        world.later(dice.uniform(2.0, world.troubled_seconds), _strike, world, fault, dice.getrandbits(64))
    if owner.has_trunks(world.seed):
        dice = Random(f"{world.seed}:failing")
        for _ in range(dice.randint(*TRUNK_FAILURES)):
            world.later(dice.uniform(2.0, world.troubled_seconds), _strike, world, _FAILS, dice.getrandbits(64))
    return world.troubled_seconds


def _strike(world: "World", fault: Fault, number: int) -> None:
    world.trace("fault", kind=fault.name)
    if not world.healed and fault.act(world, Random(number)):
        world.faults[fault.name] += 1


def heal(world: "World") -> None:
    """Everything works again, and whoever may run does. What an operator must mend, an operator mends."""
    world.healed = True
    world.armed.clear()
    world.project_down = world.bell_deaf = False
    for sim in world.pbxs:
        _mend_pbx(sim)
    for process in world.processes:
        process.crash_in = None
        process.go_on(slept=False)
    for machine in world.machines:
        _mend_machine(machine)
    for process, (_, _, second) in list(world.processes.items()):
        if second:
            process.die()
    if world.restored_at is not None:
        world.operator_ends_what_was_dialed()
    for sim in world.pbxs:
        there = [machine for machine in world.machines if machine.pbx is sim]
        if not any(machine.wanted for machine in there):
            there[0].wanted = True
    if world.restored_at is not None:
        for machine in world.machines:
            world.operator_moves_folder_away(machine)
    for machine in world.machines:
        world.restart(machine)
    world.trace("healed")


def attend(world: "World") -> None:
    """After the healing: an operator reads why an adapter is refused, and does what it says."""
    for machine in world.machines:
        if machine.wanted and machine.exits and machine.exits[-1] == EXIT_BUSY:
            world.operator_moves_folder_away(machine)
            world.restart(machine)


def _mend_machine(machine: "Machine") -> None:
    line = machine.line
    line.before = line.after = line.late = 0.0
    line.cut, line.lose = False, ""
    machine.folder.full = False


def _mend_pbx(sim: SimPbx) -> None:
    sim.refuses = sim.no_channel = 0.0
    sim.unreachable = False
    sim.set_ai(there=True)
    sim.trunks_down.clear()
    sim.trunks_failing.clear()
    if sim.frozen:
        sim.thaw()
    for connection in list(sim.connections):
        connection.slow = 0.0
        connection.stuck = 0
        if connection.blocked:
            sim.unblock(connection)


# Who is struck


def _machine(world: "World", dice: Random) -> "Machine | None":
    there = [m for m in world.machines if m.process is not None and m.process.alive and m.process.stopped_at is None]
    return dice.choice(there) if there else None


def _connection(world: "World", dice: Random) -> Connection | None:
    there = [c for sim in world.pbxs for c in sim.connections if c.open and not c.blocked]
    return dice.choice(there) if there else None


def _of_moment(world: "World", dice: Random, args: tuple[Any, ...]) -> Process | None:
    """The process that a moment concerns."""
    for arg in args:
        if isinstance(arg, Process):
            return arg
        if isinstance(arg, Connection):
            return arg.shot.process
        if isinstance(arg, Folder):
            return arg.holder
    sims = [arg for arg in args if isinstance(arg, SimPbx)]
    there = [c.shot.process for sim in sims for c in sim.connections]
    return dice.choice(there) if there else None


def _pbx_of(world: "World", dice: Random, args: tuple[Any, ...] = ()) -> SimPbx:
    for arg in args:
        if isinstance(arg, SimPbx):
            return arg
        if isinstance(arg, Connection):
            return arg.pbx
    return dice.choice(world.pbxs)


# Processes


def _crash(world: "World", dice: Random) -> bool:
    machine = _machine(world, dice)
    if machine is None or machine.process is None:
        return False
    machine.process.crash_in = dice.randint(0, 300)
    return True


def _crash_at_moment(world: "World", dice: Random) -> bool:
    def act(*args: Any) -> None:
        process = _of_moment(world, dice, args)
        if process is not None and process.alive:
            process.crash_in = dice.randint(0, dice.choice((1, 4, 12, 40)))

    moment = dice.choice(MOMENTS)
    world.arm(moment, act)
    if moment == "registered":
        _crash(world, dice)
    return True


def _terminate(world: "World", dice: Random) -> bool:
    machine = _machine(world, dice)
    if machine is None or machine.process is None:
        return False
    machine.process.signal(SIGTERM)
    return True


def _away(world: "World", dice: Random) -> bool:
    """Killed or stopped, and not started again for long; a witness takes over if there is one."""
    machine = _machine(world, dice)
    if machine is None or machine.process is None:
        return False
    machine.wanted = False
    if dice.random() < 0.5:
        machine.process.die()
    else:
        machine.process.signal(SIGTERM)
    if dice.random() < 0.5:
        world.later(dice.uniform(20.0, 400.0), _back, world, machine)
    return True


def _back(world: "World", machine: "Machine") -> None:
    machine.wanted = True
    world.restart(machine)


def _suspend(world: "World", dice: Random) -> bool:
    machine = _machine(world, dice)
    if machine is None or machine.process is None:
        return False
    _stop(world, dice, machine.process)
    return True


def _suspend_at_moment(world: "World", dice: Random) -> bool:
    def act(*args: Any) -> None:
        process = _of_moment(world, dice, args)
        if process is not None and process.alive:
            _stop(world, dice, process)

    world.arm(dice.choice(("claimed", "written", "taken", "ended")), act)
    return True


def _stop(world: "World", dice: Random, process: Process) -> None:
    process.stop()
    world.disturbed(process)
    slept = dice.random() < 0.5
    seconds = dice.uniform(*dice.choice(((0.5, 7.0), (7.0, 50.0), (50.0, 240.0))))
    world.later(seconds, _go_on, world, process, slept, dice.random() < 0.5)


def _go_on(world: "World", process: Process, slept: bool, dropped: bool) -> None:
    if slept and dropped:
        for sim in world.pbxs:
            for connection in [c for c in sim.connections if c.shot.process is process]:
                sim.drop(connection, told=True)
    process.go_on(slept=slept)


def _clock_jump(world: "World", dice: Random) -> bool:
    machine = _machine(world, dice)
    if machine is None or machine.process is None:
        return False
    machine.wall_offset += dice.choice((-1, 1)) * dice.choice((0.5, 3.0, 90.0, 3600.0, 86400.0))
    machine.process.wall_offset = machine.wall_offset
    world.disturbed(machine.process)
    return True


# Links to the PBX


def _drop(world: "World", dice: Random) -> bool:
    connection = _connection(world, dice)
    if connection is None:
        return False
    connection.pbx.drop(connection, told=True)
    return True


def _half_open(world: "World", dice: Random) -> bool:
    connection = _connection(world, dice)
    if connection is None:
        return False
    _block(world, dice, connection)
    return True


def _block(world: "World", dice: Random, connection: Connection) -> None:
    connection.pbx.block(connection)
    world.later(dice.uniform(*dice.choice(((0.5, 9.0), (9.0, 60.0)))), connection.pbx.unblock, connection)


def _cut_at_moment(world: "World", dice: Random) -> bool:
    def act(*args: Any) -> None:
        connection = next((arg for arg in args if isinstance(arg, Connection)), None)
        if connection is None or not connection.open or connection.blocked:
            return
        hit = partial(connection.pbx.drop, connection, told=True)
        if dice.random() < 0.5:
            hit = partial(_block, world, dice, connection)
        if (delay := dice.uniform(-1.0, 3.0) * connection.latency) > 0:
            world.later(delay, hit)
        else:
            world.later(0.0, hit)

    world.arm(dice.choice(("written", "taken")), act)
    return True


def _slow(world: "World", dice: Random) -> bool:
    connection = _connection(world, dice)
    if connection is None:
        return False
    connection.slow = dice.uniform(0.2, 4.0)
    return True


def _stuck(world: "World", dice: Random) -> bool:
    connection = _connection(world, dice)
    if connection is None:
        return False
    connection.stuck = 1000
    world.later(dice.uniform(1.0, 30.0), setattr, connection, "stuck", 0)
    return True


# PBXs


def _freeze(world: "World", dice: Random) -> bool:
    sim = _pbx_of(world, dice)
    if sim.frozen or not sim.up:
        return False
    _freeze_it(world, dice, sim)
    return True


def _freeze_it(world: "World", dice: Random, sim: SimPbx) -> None:
    if sim.frozen or not sim.up:
        return
    sim.freeze()
    world.disturbed(sim)
    world.later(dice.uniform(*dice.choice(((0.5, 8.0), (8.0, 40.0)))), _thaw, sim, sim.generation)


def _thaw(sim: SimPbx, generation: int) -> None:
    if sim.frozen and sim.generation == generation:
        sim.thaw()


def _freeze_at_moment(world: "World", dice: Random) -> bool:
    world.arm(
        dice.choice(("written", "taken", "claimed")),
        lambda *args: _freeze_it(world, dice, _pbx_of(world, dice, args)),
    )
    return True


def _restart_pbx(world: "World", dice: Random) -> bool:
    sim = _pbx_of(world, dice)
    if not sim.up or sim.frozen:
        return False
    sim.shut_down()
    return True


def _kill_pbx(world: "World", dice: Random) -> bool:
    sim = _pbx_of(world, dice)
    if not sim.up:
        return False
    sim.kill()
    return True


def _kill_pbx_at_moment(world: "World", dice: Random) -> bool:
    def act(*args: Any) -> None:
        sim = _pbx_of(world, dice, args)
        if sim.up:
            world.later(dice.choice((0.0, 0.002, 0.01, 0.5, 1.5)) * dice.random(), _kill, sim, sim.generation)

    world.arm(dice.choice(("written", "taken", "answered")), act)
    return True


def _kill(sim: SimPbx, generation: int) -> None:
    if sim.generation == generation and sim.up:
        sim.kill()


def _unreachable(world: "World", dice: Random) -> bool:
    sim = _pbx_of(world, dice)
    sim.unreachable = True
    for connection in list(sim.connections):
        sim.block(connection)

    def end() -> None:
        sim.unreachable = False
        for connection in list(sim.connections):
            if connection.blocked:
                sim.unblock(connection)

    world.later(dice.uniform(*dice.choice(((3.0, 30.0), (60.0, 400.0)))), end)
    return True


def _refuses(world: "World", dice: Random) -> bool:
    sim = _pbx_of(world, dice)
    sim.refuses = dice.choice((0.3, 1.0))
    world.later(dice.uniform(3.0, 40.0), setattr, sim, "refuses", 0.0)
    return True


def _no_channel(world: "World", dice: Random) -> bool:
    sim = _pbx_of(world, dice)
    sim.no_channel = dice.choice((0.3, 1.0))
    world.later(dice.uniform(3.0, 40.0), setattr, sim, "no_channel", 0.0)
    return True


def _ai_gone(world: "World", dice: Random) -> bool:
    sim = _pbx_of(world, dice)
    sim.set_ai(there=False)
    world.later(dice.uniform(5.0, 90.0), partial(sim.set_ai, there=True))
    return True


def _trunk_down(world: "World", dice: Random) -> bool:
    sim = _pbx_of(world, dice)
    trunk = dice.choice(sim.trunks)
    sim.trunks_down.add(trunk)
    world.later(dice.uniform(5.0, 60.0), sim.trunks_down.discard, trunk)
    return True


def _trunk_fails(world: "World", dice: Random) -> bool:
    """Its carrier refuses every call, or is silent; others of the same PBX work."""
    sim = _pbx_of(world, dice)
    trunk = dice.choice(sim.trunks)
    sim.trunks_failing[trunk] = dice.choice(OUT_OF_ORDER)

    def mended() -> None:
        sim.trunks_failing.pop(trunk, None)

    world.later(dice.uniform(10.0, 150.0), mended)
    return True


# The project


def _outage(world: "World", dice: Random) -> bool:
    spans = ((0.5, 5.0), (5.0, 70.0), (70.0, 400.0), (3600.0, 9000.0))
    seconds = dice.uniform(*dice.choices(spans, (4, 4, 3, 1))[0])
    world.project_down = True
    if any(sim.calls for sim in world.pbxs):
        world.seen("Supabase away")
    world.later(seconds, setattr, world, "project_down", False)
    # Hours of it last as long: the troubled time of this world grows.
    world.troubled_until = max(world.troubled_until, world.now + seconds + 20.0)
    return True


def _bad_line(world: "World", dice: Random) -> bool:
    machine = dice.choice(world.machines)
    line = machine.line
    line.before, line.after, line.late = (dice.choice((0.0, 0.1, 0.4)) for _ in range(3))

    def end() -> None:
        line.before = line.after = line.late = 0.0

    world.later(dice.uniform(10.0, 120.0), end)
    return True


def _cut_line(world: "World", dice: Random) -> bool:
    line = dice.choice(world.machines).line
    line.cut = True
    world.later(dice.uniform(*dice.choice(((1.0, 20.0), (20.0, 200.0)))), setattr, line, "cut", False)
    return True


def _lost_answer(world: "World", dice: Random) -> bool:
    dice.choice(world.machines).line.lose = dice.choice(("rows", "rows", "recorded", "takeover"))
    return True


def _restored(world: "World", dice: Random) -> bool:
    if world.restored_at is not None or world.backup is not None:
        return False
    world.backup = world.now, world.store.snapshot()
    world.later(dice.uniform(3.0, 90.0), world.restore_database)
    return True


def _deaf(world: "World", dice: Random) -> bool:
    world.bell_deaf = True
    world.later(dice.uniform(20.0, 300.0), setattr, world, "bell_deaf", False)
    return True


# Disks


def _full(world: "World", dice: Random) -> bool:
    folder = dice.choice(world.machines).folder
    folder.full = True
    world.later(dice.uniform(1.0, 60.0), setattr, folder, "full", False)
    return True


def _folder_lost(world: "World", dice: Random) -> bool:
    machine = _machine(world, dice)
    if machine is None or machine.process is None:
        return False
    machine.process.die()
    world.lose_folder(machine)
    return True


def _folder_cloned(world: "World", dice: Random) -> bool:
    machine = _machine(world, dice)
    if machine is None:
        return False
    path = f"{machine.path}-clone{world.now:.3f}"
    FOLDERS[path] = machine.folder.clone()
    world.folder_touched()
    world.start(machine, path=path)
    return True


def _folder_shared(world: "World", dice: Random) -> bool:
    machine = _machine(world, dice)
    if machine is None:
        return False
    world.folder_touched()
    world.start(machine, path=machine.path)
    return True


def _folder_rolled_back(world: "World", dice: Random) -> bool:
    machine = _machine(world, dice)
    if machine is None:
        return False
    backup = machine.folder.clone()

    def restore() -> None:
        if world.healed:
            return
        if machine.process is not None:
            machine.process.die()
        world.roll_back(machine, backup)

    world.later(dice.uniform(5.0, 80.0), restore)
    return True


_FAILS = Fault("trunk fails", 0, _trunk_fails)
"""Drawn apart (`plan`), for worlds that have another trunk."""

TABLE = (
    Fault("crash", 10, _crash),
    Fault("crash at a moment", 22, _crash_at_moment),
    Fault("SIGTERM", 6, _terminate),
    Fault("away", 8, _away),
    Fault("suspended", 5, _suspend),
    Fault("suspended at a moment", 5, _suspend_at_moment),
    Fault("clock jump", 4, _clock_jump),
    Fault("AMI dropped", 6, _drop),
    Fault("AMI half-open", 6, _half_open),
    Fault("AMI cut at a moment", 12, _cut_at_moment),
    Fault("AMI slow", 3, _slow),
    Fault("AMI stuck", 2, _stuck),
    Fault("PBX frozen", 4, _freeze),
    Fault("PBX frozen at a moment", 6, _freeze_at_moment),
    Fault("PBX restarted", 5, _restart_pbx),
    Fault("PBX killed", 4, _kill_pbx),
    Fault("PBX killed at a moment", 6, _kill_pbx_at_moment),
    Fault("PBX unreachable", 3, _unreachable),
    Fault("PBX refuses", 3, _refuses),
    Fault("no channel", 3, _no_channel),
    Fault("AI gone", 3, _ai_gone),
    Fault("trunk down", 2, _trunk_down),
    _FAILS,
    Fault("Supabase outage", 6, _outage),
    Fault("bad line", 7, _bad_line),
    Fault("cut line", 4, _cut_line),
    Fault("lost answer", 9, _lost_answer),
    Fault("database restored", 2, _restored),
    Fault("Realtime deaf", 5, _deaf),
    Fault("disk full", 4, _full),
    Fault("STATE_DIR lost", 2, _folder_lost),
    Fault("STATE_DIR cloned", 2, _folder_cloned),
    Fault("STATE_DIR shared", 1, _folder_shared),
    Fault("STATE_DIR rolled back", 2, _folder_rolled_back),
)
"""Every kind of fault, and how often it is drawn."""

_WEIGHTS = tuple(fault.weight for fault in TABLE)
