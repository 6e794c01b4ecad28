"""The pair itself: it starts fast, comes back after what tests do to it, and leaves nothing behind."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from adapter.sandbox.asterisk import RealPbx, install
from adapter.sandbox.scenarios import BY_CODE
from tests.asterisk.ami import Ami
from tests.asterisk.orders import ended, judged, order, write

pytestmark = pytest.mark.asterisk


async def boot(ami: Ami) -> str:
    status = await ami.ask("CoreStatus")
    return f"{status.get('CoreStartupDate')} {status.get('CoreStartupTime')}"


async def up(ami: Ami, call_id: str) -> None:
    """Return when the callee has answered."""
    await ami.until(lambda message: message.get("Linkedid") == call_id and message.get("ChannelStateDesc") == "Up")


async def test_restart_tells_and_kill_does_not(pbx: RealPbx) -> None:
    async with Ami.logged_in(pbx) as ami:
        cut, before = order(pbx, "12"), await boot(ami)
        write(ami, cut)
        await up(ami, cut.call_id)
        await asyncio.sleep(1)  # CoreStatus tells whole seconds: the next start must be another one.
        await pbx.restart()
        heard = [message.name for message in ami.heard]
        assert heard.index("Hangup") < heard.index("Shutdown")
        assert (await ami.event("Hangup", linkedid=cut.call_id)).get("Cause") == "0"
    async with Ami.logged_in(pbx) as ami:
        assert await boot(ami) != before
        assert await ami.journal(cut.slot) == cut.journal_value, "the journal survives a restart"
        killed = order(pbx, "12")
        write(ami, killed)
        await up(ami, killed.call_id)
        await pbx.kill()
        await asyncio.wait_for(ami.until_closed(), 5)
        assert not [message for message in ami.about(killed.call_id) if message.name == "Hangup"]
    await pbx.start()
    assert [invite.scenario for invite in pbx.calls] == ["12", "12"], "the carrier remembers"
    async with Ami.logged_in(pbx) as ami:
        again = order(pbx, "30")
        write(ami, again)
        assert judged(again, await ended(ami, again)).hangup_cause == 17


async def test_frozen_pbx_takes_bytes_and_executes_them_later(pbx: RealPbx) -> None:
    async with Ami.logged_in(pbx) as ami:
        pbx.freeze()
        late = order(pbx, "30")
        write(ami, late)
        await asyncio.sleep(0.5)
        assert ami.about(late.call_id) == []
        assert pbx.calls == []
        pbx.thaw()
        await ended(ami, late)
    assert len(pbx.invites(late.number.e164)) == 1


async def test_reload_is_told_and_breaks_nothing(pbx: RealPbx) -> None:
    async with Ami.logged_in(pbx) as ami:
        live = order(pbx, "10")
        write(ami, live)
        await up(ami, live.call_id)
        await pbx.reload()
        await ami.until(lambda message: message.name == "Reload")
        assert judged(live, await ended(ami, live)).talk_seconds == int(BY_CODE["10"].talk)


async def test_dead_carrier_is_noticed_and_forgotten(pbx: RealPbx) -> None:
    async with Ami.logged_in(pbx) as ami:

        async def state() -> str:
            return await ami.getvar(f"DEVICE_STATE(PJSIP/{pbx.trunk})")

        assert await state() == "NOT_INUSE"
        await pbx.kill_carrier()
        async with asyncio.timeout(12):
            while await state() != "UNAVAILABLE":
                await asyncio.sleep(0.1)
        await pbx.start_carrier()
        async with asyncio.timeout(12):
            while await state() != "NOT_INUSE":
                await asyncio.sleep(0.1)


async def test_two_pairs_run_side_by_side() -> None:
    async with RealPbx.started() as one, RealPbx.started() as two:
        assert one.folder != two.folder
        assert not {*vars_of(one)} & {*vars_of(two)}
        for pbx in (one, two):
            async with Ami.logged_in(pbx) as ami:
                wanted = order(pbx, "30")
                write(ami, wanted)
                await ended(ami, wanted)
        assert len(one.calls) == len(two.calls) == 1


def vars_of(pbx: RealPbx) -> tuple[int, int, int]:
    return pbx.ports.ami, pbx.ports.sip, pbx.ports.carrier_sip


async def test_nothing_is_left_of_a_pair_whose_owner_was_killed() -> None:
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adapter.sandbox.asterisk", "run"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    assert owner.stdout is not None
    folder = Path()
    while line := (await asyncio.wait_for(owner.stdout.readline(), 30)).decode():
        if line.startswith("Files: "):
            folder = Path(line.removeprefix("Files: ").strip())
            break
    pids = [int((folder / role / "run" / "asterisk.pid").read_text()) for role in ("pbx", "carrier")]
    owner.send_signal(signal.SIGKILL)
    await owner.communicate()
    try:
        async with asyncio.timeout(5):
            while any(Path(f"/proc/{pid}").exists() for pid in pids):
                await asyncio.sleep(0.02)
    except TimeoutError:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        raise
    # It lies there until the next one starts, which may have been in another worker of these tests.
    async with RealPbx.started():
        assert not folder.exists(), "the next one to start tidies up"


async def test_pair_ends_with_its_context() -> None:
    async with RealPbx.started() as pbx:
        folder = pbx.folder
        pids = [int((folder / role / "run" / "asterisk.pid").read_text()) for role in ("pbx", "carrier")]
    assert not folder.parent.exists()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_second_install_is_quick_and_changes_nothing() -> None:
    assert install.install() == install.find()
