"""Deep-AMTFL on MNIST-Imbalanced against a plain PyTorch loop: `python -m benchmarks.deep_training`.

The plain loop is what one would write for this one training: an `nn.Module`, `torch.optim.Adam`, images as one tensor
in memory, no loader. It starts from the same weights and sees the same batches; that it is the same training is
checked first, by the losses of the first epochs. Its images lie channels first in one variant and channels last in
another, and its optimiser is torch's default or its fused one; the fastest of the four is what counts.

In turn and several times over, each side trains one epoch and, less often, looks at the validation part. The ratio of
trials per hour (all epochs and looks of the recipe) is taken round by round, and its median printed: for R = 1, and for
the stack size that calibration picks. One process, one torch thread. Ratios of processor time are printed beside those
of wall time: on a machine with other work they say more. Where there is a CUDA device it is measured too, with data on
the device, bfloat16 autocast and channels last on both sides.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.cells import supported_cells
from benchmarks.devices import device_name, devices, on_cuda, seconds
from mtbench.contracts.method import GradientMethod
from mtbench.contracts.recipe import Recipe
from mtbench.contracts.seeds import seed_from
from mtbench.contracts.stacking import groups
from mtbench.contracts.trials import Trial
from mtbench.data.root import data_root
from mtbench.metrics import metric
from mtbench.plan.grid import PlannedCell
from mtbench.plugins.host import load_plugins
from mtbench.plugins.loading import load_split
from mtbench.tasks import Problem
from mtbench.training.calibrate import calibrate
from mtbench.training.gradient import GradientStack

GOAL = 0.95
SAME_EPOCHS = 3  # whose losses must agree before anything is measured
CHUNK = 1000  # images the plain loop evaluates at once


class PlainNet(nn.Module):
    """The LeNet of the paper with a head and feedback from its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
        self.fc, self.head, self.back = nn.Linear(800, 500), nn.Linear(500, 10), nn.Linear(10, 500)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, 500] and outputs [B, 10] of images [B, 1, 28, 28]."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        z = F.relu(self.fc(x.flatten(1)))
        return z, self.head(z)


class Plain:
    """A plain loop over one trial.

    Args:
        problem: The problem.
        trial: Gives hyperparameters, and the seed of the order of rows.
        weights: Where to start, by the names of our model.
        device: Where to train.
        last: Channels last.
        fused: The fused Adam.
    """

    def __init__(
        self, problem: Problem, trial: Trial, weights: dict[str, Tensor], device: torch.device, last: bool, fused: bool
    ) -> None:
        self._recipe, params = trial.cell.recipe, trial.params
        self._alpha, self._gamma, self._mu, lambda_, delta = (
            float(params[name]) for name in ("alpha", "gamma", "mu", "lambda_", "delta")
        )
        self._device = device
        self._format = torch.channels_last if last else torch.contiguous_format
        self.net = PlainNet().to(device)
        self.net.load_state_dict({ours: _like(ours, weights[theirs]) for ours, theirs in _NAMES.items()})
        self.net = self.net.to(memory_format=self._format)
        below = [p for part in (self.net.conv1, self.net.conv2, self.net.fc) for p in part.parameters()]
        above = [*self.net.head.parameters(), *self.net.back.parameters()]
        groups = [{"params": below, "weight_decay": lambda_}, {"params": above}]
        self._adam = torch.optim.Adam(groups, lr=float(params["learning_rate"]), fused=fused)
        self._x, self._y = self._tensors(problem, "train")
        self._validation = self._tensors(problem, "validation")
        n = torch.as_tensor(problem.task_examples(), device=device).float()
        self._offset = delta * (n.mean() / n).sqrt()
        self._rng = np.random.default_rng(seed_from(trial.cell.dataset, trial.split, trial.seed, "order"))
        self._cast = torch.autocast(device.type, torch.bfloat16, enabled=self._recipe.autocast == "bfloat16")

    def _tensors(self, problem: Problem, part: str) -> tuple[Tensor, Tensor]:
        x = torch.as_tensor(np.asarray(problem.parts[part].inputs)[:, None], device=self._device).float().div_(255)
        return x, torch.as_tensor(problem.parts[part].labels, device=self._device)

    def epoch(self) -> Tensor:
        """One pass over the training rows; gives the summed loss."""
        order = torch.as_tensor(self._rng.permutation(len(self._x)), device=self._device)
        total = torch.zeros((), device=self._device)
        for rows in order.split(self._recipe.batch_size):
            x, y = self._x[rows].contiguous(memory_format=self._format), self._y[rows]
            with self._cast:
                loss = self._loss(x, y)
            self._adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._adam.step()
            total += loss.detach()
        return total

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        """The objective but for the weight decay, which the optimiser adds."""
        z, outputs = self.net(x)
        losses = F.binary_cross_entropy_with_logits(outputs, y, reduction="none").mean(0) + self._offset
        feedback = self.net.back.weight.abs().sum(0)
        reconstruction = (z - F.relu(self.net.back(outputs))).square().sum(1).mean()
        return (
            ((1 + self._alpha * feedback) * losses).sum()
            + self._mu * self.net.head.weight.abs().sum()
            + self._gamma * reconstruction
        )

    @torch.no_grad()
    def look(self) -> float:
        """The mean per-class error on the validation part, in percent."""
        x, y = self._validation
        with self._cast:
            chunks = [self.net(some.contiguous(memory_format=self._format))[1] for some in x.split(CHUNK)]
        wrong = torch.cat(chunks).argmax(1) != y.argmax(1)
        return 100 * float((y * wrong[:, None]).sum(0).div(y.sum(0)).mean())

    def weights(self) -> dict[str, Tensor]:
        """Its weights by the names of our model."""
        return {theirs: _like(ours, self.net.state_dict()[ours]) for ours, theirs in _NAMES.items()}


