"""Reads the examples of one task from a folder of images or from an `.npz` file."""

from __future__ import annotations

import pathlib
import zipfile
import zlib
from typing import Any, NamedTuple

import numpy as np

from maml_keras import data

# Errors of numpy for a file that is not an archive of arrays, or is damaged.
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
    """The examples of a task.

    Attributes:
        arrays: `x` and `y`, and further arrays of a file.
        classes: the names of the classes 0, 1, ...; empty for a file.
        counts: the number of examples of each class; empty for a file.
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
    raw: bool = False,
    verbose: str | int = "auto",
) -> Examples:
    """The examples at a path.

    Args:
        path: a folder with a folder of images for each class, or an `.npz` file.
        shape: the shape of one input. Images are resized to this shape.
        ways: the number of classes of the model; None if it predicts no classes.
        option: str, the name of the user's option, for messages.
        classes: the names of the classes 0, 1, ... if they are known already.
        raw: bool, whether images of a folder stay bytes, for a model that scales them.
        verbose: 0 for silence, else a progress bar once two seconds have passed.

    Raises:
        FileNotFoundError: if the path does not exist, or holds no image.
        ValueError: if the path cannot be read or does not fit the model.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        return _images(path, shape, ways, option, classes, raw, verbose)
    return Examples(_arrays(path, option))


def _arrays(path: pathlib.Path, option: str) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(
            f"`{option}` must be an .npz file with arrays x and y, or a folder with a "
            f"folder of images for each class. Received: {path}, which does not exist."
        )
    try:
        # Opened here, because numpy does not close a file that is not an archive.
        with open(path, "rb") as opened:
            file = np.load(opened, allow_pickle=False)  # An array for a .npy file.
            arrays = {name: file[name] for name in file.files}
    except DAMAGED as error:
        raise ValueError(
            f"`{option}` must be an .npz file with arrays x and y. Received: {path}, "
            "which numpy cannot read. Write it with `numpy.savez(path, x=x, y=y)`."
        ) from error
    if not {"x", "y"} <= set(arrays):
        raise ValueError(
            f"`{option}` must hold arrays x and y. Received: {sorted(arrays)}. Write "
            "the file with `numpy.savez(path, x=x, y=y)`."
        )
    halves = {"query_x", "query_y"} & set(arrays)
    if len(halves) == 1:
        raise ValueError(
            f"`{option}` must hold both query_x and query_y, or neither. Received: "
            f"only {', '.join(halves)} in {path}."
        )
    return arrays


def _images(
    path: pathlib.Path,
    shape: tuple[Any, ...],
    ways: int | None,
    option: str,
    classes: tuple[str, ...],
    raw: bool,
    verbose: str | int,
) -> Examples:
    if len(shape) != 3 or None in shape or shape[2] not in (1, 3, 4):
        raise ValueError(
            f"`{option}` can be a folder if the export takes images. Received: {path}, "
            f"and an export that takes inputs of shape {shape}. Pass an .npz file with "
            "arrays x and y."
        )
    if ways is None:
        raise ValueError(
            f"`{option}` can be a folder if the export predicts classes. Received: "
            f"{path}, and an export that does not. Pass an .npz file."
        )
    height, width, channels = shape
    try:
        pool = data.from_folder(
            path, size=(height, width), channels=channels, verbose=verbose
        )
    except FileNotFoundError as error:
        # The message speaks of a path, but the user passed two, so name the option.
        raise FileNotFoundError(f"`{option}`: {error}") from error
    except ValueError as error:
        raise ValueError(f"`{option}`: {error}") from error
    found = tuple(pool.class_names)
    if len(found) > ways:
        raise ValueError(
            f"`{option}` must hold at most {ways} classes, the number of outputs of "
            f"the export. Received: {len(found)} in {path}: {', '.join(found)}."
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
            # Scaled like the episodes in training.
            "x": pool.examples if raw else pool.examples.astype("float32") / 255.0,
            "y": np.repeat(numbers, pool.counts),
        },
        found,
        tuple(map(int, pool.counts)),
    )
