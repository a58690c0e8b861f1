"""Plain PyTorch loops over tasks: what networks per task are measured against.

Written as one would write them and as published codes do: every task has its own `nn.Module`s and, in every step, rows
of its own, which go in a Python loop through what the method needs for that task; the losses are added, and one
`torch.optim.Adam` steps over all parameters, its `weight_decay` in place of a penalty.

Shapes: T tasks, b rows of each, U = T towers.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtbench.tasks import Problem

DECAY = 1e-4


class Conv4(nn.Module):
    """Four convolutions with batch norm and pooling, and a dense layer; stage by stage."""

    def __init__(self, side: int) -> None:
        super().__init__()
        widths = (1, 6, 12, 24, 64)
        blocks = [
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(),
                          nn.MaxPool2d(2, ceil_mode=True))
            for a, b in pairwise(widths)
        ]  # fmt: skip
        dense = nn.Sequential(nn.Flatten(), nn.Linear(64 * (-(-side // 16)) ** 2, 512), nn.ReLU())
        self.stages = nn.ModuleList([*blocks, dense])

    def forward(self, x: Tensor) -> Tensor:
        """[b, 1, side, side] -> [b, 512]."""
        for stage in self.stages:
            x = stage(x)
        return x

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Parameters by the names of mtbench's conv4."""
        named = {f"convs.{i}.": f"stages.{i}.0." for i in range(4)} | {
            f"norms.{i}.": f"stages.{i}.1." for i in range(4)
        }
        named |= {"fc.": "stages.4.1."}
        mine = {named[name[: name.rindex(".") + 1]] + name[name.rindex(".") + 1 :]: w for name, w in weights.items()}
        self.load_state_dict(mine, strict=False)


class Loop(nn.Module):
    """Training by a loop over tasks; a step takes `rows` [T, b] of the images and labels that it holds."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        part = problem.parts["train"]
        self.images, self.labels = torch.as_tensor(part.inputs), torch.as_tensor(part.labels)[:, 0].long()
        self.classes = [task.n_outputs for task in problem.tasks]
        self.n_tasks, self.side = problem.n_tasks, problem.input_shape[-1]

    def ready(self, device: torch.device, fused: bool) -> Loop:
        """On a device, with an optimiser."""
        self.to(device)
        self.images, self.labels = self.images.to(device), self.labels.to(device)
        self.adam = torch.optim.Adam(self.parameters(), 1e-3, weight_decay=DECAY, fused=fused)
        return self

    def outputs(self, t: int, x: Tensor) -> Tensor:
        """Outputs of task t for its own images: [b, 1, side, side] -> [b, C_t]."""
        raise NotImplementedError

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Parameters by the names of mtbench's method."""
        with torch.no_grad():
            for t, head in enumerate(self.heads):  # type: ignore[arg-type]
                head.weight.copy_(weights["heads.S"][t, :, : self.classes[t]].T)
                head.bias.copy_(weights["heads.b"][t, : self.classes[t]])

    def loss(self, rows: Tensor) -> Tensor:
        """The sum of the tasks' mean losses."""
        total = torch.zeros((), device=self.images.device)
        for t, own in enumerate(rows):
            x = self.images[own][:, None].float().div_(255)
            total = total + F.cross_entropy(self.outputs(t, x), self.labels[own])
        return total

    def step(self, rows: Tensor) -> None:
        """One step of training."""
        self.adam.zero_grad()
        self.loss(rows).backward()  # type: ignore[no-untyped-call]
        self.adam.step()


class SingleTasks(Loop):
    """A network for each task."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.towers = nn.ModuleList(Conv4(self.side) for _ in range(self.n_tasks))
        self.heads = nn.ModuleList(nn.Linear(512, n) for n in self.classes)

    def outputs(self, t: int, x: Tensor) -> Tensor:
        """Through the task's own network."""
        return self.heads[t](self.towers[t](x))  # type: ignore[no-any-return]

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Also of the towers."""
        super().take(weights)
        own = {name[7:].replace("__", "."): w for name, w in weights.items() if name.startswith("towers.")}
        for t, tower in enumerate(self.towers):
            tower.take({name: w[t] for name, w in own.items()})  # type: ignore[operator]


class CrossStitched(SingleTasks):
    """A network for each task, mixed after every stage."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        n = self.n_tasks
        start = torch.full((n, n), 0.1 / (n - 1)).fill_diagonal_(0.9)
        self.alpha = nn.ParameterList(start.clone() for _ in self.towers[0].stages)

    def ready(self, device: torch.device, fused: bool) -> Loop:
        """Mixtures learn faster, and are not decayed."""
        super().ready(device, fused)
        rest = [p for name, p in self.named_parameters() if not name.startswith("alpha")]
        groups = [{"params": rest}, {"params": list(self.alpha), "lr": 0.1, "weight_decay": 0.0}]
        self.adam = torch.optim.Adam(groups, 1e-3, weight_decay=DECAY, fused=fused)
        return self

    def outputs(self, t: int, x: Tensor) -> Tensor:
        """Through all towers; after the last stage only the task's own mixture is made."""
        xs = [x] * self.n_tasks
        last = len(self.alpha) - 1
        for i, alpha in enumerate(self.alpha):
            found = torch.stack([tower.stages[i](own) for tower, own in zip(self.towers, xs, strict=True)])
            if i == last:
                return self.heads[t](torch.tensordot(alpha[t], found, 1))  # type: ignore[no-any-return]
            xs = list(torch.tensordot(alpha, found, 1))
        raise AssertionError

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Also of the mixtures."""
        super().take(weights)
        self.alpha.load_state_dict({str(i): weights[f"alpha.{i}"] for i in range(len(self.alpha))})

    def step(self, rows: Tensor) -> None:
        """Gradients are added task by task: all at once they would need the memory of T passes through T towers."""
        self.adam.zero_grad()
        for t, own in enumerate(rows):
            x = self.images[own][:, None].float().div_(255)
            F.cross_entropy(self.outputs(t, x), self.labels[own]).backward()  # type: ignore[no-untyped-call]
        self.adam.step()


class Related(Loop):
    """A shared network with a hidden layer and a head for each task, hidden layers under MRN's prior.

    Covariances stay identities, as they do in the first hundred steps; the products with them are made all the same.
    """

    GAMMA = 1e-3

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.trunk = Conv4(self.side)
        self.hidden = nn.ModuleList(nn.Linear(512, 64) for _ in range(self.n_tasks))
        self.heads = nn.ModuleList(nn.Linear(64, n) for n in self.classes)
        for name, n in (("tasks", self.n_tasks), ("units", 64), ("features", 512)):
            self.register_buffer(name, torch.eye(n))

    def outputs(self, t: int, x: Tensor) -> Tensor:
        """Through the trunk and the task's own layers."""
        return self.heads[t](F.relu(self.hidden[t](self.trunk(x))))  # type: ignore[no-any-return]

    def loss(self, rows: Tensor) -> Tensor:
        """With the prior's quadratic form."""
        W = torch.stack([layer.weight for layer in self.hidden])
        pulled = torch.einsum("st,tuf,uv,fg->svg", self.tasks, W, self.units, self.features)
        return super().loss(rows) + self.GAMMA / 2 * (pulled * W).sum()

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Also of the trunk and the hidden layers."""
        super().take(weights)
        self.trunk.take({name[9:]: w for name, w in weights.items() if name.startswith("backbone.")})
        with torch.no_grad():
            for t, layer in enumerate(self.hidden):
                layer.weight.copy_(weights["V"][t].T)  # type: ignore[operator]
                layer.bias.copy_(weights["c"][t])  # type: ignore[operator]
