"""Where data come from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """A file a data set is made from.

    Attributes:
        path: Where it lies below the data root, e.g. "mnist/t10k-images-idx3-ubyte.gz".
        sha256: Of its bytes; for a ".gz" file of its uncompressed content, which survives repacking.
        url: Where `prepare` fetches it, or None where only the user can get it (the licence or a login forbids more).
        n_bytes: Size of the download.
    """

    path: str
    sha256: str
    url: str | None = None
    n_bytes: int = 0
