"""`meta_album`: the data sets of Meta-Album, for tests on other kinds of images."""

from __future__ import annotations

import csv
import json
import os
import pathlib
from typing import Any

import numpy as np

from maml_keras.data.image_files import ImageFiles
from maml_keras.data.pool import Pool
from maml_keras.data.pool_cache import cached_on_disk
from maml_keras.data.tfds import DatasetNotFoundError

COLUMNS = {
    "image_column_name": "FILE_NAME",
    "category_column_name": "CATEGORY",
    "super_category_column_name": "SUPER_CATEGORY",
}


def meta_album(
    name: str,
    *,
    data_dir: Any = None,
    size: int = 84,
    lazy: bool = True,
    verbose: str | int = "auto",
) -> Pool:
    """A data set of Meta-Album: birds, insects, plants, textures, satellites, ..

    Meta-Album has 40 data sets of ten domains, each as Micro, Mini or Extended. Their
    classes have no split: train on other data, and test on all of them.

    Args:
        name: the name of the data set's folder, such as `"BRD_Mini"`. The folder is
            the unzipped archive: `labels.csv`, `info.json` and `images/`.
        data_dir: the directory that holds `meta_album/NAME`. Defaults to the
            environment variable TFDS_DATA_DIR, then to the current directory.
        size: int, pixels of a side; the files have 128.
        lazy: True decodes images when an episode needs them. False keeps them decoded
            in a cache on disk, as `from_folder(cache=True)` does.
        verbose: 0 for silence, else a progress bar once two seconds have passed.

    Returns:
        A `Pool` of uint8 images `[n, size, size, 3]`; groups are the super-categories,
        if the data set has some.

    Raises:
        DatasetNotFoundError: if the folder is missing; the message says what to do.
        ValueError: if `labels.csv` does not fit the folder.

    Reference: Ullah et al., 2022, https://arxiv.org/abs/2302.08909

    >>> meta_album("BRD_Mini", data_dir="nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    maml_keras.data.tfds.DatasetNotFoundError: BRD_Mini of Meta-Album was not ...
    """
    root = meta_album_folder(name, data_dir)
    if not (root / "labels.csv").is_file():
        there = sorted(p.parent.name for p in root.parent.glob("*/labels.csv"))
        raise DatasetNotFoundError(
            f"{name} of Meta-Album was not found in {str(root)!r}, which must hold "
            "labels.csv and images/"
            + (f" (there are {', '.join(there)})" if there else "")
            + ". Download its archive from meta-album.github.io or OpenML, under the "
            "licence that is named there, unzip it to this folder, and point data_dir "
            "at the folder that holds meta_album."
        )
    rows = _labels(root)
    rows.sort(key=lambda row: (row[1], row[0]))
    classes, counts = np.unique([row[1] for row in rows], return_counts=True)
    above = {row[1]: row[2] for row in rows}
    pool = Pool(
        ImageFiles(root, [row[0] for row in rows], size=(size, size), channels=3),
        counts=counts,
        class_names=classes.tolist(),
        groups=[above[c] for c in classes] if all(above.values()) else None,
    )
    if lazy:
        return pool
    key = {"root": os.path.realpath(root), "pool": pool.fingerprint()}
    return cached_on_disk("meta_album", key, lambda: pool, verbose=verbose)


def meta_album_folder(name: str, data_dir: Any = None) -> pathlib.Path:
    """The folder that `meta_album` reads, whether it exists or not."""
    directory = data_dir or os.environ.get("TFDS_DATA_DIR") or "."
    return pathlib.Path(directory) / "meta_album" / name


def _labels(root: pathlib.Path) -> list[tuple[str, str, str]]:
    """File below the folder, class and super-category of each image."""
    told: dict[str, Any] = {}
    if (root / "info.json").is_file():
        told = json.loads((root / "info.json").read_text("utf-8"))
    image, category, above = (told.get(key) or COLUMNS[key] for key in COLUMNS)
    between = "\t" if told.get("csv_with_tab") else ","
    with open(root / "labels.csv", newline="", encoding="utf-8") as file:
        table = csv.DictReader(file, delimiter=between)
        missing = {image, category} - set(table.fieldnames or ())
        if missing:
            raise ValueError(
                f"{root / 'labels.csv'} must have the columns {image} and {category}. "
                f"Received: the columns {', '.join(table.fieldnames or ['none'])}. "
                "Unzip the archive again, or correct the names in info.json."
            )
        rows = [(row[image], row[category], row.get(above) or "") for row in table]
    folder = "images/" if (root / "images").is_dir() else ""
    found = [(f"{folder}{path}", label, group) for path, label, group in rows]
    for path, label, _ in found:
        if not (root / path).is_file():
            raise ValueError(
                f"{root / 'labels.csv'} must list files that are there. Received: "
                f"{path} of class {label!r}, which is missing. Unzip the archive again."
            )
    return found
