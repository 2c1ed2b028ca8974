"""Pools from the TensorFlow Datasets catalogue."""

import contextlib
import difflib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from maml_keras.backend.progress import Bar
from maml_keras.data.arrays import from_arrays
from maml_keras.data.pipeline_options import untuned
from maml_keras.data.pool import Pool


class DatasetNotFoundError(FileNotFoundError):
    """A data set is not prepared on this machine and was not downloaded.

    >>> import maml_keras as mk
    >>> mk.data.mini_imagenet(data_dir="nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    maml_keras.data.tfds.DatasetNotFoundError: mini-ImageNet was not found in ...
    """


def open_tfds(
    name: str,
    *,
    split: str,
    data_dir: str | None = None,
    download: bool = False,
    verbose: str | int = "auto",
) -> tuple[Any, Any]:
    """The builder and the dataset for a TFDS name, with errors that say what to do.

    Args:
        name: TFDS name, e.g. "cifar100" or "omniglot:3.0.0".
        split: TFDS split, e.g. "train", "train+test", "train[:10%]".
        data_dir: directory of prepared data sets. Defaults to the environment
            variable TFDS_DATA_DIR, then to TFDS's own default.
        download: whether to download and prepare the data if it is missing.
        verbose: 0 for silence, else TFDS's own bars during a download.

    Returns:
        `(builder, dataset)`; the dataset reads files in order.

    Raises:
        DatasetNotFoundError: if the data is missing and was not, or could not be,
            downloaded.
        ValueError: if TFDS does not know the data set or the split.
    """
    # The import is slow, and users with their own arrays do not need it.
    import tensorflow_datasets as tfds

    directory = data_dir or os.environ.get("TFDS_DATA_DIR") or None
    try:
        builder = tfds.builder(name, data_dir=directory)
    except tfds.core.DatasetNotFoundError:
        known = tfds.list_builders(with_community_datasets=False)
        near = difflib.get_close_matches(name.split("/")[0].split(":")[0], known)
        hint = f"Did you mean {near}?" if near else "See tfds.list_builders()."
        raise ValueError(
            f"`name` must be a TFDS data set. Received: {name!r}. {hint}"
        ) from None
    where = os.fspath(builder.data_dir)
    remedy = (
        "Pass download=True (--download), or point data_dir (--data-dir) or "
        "TFDS_DATA_DIR at a prepared copy."
    )
    if download:
        try:
            with _bars_of_tfds(verbose):
                builder.download_and_prepare()
        except Exception as error:  # Any error of the network or the disk.
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise DatasetNotFoundError(
                f"TFDS data set {name!r} is not in {where!r} and could not be "
                f"downloaded: {reason}. Check the network, or point data_dir "
                "(--data-dir) or TFDS_DATA_DIR at a prepared copy."
            ) from error
    config = tfds.ReadConfig(interleave_cycle_length=1)
    try:
        dataset = builder.as_dataset(
            split=split, shuffle_files=False, read_config=config
        )
    except AssertionError:
        raise DatasetNotFoundError(
            f"TFDS data set {name!r} was not found in {where!r}. {remedy}"
        ) from None
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"`split` must be made of the splits of {name!r}: "
            f"{sorted(builder.info.splits)}. Received: {split!r} ({reason}). Pass "
            "one of them, a part such as 'a[:100]', or a sum such as 'a+b'."
        ) from error
    return builder, dataset


@contextlib.contextmanager
def _bars_of_tfds(verbose: str | int) -> Iterator[None]:
    """Hides the bars of TFDS if `verbose` is 0; TFDS has only a global switch."""
    import tensorflow_datasets as tfds

    if verbose:
        yield
        return
    # TFDS has no public way to ask whether its bars are on already.
    shown = getattr(tfds.core.utils.tqdm_utils, "_active", True)
    tfds.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            tfds.enable_progress_bar()


def prepared_splits(
    name: str, *, data_dir: str | None = None
) -> tuple[str, dict[str, int]]:
    """The folder of a TFDS data set, and its splits on this machine.

    Args:
        name: TFDS name.
        data_dir: as in `open_tfds`.

    Returns:
        The folder, which need not exist, and the number of examples by split. The
        dict is empty if the data set is not prepared.
    """
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir or os.environ.get("TFDS_DATA_DIR"))
    where = os.fspath(builder.data_dir)
    # Like `is_prepared`, but without its warning for a data set that is not prepared.
    prepared = os.path.exists(os.path.join(where, "dataset_info.json"))
    splits = builder.info.splits.values() if prepared else ()
    return where, {split.name: split.num_examples for split in splits}


