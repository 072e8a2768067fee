"""Image sets as they are downloaded, with few and small images: EuroSAT, ISIC 2018 Task 3, and sets of the hub."""

import csv
import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

EUROSAT = (
    "AnnualCrop",
    "Forest",
    "HerbaceousVegetation",
    "Highway",
    "Industrial",
    "Pasture",
    "PermanentCrop",
    "Residential",
    "River",
    "SeaLake",
)
ISIC = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
ISIC_START = "ISIC2018_Task3_Training_"


def jpeg(seed: Sequence[int], size: tuple[int, int] = (8, 8)) -> bytes:
    """A JPEG of noise, other for every seed; `size` is width and height."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(file := BytesIO(), "JPEG")
    return file.getvalue()


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def folders(root: Path, n_images: Mapping[str, int], size: tuple[int, int] = (8, 8)) -> Path:
    """A folder per class with images CLASS_1.jpg, CLASS_2.jpg, …"""
    for k, (name, n) in enumerate(n_images.items()):
        for i in range(n):
            write(root / name / f"{name}_{i + 1}.jpg", jpeg((k, i), size))
    return root


def eurosat(root: Path, n_images: int = 3, size: tuple[int, int] = (64, 64)) -> Path:
    """What the archive of EuroSAT unpacks to: 2750/AnnualCrop/AnnualCrop_1.jpg."""
    folders(root / "2750", dict.fromkeys(EUROSAT, n_images), size)
    return root


def table(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    """A CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def isic2018(root: Path, n_lesions: int = 4, lesions: bool = True) -> Path:
    """What the archives of ISIC 2018 Task 3 unpack to. The first lesion of each class has three images, others one."""
    truth: list[list[object]] = [["image", *ISIC]]
    groupings: list[list[object]] = [["image", "lesion_id", "diagnosis_confirm_type"]]
    number = 24306
    for k in range(len(ISIC)):
        for lesion in range(n_lesions):
            for _ in range(1 if lesion else 3):
                name = f"ISIC_{number:07d}"
                write(root / f"{ISIC_START}Input/{name}.jpg", jpeg((number,), (12, 9)))
                truth.append([name, *(f"{float(k == j):.1f}" for j in range(len(ISIC)))])
                groupings.append([name, f"HAM_{100 * k + lesion:07d}", "histopathology"])
                number += 7
    for name in ("ATTRIBUTION.txt", "LICENSE.txt"):
        write(root / f"{ISIC_START}Input/{name}", b"CC BY-NC\n")
    table(root / f"{ISIC_START}GroundTruth/{ISIC_START}GroundTruth.csv", truth)
    if lesions:
        table(root / f"{ISIC_START}LesionGroupings.csv", groupings)
    return root


CARD = """---
license: mit
dataset_info:
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': AnnualCrop
          '1': Forest
          '2': no
  splits:
  - name: train
    num_examples: 12
---
# A set
"""
NAMES = ("AnnualCrop", "Forest", "no")


def hub_rows(first: int, n: int) -> list[dict[str, Any]]:
    """Rows of a table of the hub, with labels 0, 1, 2, 0, …"""
    return [{"image": {"bytes": jpeg((i,)), "path": f"{i}.jpg"}, "label": i % 3} for i in range(first, first + n)]


def hub_table(path: Path, rows: Sequence[Mapping[str, Any]], named: bool = True, group_rows: int = 4) -> Path:
    """A Parquet table of the hub. If it is `named`, its metadata name the classes, as the library `datasets` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = pa.Table.from_pylist(list(rows))
    if named:
        features = {"image": {"_type": "Image"}, "label": {"names": list(NAMES), "_type": "ClassLabel"}}
        found = found.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(found, path, row_group_size=group_rows)
    return path


def hub(root: Path, named: bool = True) -> Path:
    """A dataset of the hub with two parts: 12 training and 6 test images, in row groups of 4."""
    hub_table(root / "data/train-00000-of-00001.parquet", hub_rows(0, 12), named)
    hub_table(root / "data/test-00000-of-00001.parquet", hub_rows(12, 6), named)
    write(root / ".cache/huggingface/download.lock", b"")
    return root
