"""Runs worlds: one seed, or many on all cores, and tells what became of them.

A seed that breaks a promise is told with the command that replays it, and its trace.
"""

import argparse
import gc
import logging
import os
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.simulation import checks, faults, ranges
from tests.simulation.loop import PROCESS, Stuck
from tests.simulation.patches import chance, simulated
from tests.simulation.workers import Lost, spread
from tests.simulation.world import World

WORLD_SECONDS = 60
"""Seconds of the processor after which a world is ended; the longest takes about one. A busy machine ends none."""

LOST_SECONDS = 900.0
"""Real seconds without a result after which a worker is given up: one that hangs without computing."""

LINES = (
    "claim and Originate written",
    "Originate and its Response",
    "Response and end of call",
    "end of call and write",
    "claim answered, answer lost",
    "PBX restarts",
    "Supabase away",
    "adapter gone for good",
    "database restored",
    "STATE_DIR lost, shared, cloned, rolled back",
)
"""The lines of the crash table (design, section 8), as `World.seen` counts them."""


VISITS = 20
"""Worlds in which each of them must be met in a run of MANY worlds, as many as CI lets live."""

MANY = 2000
ROWS = 20
FAULTS = 3
"""What the median world must have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one world."""

    seed: int
    problems: tuple[str, ...]
    rows: int
    calls: int
    seconds: float
    faults: Counter[str]
    coverage: Counter[str]
    lines: tuple[str, ...] = ()


