"""The store: writing, reading and checking results that survive crashes and racing writers. No torch."""

from __future__ import annotations

from mtbench.store.claims import Claim
from mtbench.store.divisions import Division
from mtbench.store.image import decode, encode
from mtbench.store.scan import Scan, StackColumns, scan
from mtbench.store.store import Store
from mtbench.store.verify import Checked

__all__ = ["Checked", "Claim", "Division", "Scan", "StackColumns", "Store", "decode", "encode", "scan"]
