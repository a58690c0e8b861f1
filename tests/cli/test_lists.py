"""Lists with blanks, as people write them and as a shell hands them on."""

import pytest

from mtbench.cli.lists import joined_lists, split_list


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("--methods stl, nn", ["--methods", "stl,nn"]),
        ("--methods stl, nn, amtl --dry-run", ["--methods", "stl,nn,amtl", "--dry-run"]),
        ("--methods stl , nn", ["--methods", "stl,nn"]),
        ("--methods stl ,nn", ["--methods", "stl,nn"]),
        ("--methods=stl, nn", ["--methods=stl,nn"]),
        ("study.toml --methods stl, nn", ["study.toml", "--methods", "stl,nn"]),
        ("--methods stl,nn study.toml", ["--methods", "stl,nn", "study.toml"]),
        ("--methods stl, --datasets digits", ["--methods", "stl,", "--datasets", "digits"]),
        ("--set amtfl.alpha=0.1, 0.01 --refit", ["--set", "amtfl.alpha=0.1,0.01", "--refit"]),
        ("--devices cuda:0, cuda:1", ["--devices", "cuda:0,cuda:1"]),
        ("results/a, results/b", ["results/a,", "results/b"]),
        ("", []),
    ],
)
def test_what_follows_a_comma_belongs_to_the_list(words, meant):
    assert joined_lists(words.split()) == meant


def test_blanks_around_the_words_of_a_list_are_none_of_theirs():
    assert split_list(" stl, nn ,, amtl,") == ["stl", "nn", "amtl"]
