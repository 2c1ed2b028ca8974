"""Pools from folders of images."""

import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from maml_keras.backend.progress import Bar
from maml_keras.data.image_files import ImageFiles, check_size, unreadable
from maml_keras.data.pipeline_options import untuned
from maml_keras.data.pool import Pool
from maml_keras.data.pool_cache import cached_on_disk
from maml_keras.data.tfds import resize

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
# Images that TensorFlow cannot read. Skipping them would change the classes silently.
OTHERS = (".webp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".svg")


def from_folder(
    path: str | os.PathLike[str],
    *,
    groups: Literal["parent"] | None = None,
    size: tuple[int, int] | None = None,
    channels: int = 3,
    lazy: bool = False,
    cache: bool | str | os.PathLike[str] = False,
    verbose: str | int = "auto",
) -> Pool:
    """A pool from a folder that holds a folder of images for each class.

    The layout is `path/class/image.png`, or `path/group/class/image.png` with
    `groups="parent"`, as Omniglot's alphabets have it. Images are PNG, JPEG, BMP or the
    first frame of GIF. Classes are sorted by the names of their folders, images by file
    name.

    | | memory | an episode |
    |---|---|---|
    | default | all images, decoded | copies |
    | `cache=True` | none | reads decoded images from disk |
    | `lazy=True` | none | decodes image files, on all cores |

    Args:
        path: the folder.
        groups: `"parent"` if the folders of classes lie in folders of groups. A class
            is then named `"group/class"`.
        size: `(height, width)` to resize to, bilinear with antialiasing. Needed if
            images differ in size.
        channels: 1 for grey, 3 for colour, 4 for colour with transparency.
        lazy: bool, whether to leave the images in their files and to decode what a
            batch needs. A damaged image is then found when it is needed.
        cache: a folder that keeps the decoded images as a pool on disk, for the next
            call and for other processes. True stands for the environment variable
            MAML_KERAS_CACHE, or else ~/.cache/maml_keras. Images are decoded again
            when a file's name, size or time has changed.
        verbose: 0 for silence, else a progress bar once two seconds have passed.

    Returns:
        A `Pool` of uint8 images `[n, height, width, channels]`.

    Raises:
        FileNotFoundError: if the folder does not exist, or no class has an image.
        ValueError: if an image cannot be read or has an unsupported format, a class
            has no image, images differ in size, or an argument is wrong.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     for name in "ab":
    ...         pathlib.Path(place, name).mkdir()
    ...         file = pathlib.Path(place, name, "0.png")
    ...         keras.utils.save_img(file, np.zeros([9, 9, 1]), scale=False)
    ...     pool = from_folder(place, channels=1)
    >>> pool.examples.shape
    (2, 9, 9, 1)
    """
    root = pathlib.Path(path)
    if not root.is_dir():
        raise FileNotFoundError(
            "`path` must be a folder with a folder of images for each class. Received: "
            f"{root}, which {'is a file' if root.exists() else 'does not exist'}."
        )
    if groups not in (None, "parent"):
        raise ValueError(
            f"`groups` must be 'parent' or None. Received: {groups!r}. Pass 'parent' "
            "if the folders of classes lie in folders of groups."
        )
    if lazy and cache:
        raise ValueError(
            "`lazy` and `cache` exclude each other. Received: lazy=True, "
            f"cache={cache!r}. Pass lazy=True to decode images each time, or "
            "cache=True to decode them once and keep them on disk."
        )
    classes = {
        folder.relative_to(root).as_posix(): _images(folder)
        for parent in (_visible(root) if groups else [root])
        for folder in _visible(parent)
    }
    if not classes:
        layout = "group/class/image" if groups else "class/image"
        raise FileNotFoundError(
            f"`path` must hold a folder of images ({', '.join(SUFFIXES)}) for each "
            f"class, as in {layout}.png. Received: {root}, which holds no class folder."
        )
    names = sorted(classes)
    files = [file for name in names for file in classes[name]]
    form: dict[str, Any] = {
        "counts": [len(classes[name]) for name in names],
        "class_names": names,
        "groups": [name.split("/")[0] for name in names] if groups else None,
    }
    if not lazy and not cache:
        return Pool(_in_memory(files, size, channels, verbose), **form)
    places = [file.relative_to(root).as_posix() for file in files]
    pool = Pool(ImageFiles(root, places, size=size, channels=channels), **form)
    if lazy:
        return pool
    key = {"root": os.path.realpath(root), "pool": pool.fingerprint()}
    where = None if isinstance(cache, bool) else cache
    return cached_on_disk("folder", key, lambda: pool, where, verbose=verbose)


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
        inside = any(f.is_dir() for f in files)
        groups = ", or pass groups='parent' if it is a group of classes"
        raise ValueError(
            f"A class must have images ({', '.join(SUFFIXES)}). Received: {folder}, "
            f"which {found}. Move the images of the class there, or remove the folder"
            f"{groups if inside else ''}."
        )
    return images


def _in_memory(
    files: list[pathlib.Path],
    size: tuple[int, int] | None,
    channels: int,
    verbose: str | int,
) -> Any:
    def read(image: Any) -> Any:
        return image if size is None else resize(image, size, method="bilinear")

    bar = Bar(len(files), unit="image", verbose=verbose)
    images: Any = None
    for done, image in enumerate(read_images(files, read, channels=channels)):
        if images is None:
            images = np.empty([len(files), *image.shape], image.dtype)
        check_size(image, images.shape[1:], files[done])
        images[done] = image
        bar.update(done + 1)
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
            raise unreadable(file, channels, error) from error
