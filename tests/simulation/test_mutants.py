"""Each deliberate fault is caught: a simulation that cannot fail would prove nothing."""

from itertools import chain

import pytest

from tests.simulation.mutants import MUTANTS, Mutant, find
from tests.simulation.patches import simulated

SEEDS = range(1, 501)
"""Where a world is looked for when the recorded one has moved: each change of the program may move some."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_simulation_catches(mutant: Mutant) -> None:
    with simulated():
        assert find(mutant, chain([mutant.seed], SEEDS)) is not None


def test_there_are_enough_of_them_and_no_two_are_one() -> None:
    assert len(MUTANTS) >= 24
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
