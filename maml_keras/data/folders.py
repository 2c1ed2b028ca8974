"""Pools from folders of images."""

import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from maml_keras.backend.documents import reason
from maml_keras.backend.progress import Bar
from maml_keras.data.pipeline_options import untuned
from maml_keras.data.pool import Pool, from_arrays
from maml_keras.data.tfds import resize

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
# Images that TensorFlow cannot read. Skipping them would change the classes silently.
OTHERS = (".webp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".svg")


def from_folder(
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    channels: int = 3,
    verbose: str | int = "auto",
) -> Pool:
    """A pool from a folder that holds a folder of images for each class.

    The layout is `path/class/image.png`, with PNG, JPEG, BMP and the first frame of
    GIF. Classes are sorted by the names of their folders, images by file name.

    Args:
        path: the folder.
        size: `(height, width)` to resize to, bilinear with antialiasing. Needed if
            images differ in size.
        channels: 1 for grey, 3 for colour, 4 for colour with transparency.
        verbose: 0 for silence, else a progress bar once two seconds have passed.

    Returns:
        A `Pool` of uint8 images `[n, height, width, channels]`.

    Raises:
        FileNotFoundError: if the folder does not exist, or no class has an image.
        ValueError: if an image cannot be read or has an unsupported format, a class
            has no image, or images differ in size.
    """
    root = pathlib.Path(path)
    if not root.is_dir():
        raise FileNotFoundError(
            "`path` must be a folder with a folder of images for each class. Received: "
            f"{root}, which {'is a file' if root.exists() else 'does not exist'}."
        )
    images: list[Any] = []
    files = [file for folder in _visible(root) for file in _images(folder)]
    bar = Bar(len(files), unit="image", verbose=verbose)

    def read(image: Any) -> Any:
        return image if size is None else resize(image, size, method="bilinear")

    for file, image in zip(files, read_images(files, read, channels=channels)):
        images.append(image)
        if images[-1].shape != images[0].shape:
            raise ValueError(
                "`size` must be given if images differ in size. Received: size=None "
                f"for {file} of shape {images[-1].shape}, but the first image has "
                f"shape {images[0].shape}. Pass e.g. size=(84, 84)."
            )
        bar.update(len(images))
    if not images:
        raise FileNotFoundError(
            f"`path` must hold a folder of images ({', '.join(SUFFIXES)}) for each "
            f"class. Received: {root}, which holds no class folder."
        )
    labels = [file.parent.name for file in files]
    names, numbers = np.unique(labels, return_inverse=True)
    return from_arrays(np.stack(images), numbers, class_names=list(names))


def _visible(root: pathlib.Path) -> list[pathlib.Path]:
    folders = (p for p in root.iterdir() if p.is_dir())
    return sorted(p for p in folders if not p.name.startswith("."))


def _images(folder: pathlib.Path) -> list[pathlib.Path]:
    """The images of a class; raises if a class has no readable image."""
    files = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    other = next((f for f in files if f.suffix.lower() in OTHERS), None)
    if other is not None:
        raise ValueError(
            f"Images must be {', '.join(SUFFIXES)}. Received: {other}. Convert or "
            "remove it."
        )
    images = [f for f in files if f.suffix.lower() in SUFFIXES]
    if not images:
        found = f"holds {files[0].name} but no image" if files else "is empty"
        raise ValueError(
            f"A class must have images ({', '.join(SUFFIXES)}). Received: {folder}, "
            f"which {found}. Move the images of the class there, or remove the folder."
        )
    return images


def read_images(
    files: list[pathlib.Path], read: Callable[[Any], Any], *, channels: int
) -> Iterator[Any]:
    """Reads image files in their order, in as many threads as pay off.

    Args:
        files: the image files.
        read: TensorFlow function of the decoded image, uint8 `[height, width,
            channels]`, which returns what is wanted of the image.
        channels: 1 for grey, 3 for colour, 4 for colour with transparency.

    Yields:
        What `read` returns for each file, as arrays.

    Raises:
        ValueError: if a file cannot be read as an image.
    """

    def decode(path: Any) -> Any:
        return read(
            tf.io.decode_image(
                tf.io.read_file(path), channels=channels, expand_animations=False
            )
        )

    paths = tf.data.Dataset.from_tensor_slices([str(file) for file in files])
    images = untuned(
        paths.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    )
    arrays = images.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()
    for file in files:
        try:
            yield next(arrays)
        except tf.errors.OpError as error:  # Also a broken link, or no right to read.
            raise ValueError(
                f"{file} cannot be read as an image with {channels} channels. Remove "
                f"or convert the file. ({reason(error)})"
            ) from error
