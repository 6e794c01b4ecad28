"""One Originate: what is in it, what never gets in, and what refuses the row."""

import base64
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.core.model import ClaimedRow, Form
from adapter.core.originate import (
    JOURNAL_SLOTS,
    MAX_LINE_BYTES,
    NOT_IN_THE_ROWS_GIFT,
    NOT_IN_THE_ROWS_GIFT_FAMILIES,
    DialPlan,
    Originate,
    RowRefused,
    _check_line,
    build,
    exact,
    journal_value,
    other_id,
    plain,
    slot_of,
)

CALL = "11111111-1111-4111-8111-111111111111"
USER = "22222222-2222-4222-8222-222222222222"
PLAN = DialPlan(trunk="SIP-TRUNK-0000000A")
ROW = ClaimedRow(
    row_id=1,
    call_id=CALL,
    claim_number=5000,
    attempt=1,
    user_id=USER,
    phone_number="012-345 6700",
    e164="+60123456700",
)


def headers(originate: Originate) -> dict[str, str]:
    """The headers that come once."""
    return {name: value for name, value in originate.headers if name != "Variable"}


def variables(originate: Originate) -> dict[str, str]:
    pairs = [value.partition("=") for name, value in originate.headers if name == "Variable"]
    assert len({name for name, _, _ in pairs}) == len(pairs), "each variable once"
    return {name: value for name, _, value in pairs}


def test_the_whole_action() -> None:
    row = replace(ROW, campaign_id=USER[::-1], prompt_id="7", customer_name="Siti", variables={"product": "Tea"})
    assert build(row, replace(PLAN, caller_id="+60312345678")).headers == (
        ("Channel", "PJSIP/60123456700@SIP-TRUNK-0000000A"),
        ("Context", "all_peers"),
        ("Exten", "999"),
        ("Priority", "1"),
        ("Timeout", "30000"),
        ("CallerID", "<+60312345678>"),
        ("Async", "true"),
        ("ChannelId", CALL),
        ("Variable", f"DB(mikopbx-adapter/904)=5000:{CALL}"),
        ("Variable", "TIMEOUT(absolute)=930"),
        ("Variable", f"__CALL_ID={CALL}"),
        ("Variable", f"call_id={CALL}"),
        ("Variable", f"__USER_ID={USER}"),
        ("Variable", f"user_id={USER}"),
        ("Variable", f"__CAMPAIGN_ID={USER[::-1]}"),
        ("Variable", f"campaign_id={USER[::-1]}"),
        ("Variable", "__PROMPT_ID=7"),
        ("Variable", "prompt_id=7"),
        ("Variable", "__CUSTOMER_NAME=Siti"),
        ("Variable", "customer_name=Siti"),
        ("Variable", "__CUSTOMER_NAME_B64=U2l0aQ=="),
        ("Variable", "__product=Tea"),
    )


def test_the_whole_action_of_form_route() -> None:
    originate = build(ROW, DialPlan(trunk="", form=Form.ROUTE))
    assert originate.headers == (
        ("Channel", "Local/60123456700@all_peers/n"),
        ("Context", "all_peers"),
        ("Exten", "999"),
        ("Priority", "1"),
        ("Timeout", "30000"),
        ("Async", "true"),
        ("ChannelId", CALL),
        ("OtherChannelId", other_id(CALL)),
        ("Variable", f"DB(mikopbx-adapter/904)=5000:{CALL}"),
        ("Variable", "TIMEOUT(absolute)=930"),
        ("Variable", "peer_mobile=1"),
        ("Variable", f"__CALL_ID={CALL}"),
        ("Variable", f"call_id={CALL}"),
        ("Variable", f"__USER_ID={USER}"),
        ("Variable", f"user_id={USER}"),
    )
    assert (originate.form, originate.trunk, originate.number_dialed) == (Form.ROUTE, "", "60123456700")


@given(call_id=st.uuids().map(str))
def test_the_second_half_has_an_id_of_its_own_and_of_the_same_length(call_id: str) -> None:
    assert other_id(call_id) != call_id
    assert len(other_id(call_id)) == len(call_id)
    assert other_id(call_id) == other_id(call_id)


def test_what_a_row_leaves_out_is_left_out() -> None:
    originate = build(ROW, PLAN)
    assert set(headers(originate)) == {"Channel", "Context", "Exten", "Priority", "Timeout", "Async", "ChannelId"}
    assert set(variables(originate)) == {
        "DB(mikopbx-adapter/904)",
        "TIMEOUT(absolute)",
        "__CALL_ID",
        "call_id",
        "__USER_ID",
        "user_id",
    }


