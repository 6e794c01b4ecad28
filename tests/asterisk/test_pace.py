"""Offered far more than a real Asterisk can set up, the pace keeps it in time; without the pace it becomes late.

What is measured is the life of a call that is busy at once: from the write to the Hangup. The figures of a run are
printed (`pytest -s`); the machine is shared, so the bare run is only asked to be worse.
"""

import asyncio
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from adapter import clock
from adapter.pacer import Pacer
from adapter.pbx import Accepted, Event, PbxLink
from adapter.sandbox.asterisk import RealPbx
from tests.asterisk.orders import order
from tests.asterisk.test_permissions import running, until_ready

pytestmark = [pytest.mark.asterisk, pytest.mark.timeout(240)]

OFFERED = 200.0
"""Calls a second: the most that CALLS_PER_SECOND may be, and far over what two Asterisks on two cores set up."""

SECONDS = 15.0
IN_AIR = 400
"""Bounds what the bare run leaves behind."""


@dataclass(slots=True)
class Lives:
    """Of each call when it was written and when it ended."""

    link: PbxLink
    written: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)

    async def follow(self) -> None:
        """Take all events."""
        while True:
            message = await self.link.messages.get()
            if isinstance(message, Event) and message.event.name == "Hangup":
                self.ended.setdefault(message.event.get("Uniqueid"), time.monotonic())

    @property
    def in_air(self) -> int:
        """Calls that have not ended."""
        return sum(call_id not in self.ended for call_id in self.written)

    def median(self, skip: float = 0.0) -> float:
        """Of the calls that were written after the first `skip` seconds."""
        begun = min(self.written.values()) + skip
        lives = [self.ended[call] - at for call, at in self.written.items() if call in self.ended and at >= begun]
        return statistics.median(lives)

    async def over(self) -> None:
        """Until all have ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(60):
                while self.in_air:
                    await asyncio.sleep(0.1)


async def _offer(pbx: RealPbx, lives: Lives, look: Callable[[], float | None], seconds: float) -> None:
    """Originates as fast as `look` lets them."""
    end = time.monotonic() + seconds
    sending: set[asyncio.Task[None]] = set()

    async def send() -> None:
        wanted = order(pbx, "30")

        def last() -> str | float | None:
            if (wait := look()) is None:
                lives.written[wanted.call_id] = time.monotonic()
            return wait

        if not isinstance(await lives.link.originate(wanted, last), Accepted):
            lives.written.pop(wanted.call_id, None)

    while time.monotonic() < end:
        if len(sending) < 8 and lives.in_air < IN_AIR:
            task = asyncio.create_task(send())
            sending.add(task)
            task.add_done_callback(sending.discard)
        await asyncio.sleep(0.0005)
    await asyncio.gather(*sending)


async def test_the_pace_holds_a_real_pbx_below_its_knee(pbx: RealPbx) -> None:
    async with running(pbx, pbx.username) as link:
        await until_ready(link)
        lives = Lives(link)
        following = asyncio.create_task(lives.follow())
        next_at = [0.0]

        def every(gap: float) -> Callable[[], float | None]:
            def look() -> float | None:
                now = time.monotonic()
                if now < next_at[0]:
                    return max(0.001, next_at[0] - now)
                next_at[0] = max(next_at[0] + gap, now - 0.1)
                return None

            return look

        figures: dict[str, tuple[float, float]] = {}

        async def measure(name: str, look: Callable[[], float | None], seconds: float) -> float:
            lives.written.clear()
            lives.ended.clear()
            next_at[0] = time.monotonic()
            await _offer(pbx, lives, look, seconds)
            rate = len(lives.written) / seconds
            await lives.over()
            figures[name] = (rate, lives.median(skip=min(5.0, seconds / 3)))
            return figures[name][1]

        idle = await measure("idle", every(0.5), 6.0)
        pacer = Pacer(calls_per_second=OFFERED, stopwatch=link.stopwatch, clock=clock.boot, since=clock.boot())
        paced = await measure("paced", lambda: pacer.turn(pbx.trunk), SECONDS)
        words = pacer.pace.words
        bare = await measure("bare", every(1 / OFFERED), SECONDS)
        print({name: f"{rate:.0f}/s, life {life:.3f} s" for name, (rate, life) in figures.items()}, words)
        assert paced <= 2 * idle
        assert bare > paced
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
