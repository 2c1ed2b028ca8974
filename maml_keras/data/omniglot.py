"""Omniglot as the papers use it, prepared once and cached."""

import hashlib
import os
from typing import Any

import numpy as np
import tensorflow as tf

from maml_keras.backend.progress import Bar
from maml_keras.data.arrays import from_arrays
from maml_keras.data.omniglot_alphabets import alphabets_of
from maml_keras.data.omniglot_folders import (
    contents,
    holds_drawings,
    list_drawings,
    read_drawings,
)
from maml_keras.data.pipeline_options import untuned
from maml_keras.data.pool import Pool
from maml_keras.data.pool_cache import cached
from maml_keras.data.tfds import length, open_tfds, resize

# Increase the number when the preparation below changes, so that old caches are not
# read.
FORMAT = 1


def omniglot(
    path: str | os.PathLike[str] | None = None,
    *,
    split: str = "train+test",
    size: int = 28,
    data_dir: str | None = None,
    download: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    verbose: str | int = "auto",
) -> Pool:
    """A pool of the handwritten characters of 50 alphabets, 20 drawings each.

    Images have one channel, ink 255 on background 0, and are resized with antialiased
    Lanczos. A drawing in two splits (small1 and small2 overlap) is in the pool once.
    The drawings come from the author's unzipped archives, or from TFDS. Both have the
    same names of classes and groups. Only the author's folders say who drew.

    Args:
        path: the folder with `images_background`, `images_evaluation` or both, or a
            folder of alphabets (`Greek/character03/0396_01.png`). The drawings may
            have any size, and be black on white or white on black. None for TFDS.
        split: "train+test" has all 1623 characters, "train" the 964 characters of the
            background set, "test" the 659 of the evaluation set, "small1" and "small2"
            parts of "train".
        size: int, height and width.
        data_dir: directory of prepared TFDS data sets, or a folder as for `path`.
            Defaults to the environment variable TFDS_DATA_DIR, then to TFDS's own
            default.
        download: whether to download and prepare the data if it is missing.
        cache_dir: the directory for the prepared arrays. Defaults to the environment
            variable MAML_KERAS_CACHE, then to ~/.cache/maml_keras.
        verbose: 0 for silence, else a progress bar if preparing the arrays takes more
            than two seconds.

    Returns:
        A `Pool` of uint8 `[n, size, size, 1]`. Classes have names such as
        "Greek/character03"; the groups are the alphabets. From folders,
        `example_groups` says who drew, such as "Greek/drawer07".

    Raises:
        DatasetNotFoundError: if TFDS does not have the data.
        FileNotFoundError: if `path` holds no drawings.
        ValueError: if the split is unknown, `size` is not a positive integer, a drawing
            in the folders is there twice, or a name is not one of Omniglot's.

    Reference: Lake et al., 2015, https://github.com/brendenlake/omniglot

    >>> omniglot(data_dir="nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    maml_keras.data.tfds.DatasetNotFoundError: TFDS data set 'omniglot' was not ...
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(
            f"`size` must be a positive integer. Received: {size!r}. Pass e.g. size=28."
        )
    if path is None and data_dir is not None and holds_drawings(data_dir):
        path = data_dir
    if path is not None:
        return _from_folders(path, split, size, cache_dir, verbose)
    builder, dataset = open_tfds(
        "omniglot", split=split, data_dir=data_dir, download=download, verbose=verbose
    )
    source = {
        "version": str(builder.version),
        "source": os.path.realpath(os.fspath(builder.data_dir)),
        "split": split,
        "examples": {n: s.num_examples for n, s in builder.info.splits.items()},
    }
    return cached(
        "omniglot",
        {"format": FORMAT, **source, "size": size},
        lambda: _prepare(builder, dataset, size, verbose),
        cache_dir,
    )


def _from_folders(
    path: str | os.PathLike[str],
    split: str,
    size: int,
    cache_dir: str | os.PathLike[str] | None,
    verbose: str | int,
) -> Pool:
    drawings = list_drawings(path, alphabets_of(split))
    files = contents(path, drawings)
    return cached(
        "omniglot",
        {"format": FORMAT, "files": files, "size": size},
        lambda: read_drawings(drawings, size, verbose=verbose),
        cache_dir,
    )


def _prepare(builder: Any, dataset: Any, size: int, verbose: str | int) -> Pool:
    def drawing(row: Any) -> Any:
        ink = 255 - row["image"][..., :1]
        small = resize(ink, (size, size), method="lanczos3")
        return small, ink, row["label"], row["alphabet"], row["alphabet_char_id"]

    drawings: dict[tuple[int, bytes], tuple[Any, ...]] = {}
    mapped = untuned(dataset.map(drawing, num_parallel_calls=tf.data.AUTOTUNE))
    bar = Bar(length(dataset), unit="drawing", verbose=verbose)
    for done, (small, ink, *labels) in enumerate(mapped.as_numpy_iterator(), start=1):
        # Compare drawings before resizing, which could make different drawings equal.
        content = hashlib.sha256(ink.tobytes()).digest()
        drawings[int(labels[0]), content] = (small, *labels)
        bar.update(done)
    # Sort by label and content, so that "small1+small2" and "small2+small1" give the
    # same pool.
    rows = [drawings[key] for key in sorted(drawings)]
    images, label, alphabet, character = (
        np.stack(column) for column in zip(*rows, strict=True)
    )
    _, first, numbers = np.unique(label, return_index=True, return_inverse=True)
    alphabets = builder.info.features["alphabet"].names
    groups = [alphabets[number] for number in alphabet[first]]
    names = [
        f"{group}/character{int(number) + 1:02d}"  # The name of Omniglot's directory.
        for group, number in zip(groups, character[first], strict=True)
    ]
    return from_arrays(images, numbers, class_names=names, groups=groups)
