"""The two readers of a phone number, `call_number_v1` and `adapter.core.numbers.parse`, over thousands of spellings.

What the database accepts the core reads as the same number, or refuses in words. What the core accepts the database
accepts too: it owns the canonical form, and a row it refuses is never claimed.
"""

import random
from collections.abc import Iterator

import phonenumbers
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from adapter.core.numbers import NumberRefused, parse
from tests.supabase.helpers import Desk

REGIONS = ("MY", "SG", "US", "GB", "DE", "ID", "IN", "AU")
ABROAD = {"US": "011", "AU": "0011", "SG": "000", "ID": "001"}
"""International prefixes; 00 for the others."""

WORDS = ("emergency",)
"""Reasons for which the core alone refuses: it knows the short numbers of every country."""


def _spellings(code: int, prefix: str, digits: str) -> Iterator[str]:
    """Ways to write one number, right and wrong."""
    yield from (digits, f"0{digits}", f"1{digits}", f"00{digits}", digits[:-1], f"{digits}5", f"0{digits[:-2]}")
    yield from (
        f"{code}{digits}",
        f"{code}0{digits}",
        f"0{code}{digits}",
        f"000{code}{digits}",
        f"{prefix}{code}{digits}",
    )
    yield from (f"+{code}{digits}", f"+{code} (0) {digits}", f"+{code}{code}{digits}", f"+00{code}{digits}")


def _sample() -> list[tuple[str, str]]:
    """Spellings, each with the region it is read in."""
    chance = random.Random(20261125)
    made: set[tuple[str, str]] = set()
    for region in REGIONS:
        code = phonenumbers.country_code_for_region(region)
        for kind in PhoneNumberType.values():
            if (number := phonenumbers.example_number_for_type(region, kind)) is None:
                continue
            national = phonenumbers.national_significant_number(number)
            for _ in range(4):
                kept = chance.choice((2, 3, 4, len(national)))
                digits = national[:kept] + "".join(chance.choice("0123456789") for _ in national[kept:])
                for raw in _spellings(code, ABROAD.get(region, "00"), digits):
                    made |= {(raw, region), (raw, chance.choice(REGIONS))}
            for home in REGIONS:
                made.add((phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL), home))
                made.add((phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL), home))
                made.add((phonenumbers.format_out_of_country_calling_number(number, home), home))
        for _ in range(150):
            digits = "".join(chance.choice("0123456789") for _ in range(chance.randint(3, 14)))
            made |= {(digits, region), (f"0{digits}", region), (f"+{digits}", region)}
    return sorted((raw, region) for raw, region in made if not any(ch.isalpha() for ch in raw))


async def test_database_and_core_read_the_same_number(desk: Desk) -> None:
    spellings = _sample()
    assert len(spellings) > 10_000
    found = await desk.connection.fetch(
        "select n.* from unnest($1::text[], $2::text[]) with ordinality s(raw, region, place), "
        "lateral call_number_v1(s.raw, s.region) n order by s.place",
        [raw for raw, _ in spellings],
        [region for _, region in spellings],
    )
    wrong: list[tuple[str | None, ...]] = []
    agreed = 0
    for (raw, region), row in zip(spellings, found, strict=True):
        try:
            number = parse(raw, region)
        except NumberRefused as refused:
            if row["e164"] is not None and not any(word in str(refused) for word in WORDS):
                wrong.append((raw, region, row["e164"], str(refused)))
            continue
        if number.e164 != row["e164"] or row["country"] not in (number.country, None):
            wrong.append((raw, region, row["e164"], row["problem"], number.e164))
        agreed += 1
    assert wrong == []
    assert agreed > len(spellings) / 3
