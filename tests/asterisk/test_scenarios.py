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
class Telling:
    """How much a release of Asterisk tells of an end."""

    tech_cause: bool
    """The SIP code (since 20.17 and 22.7)."""

    timeout: str
    """Cause of a leg that our own Timeout ended; 22 makes up a 480 for it."""

    bye: str
    """Cause of a leg whose far end said BYE without a Reason header."""

    redirected: str
    """Cause of a 302."""


TELLING = {
    "Asterisk 16": Telling(tech_cause=False, timeout="0", bye="16", redirected="0"),
    "Asterisk 22": Telling(tech_cause=True, timeout="19", bye="0", redirected="23"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One call after its end."""

    pbx: Telling
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
                pbx=next(telling for version, telling in TELLING.items() if shared_pbx.version.startswith(version)),
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
        cause = call.pbx.redirected if scenario.sip_code == 302 else str(scenario.cause)
        code = str(scenario.sip_code) if call.pbx.tech_cause else ""
        assert (hangup.get("Cause"), hangup.get("TechCause")) == (cause, code)
    elif scenario.answers_after is None:
        assert hangup.get("Cause") == call.pbx.timeout, words(call.heard)
    else:
        assert hangup.get("Cause") == (call.pbx.bye if scenario.ends_by == "callee" else "16"), words(call.heard)


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
    assert ending.sip_code == (scenario.sip_code if call.pbx.tech_cause else None)
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
