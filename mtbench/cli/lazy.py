"""A click group that imports a command when it is called, and turns mtbench's errors into one line."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from mtbench.errors import MtbenchError
from mtbench.printable import one_line


class Target(NamedTuple):
    """A command that is not imported yet.

    Attributes:
        path: "module:attribute".
        short_help: Its line in the list of commands.
    """

    path: str
    short_help: str


class LazyGroup(click.Group):
    """A group whose commands are named, not imported.

    Args:
        targets: Commands by name, in the order they are listed.
    """

    def __init__(self, *args: Any, targets: Mapping[str, Target], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._targets = targets

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        return list(self._targets)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports a command."""
        if cmd_name not in self._targets:
            return None
        module, _, attribute = self._targets[cmd_name].path.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, target.short_help) for name, target in self._targets.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Completes names of commands without importing them, and options."""
        named = [(name, target) for name, target in self._targets.items() if name.startswith(incomplete)]
        items = [CompletionItem(name, help=target.short_help) for name, target in named]
        return items + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds a command; one that does not exist is answered with the nearest that does."""
        known = args[0] in self._targets or args[0].startswith("-")
        if not known and not ctx.resilient_parsing:
            raise click.exceptions.NoSuchCommand(args[0], possibilities=list(self._targets), ctx=ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command. An MtbenchError becomes one line on stderr and exit code 1."""
        try:
            return super().invoke(ctx)
        except MtbenchError as error:
            raise click.ClickException(one_line(" ".join(str(error).split()))) from error
