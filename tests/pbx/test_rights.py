"""Each right that lacks is named at login, before anything is claimed; nothing has to be tried for it."""

import logging
from dataclasses import replace

import pytest

from adapter.pbx import NotSent, Up
from adapter.pbx.rights import NEEDED, RISKY
from tests.pbx.helpers import FAST, events, linked, order, running, until
from tests.support.ami_server import AmiServer, call_event, event


@pytest.mark.parametrize("right", sorted(set(NEEDED.values())))
async def test_a_missing_write_right_is_named_and_not_hammered(right: str) -> None:
    async with AmiServer.started() as pbx:
        pbx.faults.denied |= {action for action, needs in NEEDED.items() if needs == right}
        async with running(pbx, timings=replace(FAST, refused=60.0)) as link:
            await until(lambda: f"lacks the write right '{right}'" in (link.status.problem or ""))
            assert isinstance(await link.originate(order()), NotSent)
            assert pbx.originates() == []
            assert len(pbx.seen("Login")) == 1


async def test_a_right_that_is_granted_later_is_found() -> None:
    async with AmiServer.started() as pbx:
        pbx.faults.denied.add("Originate")
        async with running(pbx, timings=replace(FAST, refused=0.02)) as link:
            await pbx.wait_for("Login", 2)
            pbx.faults.denied.clear()
            await until(lambda: link.status.ready)


async def test_a_pbx_that_lists_no_commands_is_asked_each_thing_itself() -> None:
    async with AmiServer.started() as pbx:
        pbx.faults.raw["ListCommands"] = b"Response: Error\r\nActionID: {id}\r\nMessage: Invalid\r\n\r\n"
        async with linked(pbx) as link:
            assert link.status.ready


@pytest.mark.parametrize(("action", "right"), sorted(RISKY.items()))
async def test_with_a_right_too_many_nobody_is_called_and_live_calls_are_followed(
    action: str, right: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="adapter")
    async with AmiServer.started() as pbx:
        pbx.commands.add(action)
        async with running(pbx) as link:
            assert isinstance(await link.messages.get(), Up)
            await pbx.wait_for("Ping", 2)
            problem = link.status.problem or ""
            assert f"has the write right '{right}'" in problem
            assert not link.status.ready
            assert isinstance(await link.originate(order()), NotSent)
            await pbx.emit(call_event("Hangup", "a-call"))
            await events(link, 1, "Hangup")
            assert len(pbx.seen("Login")) == 1
            assert [record.getMessage() for record in caplog.records] == [problem]


async def test_a_right_that_was_taken_away_is_seen_when_the_pbx_reloads_its_users() -> None:
    """A session keeps the rights of its login, so only a new one can tell."""
    async with AmiServer.started() as pbx:
        pbx.commands.add("Command")
        async with running(pbx) as link:
            await until(lambda: "'command'" in (link.status.problem or ""))
            await pbx.emit(event("Reload", ("Privilege", "system,all"), ("Module", "pbx_config"), ("Status", "0")))
            await pbx.wait_for("Ping", len(pbx.seen("Ping")) + 2)
            assert len(pbx.seen("Login")) == 1
            pbx.commands.remove("Command")
            await pbx.emit(event("Reload", ("Privilege", "system,all"), ("Module", "manager"), ("Status", "0")))
            await until(lambda: link.status.ready)
            assert len(pbx.seen("Login")) == 2
