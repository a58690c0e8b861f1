"""Where something was published."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """A publication.

    Attributes:
        title: Its title.
        venue: Venue and year, e.g. "ICML 2018".
        arxiv: arXiv identifier, if it has one.
        url: Where else it is found.
    """

    title: str
    venue: str
    arxiv: str | None = None
    url: str | None = None

    def __str__(self) -> str:
        where = f" arXiv:{self.arxiv}" if self.arxiv else f" {self.url}" if self.url else ""
        return f"{self.title}. {self.venue}.{where}"
