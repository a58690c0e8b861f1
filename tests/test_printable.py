"""Nothing that a name may hold reaches a terminal as anything but signs."""

import pytest

from mtbench.printable import lines, one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines", "two lines"),
        ("two\r\nlines", "two lines"),
        ("a\tb\vc\u2028d\x85e", "a b c d e"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x07\x00\x7f\x9b", r"\x07\x00\x7f\x9b"),
        ("abc\u202edef", r"abc\u202edef"),
        ("half of a pair: \ud83d", r"half of a pair: \ud83d"),
        ("Größe [µm] – β ✓ 語 🙂", "Größe [µm] – β ✓ 語 🙂"),
        ("", ""),
    ],
)
def test_a_text_is_one_line_without_control_characters(text, shown):
    assert one_line(text) == shown
    shown.encode()


def test_every_control_character_is_shown_or_a_space():
    shown = one_line("".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)])))
    assert shown.isprintable()


def test_a_text_of_several_lines_keeps_them():
    assert lines("one\n\x1b[2Jtwo\r\tthree\n") == "one\n" + r"\x1b[2Jtwo  three" + "\n"
