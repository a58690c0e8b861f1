"""Making packs: what `compact` and `slim` have in common.

A single file is unlinked only after what counts of it was read from a pack that is published, and a pack only after all
that it holds was read from packs made since: packs are always new, so of two processes at once neither can rely on what
the other unlinks. (The claim that keeps them apart only saves work.) Readers and runs need not know: see files.py.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mtbench.errors import StoreError
from mtbench.store import claims
from mtbench.store.claims import Claim
from mtbench.store.files import path_of
from mtbench.store.intact import IntactStack, stamp_of
from mtbench.store.pack_format import check_pack, pack_image, read_pack
from mtbench.store.publish import publish
from mtbench.store.stale_files import clear_stale_files
from mtbench.store.store import Store

PACK_BYTES = 1 << 26
"""Bytes of stacks in a pack at most. What has more than half of it alone is large enough, be it a stack or a pack."""

PACKING_STEPS = ("examine", "read", "check pack", "remove file", "remove pack")
"""Steps that `Store.step` is told, besides those of publishing a pack."""

_CLAIM = "compact"
_REFRESH_CLAIM = 30.0


@contextlib.contextmanager
def alone(store: Store) -> Iterator[Claim]:
    """The right to make packs in a store, for the time of a `with` block.

    Raises:
        StoreError: Another process has it.
    """
    claim = claims.take(store.path, _CLAIM)
    if claim is None:
        raise StoreError(
            f"Another `mtbench store compact` or `slim` is at work on {store.path}; wait until it has ended."
        )
    try:
        clear_stale_files(store.path)
        yield claim
    finally:
        claims.forget(store.path, _CLAIM)


class Packing:
    """Moves stack files into packs.

    Args:
        store: The store.
        claim: The right to do so.

    Attributes:
        n_packed: Single files that were moved so far.
        n_packs: PackFolder that were made so far.
    """

    def __init__(self, store: Store, claim: Claim) -> None:
        self.store = store
        self.n_packed = self.n_packs = 0
        self._claim = claim
        self._refreshed = time.monotonic()

    def make(self, contents: Mapping[str, bytes], sources: Sequence[IntactStack], compress: bool) -> None:
        """Publishes a pack, reads it back, and only then removes what it holds of single files.

        Args:
            contents: What to pack, by name.
            sources: Where it was read.
            compress: Whether the pack is compressed.
        """
        name, image = pack_image(contents, compress)
        path = self.store.files.packs.folder / name
        publish(self.store.path, path, image, self.store.step)
        self._read_back(path)
        self.n_packs += 1
        for stack in sources:
            if isinstance(stack.source, Path) and stack.name in contents:
                self.n_packed += self.remove(stack)

    def _read_back(self, path: Path) -> None:
        self.tick("check pack")
        try:
            check_pack(path)
            for member in read_pack(path).members.values():
                member.read()
        except StoreError:
            if path.exists():
                raise
            raise StoreError(
                f"Another compaction of {self.store.path} has overtaken this one. Nothing is lost; run it again."
            ) from None

    def remove(self, stack: IntactStack) -> bool:
        """Removes a single file, unless another has taken its name since it was read."""
        path = path_of(stack.source)
        return stack.stamp == stamp_of(path) and self.unlink(path, "remove file")

    def unlink(self, path: Path, step: str) -> bool:
        """Removes a file; False if it is gone already."""
        self.tick(step)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreError(
                f"Cannot remove {path}: {error.strerror}. A pack holds what is in it; nothing is lost, and the same "
                "command goes on."
            ) from None
        return True

    def tick(self, step: str = "examine") -> None:
        """Says which step comes, and that this process lives."""
        self.store.step(step)
        if time.monotonic() - self._refreshed > _REFRESH_CLAIM:
            self._refreshed = time.monotonic()
            self._claim.refresh()


def groups(stacks: Iterable[IntactStack], pack_bytes: int) -> Iterator[list[IntactStack]]:
    """What goes into each pack, in order."""
    group: list[IntactStack] = []
    for stack in stacks:
        if group and sum(each.size for each in group) + stack.size > pack_bytes:
            yield group
            group = []
        group.append(stack)
    if group:
        yield group
