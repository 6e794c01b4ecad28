"""What the commands pause, resume and cancel are about, read from the command line."""

import argparse
import uuid

from adapter.supabase_io.stops import Target

KINDS = ("row", "campaign", "user", "trunk", "all")


def arguments(parser: argparse.ArgumentParser) -> None:
    """`row N`, `campaign ID`, `user ID`, `trunk ID` or `all`, and `--reason`."""
    parser.add_argument("what", metavar="WHAT", help=f"{', '.join(KINDS[:-1])}, each with its NAME, or {KINDS[-1]}")
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="number of the row, id of the campaign or user, name of the trunk"
    )
    # What is wrong with the two together is known only once both are there.
    parser.set_defaults(wrong=parser.error)


def reason(parser: argparse.ArgumentParser) -> None:
    """Why, in words."""
    parser.add_argument("--reason", metavar="TEXT", help="why, in words; shown wherever it is told")


def read(what: str, name: str | None) -> Target:
    """The target; raises ValueError with what is wrong."""
    if what not in KINDS:
        raise ValueError(f'there is no "{what}": say {", ".join(KINDS[:-1])} with a name, or {KINDS[-1]}')
    if what == "all":
        if name is not None:
            raise ValueError(f'all is everything and takes no name, but "{name}" was given')
        return Target(kind=what)
    if not name:
        raise ValueError(f"which {what}? Give {_WANTED[what]}")
    if what == "row" and not (name.isascii() and name.isdecimal() and 0 < int(name) < 2**63):
        raise ValueError(f'a row cannot be "{name}": give {_WANTED[what]}')
    if what in {"campaign", "user"}:
        try:
            name = str(uuid.UUID(name))
        except ValueError:
            raise ValueError(f'a {what} cannot be "{name}": give {_WANTED[what]}') from None
    return Target(kind=what, key=name)


_WANTED = {
    "row": "its number in call_queue",
    "campaign": "its id (a uuid)",
    "user": "their id (a uuid)",
    "trunk": "its name, as status shows it",
}


def target(arguments: argparse.Namespace) -> Target:
    """The target of this command line; ends the program with exit code 2 if it is wrong."""
    try:
        return read(arguments.what, arguments.name)
    except ValueError as error:
        arguments.wrong(str(error))
        raise
