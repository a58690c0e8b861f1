"""Memory: how much there is, how much is used, and whether an error says that there was too little.

On the CPU two things can be meant. The bytes of the tensors that live, `TensorBytes`, are what the code asks for, and
can be predicted. What the process holds of the machine's memory is more: 1.3 to 2.2 times as much as a stack trains,
since the C library's heap keeps the room between tensors that it cannot use again.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import weakref
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WORKERS = "MTBENCH_WORKERS"
"""Environment variable: how many workers share this machine's memory."""

_NO_MEMORY = ("not enough memory", "can't allocate memory")  # of the CPU's allocator: on Windows, elsewhere
_PROC, _CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that an allocation failed, on a GPU or on the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def used_bytes(device: torch.device) -> int | None:
    """Memory in use now: by this process on the CPU (None where that is not known), by the allocator on a GPU."""
    return int(torch.cuda.memory_allocated(device)) if device.type == "cuda" else _of_process("VmRSS")


def peak_bytes(device: torch.device) -> int:
    """Most memory used since `restart_peak`: by this process on the CPU, by the device's allocator on a GPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    found = _of_process("VmHWM")
    if found is not None:
        return found
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def restart_peak(device: torch.device) -> None:
    """Forgets the peak so far, where the system can: Linux, and GPUs."""
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]  # statistics of a GPU that nothing has used yet are an error
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        (_PROC / "self/clear_refs").write_text("5")


def available_bytes(device: torch.device) -> int | None:
    """Memory that a stack may take now: of the GPU, or of the machine (or container) shared by the workers on it.

    None where the system does not tell.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + int(cached)
    rooms = [room for room in (_of_machine(), _of_container()) if room is not None]
    return min(rooms) // max(1, int(os.environ.get(WORKERS, "1"))) if rooms else None


def _of_process(name: str) -> int | None:
    return _field(_PROC / "self/status", name)


def _of_machine() -> int | None:
    found = _field(_PROC / "meminfo", "MemAvailable")
    if found is None and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return found


def _of_container() -> int | None:
    try:
        most, current = ((_CGROUP / name).read_text() for name in ("memory.max", "memory.current"))
        return max(0, int(most) - int(current))
    except (OSError, ValueError):  # there is none, or it may take all there is: "max"
        return None


def _field(path: Path, name: str) -> int | None:
    """A line "Name:   123 kB" of a file below /proc, in bytes."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":")), None)


class TensorBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, counts the bytes of the tensors that operations make, until nothing refers to them.

    Tensors that were there before count nothing, nor does what an operation uses inside.

    Attributes:
        live: Bytes that live now.
        peak: The most since the last `restart`.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing is compiled here; torch would otherwise import its compiler, which takes as long as torch itself.
        return False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def restart(self) -> None:
        """Lets the peak begin anew."""
        self.peak = self.live

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for x in tree_leaves((args, kwargs)):
            if isinstance(x, Tensor):
                self._note(x, new=False)
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, Tensor):
                self._note(x, new=True)
        return out

    def _note(self, tensor: Tensor, new: bool) -> None:
        storage = tensor.untyped_storage()
        place = storage._cdata
        if place in self._known:
            return
        size = storage.nbytes() if new else 0

        def gone(_: object) -> None:
            del self._known[place]
            self.live -= size

        self._known[place] = weakref.ref(storage, gone)
        self.live += size
        self.peak = max(self.peak, self.live)


class AllocatedBytes:
    """The same by the statistics of a GPU's allocator, which know what operations use inside, too."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __enter__(self) -> Self:
        self.restart()
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def live(self) -> int:
        """Bytes that live now."""
        return int(torch.cuda.memory_allocated(self._device))

    @property
    def peak(self) -> int:
        """The most since the last `restart`."""
        return int(torch.cuda.max_memory_allocated(self._device))

    def restart(self) -> None:
        """Lets the peak begin anew."""
        restart_peak(self._device)


def meter(device: torch.device) -> TensorBytes | AllocatedBytes:
    """What counts bytes on a device."""
    return AllocatedBytes(device) if device.type == "cuda" else TensorBytes()
