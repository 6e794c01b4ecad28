"""Numbers: what is read, what is refused, what the app and the trunk get."""

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from adapter.core.model import NumberStyle
from adapter.core.numbers import Number, NumberRefused, parse, same_number, trunk_form
from adapter.sandbox import scenarios


@pytest.mark.parametrize(
    ("raw", "e164", "national"),
    [
        # The table of the app's own habits (contract, section 4.6); the canonical form is the database's.
        ("0123456789", "+60123456789", "0123456789"),
        ("012-345 6789", "+60123456789", "0123456789"),
        ("60123456789", "+60123456789", "0123456789"),
        ("+60123456789", "+60123456789", "0123456789"),
        ("123456789", "+60123456789", "0123456789"),
        ("01112345678", "+601112345678", "01112345678"),
        ("041234567", "+6041234567", "041234567"),
        ("+6591234567", "+6591234567", "6591234567"),
        ("0060123456789", "+60123456789", "0123456789"),
        # Other ways of writing.
        (" (+60) 12.345/6789\t", "+60123456789", "0123456789"),
        ("+60\u00a012\u2010345\u20146789", "+60123456789", "0123456789"),
        ("006591234567", "+6591234567", "6591234567"),
        ("1300881234", "+601300881234", "01300881234"),
        ("+1 (212) 555-0123", "+12125550123", "12125550123"),
        ("+883510000000", "+883510000000", "883510000000"),
    ],
)
def test_read(raw: str, e164: str, national: str) -> None:
    number = parse(raw, "MY")
    assert (number.e164, number.national) == (e164, national)


@pytest.mark.parametrize(
    ("raw", "region", "e164", "national"),
    [
        ("8 912 345-67-89", "RU", "+79123456789", "89123456789"),
        ("(212) 555-0123", "US", "+12125550123", "2125550123"),
        ("+1 416 555 0123", "US", "+14165550123", "4165550123"),
        ("9123 4567", "SG", "+6591234567", "91234567"),
        ("0123456789", "SG", "+65123456789", None),
    ],
)
def test_the_default_region_is_a_setting(raw: str, region: str, e164: str, national: str | None) -> None:
    if national is None:
        with pytest.raises(NumberRefused):
            parse(raw, region)
    else:
        assert (parse(raw, region).e164, parse(raw, region).national) == (e164, national)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("", "digits"),
        ("+", "digits"),
        ("abc", "digits"),
        ("1-800-FLOWERS", "digits"),
        ("012 345 6789 ext 5", "digits"),
        ("012 345 6789;5", "digits"),
        ("+60+123456789", "digits"),
        ("60+123456789", "digits"),
        ("\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19", "digits"),
        ("\u0660\u0661\u0662345678", "digits"),
        ("012345\n6789", "digits"),
        ("0123456789\u202c", "digits"),
        ("0" * 65, "64 signs"),
        ("999", "emergency"),
        ("1-1-2", "emergency"),
        ("911", "too short"),
        ("1300", "too short"),
        ("+60 999", "too short"),
        ("12345", "too short"),
        ("+376712345", "6 digits are too few"),
        ("01234567890123", "too long"),
        ("+6012345678901234567", "too long"),
        ("+999123456789", "no phone number"),
        ("+4930" + "1" * 12, "at most 15 digits"),
        ("+1 555 0123", "area code is missing"),
    ],
)
def test_refused(raw: str, words: str) -> None:
    with pytest.raises(NumberRefused, match=words):
        parse(raw, "MY")


@pytest.mark.parametrize(
    "raw", ["999", "112", "991", "0999", "0 112", "+60999", "+60 112", "+60 0999", "00112", "0060999", "60999", "991 0"]
)
def test_no_spelling_of_an_emergency_number_is_dialed(raw: str) -> None:
    with pytest.raises(NumberRefused, match=r"emergency|too short|code"):
        parse(raw, "MY")


@pytest.mark.parametrize("raw", ["+112 0000 0000", "00112 0000 0000", "0011 2000 00000"])
def test_nor_is_one_that_begins_so_once_its_plus_is_left_away(raw: str) -> None:
    """+1 120 000 0000 is nobody, and to a trunk it is written 1120…"""
    with pytest.raises(NumberRefused, match="emergency or service"):
        parse(raw, "MY")


def test_a_known_number_abroad_may_look_so() -> None:
    assert parse("+91 11 2345 6789", "US").e164 == "+911123456789", "Delhi; 911 in the United States"


@pytest.mark.parametrize("region", sorted(phonenumbers.SUPPORTED_REGIONS | {"001"}))
def test_premium_numbers_of_every_country_are_refused_and_shared_cost_is_not(region: str) -> None:
    codes = (979,) if region == "001" else (phonenumbers.country_code_for_region(region),)
    for code in codes:
        for kind, refused in ((PhoneNumberType.PREMIUM_RATE, True), (PhoneNumberType.SHARED_COST, False)):
            number = (
                phonenumbers.example_number_for_non_geo_entity(code)
                if region == "001" and refused
                else phonenumbers.example_number_for_type(region, kind)
            )
            if number is None or len(phonenumbers.national_significant_number(number)) < 7:
                continue
            raw = phonenumbers.format_number(number, PhoneNumberFormat.E164)
            if refused:
                with pytest.raises(NumberRefused, match="premium"):
                    parse(raw, "MY")
            else:
                assert parse(raw, "MY").e164 == raw


