"""Doctor's PBX side against a real Asterisk, sound and with each thing broken in turn. Nobody rings, ever."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from adapter.core.model import Form, NumberStyle
from adapter.doctor.findings import Finding, Verdict
from adapter.doctor.pbx import CHECKS, look
from adapter.doctor.pbx.scene import TIMINGS
from adapter.sandbox.asterisk import TRUNK_DOWN, TRUNK_NO_CONTACT, TRUNK_SILENT, RealPbx
from tests.asterisk.ami import Ami
from tests.asterisk.orders import ended, order, write
from tests.asterisk.test_pbx import config

pytestmark = [pytest.mark.asterisk, pytest.mark.asyncio(loop_scope="session")]

NAMES = [check.name for check in CHECKS]
OK, WARN, FAIL, SKIPPED = Verdict.OK, Verdict.WARN, Verdict.FAIL, Verdict.SKIPPED

DEFAULTS: dict[str, Any] = {
    "region": "MY",
    "caller_id": None,
    "number_style": NumberStyle.E164,
    "max_calls": 50,
}

NOTED = {"pbx.ai.number": WARN}
"""What a sound sandbox is warned of: its AI has the app's own number, 999."""


async def looked(pbx: RealPbx, *, settings: dict[str, Any] | None = None, **changed: Any) -> dict[str, Finding]:
    """The findings by name. `changed`: of the link; `settings`: of the daemon."""
    before = len(pbx.calls)
    wanted = replace(config(pbx), **changed)
    found = [finding async for finding in look(wanted, **{**DEFAULTS, **(settings or {})})]
    assert [finding.check for finding in found] == NAMES
    for finding in found:
        assert pbx.password not in repr(finding)
        assert bool(finding.mend) is (finding.verdict in (WARN, FAIL)), finding
        assert finding.found, finding
        assert finding.tried, finding
    assert len(pbx.calls) == before, "somebody rang"
    return {finding.check: finding for finding in found}


def unwell(found: dict[str, Finding]) -> dict[str, Verdict]:
    """Everything that is not ok."""
    return {name: finding.verdict for name, finding in found.items() if finding.verdict is not OK}


def skipped_after(name: str) -> dict[str, Verdict]:
    return dict.fromkeys(NAMES[NAMES.index(name) + 1 :], SKIPPED)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def own() -> AsyncIterator[RealPbx]:
    """A pair whose configuration is changed and changed back."""
    async with RealPbx.started() as pbx:
        yield pbx


@asynccontextmanager
async def edited(pbx: RealPbx, file: str, old: str, new: str, *, reload: str = "core reload") -> AsyncIterator[None]:
    """One line of its configuration is another one, as after a change on a page of MikoPBX."""
    path = pbx.folder / "pbx" / "etc" / file
    before = path.read_text()
    assert old in before, old
    try:
        path.write_text(before.replace(old, new))
        await pbx.cli(reload)
        yield
    finally:
        path.write_text(before)
        await pbx.cli(reload)


# ---- the whole


async def test_a_sound_pbx_is_told_quickly_and_keeps_nothing_of_us(shared_pbx: RealPbx) -> None:
    began = time.monotonic()
    found = await looked(shared_pbx)
    assert unwell(found) == NOTED
    assert time.monotonic() - began < 3
    async with asyncio.timeout(2):
        while shared_pbx.username in await shared_pbx.cli("manager show connected"):
            await asyncio.sleep(0.05)
    assert "0 active channels" in await shared_pbx.cli("core show channels count")
    assert shared_pbx.version.split()[-1].split("~")[0] in found["pbx.version"].found


async def test_the_call_to_nobody_makes_its_own_two_halves_and_nothing_else(shared_pbx: RealPbx) -> None:
    async with Ami.logged_in(shared_pbx, "all") as everything:
        await looked(shared_pbx)
        await asyncio.sleep(0.3)
        made = [message.get("Channel") for message in everything.heard if message.name == "Newchannel"]
        assert len(made) == 2
        assert all("nobody@mikopbx-adapter-nowhere" in name for name in made)
        # No dialplan ran, so MikoPBX's own records know nothing of it.
        assert not {"DialBegin", "UserEvent", "Cdr"} & {message.name for message in everything.heard}
        steps = [message.get("Application") for message in everything.heard if message.name == "Newexten"]
        assert set(steps) <= {"AppDial2"}, "this one is no step of a dialplan, but Originate's own mark"


