"""A plugin file may import what lies beside it, and nobody else's imports notice."""

import sys

import pytest

from mtbench.errors import PluginError
from mtbench.plugins.host import load_plugins

PLUGIN = """
{imports}
from torch import nn
from mtbench import GradientMethod, Reference, hookimpl

class Mine(GradientMethod):
    name = "{name}"
    reference = Reference("{title}", "A venue 2020")
    def build(self, problem, params, recipe):
        {late}
        return nn.Linear(problem.n_features, problem.n_outputs)
    def objective(self, model, batch, params):
        return batch.task_losses(model(batch.inputs)).sum()

@hookimpl
def mtbench_methods():
    return [Mine]
"""


@pytest.fixture
def write(tmp_path):
    """Writes a plugin file, and files beside it, into a folder of a name."""

    def run(folder="here", imports="", title="{common.TITLE}", name="mine", late="pass", beside=()):
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        for module, text in dict(beside).items():
            path = place / f"{module}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        file = place / f"{name}.py"
        file.write_text(PLUGIN.format(imports=imports, name=name, title="a", late=late).replace('"a"', title))
        return file

    return run


def loaded(*files):
    plugins = load_plugins(files)
    assert plugins.warnings == []
    return plugins


def version(*files):
    return loaded(*files).owner("mine").version


@pytest.mark.parametrize(
    ("imports", "title"),
    [
        ("import common", "common.TITLE"),
        ("import common as c", "c.TITLE"),
        ("from common import TITLE", "TITLE"),
        ("from common import *", "TITLE"),
        ("from .common import TITLE", "TITLE"),
        ("from . import common", "common.TITLE"),
        ("import parts.inner", "parts.inner.TITLE"),
        ("import parts.inner as p", "p.TITLE"),
        ("from parts import inner", "inner.TITLE"),
        ("from parts.relative import TITLE", "TITLE"),
        ("from second import TITLE", "TITLE"),
        ("from bare.inner import TITLE", "TITLE"),
    ],
)
def test_a_plugin_file_imports_what_lies_beside_it(write, imports, title):
    title_is = 'TITLE = "A title"\n'
    file = write(
        imports=imports,
        title=title,
        beside={
            "common": title_is,
            "second": "from common import TITLE\n",
            "parts/__init__": "",
            "parts/inner": title_is,
            "parts/relative": "from .inner import TITLE\nfrom common import TITLE as T2\n",
            "bare/inner": title_is,
        },
    )
    assert loaded(file).method("mine").reference.title == "A title"
    assert not {"common", "second", "parts", "bare"} & set(sys.modules)
    assert str(file.parent) not in sys.path
    assert not list(file.parent.rglob("__pycache__"))


def test_two_folders_may_each_have_a_file_of_one_name(write):
    files = [
        write(folder, "import common", "common.TITLE", name, beside={"common": f'TITLE = "{folder}"\n'})
        for folder, name in (("one", "first"), ("two", "second"))
    ]
    plugins = loaded(*files)
    assert [plugins.method(name).reference.title for name in ("first", "second")] == ["one", "two"]


def test_two_plugin_files_of_one_folder_share_what_they_import(write):
    common = "class Shared: pass\nTITLE = 'x'\n"
    files = [
        write("here", "from common import Shared", "'x'", name, beside={"common": common})
        for name in ("first", "second")
    ]
    plugins = loaded(*files)
    found = [sys.modules[plugins.method(name).__module__].Shared for name in ("first", "second")]
    assert found[0] is found[1]


def test_an_import_within_a_function_finds_it_too(write):
    file = write(late="import common; self.found = common.TITLE", title="'x'", beside={"common": "TITLE = 'late'\n"})
    method = loaded(file).method("mine")()

    class Shape:
        n_features = n_outputs = 1

    method.build(Shape(), None, None)
    assert method.found == "late"


def test_names_of_the_standard_library_and_of_mtbench_mean_these(write):
    file = write(imports="import random, mtbench", title="'x'", beside={"random": "1 / 0\n", "mtbench": "1 / 0\n"})
    loaded(file)


def test_a_file_beside_goes_before_an_installed_package_for_this_plugin_alone(write):
    file = write(imports="import click", title="click.TITLE", beside={"click": "TITLE = 'mine'\n"})
    assert loaded(file).method("mine").reference.title == "mine"
    import click

    assert click.echo


def test_the_digest_covers_the_files_beside_it_that_are_imported_wherever(write):
    def digest(**changes):
        beside = {"common": "import deeper\nTITLE = 'x'\n", "deeper": "A = 1\n", "late": "A = 1\n", "other": "A = 1\n"}
        return version(write(imports="import common", title="'x'", late="import late", beside=beside | changes))

    first = digest()
    assert digest(other="A = 2\n") == first
    assert len({first, digest(common="import deeper\n"), digest(deeper="A = 2\n"), digest(late="A = 2\n")}) == 4
    assert digest() == first


def test_the_digest_of_a_file_that_imports_nothing_beside_it_is_its_own(write):
    import hashlib

    file = write(title="'x'", beside={"common": "A = 1\n"})
    assert version(file) == hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def test_an_edited_file_beside_it_is_read_again(write):
    for title in ("one", "two", "six"):
        file = write(imports="import common", title="common.TITLE", beside={"common": f"TITLE = '{title}'\n"})
        assert loaded(file).method("mine").reference.title == title


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        ({}, r"mine\.py could not be run: ModuleNotFoundError: No module named 'common' \(.*mine\.py, line 2\)"),
        ({"common": "x = 1\n1 / 0\n"}, r"ZeroDivisionError: division by zero \(.*common\.py, line 2\)"),
        ({"common": "import nowhere\n"}, r"No module named 'nowhere' \(.*common\.py, line 1\)"),
        ({"common": "def f(:\n"}, r"SyntaxError: invalid syntax \(.*common\.py, line 1\)"),
        (
            {"common/__init__": "import common.nowhere\n"},
            r"No module named 'common\.nowhere' \(.*__init__\.py, line 1\)",
        ),
    ],
)
def test_a_fault_beside_it_is_told_with_its_own_file_and_line(write, beside, said):
    file = write(imports="import common", title="'x'", beside=beside)
    with pytest.raises(PluginError, match=said) as caught:
        load_plugins([file])
    assert "\n" not in str(caught.value)
