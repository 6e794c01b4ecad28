"""What the design takes for granted about a PBX, on a real one."""

import asyncio

import pytest

from adapter.core.model import Outcome
from adapter.pbx.config import PbxConfig
from adapter.pbx.guards import ai_problem, trunk_problem
from adapter.sandbox.asterisk import TRUNK_DOWN, TRUNK_NO_CONTACT, TRUNK_SILENT, RealPbx
from tests.asterisk.ami import Ami, words
from tests.asterisk.orders import ended, judged, order, write

pytestmark = [pytest.mark.asterisk, pytest.mark.asyncio(loop_scope="session")]


def config(pbx: RealPbx, *, trunk: str | None = None, ai_extension: str | None = None) -> PbxConfig:
    return PbxConfig(
        host=pbx.host,
        port=pbx.port,
        username=pbx.username,
        password=pbx.password,
        trunk=trunk or pbx.trunk,
        ai_context=pbx.ai_context,
        ai_extension=ai_extension or pbx.ai_extension,
    )


async def test_journal_is_written_before_anybody_is_dialed(shared_pbx: RealPbx) -> None:
    async with Ami.logged_in(shared_pbx) as ami:
        wanted = order(shared_pbx, "20", ring_seconds=2)
        assert await ami.journal(wanted.slot) is None
        write(ami, wanted)
        # DialBegin is told when the INVITE goes out, and the journal is asked for only then.
        await ami.until(lambda message: message.name == "DialBegin" and message.get("DestLinkedid") == wanted.call_id)
        assert await ami.journal(wanted.slot) == wanted.journal_value
        await ended(ami, wanted)
        assert await ami.journal(wanted.slot) == wanted.journal_value


async def test_call_without_channel_rang_nobody_and_is_in_the_journal(shared_pbx: RealPbx) -> None:
    async with Ami.logged_in(shared_pbx) as ami:
        wanted = order(shared_pbx, "10", trunk=TRUNK_NO_CONTACT)
        write(ami, wanted)
        response = await ami.originate_response(wanted.call_id)
        assert (response.get("Response"), response.get("Reason")) == ("Failure", "0")
        assert response.get("Uniqueid") == wanted.call_id
        assert not [message for message in ami.about(wanted.call_id) if message.name == "Newchannel"]
        assert shared_pbx.invites(wanted.number.e164) == []
        assert judged(wanted, ami.about(wanted.call_id)).outcome is Outcome.TRUNK_UNAVAILABLE
        # The channel OutgoingSpoolFailed gets the variables of every failed Originate, functions too: the journal
        # says "the PBX took this action", and nothing more.
        assert await ami.journal(wanted.slot) == wanted.journal_value


@pytest.mark.parametrize(("code", "up"), [("20", False), ("12", True)], ids=["ringing", "talking"])
async def test_absolute_timeout_ends_a_call_without_us(shared_pbx: RealPbx, code: str, up: bool) -> None:
    async with Ami.logged_in(shared_pbx) as ami:
        wanted = order(shared_pbx, code, ring_seconds=30)
        bound = next(value for name, value in wanted.headers if name == "Variable" and "TIMEOUT(absolute)" in value)
        headers = [(name, "TIMEOUT(absolute)=2" if value == bound else value) for name, value in wanted.headers]
        ami.write("Originate", ("ActionID", wanted.call_id), *headers)
        heard = await ended(ami, wanted)
        begun = next(message for message in heard if message.name == "Newchannel")
        hangup = next(message for message in heard if message.name == "Hangup")
        assert 1.5 < hangup.at - begun.at < 3.0, words(heard)
        assert any(message.get("ChannelStateDesc") == "Up" for message in heard) is up


async def test_second_originate_with_a_live_id_is_refused(shared_pbx: RealPbx) -> None:
    async with Ami.logged_in(shared_pbx) as ami:
        wanted = order(shared_pbx, "20", ring_seconds=2)
        again = order(shared_pbx, "10")
        write(ami, wanted)
        # Each asynchronous Originate has a thread of its own: of two written at once the second may win.
        await ami.event("Newchannel", linkedid=wanted.call_id)
        headers = [(name, wanted.call_id if name == "ChannelId" else value) for name, value in again.headers]
        ami.write("Originate", ("ActionID", again.call_id), *headers)
        refusal = await ami.originate_response(again.call_id)
        assert (refusal.get("Response"), refusal.get("Reason")) == ("Failure", "0")
        assert refusal.get("Uniqueid") == wanted.call_id, "that of the first: nothing may be matched by it"
        await ended(ami, wanted)
        assert len(shared_pbx.invites(wanted.number.e164)) == 1
        assert shared_pbx.invites(again.number.e164) == []