# ---- the door


async def test_a_public_address_is_not_even_connected_to(shared_pbx: RealPbx) -> None:
    found = await looked(shared_pbx, host="192.0.2.1")
    assert unwell(found) == {"pbx.address": FAIL, **skipped_after("pbx.address")}
    assert "clear text" in found["pbx.address"].found


async def test_a_closed_port(shared_pbx: RealPbx) -> None:
    found = await looked(shared_pbx, port=1)
    assert unwell(found) == {"pbx.reach": FAIL, **skipped_after("pbx.reach")}
    assert "Connect call failed" in found["pbx.reach"].found or "refused" in found["pbx.reach"].found


@pytest.mark.parametrize("user", ["wrong secret", "nobody", "not-from-here"])
async def test_a_refused_login_names_all_causes_and_is_tried_once(own: RealPbx, user: str) -> None:
    log = own.folder / "pbx" / "log" / "full"
    before = log.read_text().count("failed to authenticate")
    changed: dict[str, Any] = {"password": "wrong"} if user == "wrong secret" else {"username": user}
    found = await looked(own, **changed)
    assert unwell(found) == {"pbx.login": FAIL, **skipped_after("pbx.login")}
    told = found["pbx.login"]
    for cause in ("MIKOPBX_AMI_USERNAME", "MIKOPBX_AMI_PASSWORD", "network filter"):
        assert cause in told.found
    assert "20 wrong ones lock this machine out" in told.mend
    assert log.read_text().count("failed to authenticate") - before == 1


async def test_a_frozen_pbx_does_not_hold_doctor_up() -> None:
    async with RealPbx.started() as pbx:
        began = time.monotonic()
        pbx.freeze()
        found = [finding async for finding in look(config(pbx), **DEFAULTS, timings=replace(TIMINGS, connect=1.0))]
        assert {f.check: f.verdict for f in found if f.verdict is not OK} == {
            "pbx.reach": FAIL,
            **skipped_after("pbx.reach"),
        }
        assert time.monotonic() - began < 5
        pbx.thaw()

        # And one that freezes while doctor is looking.
        began = time.monotonic()
        found = []
        async for finding in look(config(pbx), **DEFAULTS, timings=replace(TIMINGS, answer=1.0)):
            found.append(finding)
            if finding.check == "pbx.events":
                pbx.freeze()
        assert time.monotonic() - began < 8
        assert [f.check for f in found] == NAMES
        verdicts = {f.check: f.verdict for f in found if f.verdict is not OK}
        assert verdicts == skipped_after("pbx.events")
        assert "does not answer any more" in found[-1].found
        pbx.thaw()


async def test_a_pbx_that_dies_while_doctor_is_looking() -> None:
    async with RealPbx.started() as pbx:
        found = []
        async for finding in look(config(pbx), **DEFAULTS):
            found.append(finding)
            if finding.check == "pbx.clock":
                await pbx.kill()
        assert [f.check for f in found] == NAMES
        assert {f.check: f.verdict for f in found if f.verdict is not OK} == skipped_after("pbx.clock")


# ---- the user

RIGHTS = {
    "no-reporting": (FAIL, "missing: write reporting", "tick write reporting"),
    "no-originate": (FAIL, "missing: write originate", "tick write originate"),
    "no-call": (FAIL, "missing: write call", "tick write call"),
    "no-call-events": (FAIL, "missing: read call", "tick read call"),
    "no-system-events": (FAIL, "missing: read system", "tick read system"),
    "with-command": (FAIL, "too many: write command", "clear write command"),
    "with-config": (FAIL, "too many: write config", "clear write config"),
    "with-system": (FAIL, "too many: write system", "clear write system"),
}