def test_early_media_is_never_asked_for() -> None:
    """tests/core/test_transcripts.py shows what it does: an announcement is reported as an answer."""
    assert not any("earlymedia" in name.lower() for name, _ in build(ROW, PLAN).headers)


def test_what_goes_with_the_action() -> None:
    originate = build(ROW, replace(PLAN, max_call_seconds=600))
    assert (originate.call_id, originate.trunk) == (CALL, PLAN.trunk)
    assert (originate.slot, originate.journal_value) == (5000 % 4096, f"5000:{CALL}")
    assert (originate.ring_seconds, originate.max_call_seconds) == (30, 600)
    assert originate.number.national == "0123456700"


def test_the_journal_goes_round() -> None:
    assert [slot_of(n) for n in (0, 1, 4095, 4096, 5000)] == [0, 1, 4095, 0, 904]
    assert JOURNAL_SLOTS == 4096
    assert journal_value(ROW) == f"5000:{CALL}"


def test_the_rows_ring_limit_goes_before_the_plans_and_into_the_bound() -> None:
    originate = build(replace(ROW, ring_seconds=45), PLAN)
    assert originate.ring_seconds == 45
    assert headers(originate)["Timeout"] == "45000"
    assert variables(originate)["TIMEOUT(absolute)"] == "945"


@pytest.mark.parametrize("seconds", [0, -1, 601])
def test_a_ring_limit_out_of_range(seconds: int) -> None:
    with pytest.raises(RowRefused, match="ring_seconds must be 1 to 600"):
        build(replace(ROW, ring_seconds=seconds), PLAN)


def test_the_rows_caller_id_goes_before_the_plans() -> None:
    plan = replace(PLAN, caller_id="60312345678")
    assert headers(build(ROW, plan))["CallerID"] == "<60312345678>"
    assert headers(build(replace(ROW, caller_id="+60387654321"), plan))["CallerID"] == "<+60387654321>"


@pytest.mark.parametrize("caller_id", ["60123456700", "+60123456700", "0123456700"])
def test_a_caller_id_equal_to_the_callee_is_refused(caller_id: str) -> None:
    with pytest.raises(RowRefused, match="callee's own number"):
        build(replace(ROW, caller_id=caller_id), PLAN)
    with pytest.raises(RowRefused, match="callee's own number"):
        build(ROW, replace(PLAN, caller_id=caller_id))


@pytest.mark.parametrize("caller_id", ["12", "6" * 16, "AI Call", "603\r\nX: y", "60 3", '"A" <603123>', "603123\n"])
def test_a_caller_id_is_digits(caller_id: str) -> None:
    with pytest.raises(RowRefused, match="caller_id has a form"):
        build(replace(ROW, caller_id=caller_id), PLAN)


@pytest.mark.parametrize("style", ["e164", "plus", "national"])
def test_the_trunk_gets_the_number_in_its_style(style: str) -> None:
    form = {"e164": "60123456700", "plus": "+60123456700", "national": "0123456700"}[style]
    assert headers(build(ROW, replace(PLAN, number_style=style)))["Channel"] == f"PJSIP/{form}@{PLAN.trunk}"


def test_a_number_too_long_for_the_trunks_style() -> None:
    row = replace(ROW, phone_number="+49301234567890", e164="+49301234567890")
    with pytest.raises(RowRefused, match="does not fit into a dial string"):
        build(row, replace(PLAN, number_style="national", region="US"))


def test_a_number_that_is_refused_or_read_differently() -> None:
    with pytest.raises(RowRefused, match="the phone number was refused: this is an emergency number"):
        build(replace(ROW, phone_number="999", e164="+60999"), PLAN)
    with pytest.raises(RowRefused, match="ambiguous"):
        build(replace(ROW, e164="+60123456701"), PLAN)


