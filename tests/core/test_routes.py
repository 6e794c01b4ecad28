"""How many outgoing routes take a number: the one question whose wrong answer rings a person twice."""

import pytest

from adapter.core.routes import Routes, RoutesUnreadable, Step


def by_pattern(pattern: str, name: str) -> Step:
    """A route as MikoPBX generates it: begins with, then so many digits."""
    return Step("ExecIf", f'$["${{REGEX("{pattern}" ${{EXTEN}})}}" == "1"]?Gosub({name}-outgoing,${{EXTEN}},1)')


def by_piece(condition: str, name: str) -> Step:
    return Step("ExecIf", f"$[{condition}]?Gosub({name}-outgoing,${{EXTEN}},1)")


OTHERS = (
    Step("Ringing", ""),
    Step("Goto", "outgoing,${EXTEN:1},1"),
    Step("ExecIf", '$["${peer_mobile}x" != "x"]?Hangup()'),
    Step("GosubIf", '$["${DIALPLAN_EXISTS(all-outgoing-custom,${EXTEN},1)}" == "1"]?all-outgoing-custom,${EXTEN},1'),
    Step("Playback", "silence/2,noanswer"),
    Step("Hangup", ""),
)
MOBILE = by_pattern("^601[0-9]{8}", "SIP-TRUNK-0000000A-1")
ALL = by_pattern("^60", "SIP-TRUNK-0000000B-2")


@pytest.mark.parametrize("number", ["60123456700", "+60123456700"])
def test_one_route_two_routes_none(number: str) -> None:
    assert Routes.read((*OTHERS, MOBILE)).refusal(number) is None
    twice = Routes.read((MOBILE, *OTHERS, ALL)).refusal(number)
    assert twice is not None
    assert "2 outgoing routes" in twice
    assert "SIP-TRUNK-0000000A-1-outgoing, SIP-TRUNK-0000000B-2-outgoing" in twice
    none = Routes.read((*OTHERS, by_pattern("^65", "X"))).refusal(number)
    assert none is not None
    assert "no outgoing route" in none


def test_a_plus_in_a_route_is_written_with_two_backslashes() -> None:
    plus = by_pattern(r"^\\+60[0-9]{9}$", "SIP-TRUNK-0000000A-1")
    assert plus.data.count("\\") == 2
    assert Routes.read([plus]).refusal("+60123456700") is None
    assert Routes.read([plus, MOBILE]).refusal("+60123456700") is not None, "counted rather too often"


@pytest.mark.parametrize(
    ("condition", "takes"),
    [
        ('"${EXTEN:0:2}" = "60"', True),
        ('"${EXTEN:0:2}" = "61"', False),
        ('"${EXTEN:-2}" = "00"', True),
        ('"${EXTEN:0:2}" = "60" & ${LEN(${EXTEN})} > 9', True),
        ('"${EXTEN:0:2}" = "60" & ${LEN(${EXTEN})} > 11', False),
        ('"${EXTEN:0:2}" = "60" && ${LEN(${EXTEN})} = 11', True),
        ('"${EXTEN}" == "60123456700"', True),
        ('"${REGEX("^(60|0)[0-9]{9}$" ${EXTEN})}" == "1"', True),
        ('"${REGEX("^0[0-9]{9}$" ${EXTEN})}" == "1"', False),
        ('"${REGEX("^60" ${EXTEN})}" == "1" & "${REGEX("9$" ${EXTEN})}" == "1"', False),
    ],
)
def test_conditions(condition: str, takes: bool) -> None:
    routes = Routes.read([by_piece(condition, "SIP-TRUNK-0000000A-1")])
    assert (routes.refusal("60123456700") is None) is takes


@pytest.mark.parametrize(
    "step",
    [
        by_piece('"${FOO}" = "1"', "A-1"),
        by_piece('"${EXTEN:0:2}" = "60" | "${EXTEN:0:2}" = "65"', "A-1"),
        by_piece('"${EXTEN:0:2}" = "60" & "${FOO}" = "1"', "A-1"),
        by_pattern("^60(", "A-1"),
        Step("GosubIf", "${FOO}?A-1-outgoing,${EXTEN},1"),
    ],
)
def test_a_route_that_cannot_be_read_makes_all_unreadable(step: Step) -> None:
    with pytest.raises(RoutesUnreadable, match=r"route A-1-outgoing is written in a way"):
        Routes.read([MOBILE, step])


def test_no_routes_are_unreadable_too() -> None:
    with pytest.raises(RoutesUnreadable, match="no outgoing route"):
        Routes.read(OTHERS)


def test_a_route_without_a_condition_takes_everything() -> None:
    routes = Routes.read([Step("Gosub", "SIP-TRUNK-0000000A-1-outgoing,${EXTEN},1"), MOBILE])
    assert routes.refusal("6531234567") is None
    assert routes.refusal("60123456700") is not None
