"""`mtbench run`: trains what a study asks for and the store does not have."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from mtbench.cli.completion import complete_datasets, complete_methods, complete_search
from mtbench.cli.lists import ListsWithBlanks, split_list
from mtbench.cli.options import by_dataset, data_option, pairs, plugin_option, plugins_with_warnings
from mtbench.cli.terminal import say, warn

if TYPE_CHECKING:
    from mtbench.engines import Engine
    from mtbench.plan.grid import PlannedCell
    from mtbench.plan.study import Study
    from mtbench.plugins.host import Plugins
    from mtbench.run.events import Summary

_INTERRUPTED = 130


@click.command(cls=ListsWithBlanks)
@click.argument("study_file", required=False, metavar="[STUDY.TOML]", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--methods", metavar="A,B", shell_complete=complete_methods, help="Methods, joined by commas.")
@click.option("--datasets", metavar="X,Y", shell_complete=complete_datasets, help="Data sets, joined by commas.")
@click.option("--splits", type=int, help="Splits of each data set.  [default: the data set's own]")
@click.option("--seeds", type=int, help="Seeds per split.  [default: 1]")
@click.option(
    "--search",
    metavar="KIND",
    shell_complete=complete_search,
    help="default (one setting), grid, random:N (N settings, the first being the defaults), tpe:N (N settings in "
    "rounds, later ones where earlier ones did well; needs mtbench[optuna]), or halving:N (N settings a little, the "
    "better half twice as long, and so on).  [default: default]",
)
@click.option("--set", "settings", multiple=True, metavar="METHOD.PARAM=V1,V2", help="Values of a hyperparameter.")
@click.option("--recipe", multiple=True, metavar="DATASET.FIELD=V", help="Changes a data set's recipe.")
@click.option("--option", "options", multiple=True, metavar="DATASET.NAME=V", help="Changes a data set's option.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="The store.  [default: results/default]")
@data_option
@click.option("--engine", metavar="NAME", help="Where stacks run: local, or an engine of a plugin.  [default: local]")
@click.option("--devices", metavar="LIST", help="auto, cpu, cpu:N or cuda:0,cuda:1.  [default: auto]")
@click.option(
    "--refit/--no-refit", default=None, help="Train the selected setting again on training + validation rows."
)
@click.option("--selection", metavar="RULE", help="per_split or across_splits.  [default: per_split]")
@click.option("--stack-size", metavar="auto|R", help="Trials per stack.  [default: auto, measured]")
@click.option("--dtype", metavar="TYPE", help="float32 or float64.  [default: the recipe's]")
@click.option("--time-limit", type=float, metavar="SECONDS", help="Kill a stack that takes longer.")
@plugin_option
@click.option("--dry-run", is_flag=True, help="Show the grid and what is missing; train nothing.")
def run(study_file: Path | None, root: Path, plugin_files: tuple[Path, ...], dry_run: bool, **given: Any) -> None:
    """Trains methods on data sets, from options or from a study file; options win over the file.

    Only what the store lacks is trained, so the same command goes on with an interrupted run.

    \b
    Examples:
      mtbench run --methods stl,mt_nn,amtfl --datasets digits
      mtbench run --methods stl,amtl --datasets school --search random:25 --refit --out results/school
      mtbench run --methods nn,mt_nn --datasets digits --search tpe:25
      mtbench run --methods nn,mt_nn --datasets digits --search halving:64
      mtbench run --methods amtfl --datasets digits --set amtfl.alpha=0.1,0.01 --recipe digits.max_epochs=20
      mtbench run study.toml --dry-run
    """
    with _interruptible(), ExitStack() as ends:
        study = _study(study_file, plugin_files, given)
        engine = None if dry_run else _early_engine(study, ends)
        plugins = plugins_with_warnings(study.plugins, [*study.methods, *study.datasets])
        # Imported late, so that mistakes above are answered without waiting for torch.
        from mtbench.engines.by_name import engine_class
        from mtbench.plan.grid import plan_cells

        engine_class(study.engine, plugins)
        cells = plan_cells(study, plugins, root)
        _warn_of_changes(study, cells, plugins)
        if dry_run:
            _show_plan(cells, study)
            return
        n_told = len(plugins.warnings)
        summary = _run(study, cells, plugins, root, engine or _later_engine(study, plugins, ends))
        ends.close()  # what an engine has to say of its end is told, too
        for warning in plugins.warnings[n_told:]:
            warn(warning)
        _conclude(summary, cells, study)


def _warn_of_changes(study: Study, cells: Sequence[PlannedCell], plugins: Plugins) -> None:
    """Code is no part of a trial's identity, nor what sources are made into: either may have changed under results."""
    from mtbench.run.provenance import changed_content, changed_plugin_files
    from mtbench.store import Store, scan

    if (study.out / "store.json").exists():
        stacks = scan(Store.open(study.out)).stacks
        for warning in (*changed_plugin_files(cells, plugins, stacks), *changed_content(cells, stacks)):
            warn(warning)


