"""What the commands retries, costs and rates are told, and what they say."""

import argparse
from typing import Any

import pytest

from adapter.commands import rates, retries
from adapter.commands.view.codes import Code
from adapter.commands.view.money import costs_told, import_told, retries_told, wait
from adapter.core import ratesheet
from adapter.supabase_io import money
from adapter.supabase_io.records import Unfit

ID = "00000000-0000-4000-8000-0000000000c1"

AGAIN = {
    "outcome": "busy", "words": "the line was busy", "verdict": "callee", "again": True, "never": None, "calls": 3,
    "counted": "outcome", "calls_from": "user", "delays": [60, 5400, 86400], "delays_from": "default", "spread": 20,
    "spread_from": "default",
}  # fmt: skip
TRIES = {
    **AGAIN, "outcome": "no_answer", "calls": 2, "counted": "tries", "calls_from": "campaign", "delays": [1800],
    "delays_from": "campaign", "spread": 0,
}  # fmt: skip
NEVER = {**AGAIN, "outcome": "answered", "calls": 0, "never": "the person was reached", "delays": None, "spread": None}
RETRIES = {
    "outcomes": [AGAIN, TRIES, NEVER],
    "budgets": [{"outcome": "carrier", "calls": 4, "calls_from": "default"}],
}
COSTS = {
    "campaigns": [
        {
            "campaign_id": ID, "campaign_name": "Spring", "calls": 1200, "answered": 300, "talk_minutes": 455.25,
            "billed_minutes": 600.0, "cost": 36.125, "currency": "MYR", "without_rate": 1, "reference_cost": 150,
            "saved": None,
        },
        {
            "campaign_id": None, "campaign_name": None, "calls": 1, "answered": 1, "talk_minutes": 1.0,
            "billed_minutes": None, "cost": None, "currency": None, "without_rate": 1, "reference_cost": None,
            "saved": None,
        },
    ],
    "reference": {"per_minute": 0.25, "currency": "MYR", "increments": "60/60"},
    "rates": True,
}  # fmt: skip


def test_retries_are_told_with_who_says_so() -> None:
    assert retries_told(money.retries(RETRIES)).splitlines() == [
        "OUTCOME    MORE CALLS  AFTER            SPREAD  SAID BY",
        "busy       3           1min, 90min, 1d  +0-20%  calls: user, wait: default",
        "no_answer  2 in all    30min                    campaign",
        "All faults of the carrier together: 4 calls more (default)",
        "Nothing follows after: answered",
    ]
    assert [wait(seconds) for seconds in (0, 59, 61, 7200)] == ["0s", "59s", "61s", "2h"]


def test_costs_are_told_with_what_is_missing_in_them() -> None:
    assert costs_told(money.costs(COSTS)).splitlines() == [
        "CAMPAIGN     CALLS  ANSWERED  TALK MIN  BILLED MIN  COST        ELSEWHERE  SAVED",
        "Spring       1,200  300       455.2     600.0       36.125 MYR  150.00",
        "without one  1      1         1.0                   ?",
        "2 answered calls have no rate and are missing in the cost",
        "Elsewhere: 0.25 MYR a minute, in steps of 60/60 s",
    ]
    nothing = {**COSTS, "campaigns": []}
    assert costs_told(money.costs(nothing)) == "No call of it has ended yet"


def test_bad_lines_are_told_up_to_a_screen() -> None:
    found = money.imported({"taken": 1, "bad": [{"line": line, "problem": "it is wrong"} for line in range(2, 62)]})
    told = import_told(found).splitlines()
    assert told[0] == "Line 2 was left out: it is wrong"
    assert told[-2:] == ["… and 10 more lines were left out", "1 rate taken, 60 lines left out"]


@pytest.mark.parametrize(
    ("decode", "value"),
    [
        (money.retries, None), (money.retries, {**RETRIES, "outcomes": [{**AGAIN, "delays": ["60"]}]}),
        (money.retries, {**RETRIES, "outcomes": [{}]}), (money.retries, {**RETRIES, "budgets": None}),
        (money.costs, {**COSTS, "campaigns": [{}]}), (money.costs, {**COSTS, "reference": None}),
        (money.imported, {"taken": 1}), (money.imported, {"taken": "1", "bad": []}),
    ],
)  # fmt: skip
def test_an_answer_that_cannot_be_read_is_refused(decode: Any, value: object) -> None:
    with pytest.raises(Unfit):
        decode(value)


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    retries.COMMAND.arguments(parser)
    return parser.parse_args(words)


def test_what_to_set() -> None:
    assert retries.rule(parsed()) is None
    assert retries.rule(parsed("--user", ID)) is None
    said = retries.rule(parsed("set", "busy", "--calls", "3", "--delays", "60,5m,1d", "--spread", "20"))
    assert said == money.RetryRule(
        scope="default", scope_id=None, outcome="busy", calls=3, delays=(60, 300, 86400), spread=20
    )
    assert retries.rule(parsed("set", "busy", "--campaign", ID.upper(), "--remove")) == money.RetryRule(
        scope="campaign", scope_id=ID, outcome="busy"
    )


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--calls", "1"), "to change a rule"), (("set",), "after which outcome"), (("set", "busy"), "say --calls"),
        (("set", "busy", "--remove", "--calls", "1"), "--remove alone"),
    ],
)  # fmt: skip
def test_half_a_rule_is_refused(words: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        retries.rule(parsed(*words))


@pytest.mark.parametrize("text", ["", "soon", "5 weeks", "60;300", "-5", "1.5h"])
def test_what_is_no_wait_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no wait"):
        retries.delays(text)


def test_a_sheet_is_read_line_by_line() -> None:
    text = ["\ufeffPrefix, per_minute ,note,Increments\r\n", "60,0.05,x,\r\n", "\r\n", '"6012",0.08,,30/6\r\n']
    assert list(ratesheet.read(text, {"currency": "MYR", "increments": "1/1"})) == [
        {"line": 2, "prefix": "60", "per_minute": "0.05", "currency": "MYR", "increments": "1/1"},
        {"line": 4, "prefix": "6012", "per_minute": "0.08", "currency": "MYR", "increments": "30/6"},
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ([], "prefix, per_minute is not there"), (["60;0.05"], "must name the columns"),
        (["prefix,per_minute"], "nothing says the currency"),
        (["prefix,per_minute,currency,prefix"], "column prefix is there twice"),
    ],
)  # fmt: skip
def test_what_is_no_sheet_is_refused(text: list[str], problem: str) -> None:
    with pytest.raises(ratesheet.SheetError, match=problem):
        list(ratesheet.read(text, {}))


def test_a_file_that_cannot_be_read_takes_nothing(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SUPABASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", "sb_secret_" + "k" * 22)
    parser = argparse.ArgumentParser()
    rates.COMMAND.arguments(parser)
    (tmp_path / "latin").write_bytes(b"prefix,per_minute,currency\n60,1,MYR\n61,1,\xe9\n")
    for name, words in (("none", "No such file"), ("latin", "is not UTF-8")):
        code = rates.COMMAND.run(parser.parse_args(["import", str(tmp_path / name)]))
        assert code == Code.NOT_QUEUED
        assert words in capsys.readouterr().err
