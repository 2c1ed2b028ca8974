"""The data sets of the presets: which of them this machine has, and how to get them."""

import dataclasses
import importlib.util
import os
import pathlib
from collections.abc import Callable
from typing import Any

from maml_keras.data.image_sets import mini_imagenet_folders
from maml_keras.data.image_splits import tiered_imagenet_folder
from maml_keras.data.meta_album import meta_album_folder
from maml_keras.data.omniglot_folders import holds_drawings
from maml_keras.data.tfds import prepared_splits


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set, and how to get it.

    Attributes:
        name: str.
        title: str, one line that says what the data set holds, and how much.
        remedy: str, how to get the data set.
        find: function of a directory or None. The function returns a description of
            the data that it finds there, or an empty string.
    """

    name: str
    title: str
    remedy: str
    find: Callable[[Any], str]


def _from_tfds(name: str) -> Callable[[Any], str]:
    def find(data_dir: Any) -> str:
        where, splits = prepared_splits(name, data_dir=data_dir)
        sizes = ", ".join(f"{split} ({count:,})" for split, count in splits.items())
        return f"{sizes} in {where}" if sizes else ""

    return find


def _find_glyphs(data_dir: Any) -> str:
    fonts = importlib.util.find_spec("matplotlib")
    return "drawn from matplotlib's fonts, half a minute once" if fonts else ""


def _find_omniglot(data_dir: Any) -> str:
    if data_dir is not None and holds_drawings(data_dir):
        return f"the author's folders in {data_dir}"
    return _from_tfds("omniglot")(data_dir)


def _find_mini_imagenet(data_dir: Any) -> str:
    folders = mini_imagenet_folders(data_dir)
    return str(folders[0].parent) if all(map(pathlib.Path.is_dir, folders)) else ""


def _find_tiered_imagenet(data_dir: Any) -> str:
    folder = tiered_imagenet_folder(data_dir)
    return str(folder) if folder.is_dir() else ""


def _find_meta_album(data_dir: Any) -> str:
    folder = meta_album_folder("", data_dir)
    found = sorted(path.parent.name for path in folder.glob("*/labels.csv"))
    return f"{', '.join(found)} in {folder}" if found else ""


FUNCTION_REMEDY = (
    "Pass download=True to the function, or point `data_dir` or TFDS_DATA_DIR at a "
    "prepared copy."
)
TFDS_REMEDY = (
    "Pass `--download` with a preset, so that TFDS downloads the data; or point "
    "`--data-dir` or TFDS_DATA_DIR at a prepared copy."
)
CATALOGUE = {
    entry.name: entry
    for entry in (
        DataSet(
            "sinusoid",
            "random sine waves, without end",
            "Nothing to download: the waves are drawn from a formula.",
            lambda data_dir: "drawn as needed",
        ),
        DataSet(
            "glyphs",
            "some 2,700 characters of 34 scripts, 20 drawings each, drawn from fonts",
            "Install matplotlib, which brings the fonts: `pip install "
            "'maml_keras[plot]'`; or pass a folder of fonts to `mk.data.glyphs`.",
            _find_glyphs,
        ),
        DataSet(
            "omniglot",
            "1,623 handwritten characters of 50 alphabets, 20 drawings each; the "
            "splits small1 and small2 hold 242 of them",
            f"{TFDS_REMEDY} Or unzip the author's archives "
            "(github.com/brendenlake/omniglot) and point `--data-dir` at them.",
            _find_omniglot,
        ),
        DataSet(
            "cifar100",
            "100 classes of 600 colour images, 32x32; CIFAR-FS and FC100 "
            "are its splits 64/16/20 and 60/20/20",
            TFDS_REMEDY,
            _from_tfds("cifar100"),
        ),
        DataSet(
            "mini_imagenet",
            "100 classes of 600 images of ImageNet, 84x84, split 64/16/20",
            "The licence of ImageNet forbids redistribution. Get ILSVRC 2012 from "
            "image-net.org and put the images into "
            "mini_imagenet/{train,val,test}/CLASS below `--data-dir` or TFDS_DATA_DIR "
            f"({os.curdir} without either).",
            _find_mini_imagenet,
        ),
        DataSet(
            "tiered_imagenet",
            "608 classes of ImageNet, 84x84, split 351/97/160 by superclass",
            "The licence of ImageNet forbids redistribution. Get the training images "
            "of ILSVRC 2012 from image-net.org and put or link its folders into "
            "tiered_imagenet/CLASS below `data_dir` or TFDS_DATA_DIR.",
            _find_tiered_imagenet,
        ),
        DataSet(
            "caltech_birds2011",
            "200 kinds of birds, 11,788 images; `mk.data.cub` is the split "
            "100/50/50, `mk.data.meta_dataset('cu_birds')` 140/30/30",
            FUNCTION_REMEDY,
            _from_tfds("caltech_birds2011"),
        ),
        DataSet(
            "dtd",
            "47 textures, 5,640 images; `mk.data.meta_dataset('dtd')`, 33/7/7",
            FUNCTION_REMEDY,
            _from_tfds("dtd"),
        ),
        DataSet(
            "oxford_flowers102",
            "102 flowers, 8,189 images; `mk.data.meta_dataset('vgg_flower')`, 71/15/16",
            FUNCTION_REMEDY,
            _from_tfds("oxford_flowers102"),
        ),
        DataSet(
            "meta_album",
            "40 data sets of ten domains, each Micro, Mini or Extended; "
            "`mk.data.meta_album('BRD_Mini')` is one of birds",
            "Download an archive from meta-album.github.io or OpenML, and unzip it to "
            "meta_album/NAME below `data_dir` or TFDS_DATA_DIR.",
            _find_meta_album,
        ),
    )
}
