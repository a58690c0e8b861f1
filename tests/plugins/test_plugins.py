"""Each way a plugin can be broken: it is blamed by name, and the rest goes on."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from mtbench.errors import PluginError, UnknownName
from mtbench.plugins.host import Plugins, load_plugins

METHOD = """
from mtbench import GradientMethod, Reference, hookimpl
from torch import nn

class {cls}(GradientMethod):
    name = "{name}"
    reference = Reference("A title", "A venue 2020")
    def build(self, problem, params, recipe):
        return nn.Linear(problem.n_features, problem.n_outputs)
    def objective(self, model, batch, params):
        return batch.task_losses(model(batch.inputs)).sum()

@hookimpl
def mtbench_methods():
    return [{cls}]
"""

LISTENER = """
from mtbench import hookimpl

heard = []

@hookimpl
def mtbench_run_start(store, n_trials):
    {body}
"""


class Site:
    """A folder of installed distributions, the only ones the loader sees."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, distribution: str, version: str, entries: dict[str, str], files: dict[str, str]) -> None:
        """Installs a distribution: entry points by name, and modules by path."""
        info = self.folder / f"{distribution}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        lines = [f"{name} = {value}" for name, value in entries.items()]
        (info / "entry_points.txt").write_text("\n".join(["[mtbench]", *lines]))
        for path, text in files.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_text(text)

    def install_module(self, module: str, text: str, version: str = "1.2") -> None:
        """Installs a distribution of one module."""
        self.install(f"{module}_dist", version, {module: module}, {f"{module}.py": text})


@pytest.fixture
def site(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    folder.mkdir()

    def entry_points():
        found = metadata.distributions(path=[str(folder)])
        return sorted((e for d in found for e in d.entry_points if e.group == "mtbench"), key=lambda e: e.value)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr("mtbench.plugins.sources.entry_points", entry_points)
    monkeypatch.setattr("mtbench.plugins.names.entry_points", entry_points)
    yield Site(folder)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


def only_warning(plugins: Plugins) -> str:
    assert len(plugins.warnings) == 1, plugins.warnings
    assert "\n" not in plugins.warnings[0]
    return plugins.warnings[0]


def test_a_module_offers_its_methods_and_is_credited(site):
    site.install_module("good", METHOD.format(cls="Good", name="good"))
    plugins = load_plugins()
    assert plugins.warnings == []
    assert plugins.method("good").__name__ == "Good"
    assert str(plugins.owner("good")) == "plugin good of good_dist 1.2"


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("objective(self, model, batch, params)", "objective(self, model, batch)", "found (self, model, batch)."),
        ("build(self, problem, params, recipe)", "build(self, problem, *, recipe)", "(self, problem, params, recipe)"),
        (
            "    def build",
            "    def learned(self, model):\n        return {}\n    def build",
            "take (self, model, params)",
        ),
    ],
)
def test_a_method_that_the_harness_cannot_call_is_refused_when_it_is_offered(site, right, wrong, said):
    site.install_module("bad", METHOD.format(cls="Bad", name="bad").replace(right, wrong))
    plugins = load_plugins()
    assert plugins.methods == {}
    warning = only_warning(plugins)
    assert "plugin bad of bad_dist" in warning
    assert said in warning


def test_defaults_and_further_arguments_break_no_contract(site):
    text = METHOD.format(cls="Good", name="good").replace("model, batch, params)", "model, *rest, scale=1.0)")
    site.install_module("good", text.replace("batch.task_losses(model(batch.inputs))", "rest[0].size_offset(scale)"))
    plugins = load_plugins()
    assert plugins.warnings == []
    assert list(plugins.methods) == ["good"]


def test_a_hook_that_returns_no_list_is_told_what_it_must_return(site):
    site.install_module("bad", METHOD.format(cls="Bad", name="bad").replace("[Bad]", "Bad"))
    warning = only_warning(load_plugins())
    assert "mtbench_methods must return a list of classes; found <class 'bad.Bad'>" in warning


