"""The number plan as Asterisk dialplan: what the carrier's callees do, and what the AI does with them."""

from collections.abc import Iterable, Iterator

from adapter.sandbox.scenarios import SCENARIOS, Scenario

FOR_EVER = 600
"""Seconds; beyond every ring limit and longest call of a sandbox."""

RANG = "Gosub(witness,s,1(rang))"
ANSWERED = "Gosub(witness,s,1(answered))"


def callees(scenarios: Iterable[Scenario] = SCENARIOS) -> str:
    """Extensions `11SS` of the carrier, entered once the INVITE is noted."""
    return "\n".join(_extension(scenario, _callee(scenario)) for scenario in scenarios)


def ai(scenarios: Iterable[Scenario] = SCENARIOS) -> str:
    """Extensions `11SS` of the AI for those callees that it does not stay with."""
    return "\n".join(
        _extension(scenario, [_wait(scenario.talk), "Hangup()"]) for scenario in scenarios if scenario.ends_by == "ai"
    )


def _extension(scenario: Scenario, steps: Iterable[str]) -> str:
    first, *rest = steps
    lines = [f"; {scenario.name}", f"exten => 11{scenario.code},1,{first}", *(f" same => n,{step}" for step in rest)]
    return "\n".join(lines)


def _callee(scenario: Scenario) -> Iterator[str]:
    """All delays of a scenario count from the INVITE, except `talk`, which counts from the answer."""
    passed = 0.0
    if scenario.ring_after is not None:
        yield _wait(scenario.ring_after)
        yield "Progress()" if scenario.early_media else "Ringing()"
        yield RANG
        passed = scenario.ring_after
    if scenario.answers_after is not None:
        yield _wait(scenario.answers_after - passed)
        # Noted first: an AI that drops the call at once would end this thread before it came to that.
        yield ANSWERED
        # Without `i` it waits up to half a second for media, and here comes none.
        yield "Answer(,i)"
        yield _wait(scenario.talk if scenario.ends_by == "callee" else FOR_EVER)
        yield "Hangup(16)"
    elif scenario.refuse_after is not None and scenario.sip_code is not None:
        yield _wait(scenario.refuse_after - passed)
        yield from _refusal(scenario.sip_code)
    else:
        yield _wait(FOR_EVER)
        yield "Hangup()"


def _refusal(sip_code: int) -> Iterator[str]:
    if sip_code >= 400:
        yield f"PJSIPHangup({sip_code})"
    else:
        # PJSIPHangup knows no 3xx; a transfer before the answer is a 302 with a Contact, which nobody is to follow.
        yield "Transfer(PJSIP/sip:redirected@127.0.0.1)"
        yield "Hangup()"


def _wait(seconds: float) -> str:
    return f"Wait({seconds:g})"
