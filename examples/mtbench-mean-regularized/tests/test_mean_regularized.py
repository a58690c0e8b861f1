import torch
from mtbench_mean_regularized import CommonAndOwn, MeanRegularized, MeanRegularizedParams, mtbench_methods
from torch import Tensor

from mtbench.contracts.batch import Batch, TaskColumns
from mtbench.testing import MethodContract
from mtbench.testing.problems import SharedRegression


class TestMeanRegularized(MethodContract):
    method = MeanRegularized


def test_the_hook_offers_the_method():
    assert mtbench_methods() == [MeanRegularized]


def test_a_heavy_lambda1_makes_all_tasks_alike():
    model = minimised(lambda1=1e6, lambda2=1e-6)
    assert model.V.abs().max() < 1e-4 < model.w_0.abs().max()


def test_a_heavy_lambda2_leaves_every_task_to_itself():
    model = minimised(lambda1=1e-6, lambda2=1e6)
    assert model.w_0.abs().max() < 1e-4 < model.V.abs().max()


def test_at_the_optimum_the_common_predictor_is_a_multiple_of_the_mean_deviation():
    # Setting the gradients by w_0 and by v_t to 0 and comparing them gives lambda2 w_0 = lambda1 / T sum_t v_t.
    model = minimised(lambda1=0.3, lambda2=0.2)
    assert torch.allclose(0.2 * model.w_0, 0.3 * model.V.mean(0), atol=1e-6)


def minimised(lambda1: float, lambda2: float) -> CommonAndOwn:
    """The model at the minimum of the objective over all training rows of a miniature problem."""
    problem = SharedRegression().load(None, 0, None)
    train = problem.parts["train"]
    labels = torch.tensor(train.labels, dtype=torch.float64)
    batch = Batch(
        torch.tensor(train.inputs, dtype=torch.float64),
        labels.nan_to_num(),
        (~labels.isnan()).double(),
        None,
        torch.tensor(problem.task_sizes()),
        TaskColumns.of(problem, torch.device("cpu")),
    )
    params = MeanRegularizedParams(lambda1=lambda1, lambda2=lambda2)
    method = MeanRegularized()
    model = method.build(problem, params, SharedRegression.recipe).double()
    optimiser = torch.optim.LBFGS(
        model.parameters(), max_iter=500, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = method.objective(model, batch, params)
        loss.backward()
        return loss

    optimiser.step(closure)
    return model
