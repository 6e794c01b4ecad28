"""Numbers out of a file: whatever people export."""

import pytest

from adapter.core.numberlist import Line, NoNumbers, masked, numbers


def raws(*lines: str) -> list[str]:
    """The numbers of a file without a fault."""
    found = list(numbers(lines))
    assert not [line for line in found if line.problem]
    return [line.raw for line in found]


@pytest.mark.parametrize(
    "lines",
    [
        ("0123456700", "+60 12-345 6701"),
        ("0123456700\r\n", "\r\n", "+60 12-345 6701\r\n"),
        ("phone\n", "0123456700\n", "+60 12-345 6701"),
        ("Name,Phone_Number,Note", 'Ali,0123456700,"a, b"', "Siti,+60 12-345 6701,"),
        ("E164;since", "0123456700;2020", "+60 12-345 6701;2021"),
        ('"Name"\t"Mobile"', "Ali\t0123456700", "Siti\t+60 12-345 6701"),
        ("Ali;0123456700", "Siti;+60 12-345 6701"),
    ],
)
def test_lists_and_tables(lines: tuple[str, ...]) -> None:
    assert raws(*lines) == ["0123456700", "+60 12-345 6701"]


def test_each_bad_line_is_told_with_its_number_and_harms_no_other() -> None:
    lines = [
        "name,phone",
        'A,"0123456700',
        "B",
        "C,",
        "D,0123456701",
        "E," + "1" * 65,
        "F,012\x00345",
        "x" * 10_001,
        "G,5",
    ]
    found = list(numbers(lines))
    assert [line.place for line in found] == [2, 3, 4, 5, 6, 7, 8, 9]
    assert [line.raw for line in found if not line.problem] == ["0123456701", "5"]
    problems = {line.place: line.problem for line in found if line.problem}
    assert "a quote in it is not closed" in str(problems[2])
    assert "nothing in column 2" in str(problems[3])
    assert "nothing in column 2" in str(problems[4])
    assert "no phone number" in str(problems[6])
    assert "no phone number" in str(problems[7])
    assert "too long" in str(problems[8])


def test_what_is_no_number_is_left_to_the_database() -> None:
    assert list(numbers(["phone", "nobody", "12"])) == [Line(2, "nobody"), Line(3, "12")]


@pytest.mark.parametrize("first", ["name,town", "hello", "PK\x03\x04"])
def test_a_file_without_numbers_is_refused_at_its_first_line(first: str) -> None:
    with pytest.raises(NoNumbers, match="call that column phone, number or e164"):
        list(numbers([first, "0123456700"]))


def test_an_empty_file_has_none() -> None:
    assert raws() == raws("", "\n") == []


def test_numbers_are_hidden_whatever_stands_between_their_digits() -> None:
    assert masked("+60 12-345 67 89") == "…789"
    assert masked("123") == masked("nobody") == "…"
