"""Seeds from named components, so that what a generator draws depends on what it is for and on nothing else."""

from __future__ import annotations

import hashlib
import json


def seed_from(*components: str | int) -> int:
    """A 63-bit seed that is a function of the components alone.

    Args:
        components: For example data set, split, seed and purpose, in that order.
    """
    text = json.dumps(components, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
