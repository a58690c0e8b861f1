"""Pages lead where they say."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    str(p.relative_to(ROOT)) for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("results/*.md")]
)


def anchors(path):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_leads_somewhere(page):
    path = ROOT / page
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        target, _, anchor = link.partition("#")
        found = (path.parent / target) if target else path
        assert found.exists(), link
        assert not anchor or anchor in anchors(found), link


def test_decisions_have_numbers_of_their_own():
    numbers = [path.name.partition("-")[0] for path in (ROOT / "docs" / "adr").glob("*.md")]
    assert sorted(numbers) == sorted(set(numbers))


def test_changes_of_results_have_a_heading():
    assert "### Results change" in (ROOT / "CHANGELOG.md").read_text()
