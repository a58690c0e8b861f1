"""Metrics of weighted rows and classes equal scikit-learn's with `sample_weight`; weighted means over tasks."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, log_softmax
from sklearn import metrics as sk

from mtbench import DataError, Metric, Part, Problem, Task
from mtbench.metrics import METRICS, mean_over_tasks, metric

REGRESSION = (Task("a", "regression"), Task("b", "regression", 3), Task("c", "regression"))
CLASSES = (
    Task("d", "binary", class_weights=(1, 3)),
    Task("e", "binary"),
    Task("f", "multiclass", 3, class_weights=(1, 2, 0.5)),
    Task("g", "multiclass", 5),
    Task("h", "multilabel", 4),
    Task("i", "multilabel", 2),
)


@pytest.fixture(params=[False, True], ids=["shared", "own"])
def regressions(request, case_of):
    return case_of(REGRESSION, request.param, 0.2, weighted=True)


@pytest.fixture(params=[False, True], ids=["shared", "own"])
def classes(request, case_of):
    return case_of(CLASSES, request.param, 0.2, n=300, weighted=True)


def agrees(case, name, expected):
    """Holds a metric against `expected(task, outputs, labels, weights, training labels and weights)`."""
    found, train = case.values(name), case.problem.parts["train"]
    for r, t, outputs, labels, trained in case.each():
        weights, of_trained = case.weights_of(t), case.weights_of(t, train)
        wanted = expected(case.tasks[t], outputs, labels, weights, (trained, of_trained))
        assert found[r, t] == pytest.approx(wanted, abs=1e-9, rel=1e-9), (r, t)


def columns(outputs, labels, weights):
    """Of each column: labels, outputs and weights of the rows that have a label."""
    for d in range(labels.shape[1]):
        known = ~np.isnan(labels[:, d])
        yield labels[known, d], outputs[known, d], weights[known]


def by_column(score):
    """The mean over columns of `score(y, p, sample_weight=w)`."""

    def of(task, outputs, labels, weights, trained):
        return np.mean([score(y, p, sample_weight=w) for y, p, w in columns(outputs, labels, weights)])

    return of


def all_labels(score):
    """`score` of all labels of a task together."""

    def of(task, outputs, labels, weights, trained):
        known = ~np.isnan(labels)
        return score(
            labels[known], outputs[known], sample_weight=np.repeat(weights[:, None], labels.shape[1], 1)[known]
        )

    return of


def by_kind(multiclass, other):
    def of(task, outputs, labels, weights, trained):
        if task.kind != "multiclass":
            return other(task, outputs, labels, weights, trained)
        known = ~np.isnan(labels[:, 0]) & (weights > 0)  # scikit-learn's own classes come of rows that weigh 0, too
        return multiclass(labels[known, 0].astype(int), outputs[known], sample_weight=weights[known])

    return of


def one_vs_rest(score):
    def of(y, outputs, sample_weight):
        chances = np.exp(log_softmax(outputs, axis=1)).round(12)
        return np.mean([score(y == c, chances[:, c], sample_weight=sample_weight) for c in np.unique(y)])

    return of


def over_columns_of_training(score):
    """The mean over columns of `score(y, p, weights, training labels, their weights)`."""

    def of(task, outputs, labels, weights, trained):
        pairs = zip(columns(outputs, labels, weights), columns(trained[0], *trained), strict=True)
        return np.mean([score(*one, y, w) for one, (y, _, w) in pairs])

    return of


def nrmse(y, p, w, trained, of_trained):
    deviation = np.sqrt(np.cov(trained, aweights=of_trained, ddof=0))
    return sk.root_mean_squared_error(y, p, sample_weight=w) / deviation


def rrmse(y, p, w, trained, of_trained):
    constant = np.full(len(y), np.average(trained, weights=of_trained))
    errors = (sk.root_mean_squared_error(y, one, sample_weight=w) for one in (p, constant))
    return next(errors) / next(errors)


def relative(y, p, w, trained, of_trained):
    return rrmse(y, p, w, trained, of_trained) ** 2


def rmse(y, p, sample_weight):
    return sk.root_mean_squared_error(y, p, sample_weight=sample_weight)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rmse", all_labels(rmse)),
        ("mae", all_labels(sk.mean_absolute_error)),
        ("loss", all_labels(sk.mean_squared_error)),
        ("r2", by_column(sk.r2_score)),
        ("nrmse", over_columns_of_training(nrmse)),
        ("rrmse", over_columns_of_training(rrmse)),
        ("relative_loss", over_columns_of_training(relative)),
    ],
)
def test_weighted_metrics_of_regressions(regressions, name, expected):
    agrees(regressions, name, expected)


def decided(score, scale=1.0, **more):
    """Of a score of classes, from outputs: `by_kind` of arg max, and of signs."""
    return lambda y, p, sample_weight: (
        scale * score(y, p.argmax(1) if p.ndim > 1 else p > 0, sample_weight=sample_weight, **more)
    )


def wrong(score):
    return lambda y, p, sample_weight: 100 - decided(score, 100)(y, p, sample_weight)


def macro_f1(y, p, sample_weight):
    return sk.f1_score(y, p.argmax(1), labels=np.unique(y), average="macro", sample_weight=sample_weight)


def logistic(y, p, sample_weight):
    return sk.log_loss(y, expit(p), labels=[0, 1], sample_weight=sample_weight)


def cross_entropy(y, p, sample_weight):
    chances = np.exp(log_softmax(p, axis=1))
    return sk.log_loss(y, chances, labels=range(p.shape[1]), sample_weight=sample_weight)


def brier_of_classes(y, p, sample_weight):
    chances = np.exp(log_softmax(p, axis=1))
    return sk.brier_score_loss(y, chances, labels=range(p.shape[1]), sample_weight=sample_weight)


def brier_of_signs(y, p, sample_weight):
    return sk.brier_score_loss(y, expit(p), pos_label=1, sample_weight=sample_weight)


SIGNS = decided(sk.f1_score, pos_label=1)


@pytest.mark.parametrize(
    ("name", "multiclass", "other"),
    [
        ("error", wrong(sk.accuracy_score), all_labels(wrong(sk.accuracy_score))),
        ("balanced_error", wrong(sk.balanced_accuracy_score), by_column(wrong(sk.balanced_accuracy_score))),
        ("macro_f1", macro_f1, by_column(SIGNS)),
        ("micro_f1", decided(sk.f1_score, average="micro"), all_labels(SIGNS)),
        ("auc", one_vs_rest(sk.roc_auc_score), by_column(sk.roc_auc_score)),
        ("average_precision", one_vs_rest(sk.average_precision_score), by_column(sk.average_precision_score)),
        ("log_loss", cross_entropy, all_labels(logistic)),
        ("brier", brier_of_classes, all_labels(brier_of_signs)),
    ],
)
def test_weighted_metrics_of_classifications(classes, name, multiclass, other):
    agrees(classes, name, by_kind(multiclass, other))


def test_pooled_rmse_counts_rows_and_tasks_by_their_weights(case_of):
    tasks = tuple(replace(task, weight=w) for task, w in zip(REGRESSION, (1, 0.5, 4), strict=True))
    case = case_of(tasks, True, 0.2, weighted=True)
    for r in range(len(case.predictions)):
        found = [case.of_task(r, t)[:2] for t in range(3)]
        labels = [y for _, y in found]
        weights = [
            np.repeat(case.weights_of(t)[:, None] * tasks[t].weight, y.shape[1], 1) for t, y in enumerate(labels)
        ]
        y, p, w = (np.concatenate([a.ravel() for a in all_]) for all_ in (labels, [o for o, _ in found], weights))
        known = ~np.isnan(y)
        assert case.values("pooled_rmse")[r] == pytest.approx(rmse(y[known], p[known], w[known]), rel=1e-9)


def whole(name, problem, predictions):
    return metric(name).compute(problem, problem.parts["test"], predictions)


@pytest.mark.parametrize(
    ("name", "kind"), [("one_vs_all_error", "binary"), ("map_at_10", "multilabel"), ("relative_loss", "binary")]
)
def test_a_row_that_weighs_three_is_as_three_rows_and_one_that_weighs_nothing_as_none(name, kind):
    rng = np.random.default_rng(0)
    weights, outputs = rng.integers(0, 4, 30), rng.normal(size=(2, 30, 3))
    labels = np.eye(3)[rng.integers(3, size=30)]
    tasks = tuple(Task(f"t{t}", kind) for t in range(3)) if kind == "binary" else (Task("t", kind, 3),)

    def problem(labels, weights):
        part = Part(np.zeros((len(labels), 1)), labels, None, weights)
        return Problem("small", 0, tasks, dict.fromkeys(("train", "validation", "test"), part))

    rows = np.repeat(np.arange(30), weights)
    expected = whole(name, problem(labels[rows], None), outputs[:, rows])
    np.testing.assert_allclose(whole(name, problem(labels, weights), outputs), expected, 1e-12)


def test_weights_that_are_all_alike_change_no_metric(case_of):
    case = case_of(CLASSES[1:2] + CLASSES[3:], False, 0.2)
    parts = {name: replace(part, sample_weight=np.full(case.n, 2.5)) for name, part in case.problem.parts.items()}
    weighted = replace(case.problem, parts=parts)
    for name, measure in METRICS.items():
        if measure.lack(case.problem, case.part) is None:
            np.testing.assert_allclose(whole(name, weighted, case.predictions), case.values(name), 1e-12, err_msg=name)


def test_a_mean_over_tasks_counts_those_that_have_a_value_by_their_weights():
    values = np.array([[1.0, 4.0, np.nan], [np.nan, np.nan, 7.0], [1.0, np.nan, np.nan]])
    found = mean_over_tasks(values, np.array([1.0, 2.0, 0.0]))
    np.testing.assert_allclose(found, [3, np.nan, 1])


def test_a_metric_without_a_weighted_form_is_refused_in_one_line(case_of):
    case = case_of(REGRESSION, False, 0.0, weighted=True)
    twice = Metric("twice", "twice the loss", False, True, lambda *a: 2 * METRICS["loss"].values(*a))
    with pytest.raises(
        DataError, match="metric 'twice' needs a problem without sample weights, for it has no weighted"
    ):
        twice.compute(case.problem, case.part, case.predictions)
    weighed = replace(case.problem, tasks=tuple(replace(t, weight=1 + i) for i, t in enumerate(REGRESSION)))
    parts = {name: replace(part, sample_weight=None) for name, part in weighed.parts.items()}
    only_tasks = replace(weighed, parts=parts)
    twice.compute(only_tasks, only_tasks.parts["test"], case.predictions)  # its mean over tasks is weighted for it
    pooled = replace(twice, per_task=False)
    with pytest.raises(DataError, match="without task weights"):
        pooled.check(only_tasks, only_tasks.parts["test"])