@pytest.mark.parametrize("user", RIGHTS)
async def test_rights_missing_and_too_many(shared_pbx: RealPbx, user: str) -> None:
    found = await looked(shared_pbx, username=user)
    told = found["pbx.rights"]
    verdict, words, mend = RIGHTS[user]
    assert told.verdict is verdict
    assert words in told.found
    assert mend in told.mend
    assert found["pbx.events"].verdict is {
        "no-call-events": FAIL,
        "no-system-events": FAIL,
        "no-originate": SKIPPED,
    }.get(user, OK)


async def test_what_cannot_be_asked_for_want_of_a_right_is_said_to_be_unknown(shared_pbx: RealPbx) -> None:
    found = await looked(shared_pbx, username="no-reporting")
    assert found["pbx.registration"].verdict is SKIPPED
    assert "PJSIPShowRegistrationsOutbound" in found["pbx.registration"].found
    assert "'reporting'" in found["pbx.registration"].found
    assert found["pbx.trunk"].verdict is OK, "Getvar is content with the right call"


async def test_a_deaf_user_and_one_who_never_hears_the_start(shared_pbx: RealPbx) -> None:
    deaf = (await looked(shared_pbx, username="no-call-events"))["pbx.events"]
    assert "not one event about a call came" in deaf.found
    assert "tick read call" in deaf.mend
    unaware = (await looked(shared_pbx, username="no-system-events"))["pbx.events"]
    assert "read right system is missing" in unaware.found
    assert "tick read system" in unaware.mend


@pytest.mark.parametrize(
    ("old", "new", "verdict", "words"),
    [
        ("eventfilter = !Event: RTCP", "eventfilter = !Event: Hangup", FAIL, "Hangup did not come, others did"),
        ("eventfilter = !Event: RTCP", "eventfilter = !Event: OriginateResponse", FAIL, "OriginateResponse did not"),
        (
            "eventfilter = !Event: RTCP",
            "eventfilter = !Privilege: call",
            FAIL,
            "call is ticked, so an event filter hides",
        ),
        ("eventfilter = !Event: RTCP\n", "", WARN, "keeps out what nobody needs: RTCP"),
        ("timestampevents = yes", "timestampevents = no", FAIL, "no Timestamp"),
    ],
    ids=["hangup", "response", "all", "too few filters", "no times"],
)
async def test_event_filters(own: RealPbx, old: str, new: str, verdict: Verdict, words: str) -> None:
    async with edited(own, "manager.conf", old, new):
        found = await looked(own)
    assert unwell(found) == {**NOTED, "pbx.events": verdict}
    assert words in found["pbx.events"].found


async def test_rights_that_nobody_needs_are_warned_of(own: RealPbx) -> None:
    async with edited(own, "manager.conf", "[dialer](right)", "[dialer](right)\nread = call,system,user,dialplan,cdr"):
        found = await looked(own)
    assert unwell(found) == {**NOTED, "pbx.rights": WARN}
    assert "not needed: read cdr and read dialplan" in found["pbx.rights"].found


async def test_without_a_way_to_read_files_it_says_what_it_cannot_see(own: RealPbx) -> None:
    await own.cli("module unload func_config.so")
    try:
        found = await looked(own)
        assert unwell(found) == {**NOTED, "pbx.rtp": SKIPPED}
        assert "read rights cannot be looked up" in found["pbx.rights"].found
        assert "General settings, SIP, RTP ports" in found["pbx.rtp"].found
        # Then only the call to nobody shows it.
        found = await looked(own, username="no-call-events")
        assert found["pbx.rights"].verdict is OK
        assert found["pbx.events"].verdict is FAIL
        assert "right call is missing, or an event filter" in found["pbx.events"].found
    finally:
        await own.cli("module load func_config.so")


# ---- the box


@pytest.mark.parametrize(("ahead", "words"), [(5.0, "5.0 s behind"), (-5.0, "5.0 s ahead of")])
async def test_clocks_that_disagree(shared_pbx: RealPbx, ahead: float, words: str) -> None:
    found = await looked(shared_pbx, settings={"now": lambda: time.time() + ahead})
    assert unwell(found) == {**NOTED, "pbx.clock": WARN}
    assert words in found["pbx.clock"].found


