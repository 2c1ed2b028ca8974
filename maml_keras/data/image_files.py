"""`ImageFiles`: image files that are decoded when an episode needs them."""

from __future__ import annotations

import concurrent.futures
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from maml_keras.backend.documents import reason
from maml_keras.data import python_reads
from maml_keras.data.rows import Rows, keys_of, scaled
from maml_keras.data.tfds import resize

# Bytes at both ends of a file that are compared to find copies.
COMPARED = 4096


class ImageFiles(Rows):
    """Rows of uint8 `[height, width, channels]`, each decoded from its file.

    Args:
        root: the folder of the files.
        names: the path of each file below `root`.
        size: `(height, width)` to resize to, bilinear with antialiasing; None if all
            images have the size of the first.
        channels: 1 for grey, 3 for colour, 4 for colour with transparency.
        image_shape: `(height, width, channels)` if it is known already.

    Raises:
        ValueError: if the first image cannot be read. An error of a later image comes
            when the image is needed, and names the file, too.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        root: str | os.PathLike[str],
        names: Sequence[str],
        *,
        size: tuple[int, int] | None,
        channels: int,
        image_shape: tuple[int, ...] | None = None,
    ) -> None:
        self._root, self._names = pathlib.Path(root), np.array(names, dtype=object)
        self._size, self._channels = size, channels
        if image_shape is None:
            image_shape = _decoded(self._path(0), size, channels).shape
        self.shape = (len(names), *image_shape)

    def _path(self, row: int) -> pathlib.Path:
        return self._root / str(self._names[row])

    def __getitem__(self, rows: Any) -> npt.NDArray[Any]:
        rows = np.asarray(np.arange(len(self))[rows])
        out = np.empty([rows.size, *self.shape[1:]], np.uint8)

        def read(place: int, row: int) -> None:
            image = _decoded(self._path(row), self._size, self._channels)
            check_size(image, self.shape[1:], self._path(row))
            out[place] = image

        # `list` raises the error of the first image that cannot be read.
        list(_threads().map(read, range(rows.size), rows.ravel().tolist()))
        return out.reshape(*rows.shape, *self.shape[1:])

    def select(self, rows: npt.NDArray[Any]) -> ImageFiles:
        """The given files."""
        return ImageFiles(
            self._root,
            self._names[rows],
            size=self._size,
            channels=self._channels,
            image_shape=self.shape[1:],
        )

    def gather(self, rows: Any) -> Any:
        """Images of floats in [0, 1], decoded by all cores."""
        images = python_reads.read(self.__getitem__, rows, tf.uint8)
        return scaled(
            tf.ensure_shape(images, [*rows.shape, *self.shape[1:]]),
            axes=self.ndim - 1,
        )

    def keys(self) -> npt.NDArray[Any]:
        """Keys of the files' sizes, beginnings and ends, without decoding images."""
        return keys_of(map(_ends, map(self._path, range(len(self)))))

    def digest(self) -> bytes:
        """A hash of the files' names, sizes and times, and of the images' form."""
        facts = [self.shape, self._size]
        for row, name in enumerate(self._names):
            state = self._path(row).stat()
            facts.append((name, state.st_size, state.st_mtime_ns))
        return hashlib.sha256(json.dumps(facts).encode()).digest()


@functools.cache
def _threads() -> concurrent.futures.ThreadPoolExecutor:
    # Threads of our own: those of TensorFlow may all wait for this very function.
    return concurrent.futures.ThreadPoolExecutor(os.cpu_count(), "decode")


def _decoded(
    path: pathlib.Path, size: tuple[int, int] | None, channels: int
) -> npt.NDArray[Any]:
    try:
        with tf.device("CPU:0"):
            image = tf.io.decode_image(
                tf.io.read_file(str(path)), channels=channels, expand_animations=False
            )
            if size is not None:
                image = resize(image, size, method="bilinear")
    except tf.errors.OpError as error:  # Also a broken link, or no right to read.
        raise unreadable(path, channels, error) from error
    pixels: npt.NDArray[Any] = image.numpy()
    return pixels


def unreadable(path: pathlib.Path, channels: int, error: Exception) -> ValueError:
    """The error about a file that is no image.

    Args:
        path: the file.
        channels: int, the wanted channels.
        error: what TensorFlow said.
    """
    return ValueError(
        f"{path} cannot be read as an image with {channels} channels. Remove or "
        f"convert the file. ({reason(error)})"
    )


def check_size(image: Any, shape: tuple[int, ...], path: pathlib.Path) -> None:
    """Refuses an image of another size than the first.

    Args:
        image: array `[height, width, channels]`.
        shape: the shape of the first image.
        path: the file of the image, for the message.
    """
    if image.shape != shape:
        raise ValueError(
            "`size` must be given if images differ in size. Received: size=None for "
            f"{path} of shape {image.shape}, but the first image has shape {shape}. "
            "Pass e.g. size=(84, 84)."
        )


def _ends(path: pathlib.Path) -> bytes:
    with open(path, "rb") as file:
        start = file.read(COMPARED)
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - COMPARED))
        return b"%d:" % length + start + file.read(COMPARED)
