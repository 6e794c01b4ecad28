"""Each right that lacks is named at login, before anything is claimed; nothing has to be tried for it."""

import logging
from dataclasses import replace

import pytest

from adapter.pbx import NotSent
from adapter.pbx.rights import NEEDED, RISKY
from tests.pbx.helpers import FAST, linked, order, running, until
from tests.support.ami_server import AmiServer


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
            assert link.status.warning is None


@pytest.mark.parametrize(("action", "right"), sorted(RISKY.items()))
async def test_a_right_too_many_is_a_warning_said_once(
    action: str, right: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="adapter")
    async with AmiServer.started() as pbx:
        pbx.commands.add(action)
        async with linked(pbx) as link:
            assert f"'{right}'" in (link.status.warning or "")
            pbx.connections[-1].reset()
            await until(lambda: link.status.session == 2 and link.status.ready)
            assert [getattr(r, "event", "") for r in caplog.records].count("pbx.rights") == 1
