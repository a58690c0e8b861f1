import pytest
from click.testing import CliRunner

from mtbench.cli import main


@pytest.fixture(scope="session", autouse=True)
def _names_are_remembered_elsewhere(tmp_path_factory):
    """Keeps these tests out of the user's cache of names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def mtbench():
    """Runs a command line in this process."""

    def run(*words):
        return CliRunner().invoke(main, [str(word) for word in words])

    return run
