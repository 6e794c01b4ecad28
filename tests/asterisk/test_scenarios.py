"""Every callee of the number plan on a real Asterisk: AMI's words, the core's verdict, the carrier's records."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from adapter.core.model import Ending
from adapter.core.originate import Originate
from adapter.sandbox.asterisk import Invite, RealPbx
from adapter.sandbox.scenarios import SCENARIOS, Scenario
from tests.asterisk.ami import Ami, Message, words
from tests.asterisk.orders import ended, judged, order, write

pytestmark = [pytest.mark.asterisk, pytest.mark.asyncio(loop_scope="session")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One call after its end."""

    order: Originate
    heard: list[Message]
    ending: Ending
    invites: list[Invite]

    def one(self, name: str) -> Message:
        """The only event of this name."""
        (message,) = [message for message in self.heard if message.name == name]
        return message

    def states(self) -> set[str]:
        """What the leg went through."""
        return {message.get("ChannelStateDesc") for message in self.heard if message.name == "Newstate"} | {
            message.get("DialStatus") for message in self.heard if message.name in {"DialState", "DialEnd"}
        }


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def told(shared_pbx: RealPbx) -> AsyncIterator[dict[str, Told]]:
    """All scenarios called at once, by code."""
    async with Ami.logged_in(shared_pbx) as ami:
        orders = {scenario.code: order(shared_pbx, scenario.code) for scenario in SCENARIOS}
        for wanted in orders.values():
            write(ami, wanted)
        await asyncio.gather(*(ended(ami, wanted) for wanted in orders.values()))
        await asyncio.wait_for(shared_pbx.idle(), 5)
        yield {
            code: Told(
                order=wanted,
                heard=ami.about(wanted.call_id),
                ending=judged(wanted, ami.about(wanted.call_id)),
                invites=shared_pbx.invites(wanted.number.e164),
            )
            for code, wanted in orders.items()
        }


each = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: f"{scenario.code}-{scenario.name}")


@each
async def test_ami_gives_the_cause_of_the_table(scenario: Scenario, told: dict[str, Told]) -> None:
    call = told[scenario.code]
    hangup = call.one("Hangup")
    if scenario.sip_code is not None:
        assert (hangup.get("Cause"), hangup.get("TechCause")) == (str(scenario.cause), str(scenario.sip_code))
    elif scenario.answers_after is None:
        # Our own Timeout; the SIP code is made up by the PBX.
        assert hangup.get("Cause") == "19", words(call.heard)
    else:
        # A callee's BYE without a Reason header gives 0, and not the 16 that an Asterisk carrier would send along.
        assert hangup.get("Cause") == ("0" if scenario.ends_by == "callee" else "16"), words(call.heard)


@each
async def test_originate_response_tells_little(scenario: Scenario, told: dict[str, Told]) -> None:
    response = told[scenario.code].one("OriginateResponse")
    answers = scenario.answers_after is not None
    silent = not answers and scenario.refuse_after is None
    assert response.get("Response") == ("Success" if answers else "Failure")
    assert response.get("Reason") == ("4" if answers else "3" if silent else "0")


@each
async def test_states_show_what_the_phone_did(scenario: Scenario, told: dict[str, Told]) -> None:
    states = told[scenario.code].states()
    rings = scenario.ring_after is not None
    assert ("RINGING" in states) is (rings and not scenario.early_media)
    assert ("PROGRESS" in states) is (rings and scenario.early_media)
    assert ("Up" in states) is (scenario.answers_after is not None)


@each
async def test_core_finds_the_outcome_of_the_table(scenario: Scenario, told: dict[str, Told]) -> None:
    call = told[scenario.code]
    ending = call.ending
    assert ending.outcome is scenario.outcome, words(call.heard)
    assert not ending.estimated
    assert ending.sip_code == scenario.sip_code
    assert (ending.times.answered_at is not None) is (scenario.answers_after is not None)
    assert ending.talk_seconds == int(scenario.talk)
    assert ending.ended_by_us is (scenario.ends_by == "ai")


@each
async def test_carrier_saw_exactly_one_invite(scenario: Scenario, told: dict[str, Told]) -> None:
    call = told[scenario.code]
    (invite,) = call.invites
    assert invite.number == call.order.number.e164.removeprefix("+")
    assert invite.scenario == scenario.code
    assert (invite.rang is not None) is (scenario.ring_after is not None)
    assert (invite.answered is not None) is (scenario.answers_after is not None)
    assert invite.ended is not None
    # The carrier's own clock agrees with what the PBX told us: both are this machine's.
    assert abs(invite.started - call.one("Newchannel").at) < 1.0
    assert abs(invite.ended - call.one("Hangup").at) < 1.0