def from_tfds(
    name: str,
    *,
    split: str = "train",
    image_key: str = "image",
    label_key: str = "label",
    size: tuple[int, int] | None = None,
    class_limit: int | None = None,
    data_dir: str | None = None,
    download: bool = False,
    verbose: str | int = "auto",
) -> Pool:
    """A pool from any TFDS image classification data set.

    Args:
        name: TFDS name, e.g. "cifar100".
        split: TFDS split, e.g. "train+test".
        image_key: the feature with the image, uint8 `[height, width, channels]`.
        label_key: the feature with the class number.
        size: `(height, width)` to resize to, bilinear with antialiasing. Needed if
            images differ in size.
        class_limit: int, keep only labels below this number; None keeps all labels.
        data_dir: directory of prepared data sets. Defaults to the environment
            variable TFDS_DATA_DIR, then to TFDS's own default.
        download: whether to download and prepare the data if it is missing.
        verbose: 0 for silence, else a progress bar once two seconds have passed.

    Returns:
        A `Pool` of uint8 images `[n, height, width, channels]`; the label feature
        names the classes.

    Raises:
        DatasetNotFoundError: if the data is missing.
        ValueError: if a name, split or key is unknown, images differ in size, or no
            label is below `class_limit`.

    >>> from_tfds("cifar10", data_dir="nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    maml_keras.data.tfds.DatasetNotFoundError: TFDS data set 'cifar10' was not found ...
    """
    builder, dataset = open_tfds(
        name, split=split, data_dir=data_dir, download=download, verbose=verbose
    )
    features = builder.info.features
    for argument, key in (("image_key", image_key), ("label_key", label_key)):
        if key not in features:
            raise ValueError(
                f"`{argument}` must be a feature of {name!r}: {sorted(features)}. "
                f"Received: {key!r}. Pass one of them."
            )
    shape = features[image_key].shape
    if len(shape) != 3 or (size is None and None in shape[:2]):
        raise ValueError(
            f"`size` must be given if images differ in size. Received: size={size} "
            f"for images of shape {shape} in {name!r}. Pass e.g. size=(84, 84)."
        )

    def example(row: Any) -> Any:
        image = row[image_key]
        if size is not None:
            image = resize(image, size, method="bilinear")
        return image, row[label_key]

    if class_limit is not None:
        dataset = dataset.filter(lambda row: row[label_key] < class_limit)
    images, labels = collect(
        untuned(dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE)),
        verbose=verbose,
    )
    feature = features[label_key]
    names = getattr(feature, "names", None)
    return from_arrays(images, labels, class_names=names)


def resize(image: Any, size: tuple[int, int], *, method: str) -> Any:
    """Resizes uint8 images with antialiasing, and rounds to uint8.

    Args:
        image: uint8 tensor `[height, width, channels]` or a batch of them.
        size: `(height, width)`.
        method: as in `tf.image.resize`.

    Returns:
        uint8 tensor of the new size.

    >>> resize(np.full([8, 8, 1], 7, np.uint8), (4, 4), method="lanczos3").dtype.name
    'uint8'
    """
    resized = tf.image.resize(image, size, method=method, antialias=True)
    # Lanczos overshoots at edges, and a plain cast would wrap around.
    return tf.cast(tf.round(tf.clip_by_value(resized, 0.0, 255.0)), tf.uint8)


def length(dataset: Any) -> int | None:
    """The number of elements of a dataset, or None if it is unknown.

    >>> length(tf.data.Dataset.range(3))
    3
    """
    count = int(dataset.cardinality())
    return count if count >= 0 else None


def collect(dataset: Any, *, verbose: str | int = 0) -> tuple[Any, ...]:
    """Collects a finite dataset of tuples into one array per entry.

    Args:
        dataset: `tf.data.Dataset` of tuples of tensors of fixed shapes.
        verbose: 0 for silence, else a progress bar once two seconds have passed.

    Returns:
        Arrays `[n, ...]`; n is 0 for an empty dataset.

    >>> pairs = tf.data.Dataset.from_tensor_slices(([1, 2], [3, 4]))
    >>> [column.tolist() for column in collect(pairs)]
    [[1, 2], [3, 4]]
    """
    bar = Bar(length(dataset), unit="example", verbose=verbose)
    batches: list[Any] = []
    done = 0
    for batch in dataset.batch(256).as_numpy_iterator():
        batches.append(batch)
        done += len(batch[0])
        bar.update(done)
    bar.finish(done)
    if not batches:
        return tuple(
            np.zeros([0, *spec.shape], spec.dtype.as_numpy_dtype)
            for spec in dataset.element_spec
        )
    return tuple(np.concatenate(entry) for entry in zip(*batches, strict=True))
