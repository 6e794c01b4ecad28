"""The sandbox's small parts: verdicts, screen, how-to, command line, the daemon's process."""

import asyncio
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from adapter.core.model import Outcome
from adapter.sandbox import app, howto, process, screen, world
from adapter.sandbox.scenarios import BY_CODE, SCENARIOS, number
from adapter.sandbox.verdicts import Row, fault, faults, rings_by_number, summary

BUSY = BY_CODE["30"]
FORBIDS = BY_CODE["60"]


def row(**changes: object) -> Row:
    """A row of scenario 30 that ended as it should, with `changes`."""
    usual: dict[str, object] = {
        "id": 1,
        "phone_number": number("30", 1),
        "e164": number("30", 1),
        "status": "done",
        "outcome": "busy",
        "last_outcome": None,
        "calls": 1,
        "reason": "the line was busy",
        "log_status": "no_answered",
        "duration": 0,
    }
    return Row(**{**usual, **changes})  # type: ignore[arg-type]


def test_a_row_as_it_should_be_has_no_fault() -> None:
    assert fault(row(), BUSY, ["a"]) is None


@pytest.mark.parametrize(
    ("changes", "call_ids", "words"),
    [
        ({"status": "talking"}, ["a"], "still talking"),
        ({"outcome": "unknown"}, ["a"], "ended as unknown"),
        ({"log_status": "failed"}, ["a"], "call_logs.status is failed instead of no_answered"),
        ({"log_status": None}, ["a"], "call_logs.status is None"),
        ({}, ["a", "b"], "called 2 times"),
        ({}, ["a", "a"], "same call id"),
        ({}, [], "called 0 times"),
        ({"calls": 2}, ["a"], "saw 1 calls of it instead of 2"),
    ],
)
def test_each_fault_is_named(changes: dict[str, object], call_ids: list[str], words: str) -> None:
    assert words in (fault(row(**changes), BUSY, call_ids) or "")


def test_where_no_phone_rings_a_second_call_is_allowed_but_no_id_twice_and_not_none() -> None:
    refused = row(outcome="rejected", log_status="failed", calls=2)
    assert fault(refused, FORBIDS, ["a", "b"]) is None
    assert "same call id" in (fault(refused, FORBIDS, ["a", "a"]) or "")
    assert "saw 3 calls" in (fault(refused, FORBIDS, ["a", "b", "c"]) or "")
    assert "no call" in (fault(row(outcome="rejected", log_status="failed", calls=0), FORBIDS, []) or "")


def test_every_scenario_can_be_judged() -> None:
    words = {Outcome.ANSWERED: "answered", Outcome.AI_FAILED: "answered"}
    unanswered = {Outcome.NO_ANSWER, Outcome.BUSY, Outcome.DECLINED, Outcome.NO_REPLY}
    for scenario in SCENARIOS:
        word = words.get(scenario.outcome, "no_answered" if scenario.outcome in unanswered else "failed")
        assert fault(row(outcome=scenario.outcome.value, log_status=word), scenario, ["a"]) is None


def test_rings_are_matched_by_digits_and_rows_that_vanished_are_faults() -> None:
    rings = rings_by_number([(number("30", 1)[1:], "a")])
    assert faults([row()], {1: BUSY}, rings) == {}
    assert faults([], {1: BUSY}, rings) == {1: "it is no longer there"}


def test_summary_counts_only_the_example_rows() -> None:
    other = row(id=9, e164=number("10", 5), outcome="answered")
    silent = row(id=2, e164=number("60", 1), outcome="rejected", log_status="failed", calls=2)
    open_row = row(id=3, e164=number("30", 3), status="queued", outcome=None)
    witness = [("30", 1), ("60", 1), ("60", 1), ("10", 5)]
    rings = rings_by_number((number(code, serial), str(turn)) for turn, (code, serial) in enumerate(witness))
    found = summary(
        [row(), silent, open_row, other], {1: BUSY, 2: FORBIDS, 3: BUSY}, rings, pbx="simulated", seconds=1.26
    )
    assert found.as_json() == {
        "rows": 3,
        "final": 2,
        "as_expected": 2,
        "rings": 1,
        "outcomes": {"busy": 1, "rejected": 1},
        "pbx": "simulated",
        "seconds": 1.3,
    }