def _early_engine(study: Study, ends: ExitStack) -> Engine | None:
    """The local engine, whose processes import torch while this one plans; None where the study names another."""
    from mtbench.engines import LocalEngine

    if study.engine != LocalEngine.name:
        return None
    engine = LocalEngine(study.devices)
    ends.callback(_close, engine)
    engine.prepare()
    return engine


def _later_engine(study: Study, plugins: Plugins, ends: ExitStack) -> Engine:
    from mtbench.engines.by_name import make_engine

    engine = make_engine(study.engine, study.devices, plugins)
    ends.callback(_close, engine)
    return engine


def _close(engine: Engine) -> None:
    with _undisturbed():
        engine.close()


def _run(study: Study, cells: Sequence[PlannedCell], plugins: Plugins, root: Path, engine: Engine) -> Summary:
    from mtbench.cli.display import display
    from mtbench.run.runner import Runner
    from mtbench.store import Store

    store = Store.create(study.out)
    with display(cells) as listener:
        return Runner(study, cells, store, engine, plugins, root, listener).run()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C, or a stop asked for by the system, ends with the command that goes on."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except KeyboardInterrupt:
        command = shlex.join(["mtbench", *sys.argv[1:]])
        say(f"Interrupted. What has finished is in the store; go on with:\n  {command}", err=True)
        sys.exit(_INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Puts off impatience: a second Ctrl-C must not leave workers behind."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _conclude(summary: Summary, cells: Sequence[PlannedCell], study: Study) -> None:
    for cell in cells:
        if cell.skipped is not None:
            say(f"Skipped {cell.cell.label}: {cell.skipped}", err=True)
    for note in summary.notes:
        warn(note)
    for (label, status, reason), count in _counted(summary).items():
        warn(f"{label}: {count} trial(s) {status}: {reason}")
    report = "mtbench report" if study.out == Path("results/default") else f"mtbench report {study.out}"
    n_before = summary.n_present + summary.n_elsewhere
    failed = f", {summary.n_failed} failed" if summary.n_failed else ""
    nothing = "" if summary.n_finished or summary.n_failed else " Nothing was left to train."
    say(f"{summary.n_trained} trials trained, {n_before} were there already{failed}.{nothing} See `{report}`.")
    if summary.n_lost:
        raise click.ClickException(
            f"The store has lost {summary.n_lost} trial(s) while the run went on: files in {study.out} were removed or "
            "damaged. `mtbench store verify` names damaged ones; the same command trains what is missing."
        )
    if summary.n_failed and not summary.n_finished:
        raise click.ClickException(f"No trial finished. `{report}` shows why.")


def _counted(summary: Summary) -> dict[tuple[str, str, str], int]:
    found: dict[tuple[str, str, str], int] = {}
    for trial, status, reason in summary.failures:
        key = (trial.cell.label, str(status), reason)
        found[key] = found.get(key, 0) + 1
    return found


def _show_plan(cells: Sequence[PlannedCell], study: Study) -> None:
    from mtbench.cli.tables import print_table
    from mtbench.plan.rounds import SearchRounds, validation_results
    from mtbench.store import Store, scan

    store = Store.open(study.out) if (study.out / "store.json").exists() else None
    finished = store.finished_ids() if store else set()
    stacks = scan(store).stacks if store else []
    rows = []
    for cell in cells:
        missing = "skipped"
        if cell.skipped is None:
            missing = str(SearchRounds(cell).missing(finished, validation_results(cell, stacks)))
        refits = str(len(cell.splits) * cell.seeds) if cell.refit and not cell.skipped else "none"
        place = [str(len(cell.splits)), str(cell.seeds), str(cell.search.n_settings)]
        rows.append(
            [cell.cell.method, cell.cell.dataset, *place, str(cell.n_trials), missing, refits, cell.skipped or ""]
        )
    columns = ["method", "dataset", "splits", "seeds", "settings", "trials", "missing", "refits", "reason"]
    print_table(columns, rows, f"Store {study.out}")


def _study(path: Path | None, plugin_files: tuple[Path, ...], given: dict[str, Any]) -> Study:
    """The study file, if any, with the options over it."""
    from mtbench.plan.study import narrowed, read_study, study_from

    base = read_study(path).model_dump(exclude_unset=True) if path is not None else {}
    if path is None and not (given["methods"] and given["datasets"]):
        raise click.UsageError("Give --methods and --datasets, or a study file.")
    base = narrowed(base, *(split_list(given[name] or "") for name in ("methods", "datasets")))
    values: dict[str, Any] = dict(base)
    for name in ("splits", "seeds", "search", "out", "engine", "devices", "refit", "selection", "dtype", "time_limit"):
        if given[name] is not None:
            values[name] = given[name]
    if given["stack_size"] is not None:
        values["stack_size"] = _stack_size(given["stack_size"])
    if plugin_files:
        values["plugins"] = [*base.get("plugins", []), *plugin_files]
    values["set"] = base.get("set", {}) | {key: split_list(text) for key, text in pairs(given["settings"], "--set")}
    for option, name in (("--recipe", "recipe"), ("--option", "options")):
        values[name] = by_dataset(base.get(name, {}), pairs(given[name], option))
    return study_from(values, str(path) if path is not None else "Options")


def _stack_size(text: str) -> int | str:
    return int(text) if text.isdigit() else text
