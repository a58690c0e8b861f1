"""Backbones: chosen by the shape of a row, made of stages, named and sized as published."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mtbench import DataError, Part, Problem, Recipe, Task, TaskKind
from mtbench.nn.backbones import MLP, Conv4, LeNet, ResNet, backbone, backbone_name, backbone_support

NAMES = ("mlp", "lenet", "conv4", "resnet18", "resnet50")


def problem_of(*shape: int) -> Problem:
    parts = {
        n: Part(np.zeros((2, *shape), np.uint8), np.zeros((2, 1), np.float32)) for n in ("train", "validation", "test")
    }
    return Problem("images", 0, (Task("t", TaskKind.BINARY),), parts)


def made(name: str, *shape: int, **recipe: Any) -> Any:
    return backbone(problem_of(*shape), Recipe(backbone=name, hidden=7, **recipe))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(28, 28), (3, 40, 36)], ids=str)
def test_features_have_the_declared_width_and_stages_in_a_row_give_them(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = made(name, *shape).eval()
    x = torch.rand(2, *shape)
    features = model(x)
    assert features.shape == (2, model.n_features)
    for i in range(model.n_stages):
        x = model(x, only=i)
    assert torch.equal(x, features)


@pytest.mark.parametrize(
    ("shape", "name"),
    [((64,), "mlp"), ((8, 8), "mlp"), ((28, 28), "lenet"), ((3, 32, 32), "lenet"), ((3, 48, 60), "conv4"),
     ((3, 64, 64), "resnet18"), ((105, 105), "resnet18")],
)  # fmt: skip
def test_auto_chooses_by_the_shape_of_a_row(shape: tuple[int, ...], name: str) -> None:
    assert backbone_name(shape, Recipe()) == name
    assert backbone_name(shape, Recipe(backbone="conv4")) == "conv4"


def resnet_names(block_layers: tuple[int, ...], n_convs: int, first_downsamples: bool) -> set[str]:
    """Names of the published weights, without the last dense layer."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = {"conv1.weight", *(f"bn1.{n}" for n in norm)}
    for i, depth in enumerate(block_layers, 1):
        for j in range(depth):
            at = f"layer{i}.{j}"
            for c in range(1, n_convs + 1):
                names |= {f"{at}.conv{c}.weight", *(f"{at}.bn{c}.{n}" for n in norm)}
            if j == 0 and (i > 1 or first_downsamples):
                names |= {f"{at}.downsample.0.weight", *(f"{at}.downsample.1.{n}" for n in norm)}
    return names


def test_residual_networks_are_named_and_sized_as_their_published_weights() -> None:
    small, large = made("resnet18", 3, 64, 64), made("resnet50", 3, 64, 64)
    assert set(small.state_dict()) == resnet_names((2, 2, 2, 2), 2, first_downsamples=False)
    assert set(large.state_dict()) == resnet_names((3, 4, 6, 3), 3, first_downsamples=True)
    # 11,689,512 and 25,557,032 with their dense layers of 1,000 classes.
    assert sum(p.numel() for p in small.parameters()) == 11_689_512 - 513_000
    assert sum(p.numel() for p in large.parameters()) == 25_557_032 - 2_049_000
    assert large.state_dict()["layer2.0.conv2.weight"].shape == (128, 128, 3, 3)
    assert large.layer2[0].conv2.stride == (2, 2)  # the stride is on the 3 x 3 convolution


def test_the_networks_of_the_papers_have_their_layers() -> None:
    lenet = made("lenet", 28, 28)
    assert [tuple(p.shape) for p in lenet.parameters() if p.ndim > 1] == [(20, 1, 5, 5), (50, 20, 5, 5), (500, 800)]
    assert all(not p.any() for p in lenet.parameters() if p.ndim == 1)
    conv4 = made("conv4", 28, 28)
    assert [conv.out_channels for conv in conv4.convs] == [6, 12, 24, 64]
    assert conv4.n_features == 512
    mlp = made("mlp", 5, layers=3)
    assert [tuple(layer.weight.shape) for layer in mlp.layers] == [(7, 5), (7, 7), (7, 7)]


@pytest.mark.parametrize("name", NAMES)
def test_every_activation_is_made_anew_by_the_given_maker(name: str) -> None:
    class Counted(nn.ReLU):
        n = 0

        def __init__(self) -> None:
            super().__init__()
            Counted.n += 1

        def forward(self, x: Any) -> Any:
            used.add(id(self))
            return super().forward(x)

    used: set[int] = set()
    model = backbone(problem_of(3, 32, 32), Recipe(backbone=name), Counted)  # type: ignore[arg-type]
    model(torch.rand(2, 3, 32, 32))
    assert Counted.n == len(used) > 0


def test_an_identity_recipe_makes_the_mlp_linear() -> None:
    model = made("mlp", 5, activation="identity")
    x = torch.randn(3, 5)
    torch.testing.assert_close(model(-x) + model(x), 2 * model(torch.zeros(3, 5)))


def test_rows_that_do_not_fit_are_refused_with_the_way_out() -> None:
    with pytest.raises(DataError, match="takes images") as caught:
        made("conv4", 5)
    assert "images.backbone=mlp" in str(caught.value)
    with pytest.raises(DataError, match="16 x 16 pixels or more"):
        made("lenet", 12, 12)


@pytest.mark.parametrize(
    ("name", "shape", "found"),
    [("lenet", (5,), "takes images"), ("conv4", (4, 3, 9, 9), "takes images"), ("resnet50", (5,), "takes images"),
     ("lenet", (28, 15), "16 x 16"), ("conv4", (3, 3, 3), "9 x 9"), ("resnet18", (3, 7, 40), "8 x 8")],
)  # fmt: skip
def test_a_backbone_that_does_not_fit_is_no_support(name: Any, shape: tuple[int, ...], found: str) -> None:
    reason = backbone_support(problem_of(*shape), Recipe(backbone=name))
    assert reason is not None
    assert found in reason


@pytest.mark.parametrize("name", NAMES)
def test_the_smallest_images_that_are_taken_give_features(name: Any) -> None:
    side = {"lenet": LeNet, "conv4": Conv4}.get(name, ResNet).smallest
    assert backbone_support(problem_of(side, side), Recipe(backbone=name)) is None
    features = made(name, side, side)(torch.rand(2, side, side))
    assert torch.isfinite(features).all()


@pytest.mark.parametrize("shape", [(5,), (3, 3), (2, 2, 2), (2, 3, 40, 40)], ids=str)
def test_auto_and_mlp_take_rows_of_any_shape(shape: tuple[int, ...]) -> None:
    for name in ("auto", "mlp"):
        assert backbone_support(problem_of(*shape), Recipe(backbone=name)) is None  # type: ignore[arg-type]
        assert made(name, *shape)(torch.rand(2, *shape)).shape[0] == 2


def test_kinds_are_what_their_names_say() -> None:
    kinds = [type(made(name, 3, 32, 32)) for name in NAMES]
    assert kinds == [MLP, LeNet, Conv4, ResNet, ResNet]
    assert dataclasses.asdict(Recipe())["backbone"] == "auto"