async def test_of_two_originates_with_one_id_at_once_at_most_one_rings(release: str) -> None:
    """One is refused. Now and then, once in some 140 times, Asterisk 16 and 22 both die of it (docs/traps.md), so it
    has a PBX of its own."""
    async with RealPbx.started(release=release) as own, Ami.logged_in(own) as ami:
        one, two = order(own, "30"), order(own, "30")
        for wanted in (one, two):
            headers = [(name, one.call_id if name == "ChannelId" else value) for name, value in wanted.headers]
            ami.write("Originate", ("ActionID", wanted.call_id), *headers)
        died = False
        for wanted in (one, two):
            try:
                await ami.originate_response(wanted.call_id)
            except AssertionError:
                if not ami.closed:
                    raise
                died = True
        invites = len(own.invites(one.number.e164)) + len(own.invites(two.number.e164))
        assert invites <= 1 if died else invites == 1


async def test_ai_guard_sees_whether_the_extension_exists(shared_pbx: RealPbx) -> None:
    async with Ami.logged_in(shared_pbx) as ami:
        assert await ai_problem(ami.getvar, config(shared_pbx)) is None
        assert "995 does not exist" in (await ai_problem(ami.getvar, config(shared_pbx, ai_extension="995")) or "")
        # all_peers itself takes everything, which is why it is not asked.
        assert await ami.getvar("DIALPLAN_EXISTS(all_peers,995,1)") == "1"


async def test_trunk_guard_sees_the_state_of_each_trunk(shared_pbx: RealPbx) -> None:
    async with Ami.logged_in(shared_pbx) as ami:

        async def problem(trunk: str) -> str:
            return await trunk_problem(ami.getvar, config(shared_pbx, trunk=trunk)) or ""

        assert await problem(shared_pbx.trunk) == ""
        assert await problem(TRUNK_SILENT) == ""  # not qualified: nobody knows
        assert "no contact" in await problem(TRUNK_NO_CONTACT)
        assert "no provider" in await problem("SIP-TRUNK-00000000")
        async with asyncio.timeout(8):
            while "Unreachable" not in await problem(TRUNK_DOWN):
                await asyncio.sleep(0.1)


async def test_mistyped_extension_still_exists_for_the_pbx(shared_pbx: RealPbx) -> None:
    """all_peers takes everything: the callee answers and hears an announcement. Only the AI guard prevents it."""
    async with Ami.logged_in(shared_pbx) as ami:
        wanted = order(shared_pbx, "12")
        headers = [(name, "998" if name == "Exten" else value) for name, value in wanted.headers]
        ami.write("Originate", ("ActionID", wanted.call_id), *headers)
        response = await ami.originate_response(wanted.call_id)
        assert response.get("Response") == "Success"
        await ami.ask("Hangup", ("Channel", wanted.call_id), ("Cause", "16"))
        await ended(ami, wanted)


async def test_route_form_rings_the_callee_behind_a_local_channel(shared_pbx: RealPbx) -> None:
    async with Ami.logged_in(shared_pbx) as ami:
        wanted = order(shared_pbx, "30")
        digits = wanted.number.e164.removeprefix("+")
        headers = [
            (name, f"Local/{digits}@all_peers" if name == "Channel" else value) for name, value in wanted.headers
        ]
        ami.write("Originate", ("ActionID", wanted.call_id), *headers)
        response = await ami.originate_response(wanted.call_id)
        assert (response.get("Response"), response.get("Reason")) == ("Failure", "5")
        legs = {message.get("Channel") for message in ami.about(wanted.call_id) if message.name == "Newchannel"}
        assert len(legs) == 3, legs
        assert any(leg.startswith(f"PJSIP/{shared_pbx.trunk}-") for leg in legs)
        assert len(shared_pbx.invites(wanted.number.e164)) == 1
