"""Small files in the exact layout of the official ones, which loaders are tested on.

Each `write_<name>(root, patch)` writes what the data set of that name is made from below a data root, and lets its
module expect these files: their hashes and their numbers.
"""

import dataclasses
import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest
from mtbench_datasets import awa, awa_images, cub, imagenet_small, room
from official_files_omniglot import write_omniglot
from official_files_tables import TABLE_WRITERS
from official_files_youtube8m import write_youtube8m
from PIL import Image

from mtbench import Dataset, Source

ANIMALS = {"antelope": 40, "grizzly+bear": 36, "killer+whale": 44, "bat": 40}
"""Images of each class, in the order of the official table, which is not that of the names."""
PICTURED = {animal: n // 4 for animal, n in ANIMALS.items()}
"""The same for the archive of images, which take longer to train on."""
HAS = {"black": "0 1 1 1", "swims": "0 0 1 0", "flys": "0 0 0 1"}
"""The attributes, and which animals have them."""
BIRDS = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross", "004.Groove_billed_Ani")


def write_awa_c(root: Path, patch: pytest.MonkeyPatch) -> None:
    """The official archive of features of AwA2."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(ANIMALS)), list(ANIMALS.values()))
    rows = rng.random((len(labels), 12)) + 2 * np.eye(12)[labels]
    names = [f"{animal}_{10001 + i}.jpg" for animal, n in ANIMALS.items() for i in range(n)]
    folder = "Animals_with_Attributes2/Features/ResNet101/"
    texts = {
        f"{folder}AwA2-features.txt": "".join(" ".join(f"{value:.8f}" for value in row) + "\n" for row in rows),
        f"{folder}AwA2-filenames.txt": "".join(f"{name}\n" for name in names),
        f"{folder}AwA2-labels.txt": "".join(f"{label + 1}\n" for label in labels),
    }
    write_zip(root / awa.FEATURES.path, {name: text.encode() for name, text in texts.items()})
    expect(patch, awa, "FEATURES", root, awa.AWAC)
    for name, value in {"N_IMAGES": len(labels), "N_COLUMNS": 12, "N_CLASSES": 4, "TEST_IMAGES": 5}.items():
        patch.setattr(awa, name, value)


def write_awa_a(root: Path, patch: pytest.MonkeyPatch) -> None:
    """The official archives of features and of the table of attributes."""
    write_awa_c(root, patch)
    folder = "Animals_with_Attributes2/"
    columns = [row.split() for row in HAS.values()]
    texts = {
        f"{folder}README-attributes.txt": "A table.\n",
        f"{folder}classes.txt": "".join(f"{i:6}\t{name}\n" for i, name in enumerate(ANIMALS, 1)),
        f"{folder}predicates.txt": "".join(f"{i:6}\t{name}\n" for i, name in enumerate(HAS, 1)),
        f"{folder}predicate-matrix-binary.txt": "".join(" ".join(row) + "\n" for row in zip(*columns, strict=True)),
    }
    write_zip(root / awa.BASE.path, {name: text.encode() for name, text in texts.items()})
    expect(patch, awa, "BASE", root, awa.AWAA)
    patch.setattr(awa.AWAA, "sources", (awa.BASE, awa.FEATURES))
    patch.setattr(awa, "N_ATTRIBUTES", len(HAS))
    patch.setattr(awa, "DRAWN", {"train": 40, "validation": 4, "test": 4})
    patch.setattr(awa, "N_COMPONENTS", 8)


def write_awa_c_images(root: Path, patch: pytest.MonkeyPatch) -> None:
    """The official archive of images of AwA2, in an order of its own."""
    files = {"Animals_with_Attributes2/classes.txt": b"     1\tantelope\n"}
    for number, (animal, n) in enumerate(reversed(PICTURED.items())):
        for i in reversed(range(n)):
            folder = f"Animals_with_Attributes2/JPEGImages/{animal}"
            files[f"{folder}/{animal}_{10001 + i}.jpg"] = image(number, i)
    write_zip(root / awa_images.ARCHIVE.path, files)
    expect(patch, awa_images, "ARCHIVE", root, awa_images.AWACImages)
    for name, value in {"N_IMAGES": sum(PICTURED.values()), "N_CLASSES": 4, "TEST_IMAGES": 2}.items():
        patch.setattr(awa_images, name, value)


def write_cub(root: Path, patch: pytest.MonkeyPatch) -> None:
    """The official archive of 4 species, 10 images each, in an order of its own."""
    files = [f"{species}/{species[4:]}_{i:04}_{7 * i}.jpg" for species in BIRDS for i in range(10)]
    numbered = range(1, len(files) + 1)
    tables = {
        "classes.txt": list(BIRDS),
        "images.txt": files,
        "image_class_labels.txt": [str(1 + i // 10) for i in range(len(files))],
        "train_test_split.txt": [str(int(i % 10 < 6)) for i in range(len(files))],
        "bounding_boxes.txt": [f"{i % 5}.0 2.0 12.0 {10 + i % 7}.0" for i in range(len(files))],
    }
    members = {"attributes.txt": b"1 has_bill_shape::curved\n", "CUB_200_2011/README": b"Birds.\n"}
    members |= {f"CUB_200_2011/images/{file}": image(i // 10, i) for i, file in reversed(list(enumerate(files)))}
    for name, lines in tables.items():
        text = "".join(f"{i} {line}\n" for i, line in zip(numbered, lines, strict=False))
        members[f"CUB_200_2011/{name}"] = text.encode()
    write_tar(root / cub.ARCHIVE.path, members)
    expect(patch, cub, "ARCHIVE", root, cub.CUB)
    patch.setattr(cub, "N_IMAGES", len(files))
    patch.setattr(cub, "N_CLASSES", len(BIRDS))


def write_first_birds(root: Path, patch: pytest.MonkeyPatch) -> None:
    """The file of crops of the first species."""
    path = root / cub.FIRST_50.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        pixels = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)
        file.create_dataset("image_bbox64", data=pixels, chunks=(8, 64, 64, 3), compression="gzip")
        file["class_id"] = np.repeat(np.arange(1, 5, dtype=np.int16), 10)
        file["is_train"] = np.tile(np.arange(10) < 6, 4).astype(np.uint8)
        file["path"] = np.array([f"{name}/{i}.jpg" for name in BIRDS for i in range(10)], dtype=h5py.string_dtype())
    expect(patch, cub, "FIRST_50", root)


def write_room(root: Path, patch: pytest.MonkeyPatch) -> None:
    """A user's file of two kinds of features of three scenes."""
    path = root / room.FEATURE_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    index = np.random.default_rng(0).permutation(np.repeat(np.arange(3), [30, 25, 60]))
    rows = np.random.default_rng(1).random((len(index), 20)) + 2 * np.eye(20)[index]
    with h5py.File(path, "w") as file:
        file["class_index"] = index.astype(np.uint8)
        file["class_index"].attrs["classes"] = ["bakery", "bar", "church"]
        file["decaf"], file["gist"] = rows.astype(np.float32), rows[:, :5].astype(np.float16)
    patch.setattr(room, "N_COMPONENTS", 8)


def write_imagenet_small(root: Path, patch: pytest.MonkeyPatch) -> None:
    """A user's tree of images, of kinds and suffixes as they come, with files that are no images beside them."""
    for kind, n in enumerate((20, 14, 14, 10, 6, 4, 3)):
        folder = root / imagenet_small.TREE / f"n{kind:08}"
        folder.mkdir(parents=True)
        for i in range(n):
            suffix, form = ((".JPEG", "JPEG"), (".png", "PNG"))[i % 2]
            (folder / f"n{kind:08}_{i}{suffix}").write_bytes(image(kind, i, form))
        (folder / "notes.txt").write_text("no image")
    for name, value in {"N_CLASSES": 5, "MOST": 12, "MOST_HELD": 2}.items():
        patch.setattr(imagenet_small, name, value)


def image(kind: int, number: int, form: str = "JPEG") -> bytes:
    """A coloured image whose hue is its kind's; kinds may be told apart, and numbers too."""
    rng = np.random.default_rng([kind, number])
    height, width = rng.integers(20, 40, 2)
    hue = np.random.default_rng(kind).integers(40, 216, 3)
    pixels = np.clip(hue + rng.normal(0, 25, (height, width, 3)), 0, 255)
    content = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(content, form)
    return content.getvalue()


def write_zip(path: Path, files: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder in sorted({f"{parent}/" for name in files for parent in Path(name).parents if parent.name}):
            archive.writestr(folder, b"")
        for name, content in files.items():
            archive.writestr(name, content)


def write_tar(path: Path, files: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for folder in sorted({str(parent) for name in files for parent in Path(name).parents if parent.name}):
            info = tarfile.TarInfo(folder)
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def expect(patch: pytest.MonkeyPatch, module: ModuleType, name: str, root: Path, *datasets: type[Dataset]) -> Source:
    """Lets a module expect the file that lies where one of its sources must."""
    source = getattr(module, name)
    content = (root / source.path).read_bytes()
    if source.path.endswith(".gz"):
        content = gzip.decompress(content)
    hashes = {source.algorithm: hashlib.new(source.algorithm, content, usedforsecurity=False).hexdigest()}
    found = dataclasses.replace(source, n_bytes=len(content), **hashes)
    patch.setattr(module, name, found)
    for dataset in datasets:
        sources = tuple(found if known.path == found.path else known for known in dataset.sources)
        patch.setattr(dataset, "sources", sources)
    return found


Writer = Callable[[Path, pytest.MonkeyPatch], None]
WRITERS: dict[str, Writer] = {
    "awa_a": write_awa_a,
    "awa_c": write_awa_c,
    "awa_c_images": write_awa_c_images,
    "cub": write_cub,
    "imagenet_small": write_imagenet_small,
    "omniglot": write_omniglot,
    "room": write_room,
    "youtube8m": write_youtube8m,
} | TABLE_WRITERS
"""What writes the files of each data set that has any, by its name."""
