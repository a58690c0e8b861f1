"""Tables in narrow terminals: which columns stay, and how texts are shortened and wrapped. Words are never broken."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from rich.cells import cell_len


def columns_that_fit(widths: Sequence[int], least_first: Sequence[int], room: int) -> list[int]:
    """The columns of a table that a width has room for, in order.

    Args:
        widths: Of the columns, with what separates them.
        least_first: Columns that may be left out, the least important first; the others always stay.
        room: The width.
    """
    kept, total = set(range(len(widths))), sum(widths)
    for i in least_first:
        if total <= room:
            break
        kept.discard(i)
        total -= widths[i]
    return sorted(kept)


def shortened(text: str, room: int) -> str:
    """A text in at most so many columns of a terminal, with "…" in its middle where something was left out.

    Beginning and end stay: variants of one name differ at the end.
    """
    if cell_len(text) <= room:
        return text
    end = max((room - 1) // 3, 0)
    tail = _tail(text, end)
    return _head(text, max(room - 1 - cell_len(tail), 0)) + "…" + tail


def wrapped(text: str, width: int | None, indent: str = "") -> str:
    """A text wrapped between words; a word that is longer than the width stays whole.

    Args:
        text: One line.
        width: Columns; None does not wrap.
        indent: Goes before every further line.
    """
    if width is None:
        return text
    return "\n".join(
        textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    )


def widest(cells: Iterable[str]) -> int:
    """Columns of a terminal that the longest of some texts takes; 0 where there are none."""
    return max(map(cell_len, cells), default=0)


def _head(text: str, room: int) -> str:
    while cell_len(text) > room:
        text = text[:-1]
    return text


def _tail(text: str, room: int) -> str:
    while cell_len(text) > room:
        text = text[1:]
    return text
