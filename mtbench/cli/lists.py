"""Lists on the command line: words that commas separate, with or without blanks."""

from __future__ import annotations

from collections.abc import Sequence

import click


class ListsWithBlanks(click.Command):
    """A command whose lists may have blanks after their commas, as people write them: `--methods stl, nn`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Joins a list that the shell has split at its blanks."""
        return super().parse_args(ctx, joined_lists(args))


def joined_lists(args: Sequence[str]) -> list[str]:
    """Words of a command line, in which the words of a list are one: what follows a comma belongs to it."""
    found: list[str] = []
    for word in args:
        is_list = bool(found) and (found[-1].startswith("--") or (len(found) > 1 and found[-2].startswith("--")))
        if is_list and not word.startswith("-") and (found[-1].endswith(",") or word.startswith(",")):
            found[-1] += word
        else:
            found.append(word)
    return found


def split_list(text: str) -> list[str]:
    """The words of a list, which commas separate; blanks around them are none of theirs."""
    return [word.strip() for word in text.split(",") if word.strip()]