async def test_too_few_ports_for_sound(shared_pbx: RealPbx) -> None:
    """The sandbox has 200 streams."""
    assert (await looked(shared_pbx, settings={"max_calls": 100}))["pbx.rtp"].verdict is OK
    tight = (await looked(shared_pbx, settings={"max_calls": 101}))["pbx.rtp"]
    assert tight.verdict is WARN
    assert "SIP client" in tight.found
    few = (await looked(shared_pbx, settings={"max_calls": 201}))["pbx.rtp"]
    assert few.verdict is FAIL
    assert "or MAX_CALLS=200" in few.mend


# ---- the trunk


@pytest.mark.parametrize(
    ("trunk", "verdict", "words"),
    [
        (TRUNK_NO_CONTACT, FAIL, "no contact"),
        (TRUNK_SILENT, WARN, "does not look whether the carrier answers"),
        ("SIP-TRUNK-00000000", FAIL, "the PBX has no provider SIP-TRUNK-00000000"),
    ],
)
async def test_trunks(shared_pbx: RealPbx, trunk: str, verdict: Verdict, words: str) -> None:
    found = await looked(shared_pbx, trunk=trunk)
    assert found["pbx.trunk"].verdict is verdict
    assert words in found["pbx.trunk"].found
    for name in ("pbx.registration", "pbx.trunk.codecs", "pbx.trunk.dtmf"):
        assert found[name].verdict is (SKIPPED if "no provider" in words else OK)


async def test_a_trunk_that_was_found_dead(own: RealPbx) -> None:
    async with asyncio.timeout(10):
        while (found := await looked(own, trunk=TRUNK_DOWN))["pbx.trunk"].verdict is not FAIL:
            await asyncio.sleep(0.2)
    assert f"trunk {TRUNK_DOWN} is down" in found["pbx.trunk"].found
    assert "Unreachable" in found["pbx.trunk"].found


@pytest.mark.parametrize(
    ("old", "new", "check", "words"),
    [
        ("allow = alaw\nallow = ulaw", "allow = g722,alaw", "pbx.trunk.codecs", "g722 comes first"),
        ("allow = alaw\nallow = ulaw", "allow = gsm", "pbx.trunk.codecs", "neither A-law nor µ-law"),
        ("allow = alaw\nallow = ulaw", "allow = alaw,g729", "pbx.trunk.codecs", "codec module cannot be seen"),
        ("dtmf_mode = rfc4733", "dtmf_mode = inband", "pbx.trunk.dtmf", "inband"),
        ("dtmf_mode = rfc4733", "dtmf_mode = auto", "pbx.trunk.dtmf", "auto"),
    ],
    ids=["compressed first", "no telephone codec", "g729", "inband", "auto"],
)
async def test_codecs_and_keys(own: RealPbx, old: str, new: str, check: str, words: str) -> None:
    async with edited(own, "pjsip.conf", old, new):
        found = await looked(own)
    assert unwell(found) == {**NOTED, check: WARN}
    assert words in found[check].found


async def test_g729_where_modules_can_be_asked_about(own: RealPbx) -> None:
    await own.cli("module load func_module.so")
    try:
        async with edited(own, "pjsip.conf", "allow = ulaw", "allow = ulaw,g729"):
            found = await looked(own)
    finally:
        await own.cli("module unload func_module.so")
    assert "there is no codec module for it" in found["pbx.trunk.codecs"].found


async def _caller_at_the_carrier(pbx: RealPbx) -> str:
    """The number that the carrier sees when an Originate of ours has a CallerID."""
    async with Ami.logged_in(pbx) as ami:
        wanted = order(pbx, "50")
        write(ami, wanted, ("CallerID", "60300000000"))
        await ended(ami, wanted)
    return (pbx._carrier_folder / "caller").read_text().splitlines()[-1]


