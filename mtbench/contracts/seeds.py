"""Seeds from named components, so that what a generator draws depends on what it is for and on nothing else."""

from __future__ import annotations

import hashlib
import json


def seed_from(*components: str | int) -> int:
    """A 63-bit seed that is a function of the components alone.

    Args:
        components: For example data set, split, seed and purpose, in that order.

    Returns:
        0 to 2^63 - 1, for `np.random.default_rng` or `torch.Generator.manual_seed`.
    """
    text = json.dumps(components, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
