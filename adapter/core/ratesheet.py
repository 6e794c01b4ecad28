"""A rate sheet as CSV text, in lines as `call_rates_import_v1` takes them. What a value may be says the database."""

import csv
from collections.abc import Iterable, Iterator, Mapping

REQUIRED = ("prefix", "per_minute")
OPTIONAL = ("currency", "increments", "connection_fee", "valid_from")

Line = dict[str, str | int]


class SheetError(ValueError):
    """The file is no rate sheet; nothing of it was taken. The text says why."""


def read(text: Iterable[str], usual: Mapping[str, str]) -> Iterator[Line]:
    """Lines with their number in the file, empty ones left out; `usual`: values of columns that a line leaves empty.

    Raises SheetError.
    """
    rows = csv.reader(text)
    try:
        heading = [name.strip().lower().removeprefix("\ufeff") for name in next(rows, [])]
        _check(heading, usual)
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            cells = {name: cell.strip() for name, cell in zip(heading, row, strict=False) if name in _KNOWN}
            yield {"line": rows.line_num, **usual, **{name: cell for name, cell in cells.items() if cell}}
    except csv.Error as error:
        raise SheetError(f"line {rows.line_num} is no CSV: {error}") from None
    except UnicodeDecodeError:
        raise SheetError(f"what comes after line {rows.line_num} is not UTF-8: save the file as CSV UTF-8") from None


_KNOWN = frozenset({*REQUIRED, *OPTIONAL})


def _check(heading: list[str], usual: Mapping[str, str]) -> None:
    missing = [name for name in REQUIRED if name not in heading]
    if missing:
        raise SheetError(
            f"the first line must name the columns, with commas between them: {', '.join(missing)} is not there; "
            f"known are {', '.join((*REQUIRED, *OPTIONAL))}"
        )
    if "currency" not in heading and "currency" not in usual:
        raise SheetError("nothing says the currency: give a column currency, or --currency MYR")
    twice = sorted({name for name in heading if name in _KNOWN and heading.count(name) > 1})
    if twice:
        raise SheetError(f"column {twice[0]} is there twice")