@pytest.mark.parametrize(
    "change",
    [
        {"call_id": CALL.upper().replace("1", "A")},
        {"call_id": f"{CALL}\n"},
        {"call_id": "short"},
        {"user_id": "a,b"},
        {"user_id": ""},
        {"campaign_id": "x\r\n"},
        {"prompt_id": "${SHELL(x)}"},
    ],
)
def test_ids_of_another_form_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(RowRefused, match="has a form that cannot stand"):
        build(replace(ROW, **change), PLAN)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Tan, Mei Ling", "Tan Mei Ling"),
        ("Ali\r\nAction: Command\r\nCommand: core stop now\r\n\r\n", "Ali Action: Command Command: core stop now"),
        ("Ümit \u0000\u001b[1m Şahin\u007f\u0085", "Ümit [1m Şahin"),
        ("${SHELL(reboot)} $[1+1] $5", "$ {SHELL(reboot)} $ [1+1] $5"),
        ("$,{SHELL(x)}", "$ {SHELL(x)}"),
        ("half \ud800 character", "half ? character"),
        ("二" * 100, "二" * 66),
        ("a=b;c|d\"e'", "a=b;c|d\"e'"),
        ("", ""),
    ],
)
def test_a_name_is_tamed_and_also_given_exactly(name: str, text: str) -> None:
    words = variables(build(replace(ROW, customer_name=name), PLAN))
    assert words["__CUSTOMER_NAME"] == words["customer_name"] == text
    assert len(text.encode()) <= 200
    back = base64.urlsafe_b64decode(words["__CUSTOMER_NAME_B64"]).decode()
    assert back == name.encode(errors="replace").decode()


def test_a_name_too_long_to_be_given_exactly_refuses_the_row() -> None:
    build(replace(ROW, customer_name="x" * 740), PLAN)
    with pytest.raises(RowRefused, match="CUSTOMER_NAME_B64 is too long"):
        build(replace(ROW, customer_name="x" * 760), PLAN)


def test_a_rows_own_variables() -> None:
    given: dict[str, Any] = {
        "product": "Tea",
        "price": "3,50",
        "vip": True,
        "gold": False,
        "count": 3,
        "rate": 0.5,
        "none": None,
        "__inherited": "x",
    }
    words = variables(build(replace(ROW, variables=given), PLAN))
    assert {k: v for k, v in words.items() if k[2:] in {*given, "price_B64", "inherited"}} == {
        "__product": "Tea",
        "__price": "3 50",
        "__price_B64": exact("3,50"),
        "__vip": "true",
        "__gold": "false",
        "__count": "3",
        "__rate": "0.5",
        "__none": "",
        "__inherited": "x",
    }


@pytest.mark.parametrize("value", [["a"], {"a": 1}, object()])
def test_a_variable_is_one_word(value: object) -> None:
    with pytest.raises(RowRefused, match="must be a text, a number"):
        build(replace(ROW, variables={"x": value}), PLAN)


@pytest.mark.parametrize(
    "name", ["", "a b", "CALLERID(num)", "a=b", "a,b", "1a", "ä", "x\n", "a-b", "${x}", "x" * 65, "DB(a/b)"]
)
def test_a_variable_name_is_letters_digits_and_underscores(name: str) -> None:
    with pytest.raises(RowRefused, match="letters, digits and underscores"):
        build(replace(ROW, variables={name: "x"}), PLAN)


@pytest.mark.parametrize("name", sorted(NOT_IN_THE_ROWS_GIFT))
@pytest.mark.parametrize("spell", [str, str.lower, "__{}".format])
def test_a_name_that_steers_the_pbx_is_not_in_a_rows_gift(name: str, spell: Any) -> None:
    with pytest.raises(RowRefused, match="means something to the PBX"):
        build(replace(ROW, variables={spell(name): "x"}), PLAN)


@pytest.mark.parametrize("name", [*(f"{f}x" for f in NOT_IN_THE_ROWS_GIFT_FAMILIES), "pt1c_cid", "ARG1", "___"])
def test_nor_is_one_of_such_a_family(name: str) -> None:
    with pytest.raises(RowRefused, match="means something to the PBX"):
        build(replace(ROW, variables={name: "x"}), PLAN)


def test_too_much_of_it() -> None:
    with pytest.raises(RowRefused, match="long is too long: an AMI line takes 1022 bytes"):
        build(replace(ROW, variables={"long": "x" * 1010}), PLAN)
    with pytest.raises(RowRefused, match="more variables than one action takes"):
        build(replace(ROW, variables={f"v{i}": i for i in range(120)}), PLAN)


def test_a_line_is_measured_in_bytes_with_its_name() -> None:
    room = MAX_LINE_BYTES - len("Variable: __v=")
    fits = build(replace(ROW, variables={"v": "x" * room}), PLAN)
    assert max(len(f"{name}: {value}") for name, value in fits.headers) == MAX_LINE_BYTES
    with pytest.raises(RowRefused, match="too long"):
        build(replace(ROW, variables={"v": "x" * (room - 1) + "é"}), PLAN)


