"""Version, clock and ports, as pure questions."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.doctor.findings import Verdict
from adapter.doctor.pbx.box import SKEW_SECONDS, judge_clock, judge_rtp, judge_version


@pytest.mark.parametrize(
    ("told", "verdict", "words"),
    [
        ("22.10.1+dfsg+~cs6.17.60671434-1", Verdict.OK, "Asterisk 22.10.1"),
        ("16.28.0~dfsg-0+deb11u4", Verdict.OK, "Asterisk 16.28.0"),
        ("Asterisk 20.5.0", Verdict.OK, "Asterisk 20.5.0"),
        ("certified/18.9-cert5", Verdict.OK, "18.9"),
        ("13.38.3", Verdict.WARN, "older"),
        ("23.0.0", Verdict.WARN, "newer"),
        ("GIT-master-1a2b3c", Verdict.WARN, "GIT-master"),
        ("", Verdict.WARN, "''"),
    ],
)
def test_versions(told: str, verdict: Verdict, words: str) -> None:
    found = judge_version(told)
    assert found.verdict is verdict
    assert words in found.found


@pytest.mark.parametrize(
    ("skew", "verdict", "words"),
    [
        (None, Verdict.SKIPPED, "no time"),
        (0.0, Verdict.OK, "0.1 s"),
        (-1.2, Verdict.OK, "1.2 s"),
        (SKEW_SECONDS + 0.1, Verdict.WARN, "ahead of"),
        (-3600.0, Verdict.WARN, "3600.0 s behind"),
    ],
)
def test_clocks(skew: float | None, verdict: Verdict, words: str) -> None:
    found = judge_clock(skew)
    assert found.verdict is verdict
    assert words in found.found


@pytest.mark.parametrize(
    ("ports", "calls", "verdict"),
    [
        # The table of docs/guide/trunk.md.
        ((10000, 10200), 50, Verdict.OK),
        ((10000, 10200), 51, Verdict.WARN),
        ((10000, 10200), 100, Verdict.WARN),
        ((10000, 10200), 101, Verdict.FAIL),
        ((10000, 10300), 100, Verdict.WARN),
        ((10000, 10500), 100, Verdict.OK),
        ((10000, 10500), 200, Verdict.WARN),
        ((10000, 10900), 200, Verdict.OK),
        ((10200, 10000), 1, Verdict.FAIL),
        (None, 50, Verdict.SKIPPED),
    ],
)
def test_ports(ports: tuple[int, int] | None, calls: int, verdict: Verdict) -> None:
    assert judge_rtp(ports, calls).verdict is verdict


@pytest.mark.parametrize(
    ("calls", "legs", "verdict"),
    [(100, 1, Verdict.OK), (101, 1, Verdict.FAIL), (50, 2, Verdict.OK), (51, 2, Verdict.FAIL)],
)
def test_ports_where_the_streams_of_a_call_are_known(calls: int, legs: int, verdict: Verdict) -> None:
    assert judge_rtp((10000, 10200), calls, legs=legs).verdict is verdict


@given(st.integers(1024, 60000), st.integers(0, 4000), st.integers(1, 2000), st.sampled_from([None, 1, 2]))
def test_the_range_that_is_asked_for_is_wide_enough(first: int, width: int, calls: int, legs: int | None) -> None:
    found = judge_rtp((first, first + width), calls, legs=legs)
    if found.verdict is Verdict.OK:
        return
    wider = re.search(rf"RTP ports {first} to (\d+)", found.mend)
    fewer = re.search(r"MAX_CALLS=(\d+)", found.mend)
    assert wider
    assert fewer
    better = {Verdict.FAIL: {Verdict.WARN, Verdict.OK}, Verdict.WARN: {Verdict.OK}}[found.verdict]
    assert judge_rtp((first, int(wider[1])), calls, legs=legs).verdict in better
    if width > 3:
        assert judge_rtp((first, first + width), int(fewer[1]), legs=legs).verdict in better
