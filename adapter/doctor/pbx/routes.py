"""MikoPBX's outgoing routes: which numbers would ring twice, or not at all? They are read, never dialed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import phonenumbers
from phonenumbers import PhoneNumber, PhoneNumberType

from adapter.core.model import Form, NumberStyle
from adapter.core.numbers import NumberRefused, parse, trunk_form
from adapter.core.routes import Routes
from adapter.doctor.findings import Finding, fail, ok, skipped, warn
from adapter.doctor.pbx.scene import Scene

TYPES = (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE, PhoneNumberType.VOIP)
"""Kinds of numbers that people have."""

VARIED = 3
"""Leading digits that are tried in all ways: routes tell networks and towns apart by these."""

SHOWN = 3
"""Examples in a text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the routes do with the examples; each is shown as its beginning only."""

    asked: int
    twice: tuple[tuple[str, tuple[str, ...]], ...]
    """Beginning, and the routes that take it."""

    nowhere: tuple[str, ...]


async def routes(scene: Scene) -> Finding:
    """Context `outgoing` against examples of the region."""
    found, unreadable = await scene.routes()
    judged = judge(found, examples(scene.region, scene.number_style)) if found else None
    return finding(judged, unreadable, form=scene.form, region=scene.region)


def examples(region: str, style: NumberStyle) -> tuple[str, ...]:
    """Numbers of this region that could be somebody's, as they would be dialed: for each kind the library's example
    with its first digits in all ways that exist."""
    found: dict[str, None] = {}
    for kind in TYPES:
        example = phonenumbers.example_number_for_type(region, kind)
        for number in _varied(example) if example is not None else ():
            written = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
            try:
                # What the adapter would not dial, such as a premium number, is no example.
                found[trunk_form(parse(written, region).e164, style, region)] = None
            except NumberRefused:
                continue
    return tuple(found)


def _varied(example: PhoneNumber) -> Iterator[PhoneNumber]:
    significant = phonenumbers.national_significant_number(example)
    for digits in range(10**VARIED):
        raw = f"+{example.country_code}{digits:0{VARIED}d}{significant[VARIED:]}"
        try:
            number = phonenumbers.parse(raw)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(number):
            yield number


def judge(found: Routes, numbers: Sequence[str]) -> Judged:
    """Ask the routes about each."""
    takers = {number: found.takers(number) for number in numbers}
    return Judged(
        asked=len(numbers),
        twice=tuple((_beginning(number), names) for number, names in takers.items() if len(names) > 1),
        nowhere=tuple(_beginning(number) for number, names in takers.items() if not names),
    )


def _beginning(number: str) -> str:
    """What decides, without the rest: nobody's number stands in a text."""
    return f"{number[:6]}…"


def finding(judged: Judged | None, unreadable: str | None, *, form: Form, region: str) -> Finding:
    """`judged` None: there are no routes, or (`unreadable`) they cannot be judged."""
    check = "pbx.routes"
    tried = "read the outgoing routes, and asked them about examples of the region's numbers"
    unused = form is not Form.ROUTE
    if judged is None:
        told = f"they cannot be judged: {unreadable}" if unreadable else "there are none"
        if unused:
            return ok(check, tried, f"{told}; DIAL_FORM={form} does without them")
        return fail(check, tried, told, "use DIAL_FORM=trunk, or make outgoing routes as MikoPBX's own page does")
    if not judged.asked:
        return skipped(check, tried, f"no example of a number of {region} is known")
    told = _words(judged, region)
    if unused:
        return ok(check, tried, f"{told}; it does not matter, DIAL_FORM={form} does without them")
    if not judged.twice and not judged.nowhere:
        return ok(check, tried, told)
    mend = (
        "Telephony, Outgoing routes: let exactly one of them take each number; refused rows end as blocked until then"
    )
    called = judged.asked - len(judged.twice) - len(judged.nowhere)
    return (warn if called else fail)(check, tried, f"{told}. The adapter refuses such numbers", mend)


def _words(judged: Judged, region: str) -> str:
    parts = []
    if judged.twice:
        names = sorted({name for _, names in judged.twice for name in names})
        parts.append(f"{_some([number for number, _ in judged.twice])} would ring twice: {' and '.join(names)} take it")
    if judged.nowhere:
        parts.append(f"{_some(judged.nowhere)} would ring nowhere: no route takes it")
    if not parts:
        return f"each of {judged.asked} examples of {region} is taken by exactly one"
    return f"of {judged.asked} examples of {region}, {'; '.join(parts)}"


def _some(numbers: Sequence[str]) -> str:
    shown = list(dict.fromkeys(numbers))[:SHOWN]
    return f"{len(numbers)} ({', '.join(shown)}{', …' if len(numbers) > len(shown) else ''})"
