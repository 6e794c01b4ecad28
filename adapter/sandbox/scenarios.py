"""The number plan of the sandbox: what the callee does is written in the number that is dialled.

Numbers are `+60 11 SS NNNNNN`: SS picks a scenario of the table below, NNNNNN is a serial number. The simulated
MikoPBX and the dialplan of the real Asterisk carrier both follow this table, so one list of expectations serves both.
The numbers only ever exist on the loopback interface.
"""

from dataclasses import dataclass

from adapter.core.model import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What one kind of callee (or carrier) does. Delays are seconds.

    `early_media` means 183 without 180. `sip_code` is the final refusal sent after `refuse_after`; None with `answers`
    False means that nothing more ever comes. `talk` is how long the answered call lasts before `ends_by` hangs up;
    it is well within a second, so that its whole seconds do not hang on a millisecond of a real Asterisk.
    """

    code: str
    name: str
    outcome: Outcome
    ring_after: float | None = None
    early_media: bool = False
    answers_after: float | None = None
    talk: float = 0.0
    ends_by: str = "callee"
    refuse_after: float | None = None
    sip_code: int | None = None
    cause: int | None = None
    """Q.850 cause that Asterisk derives from `sip_code` (outcomes table), given for the simulated PBX."""

    rings_phone: bool = True
    """True where a person's phone made (or may have made) a sound."""


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        code="10",
        name="answers, callee hangs up",
        outcome=Outcome.ANSWERED,
        ring_after=0.1,
        answers_after=1.0,
        talk=3.4,
    ),
    Scenario(code="11", name="answers without ringing", outcome=Outcome.ANSWERED, answers_after=0.2, talk=3.4),
    Scenario(
        code="12",
        name="answers, AI hangs up",
        outcome=Outcome.ANSWERED,
        ring_after=0.1,
        answers_after=1.0,
        talk=4.4,
        ends_by="ai",
    ),
    Scenario(
        code="14",
        name="answers, AI drops the call",
        outcome=Outcome.AI_FAILED,
        ring_after=0.1,
        answers_after=1.0,
        talk=0.01,
        ends_by="ai",
    ),
    Scenario(code="20", name="rings for ever", outcome=Outcome.NO_ANSWER, ring_after=0.1),
    Scenario(
        code="21",
        name="rings, carrier gives up",
        outcome=Outcome.NO_ANSWER,
        ring_after=0.1,
        refuse_after=3.0,
        sip_code=480,
        cause=19,
    ),
    Scenario(
        code="22",
        name="early media, then gone",
        outcome=Outcome.NO_ANSWER,
        ring_after=0.1,
        early_media=True,
        refuse_after=2.0,
        sip_code=480,
        cause=19,
    ),
    Scenario(code="23", name="early media for ever", outcome=Outcome.NO_ANSWER, ring_after=0.1, early_media=True),
    Scenario(
        code="24",
        name="temporarily unavailable at once",
        outcome=Outcome.NO_ANSWER,
        refuse_after=0.3,
        sip_code=480,
        cause=19,
        rings_phone=False,
    ),
    Scenario(code="30", name="busy", outcome=Outcome.BUSY, refuse_after=0.5, sip_code=486, cause=17),
    Scenario(code="31", name="busy everywhere", outcome=Outcome.BUSY, refuse_after=0.5, sip_code=600, cause=17),
    Scenario(
        code="40",
        name="declined",
        outcome=Outcome.DECLINED,
        ring_after=0.1,
        refuse_after=1.5,
        sip_code=603,
        cause=21,
    ),
    Scenario(
        code="41",
        name="declined by the network's word for it",
        outcome=Outcome.DECLINED,
        ring_after=0.1,
        refuse_after=1.5,
        sip_code=403,
        cause=21,
    ),
    Scenario(
        code="50",
        name="no such number",
        outcome=Outcome.INVALID_NUMBER,
        refuse_after=0.3,
        sip_code=404,
        cause=1,
        rings_phone=False,
    ),
    Scenario(
        code="51",
        name="number incomplete",
        outcome=Outcome.INVALID_NUMBER,
        refuse_after=0.3,
        sip_code=484,
        cause=28,
        rings_phone=False,
    ),
    Scenario(
        code="52",
        name="number changed",
        outcome=Outcome.INVALID_NUMBER,
        refuse_after=0.3,
        sip_code=410,
        cause=22,
        rings_phone=False,
    ),
    Scenario(
        code="60",
        name="carrier forbids",
        outcome=Outcome.REJECTED,
        refuse_after=0.3,
        sip_code=403,
        cause=21,
        rings_phone=False,
    ),
    Scenario(
        code="61",
        name="carrier wants payment",
        outcome=Outcome.REJECTED,
        refuse_after=0.3,
        sip_code=402,
        cause=127,
        rings_phone=False,
    ),
    Scenario(
        code="62",
        name="carrier redirects",
        outcome=Outcome.REJECTED,
        refuse_after=0.3,
        sip_code=302,
        cause=23,
        rings_phone=False,
    ),
    Scenario(
        code="63",
        name="codecs refused",
        outcome=Outcome.REJECTED,
        refuse_after=0.3,
        sip_code=488,
        cause=58,
        rings_phone=False,
    ),
    Scenario(
        code="70",
        name="carrier congested",
        outcome=Outcome.CONGESTION,
        refuse_after=0.3,
        sip_code=503,
        cause=34,
        rings_phone=False,
    ),
    Scenario(
        code="71",
        name="carrier fails",
        outcome=Outcome.CONGESTION,
        refuse_after=0.3,
        sip_code=500,
        cause=38,
        rings_phone=False,
    ),
    Scenario(
        code="72",
        name="carrier fails late",
        outcome=Outcome.NO_REPLY,
        refuse_after=6.0,
        sip_code=503,
        cause=34,
    ),
    Scenario(code="80", name="carrier says nothing more", outcome=Outcome.NO_REPLY),
    Scenario(
        code="81",
        name="carrier times out",
        outcome=Outcome.NO_REPLY,
        refuse_after=2.0,
        sip_code=408,
        cause=18,
    ),
)

BY_CODE = {scenario.code: scenario for scenario in SCENARIOS}

PREFIX = "+6011"
"""Country code and the mobile range in which the sandbox lives (loopback only)."""


def number(code: str, serial: int) -> str:
    """E.164 number, with `+`, of the `serial`-th callee of a scenario; serial 0 to 999,999."""
    if code not in BY_CODE or not 0 <= serial <= 999_999:
        raise ValueError(f"no sandbox number for scenario {code!r}, serial {serial}")
    return f"{PREFIX}{code}{serial:06d}"


def scenario_of(dialled: str) -> Scenario | None:
    """Scenario of a dialled number in any form that ends with the national digits; None if it is not of our plan."""
    digits = "".join(ch for ch in dialled if ch.isdigit())
    national = digits[-10:]
    if len(national) != 10 or not national.startswith("11"):
        return None
    return BY_CODE.get(national[2:4])
