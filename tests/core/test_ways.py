"""Each row by its own way: form, trunk, number as that trunk wants it, caller id; and never another number."""

from dataclasses import replace
from typing import Any

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.core.model import ClaimedRow, Form, NumberStyle, Way
from adapter.core.numbers import NumberRefused, trunk_form
from adapter.core.originate import DialPlan, RowRefused, build

PLAN = DialPlan(trunk="SIP-TRUNK-0000000A", caller_id="0312345670")
WAY = Way(id="SIP-TRUNK-0000000B")
ROW = ClaimedRow(
    row_id=1,
    call_id="11111111-1111-4111-8111-111111111111",
    claim_number=5000,
    attempt=1,
    user_id="22222222-2222-4222-8222-222222222222",
    phone_number="012-345 6700",
    e164="+60123456700",
    way=WAY,
)


@pytest.mark.parametrize(
    ("e164", "style", "region", "strip", "add", "dialed"),
    [
        ("+60123456700", "e164", "MY", "60", "0", "0123456700"),
        ("+60123456700", "e164", "MY", "", "99", "9960123456700"),
        ("+60123456700", "national", "MY", "0", "0060", "0060123456700"),
        ("+60123456700", "national", "MY", "0", "+60", "+60123456700"),
        ("+60123456700", "national", "MY", "0", "", "123456700"),
        ("+60123456700", "plus", "MY", "+", "", "60123456700"),
        ("+60123456700", "plus", "MY", "", "", "+60123456700"),
        ("+12125550100", "e164", "US", "1", "", "2125550100"),
        ("+12125550100", "national", "US", "", "011", "0112125550100"),
    ],
)
def test_a_trunk_gets_the_number_as_it_wants_it(
    *, e164: str, style: str, region: str, strip: str, add: str, dialed: str
) -> None:
    assert trunk_form(e164, style, region, strip=strip, add=add) == dialed


@pytest.mark.parametrize(
    ("e164", "style", "region", "strip", "add", "words"),
    [
        ("+60123456700", "national", "MY", "60", "", "does not begin so"),
        ("+60123456700", "e164", "MY", "6012", "0", "a part of this number"),
        ("+60123456700", "plus", "MY", "", "9", "no dial string"),
        ("+60123456700", "plus", "MY", "", "+", "no dial string"),
        ("+60123456700", "national", "MY", "0", "999", "an emergency number"),
        ("+60123456700", "e164", "MY", "60", "112", "an emergency number"),
        ("+4930123456", "e164", "DE", "49", "0900", "another number"),
        ("+60123456700", "national", "MY", "0", "+62", "another number"),
        ("+60123456700", "national", "MY", "0", "0062", "another number"),
        ("+6591234567", "e164", "SG", "65", "00659", "another number"),
        ("+12125550100", "national", "US", "", "+1900", "another number"),
        ("+60123456700", "e164", "MY", "60", "+210", "a number of no country"),
    ],
)
def test_it_never_gets_another_one(*, e164: str, style: str, region: str, strip: str, add: str, words: str) -> None:
    with pytest.raises(NumberRefused, match=words):
        trunk_form(e164, style, region, strip=strip, add=add)


AFFIX = st.from_regex(r"\+?[0-9]{0,15}", fullmatch=True) | st.sampled_from(
    ("0", "00", "0060", "+60", "60", "6", "9", "99", "999", "112", "+", "1", "011", "0900", "1900")
)
REGIONS = ("MY", "US", "SG", "DE", "GB", "IT", "AR", "AU", "TH", "ID")
NUMBERS = tuple(
    phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
    for region in REGIONS
    for kind in (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE)
    if (example := phonenumbers.example_number_for_type(region, kind)) is not None
)


