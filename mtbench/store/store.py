"""A store: a directory of immutable files that hold finished stacks.

store.json                   format version and uuid; written once
stacks/ab/<stack id>.h5      a finished stack: immutable, complete or absent
stacks/ab/<stack id>.failed-<n>.h5   one try at a stack of which some trial is to be tried again
stacks/packs/<hash>.pack     many such files in one, byte for byte: see `compact`
divisions/<hash>.json        how a cell was divided into stacks
claims/ tmp/ checkpoints/ logs/      disposable
"""

from __future__ import annotations

import itertools
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from mtbench.contracts.trials import FINAL, StackResult
from mtbench.errors import StoreError
from mtbench.store import claims
from mtbench.store.claims import Claim
from mtbench.store.files import StackFiles, path_of
from mtbench.store.image import decode, encode, result_id, verify_image
from mtbench.store.pack_format import SUFFIX, check_pack
from mtbench.store.publish import Step, explained, no_step, publish
from mtbench.store.stack_plans import StackPlans, read_stack_plan
from mtbench.store.summary import read_named
from mtbench.store.verify import Checked, check_stack

STORE_FORMAT = 1
_OWN = {"store.json", "stacks", "divisions", "claims", "tmp", "checkpoints", "logs"}


class Store:
    """A store, open for reading and publishing. Any number of processes may use one at the same time.

    Guarantees: what a publishing method has returned from is never lost, whatever is killed afterwards; a file is there
    complete or not at all; nothing published is ever overwritten or changed.

    Attributes:
        path: The directory.
        uuid: Tells this store from others.
        step: Told each step of publishing, for tests.
        stack_plans: How cells are divided into stacks.
        files: Where its stacks lie.
    """

    def __init__(self, path: Path, uuid: str, step: Step = no_step) -> None:
        self.path = path
        self.uuid = uuid
        self.step = step
        self.stack_plans = StackPlans(path)
        self.files = StackFiles(path)

    @classmethod
    def create(cls, path: Path) -> Store:
        """Opens the store in a directory, making it first where there is none.

        Raises:
            StoreError: The directory holds other things, cannot be written, or holds a store of another format.
        """
        path = Path(path)
        try:
            others = sorted(set(os.listdir(path)) - _OWN) if path.exists() else []
        except OSError as error:
            raise explained(error, path) from None
        if not (path / "store.json").exists():
            if others:
                raise StoreError(
                    f"A new store needs an empty directory; {path} holds '{others[0]}'. Name a new directory."
                )
            record = {"kind": "mtbench store", "format": STORE_FORMAT, "uuid": str(uuid.uuid4())}
            publish(path, path / "store.json", json.dumps(record).encode() + b"\n")
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Store:
        """Opens the store in a directory.

        Raises:
            StoreError: There is none, or one of another format.
        """
        path = Path(path)
        file = path / "store.json"
        try:
            record = json.loads(file.read_bytes())
            found, identifier = record["format"], str(record["uuid"])
        except (FileNotFoundError, NotADirectoryError):
            raise StoreError(
                f"{path} is no store: it has no store.json. `mtbench run --out {path}` makes one."
            ) from None
        except OSError as error:
            raise StoreError(f"Cannot read {file}: {error.strerror}.") from None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise StoreError(f"{file} must hold a store's format and uuid; found something else.") from None
        if found != STORE_FORMAT:
            raise StoreError(
                f"This mtbench reads and writes stores of format {STORE_FORMAT}; {path} has format {found}. Use the "
                "version of mtbench that made it, or name a new directory."
            )
        return cls(path, identifier)

    def publish_stack(self, result: StackResult) -> bool:
        """Publishes what came of a stack: as finished if every trial's status is final, else as one failed try.

        Returns:
            False if the stack was finished already: the first result stays.

        Raises:
            StoreError: It could not be written.
        """
        return self.publish_image(encode(result))

    def publish_image(self, image: bytes) -> bool:
        """`publish_stack` for a result that a worker has encoded already.

        Raises:
            StoreError: It could not be written, or is no image of a stack.
        """
        result = verify_image(image)
        stack = result_id(result)
        path = self.stack_path(stack)
        if not all(status in FINAL for status in result.status):
            self._publish_next(f"{stack}.failed", image)
            return True
        if self.files.packed(stack):
            won = False
        elif publish(self.path, path, image, self.step):
            # The name may have been free because the first result was packed meanwhile; that one counts.
            won = not self.files.packed(stack)
        elif won := not self.has_stack(stack):
            # The name is taken by a file that cannot be read. It stays, as evidence, and so does this result.
            self._publish_next(f"{stack}.again", image)
        claims.forget(self.path, stack)
        return won

    def _publish_next(self, stem: str, image: bytes) -> None:
        """Publishes under the next free number."""
        for number in itertools.count(1):
            path = self.files.own(f"{stem}-{number}.h5")
            if not self.files.is_taken(path) and publish(self.path, path, image, self.step):
                return

    def stack_path(self, stack_id: str) -> Path:
        """Where a finished stack lies, unless it is packed."""
        return self.files.own(f"{stack_id}.h5")

    def stack_paths(self) -> list[Path]:
        """All files of stacks, failed tries included, in the order of their names; then packs that cannot be read.

        A file in a pack is named as if the pack were a folder. All of these can be given to `read`.
        """
        sources, faults = self.files.listed()
        return [*map(path_of, sources), *faults]

    def has_stack(self, stack_id: str) -> bool:
        """Whether the stack is finished, and a file of it can be read."""
        return self.files.holds(stack_id)

    def read_stack(self, stack_id: str) -> StackResult:
        """All that is known of a finished stack, from the first of its files that can be read.

        Raises:
            StoreError: None can be.
        """
        faults = []
        for source in self.files.finished(stack_id):
            try:
                result = self.read(path_of(source))
            except StoreError as error:
                faults.append(str(error))
                continue
            if result_id(result) == stack_id:
                return result
            faults.append(f"{source.name} holds another stack.")
        raise StoreError(f"No file of stack {stack_id} can be read: {' '.join(faults)}")

    def finished_ids(self) -> set[str]:
        """Ids of the trials that need not be trained again. Files that cannot be read count for nothing."""
        finished: set[str] = set()
        for _, found in self.files.each(lambda source: read_named(source)[0]["texts"]):
            if not isinstance(found, StoreError):
                pairs = zip(found["trials/id"], found["trials/status"], strict=True)
                finished.update(trial for trial, status in pairs if status in FINAL)
        return finished

    def read(self, path: Path) -> StackResult:
        """All that is known of one stack.

        Args:
            path: One of `stack_paths`; where the stack was packed since, it is read from there.

        Raises:
            StoreError: The file cannot be read or is damaged.
        """
        return self.files.look(path, decode)

    def claim(self, stack_id: str) -> Claim | None:
        """Takes the right to train a stack, so that two runs do not train it at the same time.

        Returns:
            None if a living run has it, or the stack is finished.

        Raises:
            StoreError: Claims cannot be written.
        """
        claim = claims.take(self.path, stack_id)
        if claim is not None and self.has_stack(stack_id):
            claims.forget(self.path, stack_id)
            return None
        return claim

    def verify(self) -> Iterator[Checked]:
        """Reads every file in full and checks all that can be checked, file by file, also those in packs."""
        for path, found in self.files.each(check_stack):
            if path.suffix != SUFFIX:
                yield Checked(path, str(found or ""))
        for path in self.files.packs.paths():
            checked = Checked.of(path, check_pack)
            if checked.ok or path.exists():
                yield checked
        for path in self.stack_plans.paths():
            yield Checked.of(path, read_stack_plan)
