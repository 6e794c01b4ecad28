"""`call_number_v1`, the owner of the canonical form, against the phonenumbers package."""

import random

import asyncpg
import phonenumbers
import pytest
from phonenumbers import PhoneNumberFormat, PhoneNumberType, ValidationResult

from tests.supabase.helpers import Connection, Desk

MALAYSIAN = (
    "0123456789",
    "012-345 6789",
    "60123456789",
    "+60123456789",
    "+60 (12) 345.6789",
    "0060123456789",
    "123456789",
    "+60 0123456789",
    "012\u00a0345\u20116789",
)
REFUSED = {
    "": "the phone number is empty",
    " - ": "the phone number is empty",
    "\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19": "contains something that is no digit",
    "0123456789 ext 4": "contains something that is no digit",
    "1800-FLOWERS": "contains something that is no digit",
    "012+3456789": "contains something that is no digit",
    "++60123456789": "contains something that is no digit",
    "012345678\x01": "contains something that is no digit",
    "999": "too short",
    "112": "too short",
    "+60999": "too short",
    "1234567": "lacks its area code",
    "+60123": "too short",
    "01234567890123": "too long",
    "+6012345678901": "too long",
    "+999123456789": "no country's calling code",
    "+0123456789": "no country's calling code",
    "+60 1600 12 3456": "is a premium number",
    "1 600 12 3456": "is a premium number",
    "+1 900 234 5678": "is a premium number",
    "+44 909 879 0000": "is a premium number",
    "+979 123 456 789": "is a premium number",
    "1" * 65: "too long",
}
REGIONS = (
    "MY",
    "SG",
    "US",
    "CA",
    "GB",
    "DE",
    "AU",
    "ID",
    "TH",
    "IN",
    "CN",
    "BR",
    "AR",
    "MX",
    "IT",
    "RU",
    "KZ",
    "HU",
    "NL",
)
KINDS = (
    PhoneNumberType.MOBILE,
    PhoneNumberType.FIXED_LINE,
    PhoneNumberType.TOLL_FREE,
    PhoneNumberType.UAN,
    PhoneNumberType.PREMIUM_RATE,
    PhoneNumberType.SHARED_COST,
)


async def read(connection: Connection, raw: str, region: str = "MY") -> tuple[str | None, str | None, str | None]:
    """e164, country and problem by the SQL function."""
    row = await connection.fetchrow("select * from public.call_number_v1($1, $2)", raw, region)
    assert row is not None
    return row["e164"], row["country"], row["problem"]


@pytest.mark.parametrize("raw", MALAYSIAN)
async def test_usual_spellings_are_one_number(desk: Desk, raw: str) -> None:
    assert await read(desk.connection, raw) == ("+60123456789", "MY", None)


async def test_what_is_no_dialable_number_is_refused_in_words(desk: Desk) -> None:
    for raw, words in REFUSED.items():
        e164, _, problem = await read(desk.connection, raw)
        assert e164 is None, raw
        assert words in (problem or ""), raw
    assert (await read(desk.connection, "0123456789", "XX"))[2] == "the default region XX is not known"


async def test_the_default_region_is_a_setting(desk: Desk) -> None:
    await desk.connection.execute("update call_settings set default_region = 'SG'")
    row = await desk.connection.fetchrow("select * from call_number_v1('9123 4567')")
    assert row is not None
    assert (row["e164"], row["zone"]) == ("+6591234567", "Asia/Singapore")
    assert "default region is SG here and MY there" in (await desk.sync())["notes"][0]


async def test_a_default_region_that_does_not_exist_is_refused(desk: Desk) -> None:
    with pytest.raises(asyncpg.ForeignKeyViolationError, match="default_region"):
        await desk.connection.execute("update call_settings set default_region = 'my'")


@pytest.mark.parametrize(
    ("e164", "home", "shown"),
    [
        ("+60123456789", "MY", "0123456789"),
        ("+6591234567", "MY", "6591234567"),
        ("+12015550123", "US", "2015550123"),
        ("+390612345678", "IT", "0612345678"),
        ("+60123456789", "SG", "60123456789"),
    ],
)
async def test_the_app_sees_the_local_form(desk: Desk, e164: str, home: str, shown: str) -> None:
    await desk.connection.execute("update call_settings set default_region = $1", home)
    assert await desk.connection.fetchval("select call_local_form($1)", e164) == shown


def sample() -> list[tuple[str, str]]:
    """Numbers of many regions in the forms people write, and near misses, each with a default region."""
    chance = random.Random(20261125)
    made: set[tuple[str, str]] = set()
    for region in REGIONS:
        numbers = [n for kind in KINDS if (n := phonenumbers.example_number_for_type(region, kind))]
        for number in numbers:
            national = phonenumbers.national_significant_number(number)
            for _ in range(3):
                digits = national[:4] + "".join(chance.choice("0123456789") for _ in national[4:])
                made.add((f"+{number.country_code}{digits}", chance.choice(REGIONS)))
                made.add((f"{number.country_code}{digits}", region))
                made.add((digits, region))
                made.add((digits[:-1], region))
                made.add((digits + "5", region))
                made.add((f"+{number.country_code}{digits}77", region))
            made.add((phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL), region))
            made.add((phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL), chance.choice(REGIONS)))
            for home in ("MY", "SG", "US", "GB"):
                written = phonenumbers.format_out_of_country_calling_number(number, home)
                made.add((written, home))
    return sorted((raw, region) for raw, region in made if not any(ch.isalpha() for ch in raw))


async def test_it_agrees_with_phonenumbers(desk: Desk) -> None:
    numbers = sample()
    assert len(numbers) > 1000
    found = await desk.connection.fetch(
        "select n.* from unnest($1::text[], $2::text[]) with ordinality s(raw, region, place), "
        "lateral call_number_v1(s.raw, s.region) n order by s.place",
        [raw for raw, _ in numbers],
        [region for _, region in numbers],
    )
    wrong = []
    for (raw, region), row in zip(numbers, found, strict=True):
        try:
            number = phonenumbers.parse(raw, region)
            possible = phonenumbers.is_possible_number_with_reason(number) == ValidationResult.IS_POSSIBLE
            e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
            possible = possible and len(phonenumbers.national_significant_number(number)) >= 7 and len(e164) <= 16
            possible = possible and phonenumbers.number_type(number) != PhoneNumberType.PREMIUM_RATE
            expected = (e164, phonenumbers.region_code_for_number(number)) if possible else (None, None)
        except phonenumbers.NumberParseException:
            expected = (None, None)
        if (row["e164"], row["country"]) != expected or (row["problem"] is None) != (row["e164"] is not None):
            wrong.append((raw, region, expected, dict(row)))
    assert wrong == []


async def test_zones_are_given_only_where_there_is_one(desk: Desk) -> None:
    zones = {
        raw: await desk.connection.fetchval("select zone from call_number_v1($1)", raw)
        for raw in ("+60123456789", "+6591234567", "+442079460018", "+493012345678", "+12015550123", "+61291234567")
    }
    assert zones == {
        "+60123456789": "Asia/Kuala_Lumpur",
        "+6591234567": "Asia/Singapore",
        "+442079460018": "Europe/London",
        "+493012345678": "Europe/Berlin",
        "+12015550123": None,
        "+61291234567": None,
    }
