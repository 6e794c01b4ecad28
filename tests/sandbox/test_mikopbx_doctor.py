"""Doctor's PBX side on the simulated PBX: the verdicts that a real Asterisk gets, sound and with something wrong."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from adapter.core.model import Form, NumberStyle
from adapter.doctor.findings import Finding, Verdict
from adapter.doctor.pbx import CHECKS, look
from adapter.pbx import PbxConfig
from adapter.sandbox.mikopbx import SECOND_TRUNK, SimulatedPbx, TrunkState
from adapter.sandbox.mikopbx.pbx import READ, WRITE
from tests.sandbox.mikopbx_client import connected, value

OK, WARN, FAIL, SKIPPED = Verdict.OK, Verdict.WARN, Verdict.FAIL, Verdict.SKIPPED

SOUND = {"pbx.ai.number": WARN}
"""As tests/asterisk/test_doctor.py has it for a real one: the AI has the app's own number 999, an emergency number."""


def config(pbx: SimulatedPbx, **changed: Any) -> PbxConfig:
    return PbxConfig(
        host=pbx.host,
        port=pbx.port,
        username=pbx.username,
        password=pbx.password,
        **{"trunk": pbx.trunk, "ai_context": pbx.ai_context, "ai_extension": pbx.ai_extension, **changed},
    )


async def looked(
    pbx: SimulatedPbx,
    *,
    caller_id: str | None = None,
    max_calls: int = 50,
    ways: Mapping[str, Form] | None = None,
    **changed: Any,
) -> dict[str, Finding]:
    """The findings by name; nobody rang, and nothing is left."""
    found = [
        finding
        async for finding in look(
            config(pbx, **changed),
            region="MY",
            caller_id=caller_id,
            number_style=NumberStyle.E164,
            max_calls=max_calls,
            ways=ways,
        )
    ]
    assert [finding.check for finding in found] == [check.name for check in CHECKS]
    assert pbx.calls == [], "somebody rang"
    assert pbx.live == {}
    return {finding.check: finding for finding in found}


def unwell(found: dict[str, Finding]) -> dict[str, Verdict]:
    """Everything that is not ok."""
    return {name: finding.verdict for name, finding in found.items() if finding.verdict is not OK}


async def test_a_sound_one_is_told_as_a_real_one_is() -> None:
    async with SimulatedPbx.started() as pbx:
        assert unwell(await looked(pbx)) == SOUND
        by_route = await looked(pbx, form=Form.ROUTE, trunk="")
        assert unwell(by_route) == {**SOUND, "pbx.routes": WARN}
        assert "6012" in by_route["pbx.routes"].found
        with_caller = await looked(pbx, caller_id="60300000000")
        assert unwell(with_caller) == {**SOUND, "pbx.caller_id": WARN}


@pytest.mark.parametrize(
    ("read", "write", "unlike", "words"),
    [
        (READ - {"call"}, WRITE, {"pbx.rights": FAIL, "pbx.events": FAIL}, "missing: read call"),
        (READ - {"system"}, WRITE, {"pbx.rights": FAIL, "pbx.events": FAIL}, "missing: read system"),
        (READ | {"cdr"}, WRITE, {"pbx.rights": WARN}, "not needed: read cdr"),
        (READ, WRITE | {"command"}, {"pbx.rights": FAIL}, "too many: write command"),
        (READ, WRITE | {"config"}, {"pbx.rights": FAIL}, "too many: write config"),
        (READ, WRITE | {"system"}, {"pbx.rights": FAIL}, "too many: write system"),
        (READ, WRITE - {"originate"}, {"pbx.rights": FAIL, "pbx.events": SKIPPED}, "missing: write originate"),
        (READ, WRITE - {"call"}, {"pbx.rights": FAIL}, "missing: write call"),
    ],
)
async def test_rights_missing_and_too_many(
    read: Iterable[str], write: Iterable[str], unlike: dict[str, Verdict], words: str
) -> None:
    async with SimulatedPbx.started(read=read, write=write) as pbx:
        found = await looked(pbx)
    assert unwell(found) == {**SOUND, **unlike}
    assert words in found["pbx.rights"].found


