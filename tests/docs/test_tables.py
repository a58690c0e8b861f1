"""What the tables of the docs list is what the code has: no more, no less, with the same defaults."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from mtbench import load
from mtbench.contracts.recipe import Recipe
from mtbench.contracts.trials import FINAL, Status
from mtbench.plan.selection import RULES
from mtbench.plan.study import Study
from mtbench.plugins.host import load_plugins
from mtbench.report.formats import RECORD_FIELDS, TASK_FIELDS, as_json
from mtbench.report.reading import read

DOCS = Path(__file__).parents[2] / "docs"
DATASETS = load_plugins().datasets


def table(page, first_header):
    """The rows of the table whose first column has this header, as lists of texts."""
    lines = (DOCS / page).read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first_header} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def code(text):
    """What stands in `code` in a text."""
    return re.findall(r"`([^`]+)`", text)


def names(page, first_header):
    return [name for row in table(page, first_header) for name in code(row[0])]


def test_every_key_of_a_study_is_documented_with_its_default():
    rows = {code(row[0])[0]: row[1] for row in table("running.md", "key")}
    assert list(rows) == list(Study.model_fields)
    for name, field in Study.model_fields.items():
        default = str(field.default) if isinstance(field.default, Path) else field.default
        if field.is_required():
            assert rows[name] == "required"
        elif default is None:
            assert not code(rows[name])
        else:
            assert json.loads(code(rows[name])[0]) == default


def test_every_field_of_a_recipe_is_documented_with_its_default():
    rows = {code(row[0])[0]: json.loads(code(row[1])[0]) for row in table("running.md", "field")}
    assert rows == dataclasses.asdict(Recipe())


def test_every_key_of_a_row_of_json_is_documented():
    assert sorted(names("reports.md", "key of a row")) == sorted(RECORD_FIELDS)


def test_every_key_of_a_task_of_json_is_documented():
    assert sorted(names("reports.md", "key of a task")) == sorted(TASK_FIELDS)


def test_every_key_of_the_json_object_is_documented(results_store, outcome):
    results_store.write(results_store.cell(), outcome())
    _, board = read(results_store.path, "per_split")
    section = (DOCS / "reports.md").read_text().partition("## JSON")[2].partition("|")[0]
    assert set(json.loads(as_json(board, per_task=True))) <= set(code(section))


def test_every_selection_rule_is_documented():
    assert names("reports.md", "rule") == list(RULES)


def test_every_column_of_a_frame_is_documented(results_store, outcome):
    results_store.write(results_store.cell(), outcome())
    results = load(results_store.path)
    rows = {name: code(row[1]) for row in table("reports.md", "frame") for name in code(row[0])}
    assert [name.replace("alpha", "<name>") for name in results.trials.columns] == rows["trials"]
    assert list(results.per_task.columns) == rows["per_task"]
    assert {"leaderboard", "other_metrics"} <= rows.keys()


def test_every_status_is_documented_with_whether_it_is_tried_again():
    rows = {code(row[0])[0]: row[2] for row in table("store.md", "status")}
    assert rows == {str(status): "no" if status in FINAL else "yes" for status in Status}


def test_every_folder_of_a_store_is_documented(results_store, outcome):
    results_store.write(results_store.cell(), outcome())
    listed = {name.split("/")[0] for name in names("store.md", "path")}
    assert {path.name for path in results_store.path.iterdir()} <= listed


@pytest.mark.parametrize("name", [name for name, d in DATASETS.items() if d.__module__.startswith("mtbench_datasets.")])
def test_every_built_in_data_set_is_documented_with_its_recipe(name):
    dataset = DATASETS[name]
    section = (DOCS / "data.md").read_text().partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    plain = " ".join(section.split())
    assert f"Licence: {dataset.licence}." in plain
    assert f"- Splits: {dataset.n_splits}, of which a run takes {dataset.default_splits}" in plain
    assert f"- Metric: `{dataset.report_metric}`" in plain
    assert all(f"`{metric}`" in plain for metric in dataset.also_report)
    changed = {k: v for k, v in dataclasses.asdict(dataset.recipe).items() if v != getattr(Recipe, k)}
    shown = dict(pair.split("=") for pair in re.search(r"- Recipe: `(.*?)`", plain)[1].split(", "))
    assert {k: Recipe().override({k: v}, name) for k, v in shown.items()} == {
        k: dataclasses.replace(Recipe(), **{k: v}) for k, v in changed.items()
    }
    assert all(f"`{f.name}`" in plain for f in dataclasses.fields(dataset.Options))
