"""The command line. Only here does mtbench print, exit, or catch an `MtbenchError`.

Commands are imported when they are called: `mtbench --help` and shell completion stay fast.
"""

from __future__ import annotations

import click

from mtbench import __version__
from mtbench.cli.lazy import LazyGroup, Target


@click.group(
    cls=LazyGroup,
    targets={
        "run": Target("mtbench.cli.run:run", "Train methods on data sets; go on with what is missing."),
        "report": Target("mtbench.cli.report:report", "Print the leaderboard of a results store."),
        "list": Target("mtbench.cli.listing:list_", "List methods, weightings, metrics, data sets and the like."),
        "show": Target("mtbench.cli.show:show", "Show all that is known of a method, weighting, data set or metric."),
        "show-transfer": Target("mtbench.cli.transfer:show_transfer", "Draw what a method learned between tasks."),
        "show-weights": Target("mtbench.cli.weights:show_weights", "Show how a weighting weighed the tasks by epoch."),
        "data": Target("mtbench.cli.data:data", "See, fetch and verify the data of data sets."),
        "store": Target("mtbench.cli.store:store", "List, verify and compact the files of a results store."),
        "new": Target("mtbench.cli.new:new", "Write a plugin package to start from."),
        "completion": Target("mtbench.cli.completion:completion", "Print the script that completes names in a shell."),
    },
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="mtbench %(version)s")
def main() -> None:
    """Compares multi-task learning methods fairly.

    \b
    Example:
      mtbench run --methods stl,amtfl --datasets digits
      mtbench report
    """