@given(
    e164=st.sampled_from(NUMBERS),
    style=st.sampled_from(NumberStyle),
    region=st.sampled_from(REGIONS),
    strip=AFFIX,
    add=AFFIX,
)
def test_what_is_dialed_ends_with_the_whole_number_or_nothing_is(
    e164: str, style: NumberStyle, region: str, strip: str, add: str
) -> None:
    try:
        plain = trunk_form(e164, style, region)
        dialed = trunk_form(e164, style, region, strip=strip, add=add)
    except NumberRefused:
        return
    assert plain.startswith(strip)
    assert dialed == add + plain[len(strip) :]
    assert dialed.removeprefix("+").isdecimal()
    assert dialed.isascii()
    assert len(dialed) >= 7
    if strip:
        assert dialed.endswith(phonenumbers.national_significant_number(phonenumbers.parse(e164)))
    if dialed.startswith("+"):
        assert dialed == e164
    if strip or add:
        assert not phonenumbers.shortnumberinfo.connects_to_emergency_number(dialed.removeprefix("+"), region)


def channel(row: ClaimedRow, plan: DialPlan = PLAN) -> str:
    """Where the row is dialed."""
    return dict(build(row, plan).headers)["Channel"]


def test_a_row_goes_its_own_way() -> None:
    assert channel(replace(ROW, way=None)) == "PJSIP/60123456700@SIP-TRUNK-0000000A"
    assert channel(ROW) == "PJSIP/60123456700@SIP-TRUNK-0000000B"
    assert build(ROW, PLAN).trunk == "SIP-TRUNK-0000000B"
    styled = Way(id=WAY.id, number_style=NumberStyle.NATIONAL, strip="0", add="0060")
    assert channel(replace(ROW, way=styled)) == "PJSIP/0060123456700@SIP-TRUNK-0000000B"
    # The style of the settings is the style of their trunk, and of no other.
    assert channel(ROW, replace(PLAN, number_style="national")) == "PJSIP/60123456700@SIP-TRUNK-0000000B"


def test_forms_do_not_mix() -> None:
    by_route = build(replace(ROW, way=Way(id="routes", form=Form.ROUTE)), PLAN)
    assert dict(by_route.headers)["Channel"] == "Local/60123456700@all_peers/n"
    assert (by_route.form, by_route.trunk) == (Form.ROUTE, "")
    assert "OtherChannelId" in dict(by_route.headers)
    by_trunk = build(ROW, DialPlan(trunk="", form=Form.ROUTE))
    assert dict(by_trunk.headers)["Channel"] == "PJSIP/60123456700@SIP-TRUNK-0000000B"
    assert (by_trunk.form, by_trunk.trunk) == (Form.TRUNK, "SIP-TRUNK-0000000B")
    assert "OtherChannelId" not in dict(by_trunk.headers)


def test_caller_id_of_the_row_then_of_its_way_then_of_the_settings() -> None:
    def shown(row: ClaimedRow) -> str | None:
        return dict(build(row, PLAN).headers).get("CallerID")

    own = replace(WAY, caller_id="0387654321")
    assert shown(ROW) == "<0312345670>"
    assert shown(replace(ROW, way=own)) == "<0387654321>"
    assert shown(replace(ROW, way=own, caller_id="0311112222")) == "<0311112222>"
    with pytest.raises(RowRefused, match="callee's own number"):
        build(replace(ROW, way=replace(WAY, caller_id="0123456700")), PLAN)


def test_ring_and_talk_are_bound_by_whatever_way() -> None:
    for way in (None, WAY, Way(id="routes", form=Form.ROUTE)):
        values = [value for name, value in build(replace(ROW, way=way), PLAN).headers if name == "Variable"]
        assert "TIMEOUT(absolute)=930" in values


def test_a_number_that_its_way_would_change_is_blocked_with_words() -> None:
    with pytest.raises(RowRefused, match="does not begin so"):
        build(replace(ROW, way=replace(WAY, strip="62")), PLAN)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "a,b"},
        {"id": "a\nb"},
        {"id": "SIP-TRUNK@evil"},
        {"id": ""},
        {"strip": "*31#"},
        {"add": "0\r\nAction: Logoff"},
        {"add": "٣"},
        {"caller_id": "0<1>"},
        {"caller_id": ""},
        {"calls_per_second": float("nan")},
        {"max_channels": 0},
    ],
)
def test_a_way_that_cannot_stand_in_an_action_is_none(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"cannot stand|must be"):
        replace(WAY, **change)
