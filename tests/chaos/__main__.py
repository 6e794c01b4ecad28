"""`scripts/chaos`: rounds of load and attack on real parts until enough was done; can be stopped and resumed."""

import argparse
import asyncio
import json
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapter.sandbox.asterisk.install import AsteriskMissing
from tests.chaos import mutant, table
from tests.chaos.faults import LANES, SPARED, WIDOWED, Lane
from tests.chaos.rounds import play

ROUND_SECONDS = 75.0
"""Of load and attack in one round. With the start and the settling behind it a round takes about two minutes; a stop
costs no more than that."""


PROGRAMME: Sequence[Sequence[Lane]] = (LANES, SPARED, LANES, WIDOWED)
"""What is attacked in one round after the other: all; all but the witness; all; and all, with the first adapter gone
for longer than its lease, so that the second one takes over."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 if every promise was kept in every round of the folder, 1 if not, 2 if nothing could be tried."""
    options = _options().parse_args(arguments)
    folder = Path(options.state) if options.state else Path(tempfile.mkdtemp(prefix="mikopbx-adapter-chaos-"))
    lines = folder / "rounds.jsonl"
    if lines.exists() and not options.resume:
        print(f"{folder} holds an earlier run. Add --resume to go on with it, or name another folder.", file=sys.stderr)
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    # The gateway tells at length of a database that we killed ourselves.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    print(f"State: {folder}. Ctrl-C loses the present round only; --resume goes on.", flush=True)
    try:
        asyncio.run(_run(options, folder, lines))
    except AsteriskMissing as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
    done = read(lines)
    print(table.markdown(done))
    return int(any(line["findings"] for line in done))


async def _run(options: argparse.Namespace, folder: Path, lines: Path) -> None:
    began = time.monotonic()
    done = read(lines)
    seed = done[0]["seed"] if done else options.seed
    fresh = 0
    while not _enough(options, fresh, time.monotonic() - began, done):
        number = len(done) + 1
        place = folder / f"round-{number:04}"
        shutil.rmtree(place, ignore_errors=True)
        command = mutant.command(options.mutant) if options.mutant else None
        result = await play(
            place,
            seed + number - 1,
            seconds=options.round_seconds,
            rate=options.rate,
            command=command,
            lanes=PROGRAMME[(number - 1) % len(PROGRAMME)],
        )
        line = {"round": number, **result.as_json()}
        with lines.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
        done.append(line)
        fresh += 1
        print(table.brief(line), flush=True)
        if result.good and not options.keep:
            shutil.rmtree(place)


def _enough(options: argparse.Namespace, fresh: int, seconds: float, done: Sequence[dict[str, Any]]) -> bool:
    """Whether the run has reached what was asked for; a round at least is played."""
    if options.kills is not None:
        return bool(sum(line["kills"] for line in done) >= options.kills)
    return bool(fresh > 0 and seconds >= 60 * options.minutes)


def read(lines: Path) -> list[dict[str, Any]]:
    """The rounds that are there."""
    if not lines.exists():
        return []
    return [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    until = parser.add_mutually_exclusive_group()
    until.add_argument("--minutes", type=float, default=0.0, help="play rounds for so long (default: one round)")
    until.add_argument("--kills", type=int, help="play rounds until so many processes were killed, all runs together")
    parser.add_argument("--seed", type=int, default=1, help="of the first round; each further round has the next one")
    parser.add_argument("--state", help="folder of figures and evidence (default: a new one in the temporary folder)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --state")
    parser.add_argument("--round-seconds", type=float, default=ROUND_SECONDS, help="load and attack in each round")
    parser.add_argument("--rate", type=float, default=5.0, help="rows inserted a second")
    parser.add_argument("--keep", action="store_true", help="keep logs and records of good rounds, too")
    parser.add_argument("--mutant", choices=sorted(mutant.MUTANTS), help="a deliberate fault, which must be found")
    return parser


if __name__ == "__main__":
    sys.exit(main())