@pytest.mark.parametrize(
    "change",
    [
        {"trunk": "SIP TRUNK"},
        {"trunk": "x\r\nAction: Command"},
        {"trunk": ""},
        {"ai_context": "a,b"},
        {"ai_extension": "_bad_"},
        {"ai_extension": "999,1"},
        {"caller_id": "AI <123>"},
        {"journal_family": "a/b"},
        {"number_style": "roman"},
        {"ring_seconds": 0},
        {"ring_seconds": 601},
        {"max_call_seconds": 0},
    ],
)
def test_a_plan_no_pbx_would_take_is_none(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"cannot|ring limit|not a valid"):
        replace(PLAN, **change)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("Context", "a\r\nAction: Command", "Context holds a control character"),
        ("Variable", "x=\x7f", "Variable holds a control character"),
        ("Variable", "a=1,b=2", "holds a comma"),
        ("Variable", "__x=" + "é" * 506, "x is too long"),
    ],
)
def test_the_last_gate_does_not_trust_what_came_before(name: str, value: str, words: str) -> None:
    with pytest.raises(RowRefused, match=words):
        _check_line(name, value)
    _check_line("CallerID", "<1>,2")


def test_the_longest_dial_string_is_not_cut() -> None:
    plan = replace(PLAN, trunk="T" * 64, number_style="plus")
    row = replace(ROW, phone_number="+883140123456789", e164="+883140123456789")
    assert len(headers(build(row, plan))["Channel"]) < 255


# For any input at all

TEXT = st.text(max_size=300) | st.text(alphabet="\r\n,${}[]=;|\x00\x7f\u2028aé二", max_size=300)
VALUES = TEXT | st.integers() | st.booleans() | st.none() | st.floats() | st.lists(st.integers(), max_size=2)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True) | TEXT

ROWS = st.builds(
    lambda **fields: replace(ROW, **fields),
    call_id=st.just(CALL) | TEXT,
    user_id=st.just(USER) | TEXT,
    phone_number=st.just(ROW.phone_number) | TEXT,
    campaign_id=st.none() | st.just(USER) | TEXT,
    prompt_id=st.none() | TEXT,
    customer_name=st.none() | TEXT,
    caller_id=st.none() | st.just("60312345678") | TEXT,
    ring_seconds=st.none() | st.integers(-5, 700),
    variables=st.dictionaries(NAMES, VALUES, max_size=6),
)
TAMER = st.builds(
    lambda **fields: replace(ROW, **fields),
    customer_name=TEXT,
    variables=st.dictionaries(st.from_regex(r"v[a-z0-9_]{0,9}", fullmatch=True), TEXT, max_size=6),
)


@given(row=ROWS | TAMER)
def test_whatever_is_in_the_row_no_line_does_harm(row: ClaimedRow) -> None:
    try:
        originate = build(row, PLAN)
    except RowRefused:
        return
    once = [name for name, _ in originate.headers if name != "Variable"]
    assert len(once) == len(set(once)), "of two equal headers one would be ignored"
    assert len(originate.headers) <= 120
    for name, value in originate.headers:
        line = f"{name}: {value}".encode()
        assert len(line) <= MAX_LINE_BYTES
        assert not any(byte < 0x20 or byte == 0x7F for byte in line)
        if name == "Variable":
            assert "," not in value
            assert re.match(r"(__)?[A-Za-z][A-Za-z0-9_]*=|DB\(mikopbx-adapter/\d+\)=|TIMEOUT\(absolute\)=\d+$", value)
    assert headers(originate)["Channel"] == "PJSIP/60123456700@SIP-TRUNK-0000000A"
    assert headers(originate)["ChannelId"] == CALL


@given(text=TEXT)
def test_plain_text_is_plain_and_stays_so(text: str) -> None:
    once = plain(text)
    assert plain(once) == once
    assert not re.search(r"[\x00-\x1f\x7f-\x9f,\u2028\u2029]|\$[{\[]|^ | $|  ", once)


@given(name=TEXT)
def test_a_name_of_any_kind_is_dialed(name: str) -> None:
    words = variables(build(replace(ROW, customer_name=name[:150]), PLAN))
    assert len(words["__CUSTOMER_NAME"].encode()) <= 200
