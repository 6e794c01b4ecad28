"""Phone numbers out of a file, line by line: a plain list, or a table with a column of numbers.

What is wrong with a line harms no other: each is read by itself, so that a quote which nobody closed cannot swallow the
rest. What a number is is not decided here; the database reads it.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

COLUMNS = frozenset(
    {
        *(
            "phone",
            "phones",
            "number",
            "numbers",
            "e164",
            "phonenumber",
            "phone number",
            "phone no",
            "msisdn",
            "mobile",
        ),
        *("mobile number", "cell", "tel", "telephone", "telephone number", "contact number", "no telefon", "nombor"),
    }
)
"""Names of the column, in small letters, `_` and `-` read as a space."""

DELIMITERS = ",;\t|"
MAX_LINE = 10_000
"""Characters of a line. More is another file than was meant."""

MAX_CELL = 64
"""Characters of a number as written; the database takes no more."""

_MANY_DIGITS = re.compile(r"(?:[0-9][^0-9]*){7}")


class Line(NamedTuple):
    """One line of the file: the number as it stands there, or why there is none."""

    place: int
    """From 1, as an editor counts."""

    raw: str
    problem: str | None = None


class NoNumbers(ValueError):
    """The file has no column of numbers; the text says what it begins with."""


def numbers(lines: Iterable[str]) -> Iterator[Line]:
    """Every line that is not empty. Raises NoNumbers at the first one if it names no column and has no number."""
    column: int | None = None
    delimiter = ","
    for place, text in enumerate(lines, 1):
        line = text.rstrip("\r\n")
        if not line.strip():
            continue
        if column is None:
            delimiter = max(DELIMITERS, key=line.count)
            cells = _cells(line, delimiter) or [line]
            named = _named(cells)
            column = _first_number(cells) if named is None else named
            if named is not None:
                continue
        yield _read(place, line, delimiter, column)


def _read(place: int, line: str, delimiter: str, column: int) -> Line:
    cells = _cells(line, delimiter)
    if cells is None:
        return Line(place, "", "the line cannot be read: it is too long, or a quote in it is not closed")
    if len(cells) <= column or not (raw := cells[column].strip()):
        return Line(place, "", f"there is nothing in column {column + 1}, where the numbers are")
    if len(raw) > MAX_CELL or not raw.isprintable():
        return Line(place, "", f"what stands in column {column + 1} is no phone number")
    return Line(place, raw)


def _cells(line: str, delimiter: str) -> list[str] | None:
    if len(line) > MAX_LINE:
        return None
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True), None)
    except csv.Error:
        return None


def _named(cells: list[str]) -> int | None:
    names = [re.sub(r"[_\-.\s]+", " ", cell).strip().casefold() for cell in cells]
    return next((place for place, name in enumerate(names) if name in COLUMNS), None)


def _first_number(cells: list[str]) -> int:
    found = next((place for place, cell in enumerate(cells) if _MANY_DIGITS.search(cell)), None)
    if found is not None:
        return found
    if len(cells) == 1 and any(character.isdigit() for character in cells[0]):
        return 0
    raise NoNumbers(
        "the first line has no phone number and names no column of them: call that column phone, number or e164, or "
        "write one number on each line"
    )


def masked(raw: str) -> str:
    """All but the last three digits hidden, whatever stands between them."""
    digits = "".join(character for character in raw if character.isdigit())
    return "…" + digits[-3:] if len(digits) > 3 else "…"
