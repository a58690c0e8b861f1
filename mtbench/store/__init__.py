"""The store: writing, reading and checking results that survive crashes and racing writers. No torch."""

from __future__ import annotations

from mtbench.store.claims import Claim
from mtbench.store.divisions import Division, Divisions
from mtbench.store.image import decode, encode
from mtbench.store.leftovers import clear_leftovers
from mtbench.store.scan import Scan, StackColumns, scan
from mtbench.store.store import Store
from mtbench.store.verify import Checked

__all__ = [
    "Checked", "Claim", "Division", "Divisions", "Scan", "StackColumns", "Store", "clear_leftovers", "decode", "encode",
    "scan",
]  # fmt: skip
