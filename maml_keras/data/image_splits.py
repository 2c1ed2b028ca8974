"""More image data sets of few-shot papers, with their splits: birds, textures, .."""

from __future__ import annotations

import functools
import json
import os
import pathlib
from importlib import resources
from typing import Any, NamedTuple

from maml_keras.data.folders import from_folder
from maml_keras.data.image_sets import Parts, split_by_names
from maml_keras.data.meta_dataset_sources import SOURCES
from maml_keras.data.pool import Pool
from maml_keras.data.tfds import DatasetNotFoundError, from_tfds

SIZE = (84, 84)


class Domain(NamedTuple):
    """A data set of TFDS and its held-out classes.

    Attributes:
        tfds: str, the name in TFDS.
        split: str, the splits of TFDS that are joined.
        validation: names of the classes for validation, as TFDS has them.
        test: names of the classes for tests.
    """

    tfds: str
    split: str
    validation: tuple[str, ...]
    test: tuple[str, ...]


def _numbered(*numbers: int) -> tuple[str, ...]:
    """Names in TFDS, which counts from 0, of classes that are counted from 1."""
    return tuple(str(number - 1) for number in numbers)


# The splits of Meta-Dataset, without its large domains.
DOMAINS = {
    "cu_birds": Domain(
        "caltech_birds2011",
        "train+test",
        _numbered(
            *(44, 51, 52, 55, 57, 61, 64, 66, 68, 72, 76, 80, 84, 96, 113, 121, 127),
            *(136, 140, 145, 150, 155, 159, 162, 172, 176, 178, 198, 199, 200),
        ),
        _numbered(
            *(8, 9, 15, 20, 28, 30, 35, 39, 45, 46, 82, 85, 94, 101, 103, 112, 118),
            *(122, 128, 133, 134, 137, 147, 148, 163, 168, 169, 170, 193, 194),
        ),
    ),
    "dtd": Domain(
        "dtd",
        "train+validation+test",
        tuple("gauzy grid lined paisley porous scaly spiralled".split()),
        tuple("banded bumpy crosshatched knitted sprinkled stratified woven".split()),
    ),
    # Places of the flowers, whose names TFDS has in the order of their numbers.
    "vgg_flower": Domain(
        "oxford_flowers102",
        "train+validation+test",
        _numbered(10, 16, 17, 23, 26, 47, 53, 56, 57, 62, 82, 83, 86, 97, 102),
        _numbered(5, 9, 15, 19, 35, 40, 41, 42, 45, 46, 65, 85, 89, 94, 96, 98),
    ),
}


def meta_dataset(
    name: str,
    *,
    data_dir: Any = None,
    download: bool = False,
    verbose: str | int = "auto",
) -> Parts:
    """A domain of Meta-Dataset with its split, for cross-domain tests.

    | name | from TFDS | classes |
    |---|---|---|
    | `"cu_birds"` | `caltech_birds2011` | 140 / 30 / 30 |
    | `"dtd"` | `dtd`, textures | 33 / 7 / 7 |
    | `"vgg_flower"` | `oxford_flowers102` | 71 / 15 / 16 |

    Omniglot is `mk.data.omniglot`. For the other domains, `ilsvrc_2012`, `aircraft`,
    `quickdraw`, `fungi`, `traffic_sign` and `mscoco`, the error says which files to
    download from where, how large they are, and how to read them.

    Args:
        name: one of the names above.
        data_dir: directory of prepared data sets, as in `from_tfds`.
        download: whether to download and prepare the data if it is missing.
        verbose: 0 for silence, else a progress bar once two seconds have passed.

    Returns:
        Train, validation and test `Pool`, images of 84x84x3.

    Raises:
        DatasetNotFoundError: if the data is missing, or the domain is one that is not
            read; the message says what to do.
        ValueError: if the name is another one.

    Reference: Triantafillou et al., 2020, https://arxiv.org/abs/1903.03096

    >>> meta_dataset("fungi")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    maml_keras.data.tfds.DatasetNotFoundError: fungi of Meta-Dataset is not read ...
    """
    if name in SOURCES:
        raise DatasetNotFoundError(
            f"{name} of Meta-Dataset is not read by name. {SOURCES[name]}"
        )
    if name not in DOMAINS:
        raise ValueError(
            f"`name` must be one of {', '.join(map(repr, [*DOMAINS, *SOURCES]))}. "
            f"Received: {name!r}."
        )
    found = DOMAINS[name]
    pool = from_tfds(
        found.tfds,
        split=found.split,
        size=SIZE,
        data_dir=data_dir,
        download=download,
        verbose=verbose,
    )
    if name == "vgg_flower":
        places = {str(place): flower for place, flower in enumerate(pool.class_names)}
        found = found._replace(
            validation=tuple(places[n] for n in found.validation),
            test=tuple(places[n] for n in found.test),
        )
    return split_by_names(pool, found.validation, found.test)


