from collections.abc import Callable

import numpy as np
import pytest
from mtbench_datasets.amtl import USPS, AMTLImbalanced, AMTLImbalancedOptions, AMTLSynthetic
from scipy.io import loadmat

from mtbench import Dataset, Problem

pytestmark = pytest.mark.real_data
FILES = {USPS: "usps1.mat", AMTLSynthetic: "synthetic_dataset.mat", AMTLImbalanced: "synthetic_inbalance_1.mat"}
KEYS = {"train": "train", "validation": "val", "test": "test"}


@pytest.fixture
def load(root_of: Callable) -> Callable[..., Problem]:
    return lambda dataset, split=0, **options: dataset().load(root_of(dataset), split, dataset.Options(**options))


@pytest.mark.parametrize("dataset", FILES)
def test_split_0_is_the_published_one(load, root_of, dataset: type[Dataset]):
    content = loadmat(root_of(dataset) / "amtl" / FILES[dataset])
    for name, part in load(dataset).parts.items():
        assert np.array_equal(part.inputs, content[f"{KEYS[name]}_x"].astype(np.float32))
        labels = content[f"{KEYS[name]}_y"].ravel()
        if dataset is USPS:
            assert np.array_equal(part.labels.argmax(1) + 1, labels)
            assert (part.labels.sum(1) == 1).all()
        else:
            assert np.array_equal(part.labels[:, 0], labels.astype(np.float32))


@pytest.mark.parametrize("dataset", FILES)
def test_further_splits_part_the_same_rows_anew(load, dataset: type[Dataset]):
    published, drawn = load(dataset), load(dataset, 3)
    for part in KEYS:
        assert np.array_equal(drawn.task_sizes(part), published.task_sizes(part))
        assert drawn.parts[part].inputs.shape == published.parts[part].inputs.shape
        assert not np.array_equal(drawn.parts[part].inputs, published.parts[part].inputs)
    rows = [np.concatenate([part.inputs for part in problem.parts.values()]) for problem in (published, drawn)]
    assert np.array_equal(*(np.unique(r, axis=0) for r in rows))
    assert len(np.unique(rows[1], axis=0)) == len(rows[1])


@pytest.mark.parametrize("dataset", [AMTLSynthetic, AMTLImbalanced])
def test_a_row_stays_with_its_task_and_target(load, dataset: type[Dataset]):
    def labelled(problem: Problem) -> np.ndarray:
        columns = [np.column_stack([p.inputs, p.labels, p.task]) for p in problem.parts.values()]
        return np.unique(np.concatenate(columns), axis=0)

    assert np.array_equal(labelled(load(dataset)), labelled(load(dataset, 2)))


def test_sizes_are_those_of_the_files(load):
    assert load(AMTLSynthetic).task_sizes().tolist() == [30] * 12
    assert load(AMTLImbalanced).task_sizes().tolist() == [500, 500, 500, 5, 5, 5] * 2
    assert load(USPS).parts["train"].labels.sum(0).tolist() == [100] * 10


def test_variants_differ(load):
    one, two = (load(AMTLImbalanced, variant=variant).parts["train"].inputs for variant in (1, 2))
    assert not np.array_equal(one, two)
    assert AMTLImbalancedOptions().variant == 1