class Ours:
    """The trainer of mtbench, on a stack of trials."""

    def __init__(
        self, planned: PlannedCell, problems: dict[int, Problem], trials: Sequence[Trial], device: torch.device
    ) -> None:
        assert isinstance(planned.method, GradientMethod)
        self._stack = GradientStack(planned.method, problems, trials, planned.dataset, device)
        self._metric, self._all = planned.dataset.selection_metric, np.arange(len(trials))

    def epoch(self) -> Tensor:
        """One pass over the training rows."""
        return self._stack.train_epoch()

    def look(self) -> float:
        """The validation metric, as after an epoch."""
        predictions = self._stack.predictions("validation", self._all)
        found = self._stack.evaluator.metrics([metric(self._metric)], "validation", predictions, self._all)
        return float(found[self._metric][0].mean())

    def weights(self) -> dict[str, Tensor]:
        """The first trial's weights by name."""
        return {name: v[0].detach().clone() for name, v in self._stack.models.leaves(self._stack.state.theta).items()}


def _like(name: str, weight: Tensor) -> Tensor:
    """A weight of our model as the plain one holds it, or back: its dense layers hold the transpose of S and A."""
    return weight.T if name in ("head.weight", "back.weight") else weight


_NAMES = {
    **{f"{part}.{kind}": f"backbone.{part}.{kind}" for part in ("conv1", "conv2", "fc") for kind in ("weight", "bias")},
    "head.weight": "S",
    "head.bias": "b",
    "back.weight": "feedback.A",
    "back.bias": "feedback.b",
}


@dataclass
class Side:
    """One of the contestants, and the seconds it took.

    Attributes:
        name: Its name.
        runner: What trains.
        n_trials: How many trials it trains at once.
        seconds: Per trial, of one round each: (wall, processor).
    """

    name: str
    runner: Plain | Ours
    n_trials: int
    seconds: list[tuple[float, float]] = field(default_factory=list)

    def median(self, clock: int) -> float:
        """Seconds per trial of the usual round, on the wall clock (0) or the processor's (1)."""
        return median(pair[clock] for pair in self.seconds)


