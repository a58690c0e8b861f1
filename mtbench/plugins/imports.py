"""What a plugin file imports from its own folder: `import my_layers` finds my_layers.py beside it.

Files beside a plugin file are modules of a package that stands for their folder, and are looked for by the files of
that folder alone. So two folders may each have a `common.py`, and nothing is put on `sys.path`, where it could stand in
the way of anybody else's imports. Names of the standard library and of mtbench always mean these.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

_PREFIX = "mtbench_beside_"
_NEVER = {*sys.stdlib_module_names, "mtbench"}


class Folder:
    """A folder with plugin files, as these see it.

    Args:
        path: The folder.

    Attributes:
        package: The package that stands for it.
        builtins: What its files have as `__builtins__`: with an import of their own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.package = _PREFIX + hashlib.sha256(str(path).encode()).hexdigest()[:8]
        self.builtins: dict[str, Any] = {**vars(builtins), "__import__": self._import}
        self._beside: dict[str, bool] = {}
        self._read: dict[Path, bytes] = {}

    @classmethod
    def of(cls, path: Path) -> Folder:
        """The folder of a plugin file. What was imported from it is forgotten if any of it has changed since."""
        importlib.invalidate_caches()
        folder = _FOLDERS.setdefault(path.parent, cls(path.parent))
        folder._beside.clear()
        if folder.package not in sys.modules or any(_content(file) != old for file, old in folder._read.items()):
            folder._forget()
        return folder

    def files(self, source: bytes) -> dict[str, bytes]:
        """Content of all files beside a plugin file that it imports anywhere, and that these import, by their path.

        Args:
            source: The plugin file's content.
        """
        found: dict[str, bytes] = {}
        waiting = [(source, self.path)]
        while waiting:
            text, place = waiting.pop()
            for file in self._imported(text, place):
                name = file.relative_to(self.path).as_posix()
                content = _content(file)
                if name not in found and content is not None:
                    found[name] = content
                    waiting.append((content if file.suffix == ".py" else b"", file.parent))
        return found

    def load(self, name: str, file: Path) -> SourceFileLoader:
        """A loader for a module of the folder's package."""
        self._read[file] = _content(file) or b""
        return _Loader(name, str(file), self)

    def _forget(self) -> None:
        self._read.clear()
        for name in [n for n in sys.modules if n == self.package or n.startswith(self.package + ".")]:
            del sys.modules[name]
        package = ModuleType(self.package)
        package.__path__ = [str(self.path)]
        sys.modules[self.package] = package

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """What an import statement calls in a file of this folder."""
        top = name.partition(".")[0]
        if level or not self._is_beside(top):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        full = f"{self.package}.{name}"
        try:
            found = builtins.__import__(full, globals, locals, fromlist or ("__name__",), 0)
        except ModuleNotFoundError as error:
            if error.name is None or not error.name.startswith(self.package + "."):
                raise
            missing = error.name.removeprefix(self.package + ".")
            raise ModuleNotFoundError(f"No module named '{missing}'", name=missing).with_traceback(None) from None
        return found if fromlist else sys.modules[f"{self.package}.{top}"]

    def _is_beside(self, top: str) -> bool:
        """Whether a name means a module of this folder."""
        if top not in self._beside:
            self._beside[top] = top not in _NEVER and self._looked_up(top)
        return self._beside[top]

    def _looked_up(self, top: str) -> bool:
        here = PathFinder.find_spec(top, [str(self.path)])
        if here is None:
            return False
        try:
            usual = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            usual = None
        if here.origin is None:  # a folder without __init__.py: it may hold anything
            return usual is None
        # What can be imported anyway, such as packages of a checkout, must not be there twice.
        return usual is None or usual.origin is None or Path(usual.origin).resolve() != Path(here.origin).resolve()

    def _imported(self, source: bytes, place: Path) -> Iterator[Path]:
        """The files in this folder that a file imports.

        Args:
            source: Its content.
            place: The folder it is in.
        """
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):
            return
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield from self._resolved(self.path, alias.name.split("."), absolute=True)
            elif isinstance(node, ast.ImportFrom):
                start = self.path
                if node.level:
                    start = ([place, *place.parents])[min(node.level - 1, len(place.parents))]
                parts = node.module.split(".") if node.module else []
                for alias in node.names:
                    yield from self._resolved(start, [*parts, alias.name], absolute=not node.level)

    def _resolved(self, start: Path, parts: Sequence[str], absolute: bool) -> Iterator[Path]:
        """The files behind a dotted name: those of packages on the way, too."""
        if (absolute and not self._is_beside(parts[0])) or not start.is_relative_to(self.path):
            return
        if not absolute and (start / "__init__.py").is_file() and start != self.path:
            yield start / "__init__.py"
        for n in range(1, len(parts) + 1):
            spec = PathFinder.find_spec(parts[n - 1], [str(start.joinpath(*parts[: n - 1]))])
            if spec is None:
                return
            if spec.origin is not None:
                yield Path(spec.origin)


class _Loader(SourceFileLoader):
    """Runs a file of a folder. It is compiled each time: a cache misses an edit within the same second."""

    def __init__(self, name: str, path: str, folder: Folder) -> None:
        super().__init__(name, path)
        self._folder = folder

    def get_code(self, fullname: str) -> CodeType:
        """Compiles the file."""
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code

    def exec_module(self, module: ModuleType) -> None:
        """Runs it with the folder's imports."""
        module.__dict__["__builtins__"] = self._folder.builtins
        super().exec_module(module)


class _Finder:
    """Finds the modules of folders' packages."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec of a module of a folder's package, run by its folder; None for all others."""
        if not name.startswith(_PREFIX):
            return None
        spec = PathFinder.find_spec(name, path, target)
        folder = next((f for f in _FOLDERS.values() if f.package == name.partition(".")[0]), None)
        if spec is not None and folder is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = folder.load(name, Path(spec.loader.path))
            spec.cached = None
        return spec


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None


_FOLDERS: dict[Path, Folder] = {}
sys.meta_path.insert(0, _Finder)
