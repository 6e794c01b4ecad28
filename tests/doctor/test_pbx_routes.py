"""Outgoing routes against a country's numbers, and what an AI extension is besides."""

import phonenumbers
import pytest

from adapter.core.model import Form, NumberStyle
from adapter.core.numbers import parse
from adapter.core.routes import NoRoutes, Routes, Step
from adapter.doctor.findings import Verdict
from adapter.doctor.pbx.ai import judge_number, needed_modules, streams
from adapter.doctor.pbx.routes import examples, finding, judge
from tests.core.test_routes import OTHERS, by_pattern

MOBILE = by_pattern("^601[0-9]{8,9}$", "SIP-TRUNK-0000000A-1")
FIXED = by_pattern("^60[2-9][0-9]{7,8}$", "SIP-TRUNK-0000000A-2")
ALL = by_pattern("^60", "SIP-TRUNK-0000000B-3")


@pytest.mark.parametrize("region", ["MY", "SG", "US", "GB", "DE", "IN", "AU", "BR"])
@pytest.mark.parametrize("style", NumberStyle)
def test_examples_are_many_and_could_be_somebodys(region: str, style: NumberStyle) -> None:
    found = examples(region, style)
    assert len(found) > 50
    for number in found[::37]:
        plain = f"+{number}" if style is NumberStyle.E164 else number
        assert phonenumbers.is_valid_number(phonenumbers.parse(plain, region))
        assert parse(plain, region).country, "the adapter would dial it"


def test_a_region_nobody_knows() -> None:
    assert examples("XX", NumberStyle.E164) == ()
    judged = judge(Routes.read((ALL,)), ())
    assert finding(judged, None, form=Form.ROUTE, region="XX").verdict is Verdict.SKIPPED


@pytest.mark.parametrize(
    ("steps", "verdict", "words"),
    [
        ((MOBILE, FIXED), Verdict.OK, "is taken by exactly one"),
        ((ALL,), Verdict.OK, "is taken by exactly one"),
        ((MOBILE, FIXED, ALL), Verdict.FAIL, "would ring twice"),
        ((MOBILE, ALL), Verdict.WARN, "SIP-TRUNK-0000000A-1-outgoing and SIP-TRUNK-0000000B-3-outgoing"),
        ((MOBILE,), Verdict.WARN, "no route takes it"),
        ((by_pattern("^65", "X-1"),), Verdict.FAIL, "no route takes it"),
    ],
)
def test_by_route_each_number_wants_one_route(steps: tuple[Step, ...], verdict: Verdict, words: str) -> None:
    judged = judge(Routes.read((*OTHERS, *steps)), examples("MY", NumberStyle.E164))
    told = finding(judged, None, form=Form.ROUTE, region="MY")
    assert told.verdict is verdict
    assert words in told.found
    assert finding(judged, None, form=Form.TRUNK, region="MY").verdict is Verdict.OK


def test_beginnings_are_shown_and_never_a_whole_number() -> None:
    numbers = examples("MY", NumberStyle.E164)
    told = finding(judge(Routes.read((MOBILE, ALL)), numbers), None, form=Form.ROUTE, region="MY")
    assert "(6010" in told.found
    assert not any(number in told.found + told.mend for number in numbers)


@pytest.mark.parametrize("reason", [None, "the condition of its route X is written in a way that is not known"])
def test_no_routes_and_unreadable_ones(reason: str | None) -> None:
    assert finding(None, reason, form=Form.ROUTE, region="MY").verdict is Verdict.FAIL
    assert finding(None, reason, form=Form.TRUNK, region="MY").verdict is Verdict.OK
    with pytest.raises(NoRoutes):
        Routes.read(OTHERS)


def test_the_providers_of_the_routes_once_each() -> None:
    assert Routes.read((MOBILE, FIXED, ALL)).providers == ("SIP-TRUNK-0000000A", "SIP-TRUNK-0000000B")


@pytest.mark.parametrize(
    ("extension", "region", "takers", "verdict", "words"),
    [
        ("7999", "MY", (), Verdict.OK, "no outgoing route takes it"),
        ("999", "MY", (), Verdict.WARN, "999 is an emergency number in MY"),
        ("999", "US", (), Verdict.OK, ""),
        ("911", "US", (), Verdict.WARN, "emergency"),
        ("9991", "MY", (), Verdict.WARN, "begins like one"),
        ("7999", "MY", ("X-1-outgoing",), Verdict.WARN, "X-1-outgoing takes it"),
        (
            "999",
            "MY",
            ("X-1-outgoing",),
            Verdict.WARN,
            "emergency number in MY, or begins like one; the outgoing",
        ),
        ("ai-bot", "MY", (), Verdict.OK, ""),
    ],
)
def test_the_number_of_the_ai(
    extension: str, region: str, takers: tuple[str, ...], verdict: Verdict, words: str
) -> None:
    told = judge_number(extension, region, takers=takers)
    assert told.verdict is verdict
    assert words in told.found


def test_routes_that_cannot_be_judged_might_take_the_number_of_the_ai() -> None:
    for extension in ("999", "7999"):
        told = judge_number(extension, "MY", takers=(), unreadable="a strange condition")
        assert told.verdict is Verdict.WARN
        assert "a strange condition" in told.found


@pytest.mark.parametrize(
    ("names", "count", "modules"),
    [
        (("Answer", "AudioSocket", "Hangup"), 1, {"app_audiosocket.so", "res_audiosocket.so"}),
        (("Answer", "AGI", "Hangup"), 1, set()),
        (("Dial",), 2, set()),
        (("Answer", "Gosub", "Queue"), 2, set()),
        (("AGI", "Goto"), None, set()),
        (("Stasis",), None, {"app_stasis.so"}),
        (("Answer", "Wait"), None, set()),
        ((), None, set()),
    ],
)
def test_what_the_extension_takes(names: tuple[str, ...], count: int | None, modules: set[str]) -> None:
    steps = [Step(name, "") for name in names]
    assert streams(steps) == count
    assert needed_modules(steps) == modules
