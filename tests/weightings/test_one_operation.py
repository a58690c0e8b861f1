"""Functions that are one operation under vmap."""

from __future__ import annotations

import torch
from torch import Tensor

from mtbench.weighting.one_operation import on_gram, one_operation


def test_a_function_is_called_once_for_all_that_is_mapped() -> None:
    shapes = []

    @one_operation
    def product(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        shapes.append((tuple(a.shape), tuple(b.shape)))
        return a * b, a + b

    a, b = torch.rand(5, 3), torch.rand(3)
    found = torch.vmap(product, (0, None))(a, b)
    assert shapes == [((5, 3), (5, 3))]
    assert torch.equal(found[0], a * b)
    nested = torch.vmap(torch.vmap(product, (1, 0), 1), (0, None))(torch.rand(2, 3, 5), torch.rand(5, 3))
    assert nested[1].shape == (2, 3, 5)


def test_a_matrix_that_is_not_finite_is_kept_from_the_function() -> None:
    eigenvalues = on_gram(lambda gram: torch.linalg.eigh(gram).eigenvalues)
    gram = torch.eye(2).expand(3, 2, 2).clone()
    gram[1, 0, 0] = torch.inf
    found = torch.vmap(eigenvalues)(gram)
    assert found[1].isnan().all()
    assert torch.equal(found[[0, 2]], torch.ones(2, 2))
