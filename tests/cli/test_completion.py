import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete

from mtbench.cli import completion, main
from mtbench.plugins.names import Names


@pytest.fixture(autouse=True)
def names(monkeypatch, tmp_path):
    known = Names("", ["amtfl", "amtl", "stl"], ["cagrad", "uw"], ["digits", "school"], ["auc"])
    monkeypatch.setattr(completion, "known_names", lambda: known)
    monkeypatch.chdir(tmp_path)  # where no store is


def values(words, incomplete):
    items = ShellComplete(main, {}, "mtbench", "_MTBENCH_COMPLETE").get_completions(words, incomplete)
    return [item.value for item in items]


def test_commands_complete():
    assert values([], "s") == ["show", "show-transfer", "show-weights", "store"]


def test_names_complete():
    assert values(["show"], "am") == ["amtfl", "amtl"]
    assert values(["show"], "") == ["amtfl", "amtl", "stl", "cagrad", "uw", "digits", "school", "auc"]
    assert values(["data", "verify"], "d") == ["digits"]
    assert values(["show-transfer", "results"], "am") == ["amtfl", "amtl"]
    assert values(["show-transfer", "results", "amtl"], "s") == ["school"]


def test_lists_complete_their_last_name():
    def offered(complete, incomplete):
        return [item.value for item in complete(None, None, incomplete)]

    assert offered(completion.complete_methods, "am") == ["amtfl", "amtl"]
    assert offered(completion.complete_methods, "stl,am") == ["stl,amtfl", "stl,amtl"]
    assert offered(completion.complete_methods, "amtl,am") == ["amtl,amtfl"]
    assert offered(completion.complete_datasets, "digits,") == ["digits,school"]
    assert [i.value for i in completion.complete_method(None, None, "s")] == ["stl"]


def test_weightings_complete_behind_a_method():
    assert values(["run", "--methods"], "stl,amtl+") == ["stl,amtl+cagrad", "stl,amtl+uw"]
    assert values(["show"], "amtl+u") == ["amtl+uw"]


def test_searches_complete_up_to_their_number():
    assert values(["run", "--search"], "") == ["default", "grid", "random:", "tpe:", "halving:"]
    assert values(["run", "--search"], "h") == ["halving:"]


def test_commands_that_read_a_store_offer_what_it_has(results_store, outcome):
    for method in ("hard_sharing", "hard_sharing+uw", "nn"):
        results_store.write(results_store.cell(method), outcome())
    results_store.write(results_store.cell("cnn", "mnist", role="base"), outcome())
    store = str(results_store.path)
    assert values(["report", store, "--methods"], "nn,h") == ["nn,hard_sharing", "nn,hard_sharing+uw"]
    assert values(["report", store, "--baseline"], "") == ["hard_sharing", "hard_sharing+uw", "nn"]
    assert values(["report", store, "--datasets"], "") == ["school"]
    assert values(["report", store, "--metrics"], "rmse,a") == ["rmse,auc"]
    assert values(["show-transfer", store], "") == ["hard_sharing", "hard_sharing+uw", "nn"]
    assert values(["show-weights", store], "") == ["hard_sharing+uw"]
    assert values(["show-weights", store, "hard_sharing+uw"], "") == ["school"]


def test_run_completes_lists_of_names():
    assert values(["run", "--methods"], "stl,amt") == ["stl,amtfl", "stl,amtl"]
    assert values(["run", "--datasets"], "s") == ["school"]


def test_report_completes_what_it_shows():
    assert values(["report", "--methods"], "stl,amt") == ["stl,amtfl", "stl,amtl"]
    assert values(["report", "--datasets"], "s") == ["school"]
    assert values(["report", "--baseline"], "amt") == ["amtfl", "amtl"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_is_printed(mtbench, shell):
    result = mtbench("completion", shell)
    assert result.exit_code == 0
    assert f"_MTBENCH_COMPLETE={shell}_complete" in result.stdout


def test_the_shell_gets_the_names(tmp_path):
    code = "from mtbench.cli import main; main(prog_name='mtbench')"
    env = {"_MTBENCH_COMPLETE": "bash_complete", "COMP_WORDS": "mtbench show dig", "COMP_CWORD": "2"}
    env |= {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert done.stdout == "plain,digits\n", done.stderr
