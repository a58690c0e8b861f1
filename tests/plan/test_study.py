"""Studies: what a malformed one is answered, and what wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtbench.errors import StudyError
from mtbench.plan.search import parse_search
from mtbench.plan.study import Study, narrowed, read_study, study_from

GOOD = 'methods = ["nn"]\ndatasets = ["digits"]\n'


def read(tmp_path, text):
    path = tmp_path / "study.toml"
    path.write_text(text)
    return read_study(path)


def test_a_study_says_all_that_is_to_be_run(tmp_path):
    study = read(
        tmp_path,
        """
        methods = ["nn", "mt_nn", "nn"]
        datasets = ["digits"]
        search = "random:25"
        stack_size = 16
        plugins = ["mine.py"]
        [set]
        "nn.lambda_" = 0.1
        "mt_nn.mu" = [0.1, 0.2]
        [recipe.digits]
        max_epochs = 3
        """,
    )
    assert study.methods == ["nn", "mt_nn"]
    assert parse_search(study.search) == ("random", 25)
    assert study.stack_size == 16
    assert study.set == {"nn.lambda_": [0.1], "mt_nn.mu": [0.1, 0.2]}
    assert study.recipe == {"digits": {"max_epochs": 3}}
    assert study.plugins == [tmp_path / "mine.py"]
    assert study.out == Path("results/default")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "splits = ", r"study\.toml is not valid TOML: .*line 3"),
        (GOOD + "split = 3", r"study\.toml: unknown key 'split'\. Known: methods, datasets, splits"),
        ('datasets = ["digits"]', r"study\.toml: key 'methods' is missing"),
        ('methods = []\ndatasets = ["digits"]', r"key 'methods': expected a list of names, at least one; found \[\]"),
        ('methods = "nn"\ndatasets = ["digits"]', r"key 'methods': expected a list of names, at least one; found 'nn'"),
        (GOOD + 'splits = "many"', r"key 'splits': expected a whole number, at least 1; found 'many'"),
        (GOOD + "splits = 0", r"key 'splits': expected a whole number, at least 1; found 0"),
        (
            GOOD + 'search = "bayes"',
            r"key 'search': expected default, grid, random:N, tpe:N \(N from 1 to 10000\) or halving:N.*'bayes'",
        ),
        (GOOD + "splits = true", r"key 'splits': expected a whole number, at least 1; found True"),
        (
            GOOD + "set = 3",
            r"key 'set': expected a table of \"method\.hyperparameter\" = value or list of values; found 3",
        ),
        (GOOD + "[set.nn]\nlambda_ = 1.0", r"expected a table of \"method\.hyperparameter\" = value or list of values"),
        (GOOD + "[recipe]\ndigits = 5", r"expected a table for each data set, such as \[recipe\.digits\]; found 5"),
        (GOOD + 'dtype = "float16"', r"key 'dtype': expected float32 or float64; found 'float16'"),
        (GOOD + 'selection = "best"', r"key 'selection': expected per_split or across_splits; found 'best'"),
        (GOOD + 'search = "random:10001"', r"key 'search': expected default, grid, random:N"),
        (GOOD + 'search = "random:0"', r"key 'search': expected default, grid, random:N"),
        (GOOD + 'search = "tpe:0"', r"expected default, .*tpe:N.*; found 'tpe:0'"),
        (GOOD + 'search = "tpe:x"', r"expected default, .*tpe:N.*; found 'tpe:x'"),
        (GOOD + 'search = "grid:5"', r"expected default, .*; found 'grid:5'"),
        (GOOD + 'search = "halving:3"', r"halving:N \(N from 4 to 10000\); found 'halving:3'"),
        (GOOD + 'stack_size = "big"', r"key 'stack_size': expected auto or a whole number, at least 1; found 'big'"),
        (GOOD + "stack_size = 0", r"key 'stack_size': expected auto or a whole number, at least 1; found 0"),
        (GOOD + 'engine = ""', r"key 'engine': expected the name of an engine; found ''"),
        (GOOD + 'devices = "cpu:0"', r"key 'devices': expected auto"),
        (GOOD + 'devices = "tpu"', r"key 'devices': expected auto, cpu, cpu:N or a list such as cuda:0,cuda:1"),
        (GOOD + "time_limit = -1", r"key 'time_limit': expected a number of seconds above 0; found -1"),
        (GOOD + "[set]\nlambda_ = 1", r"key 'set': expected 'lambda_' to read method\.hyperparameter"),
        (GOOD + "recipe = 3", r"key 'recipe': expected a table for each data set, such as \[recipe\.digits\]; found 3"),
    ],
)
def test_a_malformed_study_is_answered_with_file_key_and_expectation(tmp_path, text, message):
    with pytest.raises(StudyError, match=message) as caught:
        read(tmp_path, text)
    assert str(tmp_path / "study.toml") in str(caught.value)


def test_a_study_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(StudyError, match=r"no\.toml does not exist"):
        read_study(tmp_path / "no.toml")
    (tmp_path / "latin.toml").write_bytes(b'methods = ["\xe9"]')
    with pytest.raises(StudyError, match=r"latin\.toml cannot be read: .*utf-8"):
        read_study(tmp_path / "latin.toml")
    with pytest.raises(StudyError, match=r"cannot be read: .*[Dd]irectory"):
        read_study(tmp_path)


def test_values_from_the_command_line_are_checked_the_same_way():
    with pytest.raises(StudyError, match=r"^Options: key 'splits'"):
        study_from({"methods": ["nn"], "datasets": ["digits"], "splits": -1}, "Options")


def test_a_study_cannot_be_changed():
    study = Study(methods=["nn"], datasets=["digits"])
    with pytest.raises(ValueError, match="frozen"):
        study.splits = 3


def test_the_devices_of_other_engines_are_left_to_them():
    study = study_from({"methods": ["nn"], "datasets": ["digits"], "devices": "one,two", "engine": "ssh"}, "Options")
    assert (study.engine, study.devices) == ("ssh", "one,two")


WIDE = {
    "methods": ["nn", "mt_nn"],
    "datasets": ["digits", "school"],
    "splits": 2,
    "set": {"nn.lambda_": [0.1], "mt_nn.mu": [0.1]},
    "recipe": {"digits": {"max_epochs": 3}, "school": {"max_epochs": 4}},
    "options": {"school": {"variant": 1}},
}


def test_a_study_that_is_narrowed_drops_what_concerns_what_is_left_out():
    found = narrowed(WIDE, ["nn"], ["digits"])
    assert found == {
        "methods": ["nn"],
        "datasets": ["digits"],
        "splits": 2,
        "set": {"nn.lambda_": [0.1]},
        "recipe": {"digits": {"max_epochs": 3}},
        "options": {},
    }
    assert narrowed(WIDE, [], []) == WIDE
    assert narrowed(WIDE, ["nn"], [])["recipe"] == WIDE["recipe"]


def test_what_a_study_misspells_stays_for_the_error_when_it_is_narrowed():
    wrong = {**WIDE, "set": {"mn.lambda_": [0.1]}, "recipe": {"shcool": {"max_epochs": 3}}}
    found = narrowed(wrong, ["nn"], ["digits"])
    assert (found["set"], found["recipe"]) == (wrong["set"], wrong["recipe"])


def test_devices_may_have_blanks_after_their_commas():
    study = study_from({"methods": ["nn"], "datasets": ["digits"], "devices": "cuda:0, cuda:1"}, "Options")
    assert study.devices == "cuda:0,cuda:1"