def test_every_module_of_a_package_is_a_plugin_of_its_own(site):
    files = {
        "pack/__init__.py": "",
        "pack/one.py": METHOD.format(cls="One", name="one"),
        "pack/two.py": METHOD.format(cls="Two", name="two"),
        "pack/_private.py": "raise RuntimeError('private modules are no plugins')",
    }
    site.install("pack", "3.0", {"methods": "pack"}, files)
    plugins = load_plugins()
    assert plugins.warnings == []
    assert sorted(plugins.methods) == ["one", "two"]
    assert [owner.plugin for owner in plugins.owners] == ["pack.one", "pack.two"]


def test_a_package_may_offer_a_modules_class_again(site):
    files = {
        "pack/__init__.py": "from pack.one import mtbench_methods",
        "pack/one.py": METHOD.format(cls="One", name="one"),
    }
    site.install("pack", "3.0", {"methods": "pack"}, files)
    plugins = load_plugins()
    assert plugins.warnings == []
    assert plugins.method("one")


def test_one_broken_module_of_a_package_leaves_the_others(site):
    files = {
        "pack/__init__.py": "",
        "pack/bad.py": "import a_module_that_is_not_there",
        "pack/good.py": METHOD.format(cls="Good", name="good"),
    }
    site.install("pack", "3.0", {"methods": "pack"}, files)
    plugins = load_plugins()
    assert list(plugins.methods) == ["good"]
    warning = only_warning(plugins)
    assert warning.startswith("The plugin pack.bad of pack 3.0 was left out: ModuleNotFoundError")
    assert warning.endswith("bad.py, line 1)")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import a_module_that_is_not_there", "ModuleNotFoundError"),
        ("x = 1\ndef f(:\n", "SyntaxError: invalid syntax"),
        ("raise RuntimeError('first\\nsecond')", "RuntimeError: first second"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_plugin_that_fails_to_import_is_left_out(site, text, said):
    site.install_module("bad", text)
    site.install_module("good", METHOD.format(cls="Good", name="good"))
    plugins = load_plugins()
    assert list(plugins.methods) == ["good"]
    assert "plugin bad of bad_dist 1.2" in only_warning(plugins)
    assert said in only_warning(plugins)
    assert "bad.py, line" in only_warning(plugins)


def test_an_entry_point_whose_attribute_is_missing_is_left_out(site):
    site.install("bad", "0.1", {"bad": "bad:plugin"}, {"bad.py": ""})
    assert "plugin bad:plugin of bad 0.1 was left out: AttributeError" in only_warning(load_plugins())


@pytest.mark.parametrize("value", ["None", "5", "''", "type('Slots', (), {'__slots__': ()})()"])
def test_an_entry_point_that_names_no_plugin_is_left_out(site, value):
    site.install("bad", "0.1", {"bad": "bad:plugin"}, {"bad.py": f"plugin = {value}"})
    assert "plugin bad:plugin of bad 0.1 was left out: It must" in only_warning(load_plugins())


def test_a_misspelt_hook_is_blamed_with_the_right_spelling(site):
    site.install_module("bad", METHOD.format(cls="Bad", name="bad").replace("mtbench_methods", "mtbench_method"))
    site.install_module("good", METHOD.format(cls="Good", name="good"))
    plugins = load_plugins()
    assert list(plugins.methods) == ["good"]
    assert (
        "plugin bad of bad_dist 1.2 was left out: Unknown hook 'mtbench_method'. Did you mean 'mtbench_methods'?"
        in (only_warning(plugins))
    )


def test_a_hook_without_its_mark_is_not_passed_over_in_silence(site):
    site.install_module("bad", METHOD.format(cls="Bad", name="bad").replace("@hookimpl", ""))
    assert "mtbench_methods must be marked with @hookimpl" in only_warning(load_plugins())


def test_a_hook_with_an_argument_that_does_not_exist_is_refused(site):
    site.install_module("bad", LISTENER.format(body="pass").replace("n_trials", "number"))
    assert "plugin bad of bad_dist 1.2 was left out" in only_warning(load_plugins())
    assert "number" in only_warning(load_plugins())


def test_hook_wrappers_are_refused(site):
    text = "from mtbench import hookimpl\n@hookimpl(wrapper=True)\ndef mtbench_methods():\n    return (yield)\n"
    site.install_module("bad", text)
    assert "Hook wrappers are refused" in only_warning(load_plugins())


def test_a_plugin_without_hooks_is_refused(site):
    site.install_module("bad", "x = 1")
    assert "must implement a hook" in only_warning(load_plugins())


def test_a_hook_that_raises_while_it_is_asked_is_blamed(site):
    site.install_module("bad", "from mtbench import hookimpl\n@hookimpl\ndef mtbench_methods():\n    return 1 / 0\n")
    warning = only_warning(load_plugins())
    assert "The plugin bad of bad_dist 1.2 failed in mtbench_methods: ZeroDivisionError" in warning
    assert "bad.py, line 4" in warning


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "bad"', "", "Bad.name must be lower-case words joined by underscores"),
        ('name = "bad"', 'name = "Bad-1"', "found 'Bad-1'"),
        ("GradientMethod)", "object)", "subclasses of GradientMethod, SolverMethod or FitMethod"),
        ("def objective", "def objectiv", "must implement `terms`"),
        ("reference = ", "paper = ", "Bad.reference must be a Reference"),
        ("return [Bad]", "return [Bad()]", "subclasses of GradientMethod, SolverMethod or FitMethod"),
        ("    def build", "    class Params:\n        x: float = 1.0\n    def build", "must be a frozen dataclass"),
        ("    def build", "    def __init__(self, x):\n        pass\n    def build", "must work without arguments"),
    ],
)
def test_a_class_that_breaks_the_contract_is_left_out(site, old, new, said):
    site.install_module("bad", METHOD.format(cls="Bad", name="bad").replace(old, new))
    site.install_module("good", METHOD.format(cls="Good", name="good"))
    plugins = load_plugins()
    assert list(plugins.methods) == ["good"]
    assert "The plugin bad of bad_dist 1.2 breaks the contract" in only_warning(plugins)
    assert said in only_warning(plugins)