@pytest.mark.parametrize("raw", ["+00120038148080", "+0 0120 1041 3700", "+0123456789"])
def test_a_plus_and_a_zero_are_not_guessed_at(raw: str) -> None:
    """`phonenumbers` leaves the plus away and tries again; the database does not."""
    with pytest.raises(NumberRefused, match="no country code"):
        parse(raw, "MY")


def test_an_emergency_number_is_one_of_the_region() -> None:
    with pytest.raises(NumberRefused, match="emergency"):
        parse("911", "US")
    with pytest.raises(NumberRefused, match="too short"):
        parse("911", "MY")


@pytest.mark.parametrize("raw", ["+65 9950 0000", "+45 1120 0000", "+48 112 000 000", "+1 911 000 0000"])
def test_a_number_that_begins_with_an_emergency_number_is_refused_where_nothing_is_dialed_before_it(raw: str) -> None:
    with pytest.raises(NumberRefused, match="emergency or service"):
        parse(raw, "MY")


def test_a_number_that_only_looks_so_without_its_trunk_prefix_is_not() -> None:
    assert parse("9991234567", "MY").e164 == "+609991234567", "dialed as 0999… or 60999…"
    assert parse("1122345678", "MY").warning is None, "a mobile, 011-2234 5678"
    assert parse("011-20000000", "MY").e164 == "+601120000000"


def test_an_unknown_range_is_warned_of_and_dialed() -> None:
    """Metadata lags new ranges by months."""
    number = parse("0311111111", "MY")
    assert number.e164 == "+60311111111"
    unknown = parse("+60 4 123 4567", "MY")
    assert unknown == Number(e164="+6041234567", national="041234567", country="MY", warning=unknown.warning)
    assert unknown.warning is not None
    assert "no known range of MY" in unknown.warning
    assert parse("0123456789", "MY").warning is None


def test_every_number_of_the_sandbox_is_known_and_comes_back() -> None:
    for code in scenarios.BY_CODE:
        number = parse(scenarios.number(code, 42), "MY")
        assert number.e164 == scenarios.number(code, 42)
        for style in NumberStyle:
            found = scenarios.scenario_of(trunk_form(number.e164, style, "MY"))
            assert found is scenarios.BY_CODE[code]


@pytest.mark.parametrize(
    ("e164", "style", "region", "form"),
    [
        ("+60123456700", "e164", "MY", "60123456700"),
        ("+60123456700", "plus", "MY", "+60123456700"),
        ("+60123456700", "national", "MY", "0123456700"),
        ("+60123456700", "national", "US", "01160123456700"),
        ("+6591234567", "national", "MY", "006591234567"),
        ("+6041234567", "national", "MY", "041234567"),
        ("+609991234567", "national", "MY", "09991234567"),
        ("+573211234567", "national", "CO", "3211234567"),
        ("+12125550123", "national", "US", "2125550123"),
        ("+6591234567", "e164", "US", "6591234567"),
    ],
)
def test_what_the_trunk_gets(e164: str, style: str, region: str, form: str) -> None:
    assert trunk_form(e164, style, region) == form


def test_a_form_that_does_not_fit_is_refused() -> None:
    with pytest.raises(NumberRefused, match="does not fit"):
        trunk_form("+49301234567890", "national", "US")
    with pytest.raises(ValueError, match="roman"):
        trunk_form("+60123456700", "roman", "MY")


def test_the_same_person_written_differently() -> None:
    assert same_number("0123456700", "+60123456700", "MY")
    assert same_number("60123456700", "+60 12-345 6700", "MY")
    assert not same_number("0123456701", "+60123456700", "MY")
    assert same_number("9 9 9", "999", "MY"), "what is refused is compared by its digits"


REGIONS = st.sampled_from(sorted(phonenumbers.SUPPORTED_REGIONS))
KINDS = st.sampled_from([PhoneNumberType.FIXED_LINE, PhoneNumberType.MOBILE, PhoneNumberType.VOIP])


@given(region=REGIONS, kind=KINDS)
def test_real_numbers_of_every_country_are_read_in_each_way_of_writing(region: str, kind: int) -> None:
    example = phonenumbers.example_number_for_type(region, kind)
    if example is None or len(phonenumbers.national_significant_number(example)) < 7:
        return
    e164 = phonenumbers.format_number(example, PhoneNumberFormat.E164)
    for style in (PhoneNumberFormat.E164, PhoneNumberFormat.INTERNATIONAL, PhoneNumberFormat.NATIONAL):
        number = parse(phonenumbers.format_number(example, style), region)
        assert (number.e164, number.warning) == (e164, None)
    assert parse(trunk_form(e164, NumberStyle.NATIONAL, region), region).e164 == e164


@given(raw=st.text(max_size=40) | st.from_regex(r"\+?[0-9 ().\-/]{0,30}", fullmatch=True))
def test_whatever_is_written_either_is_refused_or_is_a_number_everywhere(raw: str) -> None:
    try:
        number = parse(raw, "MY")
    except NumberRefused:
        return
    assert number.e164.startswith("+")
    digits = number.e164[1:]
    assert digits.isascii()
    assert digits.isdigit()
    assert 8 <= len(digits) <= 15
    assert number.national.isdigit()
    assert parse(number.e164, "MY") == number, "the canonical form is its own canonical form"
    assert parse(number.e164, "US").e164 == number.e164, "and does not depend on the region"
    assert trunk_form(number.e164, "e164", "MY") == digits
