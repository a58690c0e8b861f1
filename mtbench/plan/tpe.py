"""Tree-structured Parzen estimators through Optuna: later rounds look where earlier ones did well.

Source: Bergstra, Bardenet, Bengio, Kegl: Algorithms for Hyper-Parameter Optimization, NeurIPS 2011; as `TPESampler` of
Optuna has it, whose settings are pinned here because its versions differ in them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mtbench.contracts.hyperparameters import Hyperparameter, six_digits
from mtbench.contracts.seeds import seed_from
from mtbench.contracts.values import Value
from mtbench.errors import StudyError
from mtbench.plan.search import Round, Rounds, Search, Setting, Size, listed

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import Trial

_FIRST = 5  # settings of the first round, which are those of a random search
_PART = 5  # a later round has one setting for so many before it, and no fewer than the first
_ASKED = 10  # times at most for a setting that was not tried: among few settings Optuna repeats itself


def round_sizes(n_settings: int) -> list[int]:
    """Settings of each round. They depend on nothing but N, and the rounds of a larger N begin alike."""
    sizes: list[int] = []
    while (rest := n_settings - sum(sizes)) > 0:
        sizes.append(min(max(_FIRST, sum(sizes) // _PART), rest))
    return sizes


def check_optuna() -> None:
    """Makes sure that Optuna can be imported, without importing it.

    Raises:
        StudyError: It cannot.
    """
    if importlib.util.find_spec("optuna") is None:
        raise StudyError(
            "The search tpe:N needs the package optuna; it is not installed. `python -m pip install 'mtbench[optuna]'` "
            "installs it; random:N and halving:N do without."
        )


def tpe(
    drawn: Sequence[Setting], axes: Mapping[str, Hyperparameter], n_settings: int, owner: tuple[str, str]
) -> Search:
    """A search by Optuna's tree-structured Parzen estimator.

    Args:
        drawn: N draws of a random search, draw 0 first; fewer where there are no more settings.
        axes: What varies, each with its range, as `mtbench.plan.settings.axes` has it.
        n_settings: N.
        owner: Names of the method and the data set, for random numbers.
    """
    if len(drawn) < n_settings:
        return listed(drawn)
    sizes = [Size(n) for n in round_sizes(n_settings)]
    return TPE(known=drawn[: sizes[0].n_settings], sizes=sizes, axes=axes, drawn=drawn, owner=owner)


@dataclass(frozen=True, kw_only=True)
class TPE(Search):
    """Rounds that Optuna is asked for, and told the results of.

    Attributes:
        axes: What varies, each with its range.
        drawn: As many random draws as there are settings; they fill in where Optuna repeats itself.
        owner: Names of the method and the data set.
    """

    axes: Mapping[str, Hyperparameter]
    drawn: Sequence[Setting]
    owner: tuple[str, str]

    def rounds(self, place: str) -> Rounds:
        """The random draws, then what Optuna proposes."""
        results = yield Round(self.known)
        spread = {name: distribution(h) for name, h in self.axes.items()}
        study = new_study(seed_from(*self.owner, place, "tpe") % 2**32)
        for setting, value in zip(self.known, results, strict=True):
            _add(study, spread, setting, value)
        tried = {tuple(setting.values()) for setting in self.known}
        for size in self.sizes[1:]:
            proposed = [self._proposed(study, spread, tried) for _ in range(size.n_settings)]
            results = yield Round([setting for _, setting in proposed])
            for (trial, setting), value in zip(proposed, results, strict=True):
                if trial is None:
                    _add(study, spread, setting, value)
                else:
                    _tell(study, trial, value)

    def _proposed(
        self, study: Study, spread: Mapping[str, BaseDistribution], tried: set[tuple[Value, ...]]
    ) -> tuple[Trial | None, Setting]:
        """A setting that was not tried before, and joins those tried: Optuna's, or where it has none a random draw."""
        for _ in range(_ASKED):
            trial = study.ask(dict(spread))
            setting = {**self.known[0], **{name: _as_drawn(h, trial.params[name]) for name, h in self.axes.items()}}
            if (key := tuple(setting.values())) not in tried:
                tried.add(key)
                return trial, setting
            _tell(study, trial, math.nan)
        drawn = next(setting for setting in self.drawn if tuple(setting.values()) not in tried)
        tried.add(tuple(drawn.values()))
        return None, drawn


def new_study(seed: int) -> Study:
    """An Optuna study that minimises, in memory."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it tells of every study that is made
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # Optuna 4 calls both options so
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=_FIRST, n_ei_candidates=24, multivariate=True, constant_liar=True, seed=seed
        )
    return optuna.create_study(sampler=sampler)


def distribution(h: Hyperparameter) -> BaseDistribution:
    """The values that a random search draws from, as Optuna has them."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    span = h.range
    assert span is not None
    if span.low is None or span.high is None:
        return CategoricalDistribution(span.grid)
    if h.kind is int:
        low, high = round(span.low), round(span.high)
        return IntDistribution(low, high, log=span.log and low > 0)
    return FloatDistribution(span.low, span.high, log=span.log)


def _as_drawn(h: Hyperparameter, value: Value) -> Value:
    """A value as a random search would draw it; those of lists are as they are listed."""
    drawn = h.range is not None and h.range.low is not None
    return six_digits(value) if drawn and isinstance(value, float) else value


def _tell(study: Study, trial: Trial, value: float) -> None:
    """Tells how a proposal did. Optuna leaves failed ones (NaN) aside."""
    from optuna.trial import TrialState

    if math.isnan(value):
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, value)


def _add(study: Study, spread: Mapping[str, BaseDistribution], setting: Setting, value: float) -> None:
    """Tells of a setting that was not proposed, unless it failed or lies outside, as draw 0 of a study may."""
    from optuna.trial import create_trial

    params = {name: setting[name] for name in spread}
    with contextlib.suppress(ValueError):  # what lies outside is refused
        if not math.isnan(value):
            study.add_trial(create_trial(params=params, distributions=dict(spread), value=value))