@pytest.mark.parametrize(
    ("state", "verdict", "words"),
    [
        (TrunkState.UNWATCHED, WARN, "does not look whether the carrier answers"),
        (TrunkState.DOWN, FAIL, "is down"),
        (TrunkState.NO_CONTACT, FAIL, "no contact"),
        (TrunkState.GONE, FAIL, "the PBX has no provider"),
    ],
)
async def test_trunks(state: TrunkState, verdict: Verdict, words: str) -> None:
    async with SimulatedPbx.started() as pbx:
        pbx.trunk_state = state
        found = await looked(pbx)
    assert found["pbx.trunk"].verdict is verdict
    assert words in found["pbx.trunk"].found
    for name in ("pbx.registration", "pbx.trunk.codecs", "pbx.trunk.dtmf"):
        assert found[name].verdict is (OK if state.known else SKIPPED)


async def test_room_for_sound_and_an_extension_that_is_not_there() -> None:
    async with SimulatedPbx.started() as pbx:
        assert unwell(await looked(pbx, max_calls=51)) == {**SOUND, "pbx.rtp": WARN}
        assert unwell(await looked(pbx, max_calls=101)) == {**SOUND, "pbx.rtp": FAIL}
        assert unwell(await looked(pbx, ai_extension="7999")) == {"pbx.ai": FAIL}
        pbx.routes.append("^9")
        assert "the outgoing route" in (await looked(pbx))["pbx.ai.number"].found


async def test_only_what_leads_nowhere_ends_at_once() -> None:
    """A context that is there is no void, and one that a real PBX would run is not played as one."""
    async with SimulatedPbx.started(speed=20) as pbx, connected(pbx) as client:
        for channel, halves in (("Local/nobody@nowhere", 2), ("Local/999@applications", 0)):
            since = len(client.messages)
            await client.ask("Originate", ("Channel", channel), ("Application", "Hangup"), ("Async", "true"))
            await client.until(lambda message: value(message, "Event") == "OriginateResponse", since=since)
            made = [m for m in client.messages[since:] if value(m, "Event") == "Newchannel"]
            assert len(made) == halves
        assert pbx.calls == []


async def test_while_it_boots_no_dialplan_is_shown() -> None:
    async with SimulatedPbx.started() as pbx, connected(pbx) as client:
        asked = ("Context", "outgoing")
        assert value(await client.ask("ShowDialPlan", asked), "Response") == "Success"
        pbx.booted = False
        assert value(await client.ask("ShowDialPlan", asked), "Message") == "Did not find context outgoing"


async def test_each_trunk_of_the_table_is_looked_at() -> None:
    async with SimulatedPbx.started() as pbx:
        both = {pbx.trunk: Form.TRUNK, SECOND_TRUNK: Form.TRUNK}
        found = await looked(pbx, ways=both)
        assert unwell(found) == SOUND
        assert pbx.trunk in found["pbx.trunk"].found
        assert SECOND_TRUNK in found["pbx.trunk"].found
        pbx.trunks[SECOND_TRUNK] = TrunkState.DOWN
        assert f"trunk {SECOND_TRUNK} is down" in (await looked(pbx, ways=both))["pbx.trunk"].found
        # That of the settings is not dialed where the table has others.
        pbx.trunks = {pbx.trunk: TrunkState.DOWN, SECOND_TRUNK: TrunkState.UP}
        assert unwell(await looked(pbx, ways={SECOND_TRUNK: Form.TRUNK})) == SOUND
        lost = await looked(pbx, ways={"SIP-TRUNK-LOST": Form.TRUNK})
        assert "call_trunks.trunk must be the id" in lost["pbx.trunk"].found
