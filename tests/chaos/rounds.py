"""One round: start, load and attack, put everything right, wait until nothing moves, compare the witnesses."""

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from adapter.sandbox.scenarios import number
from adapter.sandbox.world import SandboxError
from tests.chaos import judge, witnesses
from tests.chaos.faults import KILLS, LANES, Attack, Lane
from tests.chaos.history import Blind, blind_times, log_lines
from tests.chaos.judge import Evidence, Judgment
from tests.chaos.stage import RING_SECONDS, Stage

USER = "00000000-0000-4000-8000-00000000aaaa"

WEIGHTS: Mapping[str, int] = {
    "10": 12,
    "11": 6,
    "14": 1,
    "20": 3,
    "21": 8,
    "22": 4,
    "24": 1,
    "30": 3,
    "31": 1,
    "40": 3,
    "41": 3,
    "50": 2,
    "60": 2,
    "70": 2,
    "81": 2,
}
"""Callees of the load. All are done within seven seconds; most ring, or the daemon would stop the trunk."""

SETTLE_SECONDS = 330.0
"""The slowest end that is promised: a call that nobody can report ends ring limit + longest call + 2 minutes +
ORPHAN_AFTER after its claim, 215 s here; and a PBX held by a dead adapter is free after a lease of 60 s."""

HASTEN = "update public.call_queue set settle_at = now() where settle_at > now()"
"""The ten seconds in which the AI may still have its say have tests of their own (tests/supabase)."""

LEAST_SETTLE_SECONDS = 25.0
"""So long a witness has after the last fault to tell what it saw (`history.TELL_SECONDS`), before all are stopped."""

READY = """
select exists (select from public.call_adapters where adapter::text = $1 and (status ->> 'ready')::boolean)
"""

OPEN = "select count(*) from public.call_queue where status not in ('done', 'canceled')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round came to; a line of `rounds.jsonl`."""

    seed: int
    seconds: float
    settled_after: float
    rows: int
    calls: int
    kills: int
    faults: Mapping[str, int]
    deaths: Sequence[str]
    judgment: Judgment

    @property
    def good(self) -> bool:
        """Every promise was kept."""
        return not self.judgment.findings

    def as_json(self) -> dict[str, Any]:
        """Flat, for a file."""
        plain = {"seed": self.seed, "seconds": round(self.seconds, 1), "settled_after": round(self.settled_after, 1)}
        figures = {"rows": self.rows, "calls": self.calls, "kills": self.kills, "faults": dict(self.faults)}
        return {**plain, **figures, "deaths": list(self.deaths), **judge.as_json(self.judgment)}


async def play(
    folder: Path,
    seed: int,
    *,
    seconds: float,
    kills: int = 0,
    rate: float = 5.0,
    command: Sequence[str] | None = None,
    lanes: Sequence[Lane] = LANES,
) -> Round:
    """One round in this folder: at least so many seconds and so many kills, `rate` rows a second."""
    folder.mkdir(parents=True, exist_ok=True)
    async with Stage.set_up(folder, command) as stage:
        await _begin(stage)
        attack = Attack(stage)
        began = time.time()
        load = asyncio.create_task(_load(stage, random.Random(f"{seed}:load"), rate))
        faults = asyncio.create_task(attack.run(seed, lanes))
        try:
            while time.time() - began < seconds or attack.kills < kills:
                if faults.done() or load.done():
                    break
                await asyncio.sleep(0.2)
        finally:
            # Whatever was broken is put right before this returns; an error of the attack itself goes up.
            for task in (load, faults):
                task.cancel()
            for ended in await asyncio.gather(load, faults, return_exceptions=True):
                if isinstance(ended, Exception):
                    raise ended
        lasted = time.time() - began
        settled = await _settle(stage, attack)
        invites = stage.pbx.calls
        for ward in stage.wards:
            await ward.daemon.stop()
        end = time.time()
        rows, logs = await witnesses.read_database(stage.world.dsn)
        blind: list[Blind] = []
        for ward in stage.wards:
            said = log_lines(ward.daemon.log.read_text(encoding="utf-8", errors="replace"))
            blind += blind_times(ward.name, said, attack.spans, end)
        evidence = Evidence(
            rows=rows,
            logs=logs,
            invites=invites,
            outboxes={ward.name: witnesses.read_outbox(ward.state) for ward in stage.wards},
            names={ward.adapter_id(): ward.name for ward in stage.wards},
            blind=blind,
            spans=attack.spans,
            ring_seconds=RING_SECONDS,
        )
        result = Round(
            seed=seed,
            seconds=lasted,
            settled_after=settled,
            rows=len(rows),
            calls=len(invites),
            kills=sum(span.kind in KILLS for span in attack.spans),
            faults=Counter(span.kind for span in attack.spans),
            deaths=attack.deaths,
            judgment=judge.judge(evidence),
        )
        _keep(folder, evidence)
        return result


async def _begin(stage: Stage) -> None:
    """Start the daemons; the first one has the PBX, for most of the faults are meant for who is dialing."""
    for ward in stage.wards:
        await ward.daemon.start()
        for _ in range(300):
            if await stage.world.pool.fetchval(READY, ward.adapter_id()):
                break
            await asyncio.sleep(0.1)
        else:
            raise SandboxError(f"the {ward.name} adapter was not ready within 30 s:\n{ward.daemon.tail()}")


async def _load(stage: Stage, dice: random.Random, rate: float) -> None:
    """Rows as an app sends them, a few at a time; each number is used once, so a person is a row."""
    codes = [code for code, weight in WEIGHTS.items() for _ in range(weight)]
    serial = 0
    while True:
        count = dice.randint(1, 6)
        rows = []
        for _ in range(count):
            serial += 1
            rows.append({"user_id": USER, "phone_number": number(dice.choice(codes), serial)})
        # An insert that fails or whose answer is lost is not repeated: whatever is in the table counts.
        with contextlib.suppress(SandboxError, httpx.HTTPError):
            await stage.world.queue(rows)
        await asyncio.sleep(dice.uniform(0.0, 2.0) * count / rate)


async def _settle(stage: Stage, attack: Attack) -> float:
    """Wait until every row is final and no leg is left at the carrier; how long that took."""
    began = time.monotonic()
    while time.monotonic() - began < SETTLE_SECONDS:
        for ward in stage.wards:
            if not ward.daemon.running:
                attack.deaths.append(f"{ward.name}: {await ward.daemon.ended()}")
                await ward.daemon.start()
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await stage.world.pool.execute(HASTEN)
            rested = time.monotonic() - began >= LEAST_SETTLE_SECONDS
            if rested and not await stage.world.pool.fetchval(OPEN):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(5):
                        await stage.pbx.idle()
                break
        await asyncio.sleep(0.5)
    return time.monotonic() - began


def _keep(folder: Path, evidence: Evidence) -> None:
    """All that was judged, for whoever looks for the reason."""
    for name, items in (
        ("faults", evidence.spans),
        ("blind", evidence.blind),
        ("carrier", evidence.invites),
        ("queue", evidence.rows),
        ("logs", evidence.logs),
    ):
        lines = [json.dumps(asdict(item)) for item in items]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
