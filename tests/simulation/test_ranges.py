"""What is recorded of ranges of seeds, and what a run of many worlds must have met."""

from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.ranges import Recorded, add_up, read, record
from tests.simulation.run import LINES, Result, Summary, main


def _result(seed: int, *, lines: tuple[str, ...] = LINES, rows: int = 25) -> Result:
    return Result(
        seed=seed,
        problems=(),
        rows=rows,
        calls=30,
        seconds=600.0,
        faults=Counter({"crash": 4}),
        coverage=Counter(dict.fromkeys(lines, 2)),
    )


def _summary(count: int, **values: int) -> Summary:
    summary = Summary()
    for seed in range(count):
        # One line is met in nineteen worlds alone, however often in each.
        summary.add(_result(seed, lines=LINES if seed < 19 else LINES[1:], **values))
    return summary


def test_a_line_that_too_few_worlds_met_is_told_in_a_run_of_many() -> None:
    assert list(_summary(1999).missing()) == []
    assert list(_summary(2000).missing()) == [f'too few worlds (19 of at least 20) met "{LINES[0]}"']


def test_a_median_world_that_is_too_small_is_told() -> None:
    assert "the median world has 19 rows and should have 20" in list(_summary(2000, rows=19).missing())


def test_ranges_that_were_run_in_parts_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ranges.jsonl"
    for first in ("3", "5"):
        assert main(["--seeds", "2", "--from", first, "--jobs", "1", "--record", str(file)]) == 0
    told = list(read(file))
    assert [(one.first, one.last, one.worlds) for one in told] == [(3, 4, 2), (5, 6, 2)]
    assert all(one.faults and one.commit and not one.broken for one in told)
    capsys.readouterr()
    assert main(["--sum", str(file)]) == 0
    out = capsys.readouterr().out
    assert f"4 worlds, {sum(one.rows for one in told)} rows" in out
    assert f"faults: {sum(sum(one.faults.values()) for one in told)}" in out


def test_seeds_that_were_run_twice_count_once_and_a_broken_one_is_not_forgotten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ranges.jsonl"
    for first, commit, broken in ((1, "a", []), (10, "a", [12]), (1, "b", list[int]())):
        what = Recorded(
            first=first, last=first + 9, commit=commit, worlds=10, calls=1, rows=1, hours=1.0, faults={}, lines={},
            broken=broken,
        )  # fmt: skip
        record(file, what)
    assert add_up(file) == 1
    out = capsys.readouterr().out
    assert "20 worlds" in out
    assert "seeds 10 to 19 of a not counted" in out
    assert "seeds that broke a promise: 1" in out
