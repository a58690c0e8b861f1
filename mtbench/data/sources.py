"""Where data come from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """A file a data set is made from.

    Attributes:
        path: Where it lies below the data root, e.g. "mnist/t10k-images-idx3-ubyte.gz".
        sha256: SHA-256 of its bytes; for a ".gz" file of its uncompressed content, which survives repacking. Empty
            where nobody published one; `md5` is used instead.
        url: Where `prepare` fetches it, or None where only the user can get it (the licence or a login forbids more).
        n_bytes: Size of the download.
        md5: As `sha256`, where only an MD5 was published: it tells a broken download, not a forged one.
    """

    path: str
    sha256: str
    url: str | None = None
    n_bytes: int = 0
    md5: str = ""

    @property
    def algorithm(self) -> str:
        """How `digest` is computed: "sha256" or "md5"."""
        return "sha256" if self.sha256 else "md5"

    @property
    def digest(self) -> str:
        """The published hash."""
        return self.sha256 or self.md5
