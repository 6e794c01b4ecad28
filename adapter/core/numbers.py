"""Phone numbers: what a person typed → E.164 → what the app shows and what a trunk wants.

The owner of the canonical form is the SQL function behind `call_queue.e164`; this module is the second opinion that is
asked before a call is placed, with Google's metadata (`phonenumbers`). What is impossible is refused. What is possible
but of an unknown range is only warned of, because the metadata lags behind new ranges by months.
"""

import re
from dataclasses import dataclass
from typing import assert_never

import phonenumbers
from phonenumbers import (
    CountryCodeSource,
    PhoneNumber,
    PhoneNumberFormat,
    PhoneNumberType,
    ValidationResult,
    shortnumberinfo,
)

from adapter.core.model import NumberStyle

MIN_NATIONAL_DIGITS = 7
"""Shorter ones are service and emergency numbers almost everywhere, and a wrong one reaches somebody else."""

MAX_DIGITS = 15
"""Of country code and national number together (E.164)."""

MAX_WRITTEN = 64
"""Characters of a number as written; the database takes no more either."""

_MARKS = " \t-./()\u00a0\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
"""What people write between digits: the same signs as the database's canonical form passes over."""

_WITHOUT_MARKS = str.maketrans("", "", _MARKS)

_WRITTEN = re.compile(r"\+?[0-9]+")
"""What has to be left without the marks. ASCII digits only: others look alike and are no digits to the PBX."""

_DIALABLE = re.compile(r"\+?[0-9]{3,15}")
"""What may stand in a dial string (mikopbx/outcomes section 4)."""

MAX_FITTED = 2 * MAX_DIGITS
"""Digits of a number with what a trunk puts in front of it."""

_FITTED = re.compile(rf"\+?[0-9]{{{MIN_NATIONAL_DIGITS},{MAX_FITTED}}}")

_IMPOSSIBLE = {
    ValidationResult.INVALID_COUNTRY_CODE: "there is no such country code",
    ValidationResult.TOO_SHORT: "it is too short",
    ValidationResult.TOO_LONG: "it is too long",
    ValidationResult.INVALID_LENGTH: "no number of that country has this length",
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "the area code is missing",
}


class NumberRefused(ValueError):
    """This number is not dialed; the text says why, for the person who wrote it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number that may be dialed."""

    e164: str
    """With plus, +60123456700."""

    national: str
    """As the app shows it and as `call_logs` holds it: 0123456700 at home, the digits of E.164 for other countries
    (contract, section 4.6)."""

    country: str
    """Two letters; 001 for numbers of no country."""

    warning: str | None = None
    """Words, where the number is possible but of a range nobody has told us of."""


def parse(raw: str, region: str) -> Number:
    """Read a number as a person wrote it; `region` (like MY) is the country of one written without its code.

    Raises `NumberRefused`.
    """
    if len(raw) > MAX_WRITTEN:
        raise NumberRefused(f"a phone number is at most {MAX_WRITTEN} signs long")
    text = raw.translate(_WITHOUT_MARKS)
    if not _WRITTEN.fullmatch(text):
        raise NumberRefused(
            "a phone number is digits, spaces, dashes, dots, brackets and at most one plus, which is its first sign"
        )
    if text.startswith("+0"):
        # The library would leave the plus away and guess; the database does not.
        raise NumberRefused("no country code begins with a zero")
    if shortnumberinfo.is_emergency_number(_digits(text), region):
        raise NumberRefused("this is an emergency number")
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException as error:
        raise NumberRefused(f"this is no phone number: {error}") from None
    possible = phonenumbers.is_possible_number_with_reason(number)
    if possible != ValidationResult.IS_POSSIBLE:
        raise NumberRefused(f"this cannot be a phone number: {_IMPOSSIBLE[possible]}")
    return _checked(number, region)


def trunk_form(e164: str, style: str, region: str, *, strip: str = "", add: str = "") -> str:
    """The number as a trunk wants it, in a `NumberStyle`; `region` is the country the trunk is in. `strip` is taken off
    the front of that, then `add` is put there.

    Raises `NumberRefused` where that form does not fit into a dial string, or could reach somebody else.
    """
    form = _styled(e164, style, region)
    return _fitted(form, e164, region, strip=strip, add=add) if strip or add else form


def _styled(e164: str, style: str, region: str) -> str:
    wanted = NumberStyle(style)
    match wanted:
        case NumberStyle.E164:
            form = e164.removeprefix("+")
        case NumberStyle.PLUS:
            form = e164
        case NumberStyle.NATIONAL:
            form = _at_home(e164, region)
        case _:
            assert_never(wanted)
    if not _DIALABLE.fullmatch(form):
        raise NumberRefused("the number does not fit into a dial string in the form this trunk wants")
    return form