DATASET = """
from mtbench import Dataset, Reference, hookimpl

class Bad(Dataset):
    name = "bad"
    title = "A title"
    licence = "none"
    citation = Reference("A title", "A venue 2020")
    selection_metric = report_metric = "rmse"
    def load(self, root, split, options):
        raise NotImplementedError

@hookimpl
def mtbench_datasets():
    return [Bad]
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"rmse"', '"rmsee"', "Unknown metric 'rmsee'. Did you mean 'rmse'?"),
        ('licence = "none"', 'licence = ""', "Bad.licence must be a str"),
        (
            "    def load",
            "    default_splits = 9\n    def load",
            "default_splits must lie in 1 to n_splits = 5; found 9",
        ),
        ("    def load", "    sources = ('a.csv',)\n    def load", "must be a tuple of Source"),
        ("def load", "def lead", "missing: load"),
    ],
)
def test_a_data_set_that_breaks_the_contract_is_left_out(site, old, new, said):
    site.install_module("bad", DATASET.replace(old, new))
    plugins = load_plugins()
    assert plugins.datasets == {}
    assert said in only_warning(plugins)


def test_a_name_offered_twice_decides_nothing(site):
    site.install_module("first", METHOD.format(cls="First", name="same"))
    site.install_module("second", METHOD.format(cls="Second", name="same"), version="4.5")
    plugins = load_plugins()
    both = "'same' is offered by the plugin first of first_dist 1.2 and the plugin second of second_dist 4.5"
    assert both in only_warning(plugins)
    with pytest.raises(PluginError, match=both):
        plugins.method("same")


def test_a_method_and_a_data_set_cannot_share_a_name(site):
    site.install_module("first", METHOD.format(cls="Bad", name="bad"))
    site.install_module("second", DATASET)
    plugins = load_plugins()
    assert "'bad' is offered by" in only_warning(plugins)
    with pytest.raises(PluginError, match="first_dist"):
        plugins.method("bad")


def test_an_unknown_name_is_answered_with_the_nearest(site):
    site.install_module("good", METHOD.format(cls="Good", name="deep_amtfl"))
    with pytest.raises(UnknownName) as caught:
        load_plugins().method("deep_amftl")
    assert str(caught.value) == (
        "Unknown method 'deep_amftl'. Did you mean 'deep_amtfl'? `mtbench list methods` shows all 1."
    )
    with pytest.raises(UnknownName, match=r"Unknown data set 'x'\. `mtbench list datasets` shows all 0\."):
        load_plugins().dataset("x")
    with pytest.raises(UnknownName, match="'nothing'"):
        load_plugins().owner("nothing")


def test_a_raising_listener_is_blamed_once_and_the_others_are_told(site):
    site.install_module("bad", LISTENER.format(body="raise ValueError('no')"))
    site.install_module("good", LISTENER.format(body="heard.append((store, n_trials))"))
    plugins = load_plugins()
    for _ in range(2):
        plugins.notify("mtbench_run_start", store="here", n_trials=3)
    assert sys.modules["good"].heard == [("here", 3)] * 2
    warning = only_warning(plugins)
    assert warning.startswith(
        "The plugin bad of bad_dist 1.2 failed in mtbench_run_start, which changes no result: Val"
    )
    assert "bad.py, line 8" in warning


def test_a_listener_cannot_change_what_the_run_goes_on_with(site):
    text = "from mtbench import hookimpl\n@hookimpl\ndef mtbench_stack_end(statuses):\n    statuses.clear()\n"
    site.install_module("bad", text)
    statuses = ["finished"]
    load_plugins().notify("mtbench_stack_end", stack=None, statuses=statuses)
    assert statuses == ["finished"]


def test_a_plugin_may_be_an_object(site):
    text = LISTENER.replace("def mtbench_run_start(", "def mtbench_run_start(self, ").replace(
        "@hookimpl", "class Listener:\n  @hookimpl"
    )
    text = text.replace("\ndef", "\n  def").format(body="raise ValueError('no')") + "\nplugin = Listener()\n"
    site.install("thing", "0.1", {"thing": "thing:plugin"}, {"thing.py": text})
    plugins = load_plugins()
    assert plugins.warnings == []
    plugins.notify("mtbench_run_start", store="here", n_trials=3)
    assert "plugin thing:plugin of thing 0.1 failed" in only_warning(plugins)


def test_a_plugin_file_needs_no_package(site, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(METHOD.format(cls="Mine", name="mine"))
    plugins = load_plugins([file, tmp_path / "." / "mine.py"])
    owner = plugins.owner("mine")
    assert plugins.method("mine").__name__ == "Mine"
    assert str(owner) == f"plugin file {file}"
    assert owner.distribution == "file"


def test_an_edited_plugin_file_is_read_again_and_known_by_its_content(site, tmp_path):
    file = tmp_path / "mine.py"
    versions = []
    for name in ("mine", "mind"):
        file.write_text(METHOD.format(cls="Mine", name=name))
        versions.append(load_plugins([file]).owner(name).version)
    assert versions[0] != versions[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ndef f(:\n", r"mine.py could not be run: SyntaxError: invalid syntax \(.*mine.py, line 2\)"),
        ("x = 1\n\nx / 0\n", r"ZeroDivisionError: division by zero \(.*mine.py, line 3\)"),
        ("x = 1\n", "must implement a hook"),
        (
            METHOD.format(cls="Mine", name="mine").replace("def objective", "def o"),
            "must implement `terms`.*found neither",
        ),
        ("x = '\0'", "could not be run"),
    ],
)
def test_a_broken_plugin_file_stops_the_command(site, tmp_path, text, said):
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(PluginError, match=said) as caught:
        load_plugins([file])
    assert "\n" not in str(caught.value)


def test_a_plugin_file_that_is_not_there_stops_the_command(site, tmp_path):
    with pytest.raises(PluginError, match="must be a readable Python file; found: No such file or directory"):
        load_plugins([tmp_path / "nowhere.py"])


def test_a_plugin_file_cannot_take_a_name(site, tmp_path):
    site.install_module("good", METHOD.format(cls="Good", name="good"))
    file = tmp_path / "mine.py"
    file.write_text(METHOD.format(cls="Mine", name="good"))
    with pytest.raises(
        PluginError, match=r"'good' is offered by the plugin good of good_dist 1\.2 and the plugin file"
    ):
        load_plugins([file])


def test_the_loader_does_not_import_torch():
    code = "import sys, mtbench.plugins.host, mtbench.plugins.names; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_built_in_plugins_load_without_a_fault(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    plugins = load_plugins()
    assert plugins.warnings == []
    assert {"stl", "amtfl"} <= set(plugins.methods)
    assert {"digits", "school"} <= set(plugins.datasets)
    assert plugins.owner("stl").distribution == "mtbench"
