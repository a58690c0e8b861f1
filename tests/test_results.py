"""The committed results: light enough to be carried anywhere."""

from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results"
KEPT = ("store.json", "stacks", "divisions")
MOST = 25_000_000


def committed():
    """The files of the committed studies: their stores without what is disposable, and what lies beside them."""
    yield from (path for path in RESULTS.iterdir() if path.is_file())
    for study in RESULTS.glob("*.toml"):
        for name in KEPT:
            at = RESULTS / study.stem / name
            yield from [at] if at.is_file() else (path for path in at.rglob("*") if path.is_file())


def test_the_committed_results_weigh_at_most_25_MB():
    sizes = {path: path.stat().st_size for path in committed()}
    assert any(path.suffix == ".pack" for path in sizes)
    total = sum(sizes.values())
    assert total <= MOST, (
        f"results/ may weigh {MOST / 1e6:.0f} MB; found {total / 1e6:.1f}. `mtbench store slim results/NAME` drops "
        "what no report, figure or resume needs."
    )