def _fitted(form: str, e164: str, region: str, *, strip: str, add: str) -> str:
    """What stands before the national number is the trunk's to change, never a digit of that number."""
    if not form.startswith(strip):
        raise NumberRefused(
            f"this trunk takes {strip} off the front of a number (call_trunks.strip_prefix), and this one does not "
            "begin so in the form the trunk wants"
        )
    rest = form[len(strip) :]
    if strip and not rest.endswith(phonenumbers.national_significant_number(phonenumbers.parse(e164))):
        raise NumberRefused(
            f"to take {strip} off the front (call_trunks.strip_prefix) would leave a part of this number, and so "
            "another one"
        )
    dialed = add + rest
    if not _FITTED.fullmatch(dialed):
        raise NumberRefused(
            "with what this trunk takes off and puts in front (call_trunks) the number fits into no dial string: "
            f"{MIN_NATIONAL_DIGITS} to {MAX_FITTED} digits and at most one plus, which is the first sign"
        )
    if (what := _somebody_else(dialed, e164, region)) is not None:
        raise NumberRefused(
            f"with what this trunk takes off and puts in front (call_trunks) {what} would be dialed; correct it"
        )
    return dialed


def _somebody_else(dialed: str, e164: str, region: str) -> str | None:
    """Whom a switch of that region would reach by these digits, in words, if it could be anybody but the callee.

    Digits that no switch reads as a whole number, since a carrier's own prefix stands before them, reach nobody else.
    """
    digits = _digits(dialed)
    if shortnumberinfo.connects_to_emergency_number(digits, region):
        return "an emergency number"
    try:
        read = phonenumbers.parse(dialed, region, keep_raw_input=True)
    except phonenumbers.NumberParseException:
        return "a number of no country" if dialed.startswith("+") else None
    if phonenumbers.format_number(read, PhoneNumberFormat.E164) == e164:
        return None
    if phonenumbers.number_type(read) == PhoneNumberType.PREMIUM_RATE:
        return "a premium number"
    if shortnumberinfo.is_valid_short_number_for_region(read, region):
        return "a service number"
    # Read as a whole: by its plus, the international prefix, the country's own code, or the prefix of calls at home
    # (where there is none, any digits are such a call).
    whole = read.country_code_source != CountryCodeSource.FROM_DEFAULT_COUNTRY or digits.startswith(
        phonenumbers.ndd_prefix_for_region(region, True) or ""
    )
    another = dialed.startswith("+") or (whole and phonenumbers.is_possible_number(read))
    return "another number" if another else None


def _at_home(e164: str, region: str) -> str:
    """As somebody dials it in that region: with the trunk prefix, or the international prefix for numbers abroad."""
    number = phonenumbers.parse(e164)
    if number.country_code == phonenumbers.country_code_for_region(region):
        if phonenumbers.is_valid_number(number):
            return _digits(phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL))
        # Of an unknown range the library does not know whether a trunk prefix belongs there, and leaves it away;
        # without it the number could begin like an emergency number.
        return _app_form(number, phonenumbers.national_significant_number(number), region)
    written = phonenumbers.format_out_of_country_calling_number(number, region)
    return ("+" if written.startswith("+") else "") + _digits(written)


def same_number(left: str, right: str, region: str) -> bool:
    """True if two ways of writing reach the same person, as far as can be told."""
    return _canonical(left, region) == _canonical(right, region)


def _canonical(raw: str, region: str) -> str:
    try:
        return parse(raw, region).e164
    except NumberRefused:
        return _digits(raw)


def _checked(number: PhoneNumber, region: str) -> Number:
    significant = phonenumbers.national_significant_number(number)
    e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    country = phonenumbers.region_code_for_number(number) or phonenumbers.region_code_for_country_code(
        number.country_code or 0
    )
    known = phonenumbers.is_valid_number(number)
    if len(significant) < MIN_NATIONAL_DIGITS:
        raise NumberRefused(
            f"{len(significant)} digits are too few: short, service and emergency numbers are not dialed"
        )
    if len(_digits(e164)) > MAX_DIGITS:
        raise NumberRefused(f"a phone number has at most {MAX_DIGITS} digits with its country code")
    if not known and (
        _is_special(number, country) or shortnumberinfo.connects_to_emergency_number(_digits(e164), region)
    ):
        raise NumberRefused("this is an emergency or service number")
    if phonenumbers.number_type(number) == PhoneNumberType.PREMIUM_RATE:
        raise NumberRefused("this is a premium number: whoever calls it pays its owner")
    return Number(
        e164=e164,
        national=_app_form(number, significant, region),
        country=country,
        warning=None if known else f"no known range of {country} holds this number; it is dialed all the same",
    )


def _app_form(number: PhoneNumber, significant: str, region: str) -> str:
    """The form the app shows: with the trunk prefix (a 0, mostly) at home, else digits without the plus.

    A trunk prefix that equals the country code is not part of a number as people write it (the 1 of North America).
    """
    code = number.country_code or 0
    if code != phonenumbers.country_code_for_region(region):
        return f"{code}{significant}"
    prefix = phonenumbers.ndd_prefix_for_region(region, True) or ""
    return significant if prefix == str(code) else f"{prefix}{significant}"


def _is_special(number: PhoneNumber, country: str) -> bool:
    """An emergency or short number hidden in a longer one, as dialed at home: 999 connects whatever comes behind it."""
    dialed = _app_form(number, phonenumbers.national_significant_number(number), country)
    return bool(
        shortnumberinfo.connects_to_emergency_number(dialed, country)
        or shortnumberinfo.is_valid_short_number_for_region(number, country)
    )


def _digits(text: str) -> str:
    return "".join(ch for ch in text if "0" <= ch <= "9")
