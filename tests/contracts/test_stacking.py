"""Cutting groups of trials into stacks."""

import pytest

from mtbench.contracts.recipe import Recipe
from mtbench.contracts.stacking import divide, sizes_of_stacks
from mtbench.contracts.trials import Cell, Trial

CELL = Cell("method", "1", "here", "data", "1", {}, "content", Recipe())


@pytest.mark.parametrize("size", [1, 3, 7, 25, 100])
@pytest.mark.parametrize("n_trials", [1, 5, 25, 130])
def test_every_size_that_a_group_may_be_cut_into_is_known_before(n_trials, size):
    group = [Trial(CELL, {"alpha": float(i)}, 0, 0) for i in range(n_trials)]
    found = {len(stack.trials) for n_slots in (1, 2, 5, 64) for stack in divide(group, size, n_slots)}
    assert found - {1} <= set(sizes_of_stacks(n_trials, size))
    assert max(found) <= size