def cub(
    *, data_dir: Any = None, download: bool = False, verbose: str | int = "auto"
) -> Parts:
    """CUB: 200 kinds of birds, split 100 / 50 / 50.

    Of four kinds in the order of their numbers, the first and the third are for
    training, the second for validation and the fourth for tests. Meta-Dataset splits
    the same birds otherwise: `meta_dataset("cu_birds")`.

    Args:
        data_dir: directory of prepared data sets, as in `from_tfds`.
        download: whether to download and prepare the data if it is missing.
        verbose: 0 for silence, else a progress bar once two seconds have passed.

    Returns:
        Train, validation and test `Pool`, some 60 images of 84x84x3 per class.

    Raises:
        DatasetNotFoundError: if the data is missing.

    Reference: Chen et al., 2019, https://arxiv.org/abs/1904.04232

    >>> cub(data_dir="nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    maml_keras.data.tfds.DatasetNotFoundError: TFDS data set 'caltech_birds2011' ...
    """
    pool = from_tfds(
        "caltech_birds2011",
        split="train+test",
        size=SIZE,
        data_dir=data_dir,
        download=download,
        verbose=verbose,
    )
    names = [str(number) for number in range(200)]
    return split_by_names(pool, names[1::4], names[3::4])


def tiered_imagenet(*, data_dir: Any = None, lazy: bool = True) -> Parts:
    """tiered-ImageNet: 608 classes of ILSVRC 2012, split 351 / 97 / 160 by superclass.

    The licence of ImageNet forbids redistribution, so you must get the images yourself:
    the training folders of ILSVRC 2012, `tiered_imagenet/n01530575/*.JPEG` and so on.

    Args:
        data_dir: the directory that holds `tiered_imagenet`. Defaults to the
            environment variable TFDS_DATA_DIR, then to the current directory.
        lazy: True decodes images when an episode needs them. False keeps them decoded
            in a cache on disk, some 17 GB, as `from_folder(cache=True)` does.

    Returns:
        Train, validation and test `Pool`, images of 84x84x3; groups are superclasses.

    Raises:
        DatasetNotFoundError: if a class is missing; the message says what to do.

    Reference: Ren et al., 2018, https://arxiv.org/abs/1803.00676

    >>> tiered_imagenet(data_dir="nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    maml_keras.data.tfds.DatasetNotFoundError: 608 of the 608 classes of ...
    """
    root = tiered_imagenet_folder(data_dir)
    superclasses = {
        name: superclass
        for part in tiered_imagenet_classes().values()
        for superclass, names in part.items()
        for name in names
    }
    missing = [name for name in superclasses if not (root / name).is_dir()]
    if missing:
        raise DatasetNotFoundError(
            f"{len(missing)} of the 608 classes of tiered-ImageNet were not found in "
            f"{str(root)!r}, such as {missing[0]}, and the licence of ImageNet does "
            "not allow a download. Get the training images of ILSVRC 2012 from "
            "image-net.org, put or link its folders n01440764, ... into this folder, "
            "and point data_dir (--data-dir) at the folder that holds tiered_imagenet."
        )
    every = from_folder(root, size=SIZE, lazy=lazy, cache=not lazy)
    pool = Pool(
        every.examples,
        counts=every.counts,
        class_names=every.class_names,
        groups=[superclasses.get(name, "") for name in every.class_names],
    )
    places = {name: i for i, name in enumerate(pool.class_names)}
    train, validation, test = (
        pool.select([places[name] for names in part.values() for name in names])
        for part in tiered_imagenet_classes().values()
    )
    return train, validation, test


@functools.cache
def tiered_imagenet_classes() -> dict[str, dict[str, list[str]]]:
    """The WordNet numbers of the classes, by part and superclass.

    >>> [sum(map(len, part.values())) for part in tiered_imagenet_classes().values()]
    [351, 97, 160]
    """
    file = resources.files("maml_keras.data") / "splits" / "tiered_imagenet.json"
    listed = json.loads(file.read_text("utf-8"))
    return {
        part: {name: classes.split() for name, classes in listed[part].items()}
        for part in ("train", "validation", "test")
    }


def tiered_imagenet_folder(data_dir: Any = None) -> pathlib.Path:
    """The folder that `tiered_imagenet` reads, whether it exists or not."""
    directory = data_dir or os.environ.get("TFDS_DATA_DIR") or "."
    return pathlib.Path(directory) / "tiered_imagenet"