async def test_caller_id_has_an_effect_exactly_where_doctor_says_so(own: RealPbx) -> None:
    plan = own._carrier_folder / "etc" / "extensions.conf"
    seen = f"{own._places['carrier'].seen}/carrier/caller"
    noted = f"exten => _[0-9+]!,1,Set(FILE({seen},,,al,u)=${{CALLERID(num)}})\n same => n,"
    plan.write_text(plan.read_text().replace("exten => _[0-9+]!,1,", noted))
    await own._carrier.cli("dialplan reload")
    settings = {"caller_id": "60300000000"}

    found = await looked(own, settings=settings)
    assert unwell(found) == {**NOTED, "pbx.caller_id": WARN}
    assert "CALLER_ID has no effect" in found["pbx.caller_id"].found
    assert await _caller_at_the_carrier(own) == "sandbox"

    async with edited(own, "pjsip.conf", "from_user = sandbox\n", ""):
        found = await looked(own, settings=settings)
        assert unwell(found) == NOTED
        assert await _caller_at_the_carrier(own) == "60300000000"


async def test_registrations(own: RealPbx) -> None:
    """MikoPBX's sections of a provider with outgoing registration; the carrier takes it once it is a registrar."""
    section = f"""[REG-{own.trunk}]
type = registration
transport = udp
server_uri = sip:127.0.0.1:%s
client_uri = sip:sandbox@127.0.0.1
contact_user = sandbox
max_random_initial_delay = 0
forbidden_retry_interval = 300

[udp]
"""
    old = "[udp]\n"

    async def until(verdict: Verdict, words: str) -> Finding:
        await own.cli(f"pjsip send register REG-{own.trunk}")
        async with asyncio.timeout(15):
            while True:
                told = (await looked(own))["pbx.registration"]
                if told.verdict is verdict and words in told.found:
                    return told
                await asyncio.sleep(0.3)

    async with edited(own, "pjsip.conf", old, section % 9):
        await until(FAIL, "is Unregistered at sip:127.0.0.1:9")
    async with edited(own, "pjsip.conf", old, section % own.ports.carrier_sip):
        told = await until(FAIL, "is Rejected")
        assert "login or password" in told.found
        carrier = own._carrier_folder / "etc" / "pjsip.conf"
        carrier.write_text(
            carrier.read_text().replace("context = from-pbx", "context = from-pbx\naors = sandbox")
            + "\n[sandbox]\ntype = aor\nmax_contacts = 1\n"
        )
        await own._carrier.cli("module load res_pjsip_registrar.so")
        await own._carrier.cli("core reload")
        await until(OK, f"{own.trunk} is registered at sip:127.0.0.1:{own.ports.carrier_sip}")


async def test_registrations_that_cannot_be_shown(own: RealPbx) -> None:
    await own.cli("module unload res_pjsip_outbound_registration.so")
    try:
        found = await looked(own)
    finally:
        await own.cli("module load res_pjsip_outbound_registration.so")
    assert unwell(found) == {**NOTED, "pbx.registration": SKIPPED}
    assert "did not show its registrations" in found["pbx.registration"].found


# ---- routes and AI

ROUTE = 'ExecIf($["${REGEX("^6012" ${EXTEN})}" == "1"]?Gosub(@TRUNK@-2-outgoing,${EXTEN},1))'


async def test_numbers_that_two_routes_take_matter_by_route_only(shared_pbx: RealPbx) -> None:
    by_trunk = (await looked(shared_pbx))["pbx.routes"]
    assert by_trunk.verdict is OK
    assert "would ring twice" in by_trunk.found
    assert "DIAL_FORM=trunk does without them" in by_trunk.found
    found = await looked(shared_pbx, form=Form.ROUTE, trunk="")
    assert unwell(found) == {**NOTED, "pbx.routes": WARN}
    told = found["pbx.routes"].found
    assert "6012" in told
    assert f"{shared_pbx.trunk}-1-outgoing and {shared_pbx.trunk}-2-outgoing take it" in told
    assert shared_pbx.trunk in found["pbx.trunk"].found, "the routes' provider is looked at"


