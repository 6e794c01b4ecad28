"""The parts of the pair that need no Asterisk: dialplan text, templates, records, folders."""

import re
from importlib.resources import files
from pathlib import Path

import pytest

from adapter.sandbox.asterisk import dialplan, render, rundir, witness
from adapter.sandbox.scenarios import BY_CODE, SCENARIOS


def test_callee_follows_its_scenario_in_order() -> None:
    assert dialplan.callees([BY_CODE["10"]]).splitlines() == [
        "; answers, callee hangs up",
        "exten => 1110,1,Wait(0.1)",
        " same => n,Ringing()",
        " same => n,Gosub(witness,s,1(rang))",
        " same => n,Wait(0.9)",
        " same => n,Gosub(witness,s,1(answered))",
        " same => n,Answer(,i)",
        " same => n,Wait(3.4)",
        " same => n,Hangup(16)",
    ]


def test_refusal_comes_when_and_as_the_table_says() -> None:
    assert dialplan.callees([BY_CODE["22"]]).splitlines()[-4:] == [
        " same => n,Progress()",
        " same => n,Gosub(witness,s,1(rang))",
        " same => n,Wait(1.9)",
        " same => n,PJSIPHangup(480)",
    ]
    assert "Transfer(" in dialplan.callees([BY_CODE["62"]])


def test_ai_differs_only_where_it_ends_the_call() -> None:
    extensions = set(re.findall(r"exten => (\d+),1", dialplan.ai()))
    assert extensions == {f"11{scenario.code}" for scenario in SCENARIOS if scenario.ends_by == "ai"}


def test_template_without_a_value_is_an_error() -> None:
    assert render.fill("a=@NAME@ ${PJSIP_HEADER(a@b)} @NAME@", {"NAME": "x"}) == "a=x ${PJSIP_HEADER(a@b)} x"
    with pytest.raises(KeyError, match="OTHER"):
        render.fill("@OTHER@", {"NAME": "x"})


@pytest.mark.parametrize("role", ["pbx", "carrier"])
def test_nothing_listens_beyond_loopback(role: str) -> None:
    folder = files("adapter.sandbox.asterisk.conf").joinpath(role)
    texts = [path.read_text() for path in folder.iterdir() if path.name.endswith(".conf")]
    binds = [line for text in texts for line in text.splitlines() if re.match(r"\s*(bind|bindaddr)\s*=", line)]
    assert binds
    assert all("127.0.0.1" in line for line in binds), binds


RECORDS = """\
invite 100.000001 carrier-1.0 601110000001 aaa@127.0.0.1
invite 100.500000 carrier-1.1 99 bbb@127.0.0.1
rang 101.000000 carrier-1.0
answered 102.000000 carrier-1.0
ended 105.000000 carrier-1.0 16
"""


def test_records_are_read_leg_by_leg() -> None:
    answered, unknown = witness.read(RECORDS)
    assert (answered.number, answered.scenario, answered.sip_call_id) == ("601110000001", "10", "aaa@127.0.0.1")
    assert (answered.started, answered.rang, answered.answered, answered.ended) == (100.000001, 101.0, 102.0, 105.0)
    assert answered.cause == 16
    assert (unknown.number, unknown.scenario, unknown.ended, unknown.cause) == ("99", "", None, None)


def test_line_that_is_being_written_is_left_out() -> None:
    assert [invite.rang for invite in witness.read(RECORDS[: RECORDS.index("rang") + 8])] == [None, None]


def test_foreign_or_repeated_line_is_an_error() -> None:
    for line in ("hello world\n", RECORDS.splitlines(keepends=True)[0]):
        with pytest.raises(ValueError, match="none of ours"):
            witness.read(RECORDS + line)


def test_folders_of_the_dead_are_removed_and_those_of_the_living_kept(tmp_path: Path) -> None:
    with rundir.made(tmp_path, keep=True) as dead:
        pass
    assert dead.exists()
    with rundir.made(tmp_path) as living:
        assert not dead.exists()
        with rundir.made(tmp_path) as other:
            assert living.exists()
            assert other != living
        assert not other.exists()
    assert not living.exists()
