"""The container under Docker's restart policy, with calls in the air on a real Asterisk: none ends, all are followed.

The witness is the carrier: when it was called, and when each of its legs ended.
"""

import asyncio
import itertools

import pytest
from aiohttp import web

from adapter.exits import EXIT_BUSY, EXIT_CONFIG
from adapter.sandbox.gateway.faults import Forward
from tests.docker import composefile, dockerfile
from tests.docker.conftest import Site
from tests.docker.container import Played

pytestmark = [pytest.mark.asterisk, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

IN_THE_AIR = ("12", "10", "12", "20", "20")
"""Three who talk for seconds, two whose phones ring until our limit."""

HOLD = float(dockerfile.ours().command[-1])

GRACE = composefile.seconds(composefile.adapter()["stop_grace_period"])


@pytest.fixture(autouse=True)
def held(misconfigured: Played, second: Played) -> tuple[Played, Played]:
    """The two that can never work begin with the first test, so that their minute passes meanwhile."""
    return misconfigured, second


async def test_the_health_check_finds_it_well(site: Site, misconfigured: Played) -> None:
    check = dockerfile.ours().image.only("HEALTHCHECK").text
    command = dockerfile.Step(keyword="CMD", text=check.removeprefix("CMD ")).words
    await site.running()
    assert await site.container.exec(*command) == 0
    assert await misconfigured.exec(*command) == 1


async def test_docker_stop_and_start_with_calls_in_the_air(site: Site) -> None:
    await site.running()
    calls = await site.call(*IN_THE_AIR)
    await calls.in_the_air()
    stopped = await site.container.stop()
    assert calls.alive() == len(IN_THE_AIR)
    assert (stopped.code, stopped.killed) == (0, False)
    assert stopped.seconds < GRACE / 2
    await site.container.start()
    await calls.nothing_was_lost()


async def test_a_kill_with_calls_in_the_air(site: Site) -> None:
    await site.running()
    calls, lives = await site.call(*IN_THE_AIR), site.container.lives
    await calls.in_the_air()
    site.container.kill()
    await site.until(lambda: site.container.lives == lives + 1, "restarted")
    assert site.container.ended[-1].code == 137
    assert calls.alive() == len(IN_THE_AIR)
    await calls.nothing_was_lost()


async def test_out_of_memory_with_calls_in_the_air(site: Site) -> None:
    """With the limit of compose.yaml and the kernel's own kill; where no limit can be set, the same signal from us."""
    await site.running()
    calls, lives = await site.call(*IN_THE_AIR), site.container.lives
    await calls.in_the_air()
    limit = site.container.limit
    before = limit.kills if limit else 0
    await site.container.exhaust()
    await site.until(lambda: site.container.lives == lives + 1, "restarted")
    assert site.container.ended[-1].code == 137
    assert limit is None or limit.kills > before
    assert calls.alive() == len(IN_THE_AIR)
    await calls.nothing_was_lost()


async def test_kills_at_any_moment_of_many_calls(site: Site) -> None:
    """What happened between two lives may be unknown, and is then said; nobody is called twice, nobody is cut off."""
    await site.running()
    codes = ["12", "10", "11", "20", "40", "30"] * 4
    calls = await site.call(*codes)
    for _ in range(4):
        await asyncio.sleep(1.1)
        site.container.kill()
    rows = await calls.final()
    rings = site.world.rings
    for row in rows:
        assert len(rings.get(str(row.e164).lstrip("+"), ())) <= 1
        assert row.outcome in {calls.rows[row.id].outcome, "unknown"}, row
    calls.nobody_was_cut_off()
    # Five runs shorter than ten seconds: the waits were 0.1, 0.2, 0.4, 0.8 s.
    ended = site.container.ended[-4:]
    gaps = [after.began - before.began - before.seconds for before, after in itertools.pairwise(ended)]
    assert all(0.1 <= gap < 1.5 for gap in gaps), gaps


async def test_docker_stop_while_supabase_hangs_keeps_within_the_grace_period(site: Site) -> None:
    await site.running()
    calls = await site.call(*IN_THE_AIR)
    await calls.in_the_air()
    site.world.gateway.http_fault = _hang
    await asyncio.sleep(1.5)
    stopped = await site.container.stop()
    site.world.gateway.http_fault = None
    assert (stopped.code, stopped.killed) == (0, False)
    assert stopped.seconds < GRACE - 5, "five seconds are left for a machine under load"
    await site.container.start()
    rows = await calls.final()
    rings = site.world.rings
    assert all(len(rings[str(row.e164).lstrip("+")]) == 1 for row in rows)
    assert all(row.outcome in {calls.rows[row.id].outcome, "unknown"} for row in rows), rows
    calls.nobody_was_cut_off()


async def _hang(_request: web.Request, _forward: Forward) -> web.StreamResponse:
    await asyncio.sleep(3600)
    raise AssertionError("nobody waits an hour")


async def test_docker_stop_at_any_moment_of_a_start(site: Site) -> None:
    """Before the daemon handles signals, the init passes on one that ends it: 143, and nothing has been claimed yet."""
    container = site.container
    await site.running()
    await container.stop()
    for moment in (None, 0.0, 0.05, 0.1, 0.2, 0.4):
        await container.start()
        if moment is not None:
            await site.until(lambda: container.handles_sigterm, "handling SIGTERM")
            await asyncio.sleep(moment)
        stopped = await container.stop()
        assert stopped.code == (143 if moment is None else 0)
        assert stopped.seconds < 3
        assert container.pid is None, "no restart after a stop by hand"
    await site.running()


async def test_wrong_settings_make_no_hot_loop(misconfigured: Played) -> None:
    await _held_again_and_again(misconfigured, EXIT_CONFIG)
    assert "MAX_CALLS must be a whole number" in misconfigured.tail()


async def test_a_second_container_on_the_same_volume_makes_no_hot_loop(second: Played) -> None:
    await _held_again_and_again(second, EXIT_BUSY)
    assert "one folder serves one process" in second.tail(), second.tail()


async def test_docker_stop_ends_a_held_one_at_once(misconfigured: Played) -> None:
    await asyncio.sleep(2)
    stopped = await misconfigured.stop()
    assert stopped.code == EXIT_CONFIG
    assert stopped.seconds < 1
    assert misconfigured.pid is None


async def test_docker_stop_while_the_lock_is_asked_for_is_not_held(second: Played, site: Site) -> None:
    """The signal comes to a daemon that is about to be refused: it must not wait out its `--hold` for another one."""
    await second.stop()
    await second.start()
    await site.until(lambda: second.handles_sigterm, "handling SIGTERM")
    stopped = await second.stop()
    assert (stopped.code, stopped.killed) == (0, False)
    assert stopped.seconds < 3


async def _held_again_and_again(container: Played, code: int) -> None:
    """Each life but the present one ended with this code, and only when it had been held."""
    async with asyncio.timeout(HOLD + 30):
        while not container.ended:
            await asyncio.sleep(0.1)
    await asyncio.sleep(1)
    assert container.pid is not None, "the policy tries it again"
    assert {run.code for run in container.ended} == {code}
    assert all(run.seconds >= HOLD for run in container.ended)
