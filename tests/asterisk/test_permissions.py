"""The real link as AMI users who lack a right or have one too many: one clear message, no storm, nobody called."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace

import pytest

from adapter.pbx import Accepted, NotSent, PbxLink, Timings
from adapter.sandbox.asterisk import RealPbx
from tests.asterisk.orders import order
from tests.asterisk.test_pbx import config

pytestmark = [pytest.mark.asterisk, pytest.mark.asyncio(loop_scope="session")]

TIMINGS = Timings(booted=2.0, first_event=0.5)
"""FullyBooted and the first event come within milliseconds here. How long it waits to log in again is as always."""

SECONDS = 4.0
"""Longer than a refused login (1 s), the wait for FullyBooted and one more back-off take together."""

WRONG = {
    "no-reporting": "lacks the write right 'reporting'",
    "no-originate": "lacks the write right 'originate'",
    "no-call": "lacks the write right 'call'",
    "no-system-events": "lacks the read right 'system'",
    "with-command": "has the write right 'command'",
    "with-config": "has the write right 'config'",
    "with-system": "has the write right 'system'",
    "all": "has the write right 'command' and 'config' and 'system'",
    "not-from-here": "refused the login",
    "nobody": "refused the login",
}


@asynccontextmanager
async def running(pbx: RealPbx, user: str, *, password: str | None = None) -> AsyncIterator[PbxLink]:
    """A link of this user that does as the daemon's: it goes on, whatever happens."""
    wanted = replace(
        config(pbx), username=user, password=password or pbx.password, name=user, guard_seconds=0.2, ping_seconds=0.2
    )
    link = PbxLink(wanted, TIMINGS)
    task = asyncio.create_task(link.run())
    try:
        yield link
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def told(records: Iterable[logging.LogRecord]) -> list[str]:
    return [record.getMessage() for record in records if record.levelno >= logging.WARNING]


async def until_ready(link: PbxLink) -> None:
    async with asyncio.timeout(10):
        while not link.status.ready:
            await asyncio.sleep(0.02)


async def test_users_with_the_wrong_rights_are_told_once_and_call_nobody(
    shared_pbx: RealPbx, caplog: pytest.LogCaptureFixture
) -> None:
    """All of them at once; each says one thing and nobody is called."""
    caplog.set_level(logging.WARNING, logger="adapter")
    wanted = order(shared_pbx, "10")
    async with AsyncExitStack() as stack:
        links = {user: await stack.enter_async_context(running(shared_pbx, user)) for user in WRONG}
        end = asyncio.get_running_loop().time() + SECONDS
        while asyncio.get_running_loop().time() < end:
            for user, link in links.items():
                assert isinstance(await link.originate(wanted), NotSent), user
                assert not link.status.ready, user
            await asyncio.sleep(0.05)
        logins = {user: link.status.session for user, link in links.items()}
    for user, words in WRONG.items():
        (message,) = [r.getMessage() for r in caplog.records if getattr(r, "fields", {}).get("pbx") == user]
        assert words in message, user
    # A user without FullyBooted cannot be told from a PBX that is starting, which is asked again sooner.
    assert logins.pop("no-system-events") <= 3
    assert set(logins.values()) == {1}
    assert shared_pbx.invites(wanted.number.e164) == []


async def test_a_wrong_secret_is_told_once_and_not_tried_again(
    shared_pbx: RealPbx, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="adapter")
    async with running(shared_pbx, shared_pbx.username, password="wrong-secret-of-a-test") as link:
        await asyncio.sleep(SECONDS)
        assert "refused the login" in (link.status.problem or "")
        assert link.status.session == 1
    assert len(told(caplog.records)) == 1
    assert "wrong-secret-of-a-test" not in caplog.text


async def test_without_events_about_calls_one_call_shows_it_and_no_more(
    shared_pbx: RealPbx, caplog: pytest.LogCaptureFixture
) -> None:
    """AMI does not tell read rights; so the first call goes alone until it is heard."""
    caplog.set_level(logging.WARNING, logger="adapter")
    async with running(shared_pbx, "no-call-events") as link:
        await until_ready(link)
        first, others = order(shared_pbx, "24"), [order(shared_pbx, "24") for _ in range(20)]
        assert await link.originate(first) == Accepted()
        for other in others:
            assert isinstance(await link.originate(other), NotSent)
            await asyncio.sleep(0.1)
    (message,) = told(caplog.records)
    assert "lacks the read right 'call'" in message
    assert len(shared_pbx.invites(first.number.e164)) == 1
    assert not any(shared_pbx.invites(other.number.e164) for other in others)


async def test_a_right_that_was_taken_away_is_noticed_at_the_reload() -> None:
    """MikoPBX reloads the manager module whenever a user is edited."""
    async with RealPbx.started() as pbx:
        await _take_a_right_away(pbx)


async def _take_a_right_away(pbx: RealPbx) -> None:
    users = pbx.folder / "pbx" / "etc" / "manager.conf"
    async with running(pbx, "with-command") as link:
        async with asyncio.timeout(5):
            while "'command'" not in (link.status.problem or ""):
                await asyncio.sleep(0.02)
        users.write_text(users.read_text().replace("reporting,command", "reporting"))
        await pbx.cli("module reload manager")
        await until_ready(link)
        assert link.status.session == 2


async def test_a_pbx_that_is_starting_gets_no_call_before_it_says_so() -> None:
    """The AMI port opens and lets us in before the dialplan is loaded."""
    async with RealPbx.started() as pbx:
        await _start_again(pbx)


async def _start_again(pbx: RealPbx) -> None:
    async with running(pbx, pbx.username) as link:
        await until_ready(link)
        boot = link.status.boot
        wanted = order(pbx, "24")
        await asyncio.sleep(1)  # CoreStatus tells whole seconds: the next start must be another one.
        await pbx.kill()
        starting = asyncio.create_task(pbx.start())
        async with asyncio.timeout(20):
            while not isinstance(reply := await link.originate(wanted), Accepted):
                assert isinstance(reply, NotSent), reply
                await asyncio.sleep(0.01)
        assert link.status.boot != boot
        await starting
        async with asyncio.timeout(5):
            while not pbx.invites(wanted.number.e164):
                await asyncio.sleep(0.02)
        await asyncio.wait_for(pbx.idle(), 5)
        assert len(pbx.invites(wanted.number.e164)) == 1
