"""Write the migration that fills `call_regions` from the metadata of the `phonenumbers` package.

Usage: `python supabase/generate_regions.py` (with the development environment), then regenerate `install.sql`.
Run it when `phonenumbers` is raised: the database and the daemon must read a number in the same way.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import phonenumbers
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata
from phonenumbers.tzdata import TIMEZONE_DATA

TARGET = Path(__file__).parent / "migrations" / "20261125000200_call_regions_data.sql"
ZONE_TABLE = Path("/usr/share/zoneinfo/zone.tab")
"""IANA's list of zones by country, from the system's tzdata: it names Kuala Lumpur before Kuching."""

COLUMNS = (
    "region",
    "calling_code",
    "rank",
    "international_prefix",
    "national_prefix",
    "prefix_pattern",
    "prefix_rule",
    "national_pattern",
    "lengths",
    "local_lengths",
    "leading_digits",
    "own_pattern",
    "premium_pattern",
    "zone",
)
KINDS = (
    "fixed_line",
    "mobile",
    "toll_free",
    "premium_rate",
    "shared_cost",
    "personal_number",
    "voip",
    "pager",
    "uan",
    "voicemail",
)
"""Kinds of numbers by which a region is told from the others that share its calling code."""

YEARS = range(2024, 2031)
"""Years in which zones must agree all the time to count as one."""


def zones_by_country() -> dict[str, list[str]]:
    """Zones of each country, the most populous first where the table says so."""
    zones: dict[str, list[str]] = {}
    for line in ZONE_TABLE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            country, _, zone = line.split("\t")[:3]
            zones.setdefault(country, []).append(zone)
    return zones


def same_clock(zones: list[str]) -> bool:
    """True if clocks in all these zones always show the same time."""
    first, *others = [ZoneInfo(zone) for zone in zones]
    start = datetime(YEARS.start, 1, 1, tzinfo=UTC)
    days = (datetime(YEARS.stop, 1, 1, tzinfo=UTC) - start).days
    instants = [start + timedelta(days=day, hours=1) for day in range(days)]
    return all(
        at.astimezone(first).utcoffset() == at.astimezone(other).utcoffset() for other in others for at in instants
    )


def single_zone(region: str, calling_code: int, countries: dict[str, list[str]]) -> str | None:
    """The one zone of a region, or None: a guess would let the phone ring at night."""
    listed = countries.get(region, [])
    if listed and same_clock(listed):
        return listed[0]
    shared = len(COUNTRY_CODE_TO_REGION_CODE[calling_code]) > 1
    known = TIMEZONE_DATA.get(str(calling_code), ())
    return known[0] if len(known) == 1 and not shared and region != "001" else None


def quoted(value: object) -> str:
    """A value as a SQL literal."""
    if value is None or value == "":
        return "null"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        return "'{" + ",".join(map(str, value)) + "}'"
    return "'" + str(value).replace("'", "''") + "'"


def rows() -> Iterator[str]:
    """One VALUES row for each region, in the order of the calling codes."""
    countries = zones_by_country()
    for calling_code, regions in sorted(COUNTRY_CODE_TO_REGION_CODE.items()):
        for rank, region in enumerate(regions, start=1):
            metadata = PhoneMetadata.metadata_for_region_or_calling_code(calling_code, region)
            if metadata is None or metadata.general_desc is None:
                raise ValueError(f"phonenumbers knows nothing of {region}, +{calling_code}")
            general = metadata.general_desc
            kinds = [getattr(metadata, kind) for kind in KINDS]
            patterns = [kind.national_number_pattern for kind in kinds if kind and kind.national_number_pattern]
            values = (
                region if region != "001" else f"+{calling_code}",
                calling_code,
                rank,
                metadata.international_prefix,
                metadata.national_prefix,
                metadata.national_prefix_for_parsing,
                metadata.national_prefix_transform_rule,
                general.national_number_pattern,
                general.possible_length,
                general.possible_length_local_only or (),
                metadata.leading_digits,
                "|".join(patterns) if len(regions) > 1 else None,
                metadata.premium_rate.national_number_pattern if metadata.premium_rate else None,
                single_zone(region, calling_code, countries),
            )
            yield "(" + ", ".join(map(quoted, values)) + ")"


def migration() -> str:
    """The whole text of the migration."""
    updates = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS[1:])
    names = ", ".join(COLUMNS)
    old = ", ".join(f"call_regions.{name}" for name in COLUMNS[1:])
    new = ", ".join(f"excluded.{name}" for name in COLUMNS[1:])
    return (
        f"-- Facts about phone numbers of every region, from phonenumbers {phonenumbers.__version__}.\n"
        "-- Generated by supabase/generate_regions.py: change that, not this.\n\n"
        f"insert into public.call_regions ({names}) values\n" + ",\n".join(rows()) + "\n"
        f"on conflict (region) do update set {updates}\n"
        f"where ({old}) is distinct from ({new});\n"
    )


if __name__ == "__main__":
    TARGET.write_text(migration(), encoding="utf-8")
    print(f"wrote {TARGET.name}")
