"""Completion in the shell: the script that switches it on, and the names it offers, found without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from mtbench.errors import MtbenchError
from mtbench.plan.search import FEWEST
from mtbench.plugins.names import known_names

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Prints the script that completes commands, options and names in SHELL.

    \b
    Examples:
      echo 'eval "$(mtbench completion bash)"' >> ~/.bashrc
      echo 'eval "$(mtbench completion zsh)"' >> ~/.zshrc
      mtbench completion fish > ~/.config/fish/completions/mtbench.fish

    The next shell then completes names; the first completion after a plugin was installed takes some seconds.
    """
    script = get_completion_class(shell)
    if script is None:
        raise click.UsageError(f"click knows no completion for {shell}.")
    click.echo(script(ctx.find_root().command, {}, "mtbench", "_MTBENCH_COMPLETE").source())


def complete_method(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of methods, and of weightings after a "+"."""
    return _starting(_methods(incomplete), incomplete)


def complete_dataset(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of data sets."""
    return _starting(known_names().datasets, incomplete)


def complete_either(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of methods, weightings, data sets and metrics."""
    names = known_names()
    return _starting([*_methods(incomplete), *names.weightings, *names.datasets, *names.metrics], incomplete)


def complete_methods(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """A list of methods, joined by commas, each perhaps with a weighting."""
    return _continuing(_methods(incomplete.rpartition(",")[2]), incomplete)


def complete_datasets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """A list of data sets, joined by commas."""
    return _continuing(known_names().datasets, incomplete)


def complete_metrics(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """A list of metrics, joined by commas."""
    return _continuing(known_names().metrics, incomplete)


def complete_search(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Kinds of searches; those of N settings up to the number."""
    return _starting(["default", "grid", *(f"{kind}:" for kind in FEWEST)], incomplete)


def complete_stored_method(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the methods that the store of the command line has, with their weightings."""
    return _starting(_stored(ctx)[0] or _methods(incomplete), incomplete)


def complete_weighted_method(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Those of them that have a weighting."""
    from mtbench.contracts.trials import WITH

    return _starting([m for m in _stored(ctx)[0] if WITH in m] or _methods(incomplete), incomplete)


def complete_stored_dataset(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the data sets that the store has."""
    return _starting(_stored(ctx)[1] or known_names().datasets, incomplete)


def complete_stored_methods(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """A list of methods that the store has, joined by commas."""
    return _continuing(_stored(ctx)[0] or _methods(incomplete.rpartition(",")[2]), incomplete)


def complete_stored_datasets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """A list of data sets that the store has, joined by commas."""
    return _continuing(_stored(ctx)[1] or known_names().datasets, incomplete)


def _stored(ctx: click.Context) -> tuple[list[str], list[str]]:
    """Names of methods and of data sets in the store of a command line; none where there is no such store."""
    # Imported here, because numpy would make every other completion slow.
    from mtbench.store.scan import scan
    from mtbench.store.store import Store

    try:
        # Behind an option that waits for its value, click leaves the words before it unread.
        store = Store.open(Path(ctx.args[0]) if ctx.args else ctx.params["directory"])
        cells = [stack.cell for stack in scan(store).stacks]
    except (MtbenchError, OSError):
        return [], []
    shown = [cell for cell in cells if not cell.get("role")]
    return sorted({str(cell["method"]) for cell in shown}), sorted({str(cell["dataset"]) for cell in shown})


def _methods(incomplete: str) -> list[str]:
    """Names of methods; of one method under each weighting, where it is named up to the "+"."""
    # Imported here, because numpy would make `--help` slow.
    from mtbench.contracts.trials import WITH

    names = known_names()
    method, sign, _ = incomplete.partition(WITH)
    return [method + sign + name for name in names.weightings] if method in names.methods and sign else names.methods


def _starting(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _continuing(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Completes the last name of a list; names it already holds are not offered again."""
    before, comma, last = incomplete.rpartition(",")
    taken = set(before.split(","))
    return [CompletionItem(before + comma + name) for name in names if name.startswith(last) and name not in taken]
