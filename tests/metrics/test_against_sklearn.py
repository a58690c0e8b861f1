"""Metrics equal scikit-learn's, task by task, with missing labels and ties."""

import numpy as np
import pytest
from scipy.special import expit, log_softmax
from sklearn import metrics as sk


def agrees(case, name, expected):
    """Holds a metric against `expected(task, outputs, labels, training labels)` of every trial and task."""
    found = case.values(name)
    for r, t, outputs, labels, trained in case.each():
        wanted = expected(case.tasks[t], outputs, labels, trained)
        assert np.isfinite(wanted)
        assert found[r, t] == pytest.approx(wanted, abs=1e-9, rel=1e-9), (r, t)


def columns(outputs, labels):
    """Of each column, outputs and labels of the rows that have one."""
    for d in range(labels.shape[1]):
        known = ~np.isnan(labels[:, d])
        yield outputs[known, d], labels[known, d]


def known_rows(outputs, labels):
    known = ~np.isnan(labels[:, 0])
    return outputs[known], labels[known, 0].astype(int)


def mean_over_columns(score):
    return lambda task, outputs, labels, trained: np.mean([score(y, p) for p, y in columns(outputs, labels)])


def all_labels(score):
    """Of a score of all labels of a task together."""

    def of(task, outputs, labels, trained):
        return score(labels[~np.isnan(labels)], outputs[~np.isnan(labels)])

    return of


def by_kind(multiclass, other):
    """Of a score (outputs [n, C], classes [n]) of multiclass tasks, and one of all others."""

    def of(task, outputs, labels, trained):
        if task.kind == "multiclass":
            return multiclass(*known_rows(outputs, labels))
        return other(task, outputs, labels, trained)

    return of


def one_vs_rest(score):
    def of(outputs, classes):
        # Rounded, so that equal probabilities are equal numbers.
        chances = np.exp(log_softmax(outputs, axis=1)).round(12)
        return np.mean([score(classes == c, chances[:, c]) for c in range(outputs.shape[1]) if (classes == c).any()])

    return of


def test_mae(regression):
    agrees(regression, "mae", all_labels(sk.mean_absolute_error))


def test_r2(regression):
    agrees(regression, "r2", mean_over_columns(sk.r2_score))


def test_rmse_over_the_deviation_of_the_training_labels(regression):
    def nrmse(task, outputs, labels, trained):
        pairs = zip(columns(outputs, labels), np.nanstd(trained, axis=0), strict=True)
        return np.mean([sk.root_mean_squared_error(y, p) / deviation for (p, y), deviation in pairs])

    agrees(regression, "nrmse", nrmse)


def test_rmse_over_that_of_the_training_mean(regression):
    def rrmse(task, outputs, labels, trained):
        def one(y, p, mean):
            return sk.root_mean_squared_error(y, p) / sk.root_mean_squared_error(y, np.full(len(y), mean))

        pairs = zip(columns(outputs, labels), np.nanmean(trained, axis=0), strict=True)
        return np.mean([one(y, p, mean) for (p, y), mean in pairs])

    agrees(regression, "rrmse", rrmse)


def test_balanced_error(classes):
    def of_classes(outputs, y):
        return 100 * (1 - sk.balanced_accuracy_score(y, outputs.argmax(1)))

    other = mean_over_columns(lambda y, p: 100 * (1 - sk.balanced_accuracy_score(y, p > 0)))
    agrees(classes, "balanced_error", by_kind(of_classes, other))


def test_macro_f1(classes):
    def of_classes(outputs, y):
        return sk.f1_score(y, outputs.argmax(1), labels=np.unique(y), average="macro")

    other = mean_over_columns(lambda y, p: sk.f1_score(y, p > 0, pos_label=1))
    agrees(classes, "macro_f1", by_kind(of_classes, other))


def test_micro_f1(classes):
    def of_classes(outputs, y):
        return sk.f1_score(y, outputs.argmax(1), average="micro")

    other = all_labels(lambda y, p: sk.f1_score(y, p > 0, pos_label=1))
    agrees(classes, "micro_f1", by_kind(of_classes, other))


def test_auc(classes):
    agrees(classes, "auc", by_kind(one_vs_rest(sk.roc_auc_score), mean_over_columns(sk.roc_auc_score)))


def test_average_precision(classes):
    score = sk.average_precision_score
    agrees(classes, "average_precision", by_kind(one_vs_rest(score), mean_over_columns(score)))


def test_log_loss(classes):
    def of_classes(outputs, y):
        return sk.log_loss(y, np.exp(log_softmax(outputs, axis=1)), labels=range(outputs.shape[1]))

    other = all_labels(lambda y, p: sk.log_loss(y, expit(p), labels=[0, 1]))
    agrees(classes, "log_loss", by_kind(of_classes, other))


def test_brier(classes):
    def of_classes(outputs, y):
        return sk.brier_score_loss(y, np.exp(log_softmax(outputs, axis=1)), labels=range(outputs.shape[1]))

    other = all_labels(lambda y, p: sk.brier_score_loss(y, expit(p), pos_label=1))
    agrees(classes, "brier", by_kind(of_classes, other))


def test_multiclass_auc_is_scikit_learns_own_mean_over_classes(classes):
    found = classes.values("auc")
    for r, t, outputs, labels, _ in classes.each():
        if classes.tasks[t].kind == "multiclass":
            outputs, y = known_rows(outputs, labels)
            chances = np.exp(log_softmax(outputs, axis=1)).round(12)
            chances[:, -1] += 1 - chances.sum(1)
            expected = sk.roc_auc_score(y, chances, multi_class="ovr", labels=range(outputs.shape[1]))
            assert found[r, t] == pytest.approx(expected, abs=1e-3)  # the last column's ties are broken here
