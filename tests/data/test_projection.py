import numpy as np

from mtbench.data.projection import principal_components

ROWS = np.random.default_rng(0).standard_normal((50, 12)) @ np.diag(np.arange(12, 0, -1.0))


def test_components_are_orthonormal_and_ordered_by_variance():
    centre, components = principal_components(ROWS, 4)
    assert np.allclose(components.T @ components, np.eye(4))
    variances = ((ROWS - centre) @ components).var(0)
    largest = np.linalg.eigvalsh(np.cov(ROWS.T, bias=True))[::-1][:4]
    assert np.allclose(variances, largest)


def test_signs_of_components_do_not_depend_on_the_signs_found():
    _, components = principal_components(ROWS, 4)
    _, mirrored = principal_components(2 * ROWS.mean(0) - ROWS[::-1], 4)
    assert np.allclose(components, mirrored)
    assert (components[np.abs(components).argmax(0), np.arange(4)] > 0).all()


def test_all_components_are_a_rotation():
    centre, components = principal_components(ROWS, 12)
    assert np.allclose((ROWS - centre) @ components @ components.T + centre, ROWS)
