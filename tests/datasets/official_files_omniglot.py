"""The two archives of Omniglot in their official layout, with few characters."""

import dataclasses
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from mtbench_datasets import omniglot
from mtbench_datasets.omniglot import archives
from PIL import Image

ALPHABETS = {"background": {"Zeta_(Late)": 2, "Alpha": 3}, "evaluation": {"Mu": 2}}
"""Characters of each alphabet, in the order of the archives, which is not that of the names."""


def write_omniglot(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Writes both archives, and lets the loader expect what they show."""
    number, expected = 0, []
    for part, archive in zip(ALPHABETS, omniglot.ARCHIVES, strict=True):
        files = {}
        for alphabet, n_characters in ALPHABETS[part].items():
            for character in range(1, n_characters + 1):
                number += 1
                for drawer in range(1, 21):
                    folder = f"images_{part}/{alphabet}/character{character:02}"
                    files[f"{folder}/{number:04}_{drawer:02}.png"] = png(drawn(number, drawer))
        path = root / archive.source.path
        write_zip(path, f"images_{part}", files)
        shown = archives.shown(path, "omniglot")
        expected.append(
            dataclasses.replace(
                archive,
                alphabets=len(ALPHABETS[part]),
                characters=sum(ALPHABETS[part].values()),
                sha256=archives.shown_sha256(*shown),
            )
        )
    patch.setattr(omniglot, "ARCHIVES", tuple(expected))


def drawn(number: int, drawer: int) -> np.ndarray:
    """Ink [105, 105] of 0 and 1: a block and a stroke that belong to the character, moved a little by the drawer."""
    rng = np.random.default_rng(100 * number + drawer)
    ink = np.zeros((105, 105), np.uint8)
    row, column = 10 + 15 * (number % 4) + rng.integers(8), 10 + 12 * (number % 5) + rng.integers(8)
    ink[row : row + 25, column : column + 6] = 1
    ink[80 - 7 * number : 84 - 7 * number, 5:100] = 1
    return ink


def png(ink: np.ndarray) -> bytes:
    """A PNG of one bit per pixel, black on white, as the official ones."""
    content = io.BytesIO()
    Image.fromarray(ink == 0).save(content, "PNG")
    return content.getvalue()


def write_zip(path: Path, top: str, files: Mapping[str, bytes]) -> None:
    """An archive with entries for folders, as the official ones have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folders = {f"{parent}/" for name in files for parent in Path(name).parents if str(parent) != "."}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder in sorted({f"{top}/", *folders}):
            archive.writestr(folder, b"")
        for name, content in files.items():
            archive.writestr(name, content)
