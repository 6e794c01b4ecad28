"""The clock on which waits are measured."""

import pytest

from adapter import clock


def test_it_starts_with_the_wall_clock_and_goes_with_the_boot_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"wall": 1_700_000_000.0, "boot": 50.0}
    monkeypatch.setattr(clock, "wall", lambda: times["wall"])
    monkeypatch.setattr(clock, "boot", lambda: times["boot"])
    now = clock.steady()
    assert now() == 1_700_000_000.0
    times["wall"] += 86_400.0
    assert now() == 1_700_000_000.0
    times["wall"] -= 7 * 86_400.0
    times["boot"] += 30.0
    assert now() == 1_700_000_030.0
