"""Reading how far a stack has come, whatever its worker was doing."""

from mtbench.engines.workers.progress import latest


def test_the_last_whole_line_counts(tmp_path):
    path = tmp_path / "stack.progress"
    assert latest(path) is None
    path.write_text("1 25\n")
    assert latest(path) == (1, 25)
    path.write_text("1 25\n7 20\n9 1")
    assert latest(path) == (7, 20)


def test_a_damaged_line_says_nothing(tmp_path):
    path = tmp_path / "stack.progress"
    path.write_text("a b\n")
    assert latest(path) is None