class _Told(logging.Handler):
    """The daemons' own words go into the trace."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.INFO)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        process = PROCESS.get(None)
        fields = getattr(record, "fields", {})
        self._world.trace("log", process=process.name if process else "-", says=record.getMessage(), **fields)


def run(seed: int, *, tracing: bool = False, telling: bool = False) -> Result:
    """Let one world live, inside `simulated`. `telling`: what the daemons log stands in the trace.

    A world that does not end by itself is ended, and that is its problem.
    """
    with chance(seed):
        world = World(seed, tracing=tracing)
        handler = _Told(world)
        if telling:
            logging.getLogger("adapter").addHandler(handler)
            logging.getLogger("adapter").setLevel(logging.INFO)
        try:
            problems = _lived(world)
            return Result(
                seed=seed,
                problems=problems,
                rows=len(world.users),
                calls=len(world.carrier.invites),
                seconds=world.now,
                faults=world.faults,
                coverage=world.coverage,
                lines=tuple(world.lines or ()),
            )
        finally:
            logging.getLogger("adapter").removeHandler(handler)
            world.close()


def _lived(world: World) -> tuple[str, ...]:
    def over(_number: int, _frame: object) -> None:
        raise Stuck(f"not over after {WORLD_SECONDS} seconds of the processor, t={world.now:.3f}")

    before = signal.signal(signal.SIGVTALRM, over)
    signal.setitimer(signal.ITIMER_VIRTUAL, WORLD_SECONDS)
    try:
        world.live()
        return tuple(checks.look(world))
    except Stuck as error:
        return (f"hung: {error}",)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def run_all(seeds: Sequence[int], jobs: int, nice: int = 0) -> Iterator[Result]:
    """Many worlds, on so many cores; results come in any order."""
    if jobs <= 1:
        os.nice(nice)
        yield from worlds(seeds)
        return
    # A worker ends a world by itself; one that cannot (it hangs in C, or is killed) is ended here.
    for result in spread(worlds, seeds, jobs=jobs, nice=nice, patience=LOST_SECONDS):
        yield _lost(result) if isinstance(result, Lost) else result


def worlds(seeds: Iterable[int]) -> Iterator[Result]:
    """One after another, in this process."""
    with simulated():
        for number, seed in enumerate(seeds):
            result = run(seed)
            if number == 0:
                # What the first world has loaded stays; to look through it after each one takes a third of the time.
                gc.collect()
                gc.freeze()
            yield result


def _lost(lost: Lost) -> Result:
    return Result(
        seed=lost.seed, problems=(f"hung: {lost.why}",), rows=0, calls=0, seconds=0.0, faults=Counter(),
        coverage=Counter(),
    )  # fmt: skip


@dataclass(slots=True)
class Summary:
    """What many worlds had in common."""

    broken: list[Result] = field(default_factory=list)
    worlds: int = 0
    calls: int = 0
    rows: list[int] = field(default_factory=list)
    struck: list[int] = field(default_factory=list)
    """Faults of each world."""

    hours: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    coverage: Counter[str] = field(default_factory=Counter)
    worlds_of: Counter[str] = field(default_factory=Counter)
    """Line of the crash table → worlds in which it was met."""

    def add(self, result: Result) -> None:
        """One more."""
        self.worlds += 1
        self.calls += result.calls
        self.rows.append(result.rows)
        self.struck.append(result.faults.total())
        self.hours += result.seconds / 3600
        self.faults.update(result.faults)
        self.coverage.update(result.coverage)
        self.worlds_of.update(result.coverage.keys())
        if result.problems:
            self.broken.append(result)

    def words(self) -> Iterator[str]:
        """For people."""
        if not self.worlds:
            yield "no world"
            return
        yield f"{self.worlds} worlds, {self.calls} calls, {self.hours:.0f} hours of virtual time"
        yield f"median world: {statistics.median(self.rows):g} rows, {statistics.median(self.struck):g} faults"
        yield f"faults: {self.faults.total()}"
        yield from (f"  {self.faults[fault.name]:7d}  {fault.name}" for fault in faults.TABLE)
        yield "lines of the crash table (design, section 8): visits, worlds"
        yield from (f"  {self.coverage[line]:7d} {self.worlds_of[line]:7d}  {line}" for line in LINES)
        yield from self.missing()
        yield f"seeds that broke a promise: {len(self.broken)}"

    def missing(self) -> Iterator[str]:
        """What so many worlds should have met, and did not."""
        if self.worlds < MANY:
            return
        for line in LINES:
            if (worlds := self.worlds_of[line]) < VISITS:
                yield f'too few worlds ({worlds} of at least {VISITS}) met "{line}"'
        for name, counts, least in (("rows", self.rows, ROWS), ("faults", self.struck, FAULTS)):
            if (median := statistics.median(counts)) < least:
                yield f"the median world has {median:g} {name} and should have {least}"


def tell(results: Iterable[Result], *, out: int = 3, summary: Summary | None = None) -> Summary:
    """Sum up, and tell of each broken seed as it comes (of the first ones with their problems)."""
    summary = summary or Summary()
    for result in results:
        summary.add(result)
        if result.problems and len(summary.broken) <= out:
            print(f"seed {result.seed} broke a promise; replay: scripts/simulate --seed {result.seed} -v")
            print("\n".join(f"  {problem}" for problem in result.problems[:10]), flush=True)
    return summary


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="scripts/simulate", description="The real daemon in simulated worlds.")
    parser.add_argument("--seeds", type=int, metavar="N", help="run so many worlds")
    parser.add_argument("--from", dest="first", type=int, default=1, metavar="S", help="the first seed (default 1)")
    parser.add_argument("--seed", type=int, metavar="S", help="replay one world")
    parser.add_argument("-v", "--verbose", action="store_true", help="with --seed: print its trace")
    parser.add_argument("--record", type=Path, metavar="FILE", help="with --seeds: append what became of them, as JSON")
    parser.add_argument("--sum", type=Path, metavar="FILE", help="add up what was recorded there")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="cores to use")
    parser.add_argument("--nice", type=int, default=0, metavar="N", help="let other programs go first (0 to 19)")
    options = parser.parse_args(arguments)
    if [options.seed, options.seeds, options.sum].count(None) != 2:
        parser.error("say --seeds N, --seed S or --sum FILE")
    if options.sum is not None:
        return ranges.add_up(options.sum)
    if options.seed is not None:
        return _replay(options.seed, verbose=options.verbose)
    begun = time.monotonic()
    seeds = range(options.first, options.first + options.seeds)
    summary, stopped = Summary(), False
    try:
        tell(run_all(seeds, options.jobs, options.nice), summary=summary)
    except KeyboardInterrupt:
        stopped = True
    print("\n".join(summary.words()))
    seconds = time.monotonic() - begun
    print(f"seeds {seeds[0]} to {seeds[-1]} in {seconds:.0f} s, {summary.worlds / seconds:.1f} worlds a second")
    if summary.broken:
        print("broken:", *sorted(result.seed for result in summary.broken))
    if stopped:
        print(f"stopped by Ctrl-C after {summary.worlds} of {len(seeds)} worlds")
        return 130
    if options.record is not None:
        ranges.record(options.record, _recorded(seeds, summary))
    return 1 if summary.broken or any(summary.missing()) else 0


def _recorded(seeds: range, summary: Summary) -> ranges.Recorded:
    return ranges.Recorded(
        first=seeds[0],
        last=seeds[-1],
        commit=ranges.commit(),
        worlds=summary.worlds,
        calls=summary.calls,
        rows=sum(summary.rows),
        hours=round(summary.hours, 1),
        faults=dict(summary.faults),
        lines={line: summary.worlds_of[line] for line in LINES},
        broken=sorted(result.seed for result in summary.broken),
    )


def _replay(seed: int, *, verbose: bool) -> int:
    with simulated(logging_on=verbose):
        result = run(seed, tracing=verbose, telling=verbose)
    print("\n".join(result.lines))
    print(f"seed {seed}: {result.rows} rows, {result.calls} calls, faults: {dict(result.faults)}")
    print("\n".join(result.problems) or "every promise was kept")
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
