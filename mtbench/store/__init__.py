"""The store: writing, reading and checking results that survive crashes and racing writers. No torch."""

from __future__ import annotations

from mtbench.store.claims import Claim
from mtbench.store.image import decode, encode
from mtbench.store.scan import Scan, StackColumns, scan
from mtbench.store.stack_plans import StackPlan, StackPlans
from mtbench.store.stale_files import clear_stale_files
from mtbench.store.store import Store
from mtbench.store.verify import Checked

__all__ = [
    "Checked", "Claim", "Scan", "StackColumns", "StackPlan", "StackPlans", "Store", "clear_stale_files", "decode",
    "encode", "scan",
]  # fmt: skip
