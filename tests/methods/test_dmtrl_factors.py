"""Factors reproduce the weights they start from, as well as asked and with the least ranks."""

import pytest
import torch
from mtbench_methods.dmtrl.factors import LAF, Factors, TensorTrain, Tucker

KINDS = (LAF, Tucker, TensorTrain)
SHAPES = ((7,), (6, 5), (4, 3, 3, 3))


def random_weights(n_tasks: int, *shape: int, rank: int | None = None) -> torch.Tensor:
    """Of the tasks, [T, ...]; each a combination of so many bases."""
    torch.manual_seed(0)
    if rank is None:
        return torch.randn(n_tasks, *shape)
    return torch.einsum("tk,k...->t...", torch.randn(n_tasks, rank), torch.randn(rank, *shape))


def truncated(kind: type[Factors], weights: torch.Tensor, tolerance: float, capped: bool = True) -> Factors:
    """Factors of least rank, and nothing beyond it that is not 0."""
    factors = kind(weights).double()
    factors.load_state_dict(factors.state_dict() | factors.truncated(tolerance, capped))
    return factors


def error(factors: Factors, weights: torch.Tensor) -> float:
    return ((factors.weights() - weights).norm() / weights.norm()).item()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_few_bases_are_found_and_reproduced_exactly(kind, shape) -> None:
    weights = random_weights(6, *shape, rank=2)
    factors = truncated(kind, weights, 1e-6)
    assert factors.task_rank == 2
    assert factors.weights().shape == weights.shape
    assert error(factors, weights) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tolerance", [0.02, 0.1, 0.3])
def test_the_error_stays_within_the_tolerance(kind, shape, tolerance) -> None:
    weights = random_weights(6, *shape, rank=3) + 0.01 * random_weights(6, *shape)
    factors = truncated(kind, weights, tolerance)
    assert error(factors, weights) <= tolerance + 1e-6
    assert sum(p.numel() for p in truncated(kind, weights, 0.5).parameters()) <= sum(
        p.numel() for p in factors.parameters()
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_the_rank_of_laf_is_the_least_that_does(shape) -> None:
    weights = random_weights(6, *shape, rank=4) + 0.1 * random_weights(6, *shape)
    values = torch.linalg.svdvals(weights.flatten(1).double())
    factors = truncated(LAF, weights, 0.2)
    left_out = [values[k:].norm() / values.norm() for k in range(7)]
    assert left_out[factors.task_rank] <= 0.2 < left_out[factors.task_rank - 1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_rank_of_tasks_is_below_their_number_whatever_that_loses(kind, shape) -> None:
    assert truncated(kind, random_weights(5, *shape), 1e-6).task_rank == 4


@pytest.mark.parametrize("kind", KINDS)
def test_one_task_and_weights_of_zero_are_no_exception(kind) -> None:
    one = random_weights(1, 6, 5)
    assert error(truncated(kind, one, 1e-6), one) < 1e-5
    zero = truncated(kind, torch.zeros(3, 6, 5), 0.1)
    assert zero.task_rank == 1
    assert (zero.weights() == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_more_inputs_than_outputs_or_fewer_make_no_difference(kind) -> None:
    for shape in ((3, 40), (40, 3)):
        weights = random_weights(4, *shape, rank=2)
        assert error(truncated(kind, weights, 1e-6), weights) < 1e-5


def test_products_are_what_their_definitions_say() -> None:
    weights = random_weights(4, 3, 5)
    laf, tucker, train = (truncated(kind, weights, 0.1) for kind in KINDS)
    torch.testing.assert_close(laf.weights(), torch.einsum("dk,kt->td", laf.L, laf.S).view(4, 3, 5))
    product = torch.einsum("xyz,ix,jy,tz->tij", tucker.core, *tucker.matrices)
    torch.testing.assert_close(tucker.weights(), product)
    torch.testing.assert_close(train.weights(), torch.einsum("aib,bjc,ctd->tij", *train.cores))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_tasks", [2, 5])
def test_without_a_cap_the_error_is_kept_with_as_many_ranks_as_tasks(kind, shape, n_tasks) -> None:
    weights = random_weights(n_tasks, *shape)
    free, capped = truncated(kind, weights, 0.1, capped=False), truncated(kind, weights, 0.1)
    assert free.relative_error == pytest.approx(error(free, weights))
    assert free.relative_error <= 0.1
    assert capped.task_rank == n_tasks - 1 < free.task_rank == n_tasks
    assert capped.relative_error == pytest.approx(error(capped, weights))
    assert capped.relative_error > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_two_unrelated_tasks_pay_for_the_cap_with_most_of_the_smaller_one(kind) -> None:
    # Rank 1 keeps the larger singular value of two: of equally large, orthogonal tasks one is lost.
    assert truncated(kind, torch.eye(2).repeat(1, 3), 0.1).relative_error == pytest.approx(0.5**0.5, rel=1e-5)
