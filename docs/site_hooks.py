"""Hooks of mkdocs for the site that `make docs` builds."""

import re
from pathlib import Path
from typing import Any


def on_config(config: Any) -> None:
    """Puts the pages of a folder, in order, where the nav names the folder."""
    root = Path(config.docs_dir)
    for section in config.nav:
        for title, entry in section.items():
            if isinstance(entry, str) and entry.endswith("/"):
                section[title] = [str(page.relative_to(root)) for page in sorted((root / entry).glob("*.md"))]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Takes off the mark of blocks that a test runs: the site's Markdown knows blocks by one word only."""
    return re.sub(r"^```console run$", "```console", markdown, flags=re.MULTILINE)