def test_plain_screen_tells_each_ended_row_once() -> None:
    out = io.StringIO()
    with screen.Screen(out, live=False) as plain:
        plain.say("[words]")
        plain.show([row(status="dialing", outcome=None)])
        plain.show([row()])
        plain.show([row()])
    first, second = out.getvalue().splitlines()
    assert first == "[words]"
    assert second.split()[:5] == ["row", "1", "busy", "busy", "no_answered"]
    assert second.endswith("the line was busy")


def test_live_screen_shows_a_table_and_counts() -> None:
    out = io.StringIO()
    with screen.Screen(out, live=True) as live:
        live.show([row(), row(id=2, status="dialing", outcome=None, phone_number="1"), row(id=3, e164=None)])
    assert "0 queued  1 dialing  0 talking  2 done  0 canceled   2 busy" in out.getvalue()


def test_table_keeps_rows_in_the_air_in_sight() -> None:
    rows = [row(id=n) for n in range(2, 100)]
    shown = screen.table([row(id=1, status="talking"), *rows])
    assert shown.row_count == screen.SHOWN
    assert next(iter(shown.columns[0].cells)) == "1"


def test_numbers_outside_the_plan_are_named_so() -> None:
    assert screen.kind_of(row(e164="+60123456700")) == "a number outside the plan"


def test_howto_names_four_ways_and_says_what_is_simulated() -> None:
    text = howto.own_row(url="http://127.0.0.1:1", key="KEY", dsn="postgresql://x")
    for way in ("psql", "curl", "create_client(", "supabase-js"):
        assert way in text
    assert text.count("KEY") == 3
    assert howto.SIMULATED.keys() == world.PACE.keys()
    plan = howto.number_plan()
    assert all(f"{scenario.code} {scenario.name}" in plan for scenario in SCENARIOS)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--pbx", "freeswitch"],
        ["--calls", "-1"],
        ["--calls", "0", "--exit"],
        ["--speed", "0"],
        ["--pbx", "asterisk", "--speed", "2"],
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        app.main(arguments)
    assert leaving.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_missing_install_sql_is_said_clearly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("adapter.__file__", str(tmp_path / "adapter" / "__init__.py"))
    with pytest.raises(world.SandboxError, match="needs a checkout"):
        world.install_sql()


STAND_IN = """
import os, signal, sys, time
if os.environ.get("STUBBORN"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print(os.environ.get("TRUNK"), os.environ.get("HTTPS_PROXY"), os.getpgid(0), flush=True)
time.sleep(30)
"""
"""In the place of the daemon: it tells its environment and its process group, and waits."""


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., process.Daemon]:
    """Makes daemons that are none."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com")

    def make(**settings: str) -> process.Daemon:
        return process.Daemon(settings, tmp_path / "daemon.log", command=(sys.executable, "-c", STAND_IN))

    return make


async def _said(daemon: process.Daemon) -> str:
    for _ in range(1000):
        if words := daemon.tail():
            return words
        await asyncio.sleep(0.01)
    raise AssertionError("the process said nothing in ten seconds")


async def test_daemon_gets_its_settings_and_nothing_of_our_environment(
    stand_in: Callable[..., process.Daemon],
) -> None:
    daemon = stand_in(TRUNK="SIP-TRUNK-1")
    assert daemon.tail() == ""
    await daemon.start()
    assert await _said(daemon) == f"SIP-TRUNK-1 None {daemon.pid}"
    assert await daemon.stop() == 7
    assert daemon.pid is None
    assert await daemon.stop() == 7


async def test_daemon_that_does_not_stop_is_killed(stand_in: Callable[..., process.Daemon]) -> None:
    daemon = stand_in(STUBBORN="1")
    await daemon.start()
    await _said(daemon)
    pid = daemon.pid
    assert await daemon.stop(seconds=0.1) == -signal.SIGKILL
    assert pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
