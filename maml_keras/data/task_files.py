"""One task's examples, read from a folder of images or from an `.npz` file."""

from __future__ import annotations

import pathlib
import zipfile
import zlib
from typing import Any, NamedTuple

import numpy as np

from maml_keras import data

# What numpy throws of a file that is no archive of arrays, or not whole.
DAMAGED = (
    AttributeError,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


class Examples(NamedTuple):
    """What was read.

    Attributes:
        arrays: `x` and `y`, and whatever else a file holds.
        classes: the names of the classes 0, 1, ..; of a file, none.
        counts: how many examples each class has.
    """

    arrays: dict[str, Any]
    classes: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()


def read(
    path: str | pathlib.Path,
    *,
    shape: tuple[Any, ...],
    ways: int | None,
    option: str = "--data",
    classes: tuple[str, ...] = (),
    verbose: str | int = "auto",
) -> Examples:
    """The examples at a path.

    Args:
        path: a folder with a folder of images for each class, or an `.npz` file.
        shape: of one input. Images are resized to it.
        ways: how many classes the model tells apart; None if it predicts no classes.
        option: str, what the user calls the path.
        classes: the names of classes 0, 1, .. if they are known already.
        verbose: 0 for silence, else a progress bar once two seconds have passed.

    Raises:
        FileNotFoundError: if nothing is there, or no image.
        ValueError: if it cannot be read or does not fit.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        return _images(path, shape, ways, option, classes, verbose)
    return Examples(_arrays(path, option))


def _arrays(path: pathlib.Path, option: str) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(
            f"`{option}` must be an .npz file with arrays x and y, or a folder with a "
            f"folder of images for each class. Received: {path}, which does not exist."
        )
    try:
        # Opened here: numpy does not close what turns out to be no archive.
        with open(path, "rb") as opened:
            file = np.load(opened, allow_pickle=False)  # Of a .npy file one array.
            arrays = {name: file[name] for name in file.files}
    except DAMAGED as error:
        raise ValueError(
            f"`{option}` must be an .npz file with arrays x and y. Received: {path}, "
            "which numpy cannot read. Write it with `numpy.savez(path, x=x, y=y)`."
        ) from error
    if not {"x", "y"} <= set(arrays):
        raise ValueError(
            f"`{option}` must hold arrays x and y. Received: {sorted(arrays)}."
        )
    halves = {"query_x", "query_y"} & set(arrays)
    if len(halves) == 1:
        raise ValueError(
            f"`{option}` must hold query_x and query_y, or neither. Received: "
            f"{', '.join(halves)} alone in {path}."
        )
    return arrays


def _images(
    path: pathlib.Path,
    shape: tuple[Any, ...],
    ways: int | None,
    option: str,
    classes: tuple[str, ...],
    verbose: str | int,
) -> Examples:
    if len(shape) != 3 or None in shape or shape[2] not in (1, 3, 4):
        raise ValueError(
            f"`{option}` can be a folder if the export takes images. Received: {path}, "
            f"and an export that takes inputs of shape {shape}. Give it an .npz file "
            "with arrays x and y."
        )
    if ways is None:
        raise ValueError(
            f"`{option}` can be a folder if the export predicts classes. Received: "
            f"{path}, and an export that does not. Give it an .npz file."
        )
    height, width, channels = shape
    try:
        pool = data.from_folder(
            path, size=(height, width), channels=channels, verbose=verbose
        )
    except FileNotFoundError as error:
        # It speaks of a path, of which the user gave two.
        raise FileNotFoundError(f"`{option}`: {error}") from error
    except ValueError as error:
        raise ValueError(f"`{option}`: {error}") from error
    found = tuple(pool.class_names)
    if len(found) > ways:
        raise ValueError(
            f"`{option}` must hold no more classes than the export tells apart, "
            f"{ways}. Received: {len(found)} in {path}: {', '.join(found)}."
        )
    unknown = sorted(set(found) - set(classes)) if classes else []
    if unknown:
        raise ValueError(
            f"`{option}` must hold the classes of `--data`: {', '.join(classes)}. "
            f"Received: {', '.join(unknown)} in {path}."
        )
    numbers = [(classes or found).index(name) for name in found]
    return Examples(
        {
            # As episodes are scaled in training.
            "x": pool.examples.astype("float32") / 255.0,
            "y": np.repeat(numbers, pool.counts),
        },
        found,
        tuple(map(int, pool.counts)),
    )
