"""Text that is safe to print: names, reasons and messages come from plugins and foreign stores and may hold anything.

A control character could move the cursor, change colours or retitle a terminal, and a line break tears a table's row.
"""

from __future__ import annotations

import re

_BREAKS = re.compile("(?:\r\n|[\n\r\t\v\f\x1c-\x1e\x85\u2028\u2029])")
# C0 and C1 control characters, DEL, lone surrogates (which no encoding can print), and the marks that turn the
# direction of writing, with which a text can pose as another.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def one_line(text: str) -> str:
    r"""A text in one line: line breaks and tabs as spaces, other control characters as "\x1b"."""
    return _escaped(_BREAKS.sub(" ", text))


def lines(text: str) -> str:
    r"""A text of several lines: line feeds stay, tabs become spaces, other control characters become "\x1b"."""
    return "\n".join(one_line(line) for line in text.split("\n"))


def can_be_encoded(text: str, encoding: str | None) -> bool:
    """Whether a stream of this encoding has signs for all of a text; ASCII where it names none."""
    try:
        text.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _escaped(text: str) -> str:
    return _UNSAFE.sub(lambda found: _escape(ord(found[0])), text)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
