"""The image data sets of few-shot papers, with their splits."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

from maml_keras.data.folders import from_folder
from maml_keras.data.pool import Pool
from maml_keras.data.tfds import DatasetNotFoundError, from_tfds

Parts = tuple[Pool, Pool, Pool]

# The classes of CIFAR-100 that Bertinetto et al. hold out; the other 64 are for
# training.
CIFAR_FS_VALIDATION = (
    "otter motorcycle television lamp crocodile shark butterfly beaver beetle tractor "
    "flatfish maple_tree camel crab sea cattle"
).split()
CIFAR_FS_TEST = (
    "baby bed bicycle chimpanzee fox leopard man pickup_truck plain poppy rocket rose "
    "snail sweet_pepper table telephone wardrobe whale woman worm"
).split()

# The superclasses of CIFAR-100 that Oreshkin et al. hold out: large carnivores, large
# omnivores and herbivores, invertebrates without the insects, and small mammals ..
FC100_VALIDATION = (
    "bear leopard lion tiger wolf camel cattle chimpanzee elephant kangaroo "
    "crab lobster snail spider worm hamster mouse rabbit shrew squirrel"
).split()
# .. and aquatic mammals, insects, medium mammals, and people.
FC100_TEST = (
    "beaver dolphin otter seal whale bee beetle butterfly caterpillar cockroach "
    "fox porcupine possum raccoon skunk baby boy girl man woman"
).split()


def cifar_fs(
    *, data_dir: Any = None, download: bool = False, verbose: str | int = "auto"
) -> Parts:
    """CIFAR-FS: the classes of CIFAR-100 in TFDS, split 64 / 16 / 20.

    Args:
        data_dir: directory of prepared data sets, as in `from_tfds`.
        download: whether to download and prepare CIFAR-100 if it is missing.
        verbose: 0 for silence, else a progress bar once two seconds have passed.

    Returns:
        Train, validation and test `Pool`, 600 images of 32x32x3 per class.

    Raises:
        DatasetNotFoundError: if the data is missing.

    Reference: Bertinetto et al., 2019, https://arxiv.org/abs/1805.08136

    >>> cifar_fs(data_dir="nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    maml_keras.data.tfds.DatasetNotFoundError: TFDS data set 'cifar100' was ...
    """
    where: dict[str, Any] = {"data_dir": data_dir, "download": download}
    pool = from_tfds("cifar100", split="train+test", verbose=verbose, **where)
    return split_by_names(pool, CIFAR_FS_VALIDATION, CIFAR_FS_TEST)


def fc100(
    *, data_dir: Any = None, download: bool = False, verbose: str | int = "auto"
) -> Parts:
    """FC100: the classes of CIFAR-100 in TFDS, split by superclass, 60 / 20 / 20.

    No superclass is in two parts, so the tests are farther from the training than those
    of CIFAR-FS.

    Args:
        data_dir: directory of prepared data sets, as in `from_tfds`.
        download: whether to download and prepare CIFAR-100 if it is missing.
        verbose: 0 for silence, else a progress bar once two seconds have passed.

    Returns:
        Train, validation and test `Pool`, 600 images of 32x32x3 per class.

    Raises:
        DatasetNotFoundError: if the data is missing.

    Reference: Oreshkin et al., 2018, https://arxiv.org/abs/1805.10123

    >>> fc100(data_dir="nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    maml_keras.data.tfds.DatasetNotFoundError: TFDS data set 'cifar100' was ...
    """
    where: dict[str, Any] = {"data_dir": data_dir, "download": download}
    pool = from_tfds("cifar100", split="train+test", verbose=verbose, **where)
    return split_by_names(pool, FC100_VALIDATION, FC100_TEST)


def split_by_names(pool: Pool, validation: Sequence[str], test: Sequence[str]) -> Parts:
    """A pool in three parts; the classes that are not listed are for training.

    Args:
        pool: all classes.
        validation: names of classes.
        test: names of classes.

    >>> from maml_keras.data import from_arrays
    >>> parts = split_by_names(from_arrays([0.0, 1.0, 2.0], list("abc")), ["c"], ["a"])
    >>> [part.class_names for part in parts]
    [('b',), ('c',), ('a',)]
    """
    places = {name: i for i, name in enumerate(pool.class_names)}
    held_out = {*validation, *test}
    train = [name for name in pool.class_names if name not in held_out]
    first, second, third = (
        pool.select([places[name] for name in names])
        for names in (train, validation, test)
    )
    return first, second, third


def mini_imagenet(
    *, data_dir: Any = None, download: bool = False, verbose: str | int = "auto"
) -> Parts:
    """mini-ImageNet from folders of images: `mini_imagenet/{train,val,test}/class/*`.

    The licence of ImageNet forbids redistribution, so you must get the images yourself.

    Args:
        data_dir: the directory that holds `mini_imagenet`. Defaults to the environment
            variable TFDS_DATA_DIR, then to the current directory.
        download: ignored, because the data cannot be downloaded.
        verbose: 0 for silence, else a progress bar for each part.

    Returns:
        Train, validation and test `Pool`, images of 84x84x3.

    Raises:
        DatasetNotFoundError: if a folder is missing; the message says what to do.

    Reference: Vinyals et al., 2016, https://arxiv.org/abs/1606.04080, with the split of
    Ravi and Larochelle, 2017.

    >>> mini_imagenet(data_dir="nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    maml_keras.data.tfds.DatasetNotFoundError: mini-ImageNet was not found in ...
    """
    folders = mini_imagenet_folders(data_dir)
    root = folders[0].parent
    if not all(folder.is_dir() for folder in folders):
        raise DatasetNotFoundError(
            f"mini-ImageNet was not found in {str(root)!r}, and its licence does not "
            "allow a download. Get ILSVRC 2012 from image-net.org, and Ravi and "
            "Larochelle's lists of classes (64 train, 16 val, 20 test; 600 images "
            "each). Put the images into train/CLASS, val/CLASS and test/CLASS below "
            "this folder, and point data_dir (--data-dir) at the folder that holds "
            "mini_imagenet."
        )
    train, validation, test = (
        from_folder(f, size=(84, 84), verbose=verbose) for f in folders
    )
    return train, validation, test


def mini_imagenet_folders(data_dir: Any = None) -> list[pathlib.Path]:
    """The three folders that `mini_imagenet` reads, whether they exist or not."""
    directory = data_dir or os.environ.get("TFDS_DATA_DIR") or "."
    root = pathlib.Path(directory) / "mini_imagenet"
    return [root / part for part in ("train", "val", "test")]
