"""A short attack on the real parts, and the proof that it would see a fault. `scripts/chaos` makes the long ones."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.chaos import mutant
from tests.chaos.faults import LANES, Lane
from tests.chaos.rounds import Round, play

SEED = int(os.environ.get("CHAOS_SEED", "1"))

KILLS = 20

pytestmark = [pytest.mark.asterisk, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def _quiet_gateway(caplog: pytest.LogCaptureFixture) -> None:
    """It tells at length of a database that we killed ourselves."""
    caplog.set_level(logging.CRITICAL, logger="aiohttp.server")


def _lanes(*targets: str) -> Sequence[Lane]:
    return [lane for lane in LANES if lane.target in targets]


def _explained(result: Round, folder: Path) -> str:
    return "\n".join(
        [
            f"seed {result.seed} broke a promise; logs and records are in {folder}",
            f"again: CHAOS_SEED={result.seed} scripts/test tests/chaos/test_short.py",
            *(f"{finding.kind}: row {finding.row}: {finding.words}" for finding in result.judgment.findings),
        ]
    )


async def test_twenty_kills_under_load_break_no_promise(tmp_path: Path) -> None:
    result = await play(tmp_path, SEED, seconds=60, kills=KILLS)
    assert result.good, _explained(result, tmp_path)
    assert result.kills >= KILLS
    assert result.calls >= 100, "hardly anybody was called: the attack left no room for what it attacks"
    assert not result.deaths, f"a daemon gave up by itself; see {tmp_path}"


async def test_a_daemon_that_sends_again_after_a_reconnect_is_caught(tmp_path: Path) -> None:
    """The daemon of libraries that repeat what was not answered (AMI-02): persons are called twice, and it shows."""
    lanes = [Lane(target=lane.target, quiet=(2.0, 5.0), faults=lane.faults) for lane in _lanes("first ami")]
    result = await play(tmp_path, SEED, seconds=20, lanes=lanes, command=mutant.command("resend"))
    assert result.judgment.count("double ring") > 0, f"nothing was noticed; see {tmp_path}"