async def test_each_number_by_one_route(own: RealPbx) -> None:
    async with edited(own, "extensions.conf", '"^6012"', '"^65"'):
        found = await looked(own, form=Form.ROUTE, trunk="")
    assert unwell(found) == NOTED
    assert "is taken by exactly one" in found["pbx.routes"].found


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"^60[0-9]{8}"', '"^65"', "would ring nowhere"),
        ("-outgoing,${EXTEN},1))", "-elsewhere,${EXTEN},1))", "there are none"),
        ('"${REGEX("^6012" ${EXTEN})}" == "1"', '"${SHELL(true)}" == ""', "cannot be judged"),
    ],
    ids=["gaps", "none", "unreadable"],
)
async def test_routes_that_do_not_take_our_numbers(own: RealPbx, old: str, new: str, words: str) -> None:
    async with edited(own, "extensions.conf", old, new):
        by_route = await looked(own, form=Form.ROUTE, trunk="")
        by_trunk = await looked(own)
    assert by_route["pbx.routes"].verdict is (WARN if "nowhere" in words else FAIL)
    assert words in by_route["pbx.routes"].found
    assert by_trunk["pbx.routes"].verdict is OK


async def test_the_ai_extension_is_not_there(shared_pbx: RealPbx) -> None:
    found = await looked(shared_pbx, ai_extension="7999")
    assert unwell(found) == {"pbx.ai": FAIL}
    assert "AI extension 7999 does not exist" in found["pbx.ai"].found
    assert "no emergency number" in found["pbx.ai.number"].found


APPLICATION = """[applications]
exten => _7999,1,Answer()
 same => n,%s
 same => n,Hangup()
"""


@pytest.mark.parametrize(
    ("step", "calls", "rtp"),
    [
        ("AGI(agi://192.0.2.20:4573/call,${CALL_ID})", 200, OK),
        ("AGI(agi://192.0.2.20:4573/call,${CALL_ID})", 201, FAIL),
        ("Dial(PJSIP/201,30)", 100, OK),
        ("Dial(PJSIP/201,30)", 101, FAIL),
        ("Gosub(elsewhere,s,1)", 101, WARN),
    ],
)
async def test_streams_of_a_call_by_what_the_ai_extension_does(
    own: RealPbx, step: str, calls: int, rtp: Verdict
) -> None:
    async with edited(own, "extensions.conf", "[applications]\n", APPLICATION % step):
        found = await looked(own, ai_extension="7999", settings={"max_calls": calls})
    assert unwell(found) == ({} if rtp is OK else {"pbx.rtp": rtp})
    assert f"Answer, {step.split('(', maxsplit=1)[0]}, Hangup" in found["pbx.ai"].found


async def test_an_ai_that_speaks_audiosocket_needs_its_modules(own: RealPbx) -> None:
    line = APPLICATION % "AudioSocket(${CALL_ID},192.0.2.20:9092)"
    loads = "[modules]\nautoload = no\nload => res_audiosocket.so\nload => app_audiosocket.so\n"
    async with edited(own, "extensions.conf", "[applications]\n", line):
        without = await looked(own, ai_extension="7999")
        async with edited(own, "modules.conf", "[modules]\nautoload = no\n", loads):
            with_them = await looked(own, ai_extension="7999")
    assert unwell(without) == {"pbx.ai": WARN}
    assert "app_audiosocket.so and res_audiosocket.so" in without["pbx.ai"].found
    assert unwell(with_them) == {}


async def test_the_ai_number_is_an_emergency_number_and_a_route_would_dial_it(own: RealPbx) -> None:
    async with edited(own, "extensions.conf", '"^6012"', '"^9"'):
        both = (await looked(own))["pbx.ai.number"]
        only_dialed = (await looked(own, settings={"region": "US"}))["pbx.ai.number"]
    for told in (both, only_dialed):
        assert told.verdict is WARN
        assert f"the outgoing route {own.trunk}-2-outgoing takes it" in told.found
    assert "999 is an emergency number in MY" in both.found
    assert "emergency" not in only_dialed.found


async def test_with_our_rights_every_password_of_the_pbx_can_be_read(shared_pbx: RealPbx) -> None:
    """Where AST_CONFIG is loaded, as on MikoPBX; Getvar is content with either right. So the password of our user is
    worth all the others, and doctor asks for nothing in these files but what it names."""
    for user in (shared_pbx.username, "no-reporting", "no-call"):
        async with Ami.logged_in(shared_pbx, user) as ami:
            secret = await ami.getvar(f"AST_CONFIG(manager.conf,{shared_pbx.witness},secret)")
            assert secret == shared_pbx.password
