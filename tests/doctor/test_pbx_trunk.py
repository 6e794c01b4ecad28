"""Providers as the PBX shows them: what is right, what surprises one day, what places no call."""

from dataclasses import replace

import pytest

from adapter.doctor.findings import Verdict
from adapter.doctor.pbx.scene import PJSIP
from adapter.doctor.pbx.trunk import (
    Provider,
    _each,
    codecs_of,
    judge_caller_id,
    judge_codecs,
    judge_dtmf,
    judge_registration,
    judge_trunk,
)
from adapter.pbx.questions import Registration

NAME = "SIP-TRUNK-0A0B0C0D"
SOUND = Provider(name=NAME, state="NOT_INUSE", codecs=("alaw", "ulaw"), dtmf="rfc4733", own_from=True)


def test_a_list_of_codecs() -> None:
    assert codecs_of("(alaw|ulaw|g729)") == ("alaw", "ulaw", "g729")
    assert codecs_of("(alaw)") == ("alaw",)
    assert codecs_of("") == codecs_of("()") == ()


@pytest.mark.parametrize(
    ("codecs", "module", "verdict", "words"),
    [
        (("alaw", "ulaw"), None, Verdict.OK, "alaw, ulaw"),
        (("ulaw", "alaw", "g722"), None, Verdict.OK, ""),
        (("h264", "vp8", "alaw"), None, Verdict.OK, "offers alaw"),
        (("g722", "alaw"), None, Verdict.WARN, "g722 comes first"),
        (("gsm", "g722"), None, Verdict.WARN, "neither"),
        ((), None, Verdict.WARN, "no codec"),
        (("alaw", "g729"), None, Verdict.WARN, "cannot be seen"),
        (("alaw", "g729"), False, Verdict.WARN, "there is no codec module"),
        (("alaw", "g729"), True, Verdict.OK, "g729"),
        (("g729", "alaw"), True, Verdict.WARN, "g729 comes first"),
    ],
)
def test_codecs(codecs: tuple[str, ...], module: bool | None, verdict: Verdict, words: str) -> None:
    told = judge_codecs("c", "t", replace(SOUND, codecs=codecs), module=module)
    assert told.verdict is verdict
    assert words in told.found
    assert ("g729 off" in told.mend) is ("g729" in codecs and module is not True)


@pytest.mark.parametrize("mode", ["auto", "inband", "info", "auto_info", "none", ""])
def test_keys(mode: str) -> None:
    assert judge_dtmf("c", "t", SOUND).verdict is Verdict.OK
    assert judge_dtmf("c", "t", replace(SOUND, dtmf=mode)).verdict is Verdict.WARN


@pytest.mark.parametrize(
    ("own_from", "tells", "verdict"),
    [(True, False, Verdict.WARN), (True, True, Verdict.OK), (False, False, Verdict.OK)],
)
def test_caller_id(own_from: bool, tells: bool, verdict: Verdict) -> None:
    told = judge_caller_id("c", "t", replace(SOUND, own_from=own_from, tells_caller=tells))
    assert told.verdict is verdict


def _registration(name: str, status: str, endpoint: str = "") -> Registration:
    return Registration(name=name, endpoint=endpoint, server="sip:sip1.example.com:5060", status=status)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([_registration(f"REG-{NAME}", "Registered")], Verdict.OK),
        ([_registration(NAME, "Registered")], Verdict.OK),
        ([_registration("mine", "Registered", NAME)], Verdict.OK),
        ([], Verdict.OK),
        ([_registration(f"REG-{NAME}E", "Rejected")], Verdict.OK),
        ([_registration(f"REG-{NAME}", "Rejected")], Verdict.FAIL),
        ([_registration(f"REG-{NAME}", "Unregistered")], Verdict.FAIL),
        ([_registration(f"REG-{NAME}", "Stopped"), _registration("other", "Registered")], Verdict.FAIL),
    ],
)
def test_registrations(found: list[Registration], verdict: Verdict) -> None:
    assert judge_registration("c", "t", SOUND, found).verdict is verdict


def test_several_providers_are_as_well_as_the_worst_of_them() -> None:
    down = replace(SOUND, name="SIP-TRUNK-0000000B", problem="trunk SIP-TRUNK-0000000B is down")
    lax = replace(SOUND, name="SIP-TRUNK-0000000C", looked_after=False)
    gone = Provider(name="SIP-TRUNK-0000000D", problem="the PBX has no provider", there=False)
    assert _each("pbx.trunk", "t", (SOUND,), judge_trunk).verdict is Verdict.OK
    assert _each("pbx.trunk", "t", (SOUND, lax), judge_trunk).verdict is Verdict.WARN
    told = _each("pbx.trunk", "t", (lax, SOUND, down), judge_trunk)
    assert told.verdict is Verdict.FAIL
    assert all(name in told.found for name in (NAME, "0000000B", "0000000C"))
    assert "NAT session support" in told.mend
    assert _each("pbx.trunk", "t", (gone,), judge_trunk).verdict is Verdict.FAIL
    assert _each("pbx.trunk.dtmf", "t", (gone,), judge_dtmf).verdict is Verdict.SKIPPED
    assert _each("pbx.trunk.dtmf", "t", (gone, SOUND), judge_dtmf).verdict is Verdict.OK
    assert _each("pbx.trunk", "t", (), judge_trunk).verdict is Verdict.SKIPPED


@pytest.mark.parametrize(
    ("name", "asked"),
    [(NAME, True), ("SIP-1600000000", True), ("IAX-TRUNK-0A0B0C0D", False), ("a,b", False), ("a)b", False)],
)
def test_providers_that_can_be_asked_about(name: str, asked: bool) -> None:
    assert bool(PJSIP.fullmatch(name)) is asked