def main() -> None:
    """Measures on the CPU and, where there is one, on a CUDA device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=5, help="per round")
    parser.add_argument("--sizes", help="stack sizes, comma-separated  [default: 1 and what calibration picks]")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cells = supported_cells(load_plugins(), ["deep_amtfl"], "mnist_imbalanced", 25, data_root(options.data))
    sizes = [int(size) for size in options.sizes.split(",")] if options.sizes else None
    found = [
        _measure(planned, data_root(options.data), device, sizes, options.rounds, options.epochs)
        for planned in cells
        for device in devices()
    ]
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


def _measure(
    planned: PlannedCell, root: Path, device: torch.device, sizes: list[int] | None, rounds: int, epochs: int
) -> dict[str, object]:
    problems = {split: load_split(planned.dataset, root, split, planned.options) for split in planned.splits}
    trials = max(groups(planned.trials(), planned.shapes), key=len)
    if device.type == "cuda":
        trials = [on_cuda(trial) for trial in trials]
    picked = None
    if sizes is None:
        picked = int(str(calibrate(planned.method, problems, trials, planned.dataset, str(device))["stack_size"]))
        print(f"{device}: calibration picks R = {picked}", flush=True)
    sides = _sides(planned, problems, trials, device, sizes or sorted({1, picked or 1}))
    for i in range(rounds):
        _round(sides, epochs, trials[0].cell.recipe, device, i)
    return _report(sides, device, picked)


def _sides(
    planned: PlannedCell, problems: dict[int, Problem], trials: Sequence[Trial], device: torch.device, sizes: list[int]
) -> list[Side]:
    ours = [Side(f"ours, R = {r}", Ours(planned, problems, trials[:r], device), r) for r in sizes]
    alone = Ours(planned, problems, trials[:1], device)
    start = alone.weights()
    for _ in range(SAME_EPOCHS):
        alone.epoch()
    plain = []
    for last in (False, True):
        for fused in (False, True):
            loop = Plain(problems[trials[0].split], trials[0], start, device, last, fused)
            for _ in range(SAME_EPOCHS):
                loop.epoch()
            name = f"plain, channels {'last' if last else 'first'}, {'fused Adam' if fused else 'Adam'}"
            _check_same(name, start, alone.weights(), loop.weights(), trials[0].cell.recipe)
            plain.append(Side(name, loop, 1))
    return ours + plain


def _check_same(
    name: str, start: dict[str, Tensor], ours: dict[str, Tensor], theirs: dict[str, Tensor], recipe: Recipe
) -> None:
    """Both must have moved to the same place; rounding is larger in bfloat16."""
    moved = sum(float((ours[n] - start[n]).square().sum()) for n in start) ** 0.5
    apart = sum(float((ours[n] - theirs[n]).square().sum()) for n in start) ** 0.5
    if not apart < (0.2 if recipe.autocast == "bfloat16" else 0.01) * moved:
        raise SystemExit(f"'{name}' is another training: weights {apart:.2g} apart after moving by {moved:.2g}.")
    print(f"{name}: the same training, weights {apart / moved:.1e} of their way apart after {SAME_EPOCHS} epochs")


def _round(sides: Sequence[Side], epochs: int, recipe: Recipe, device: torch.device, number: int) -> None:
    """Every side in turn, epoch by epoch, and a look each; who begins changes."""
    turn = number % len(sides)
    order = [*sides[turn:], *sides[:turn]]
    spent = {side.name: np.zeros(2) for side in sides}
    for _ in range(epochs):
        for side in order:
            spent[side.name] += seconds(side.runner.epoch, device) * recipe.max_epochs / epochs
    for side in order:
        spent[side.name] += seconds(side.runner.look, device) * (recipe.max_epochs // recipe.eval_every)
        wall, processor = spent[side.name] / side.n_trials
        side.seconds.append((float(wall), float(processor)))


def _report(sides: Sequence[Side], device: torch.device, picked: int | None) -> dict[str, object]:
    clock = 0 if device.type == "cuda" else 1
    best = min((side for side in sides if isinstance(side.runner, Plain)), key=lambda side: side.median(clock))
    rows = []
    print(f"{'':44} {'s/trial':>8} {'trials/h':>9} {'ratio':>6}   processor: {'s/trial':>8} {'ratio':>6}")
    for side in sides:
        ratios = [
            [theirs[k] / own[k] for own, theirs in zip(side.seconds, best.seconds, strict=True)] for k in range(2)
        ]
        wall, processor = side.median(0), side.median(1)
        mark = "  (best plain)" if side is best else ""
        if isinstance(side.runner, Ours):
            mark = f"  goal {GOAL} " + ("met" if median(ratios[clock]) >= GOAL else "MISSED")
        print(
            f"{side.name:44} {wall:8.1f} {3600 / wall:9.2f} {median(ratios[0]):6.3f}              "
            f"{processor:8.1f} {median(ratios[1]):6.3f}{mark}",
            flush=True,
        )
        rows.append({"side": side.name, "seconds": side.seconds, "ratio": median(ratios[0]),
                     "processor_ratio": median(ratios[1]), "ratios": ratios})  # fmt: skip
    return {"device": device_name(device), "torch": torch.__version__, "R": picked, "best": best.name, "sides": rows}


if __name__ == "__main__":
    main()
