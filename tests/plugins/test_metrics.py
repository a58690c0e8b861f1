"""Metrics of plugins: how they may be wrong, and data sets that name them."""

from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner

from mtbench.cli import main
from mtbench.errors import PluginError
from mtbench.metrics import METRICS, metric
from mtbench.plugins.host import Plugins, load_modules
from mtbench.plugins.sources import Found, Owner
from mtbench.store import Store
from mtbench.store.scan import scan

METRIC = """
from mtbench import Metric, TaskKind, hookimpl
from mtbench.metrics import metric

def mine(problem, part, predictions):
    return 2 * metric("rmse").values(problem, part, predictions)

@hookimpl
def mtbench_metrics():
    return [Metric("{name}", "twice the error", False, True, mine)]
"""

DATASET = """
from mtbench import hookimpl
from mtbench.testing.problems import OwnRegression

class Doubled(OwnRegression):
    name = "doubled"
    selection_metric = report_metric = "twice"
    also_report = ("rmse", "twice@test")

@hookimpl
def mtbench_datasets():
    return [Doubled]
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def write(tmp_path):
    """Writes plugin files."""

    def run(**texts):
        for name, text in texts.items():
            (tmp_path / f"{name}.py").write_text(text)
        return [tmp_path / f"{name}.py" for name in texts]

    return run


def loaded(files):
    return load_modules([], files)


def test_a_data_set_may_name_a_metric_of_another_file_that_comes_later(write):
    files = write(a_data=DATASET, b_metric=METRIC.format(name="twice"))
    plugins = loaded(files)
    assert plugins.dataset("doubled").selection_metric == "twice"
    assert {name: owner.plugin for name, owner in plugins.metric_owners("doubled").items()} == {"twice": str(files[1])}
    assert metric("twice") is plugins.metric("twice")


def test_a_data_set_whose_metric_nobody_offers_is_refused_with_its_file(write):
    with pytest.raises(PluginError, match=r"a_data\.py .*Doubled: Unknown metric 'twice'") as caught:
        loaded(write(a_data=DATASET))
    assert "\n" not in str(caught.value)


def test_a_metric_offered_twice_is_told_where_it_is_asked_for():
    plugins = Plugins()
    texts = {"one": METRIC.format(name="twice"), "two": METRIC.format(name="twice"), "data": DATASET}
    for name, text in texts.items():
        module = ModuleType(name)
        exec(text, vars(module))
        plugins.add(Found(Owner(name, "dist", "1"), module))
    plugins.check_metrics()
    both = "'twice' is offered by the plugin one of dist 1 and the plugin two of dist 1"
    with pytest.raises(PluginError, match=both):
        plugins.dataset("doubled")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"twice"', '"Twice"', "Metric.name must be lower-case words joined by underscores, like 'my_metric'"),
        ('"twice"', '"rmse"', "Metric 'rmse': the name is taken by a metric of mtbench; choose another."),
        ('"twice the error"', '""', "Metric 'twice': title must be one line of text; found ''."),
        ("False, True, mine", "'lower', True, mine", "higher_is_better must be True or False; found 'lower'."),
        ("mine)]", "None)]", "values must be a function of (problem, part, predictions); found None."),
        ("def mine(problem, part, ", "def mine(problem, ", "values must be a function of (problem, part, predictions)"),
        ("mine)]", "mine, kinds='binary')]", "kinds must be a tuple of TaskKind, with one at least; found 'binary'."),
        ("return [Metric", "return ['a metric', Metric", "not of classes; found 'a metric'"),
        ("return [", "return mine or [", "mtbench_metrics must return a list of metrics; found <function mine"),
    ],
)
def test_a_metric_that_breaks_the_contract_is_refused_in_one_line(write, old, new, said):
    text = METRIC.format(name="twice")
    assert old in text
    with pytest.raises(PluginError) as caught:
        loaded(write(bad=text.replace(old, new)))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert metric("rmse") is METRICS["rmse"]


def test_a_worker_loads_the_file_of_a_metric_and_scores_and_selects_by_it(write, tmp_path):
    data, offered, other = write(a_data=DATASET, b_metric=METRIC.format(name="twice"), c=METRIC.format(name="other"))
    words = ["run", "--methods", "stl", "--datasets", "doubled", "--splits", "1", "--out", str(tmp_path / "out")]
    files = [word for path in (data, offered, other) for word in ("--plugin", str(path))]
    result = CliRunner().invoke(main, [*words, *files, "--search", "random:2", "--devices", "cpu"])
    assert result.exit_code == 0, result.output
    for stack in scan(Store.open(tmp_path / "out")).stacks:
        for part in ("validation", "test"):
            metrics = stack.metrics[part]
            assert np.array_equal(metrics["twice"], 2 * metrics["rmse"])
        assert stack.provenance["metrics"]["twice"]["title"] == "twice the error"
        assert stack.provenance["metric_plugin_twice"].startswith(f"plugin file {offered}")
        assert "metric_plugin_other" not in stack.provenance
