"""Splits of papers by name: the classes of each part, and what is missing."""

import pathlib
import re

import keras
import numpy as np
import pytest

from maml_keras import data
from maml_keras.data import image_splits
from maml_keras.data.meta_dataset_sources import SOURCES

BIRDS = [str(n) for n in range(200)]
FLOWERS = [f"flower {n}" for n in range(1, 103)]
TEXTURES = [
    *image_splits.DOMAINS["dtd"].test,
    *(f"texture {n}" for n in range(33)),
    *image_splits.DOMAINS["dtd"].validation,
]


def given(monkeypatch, names):
    """Lets TFDS give one image of each class; returns what was asked of TFDS."""
    asked = []
    pool = data.Pool(np.arange(len(names)), counts=[1] * len(names), class_names=names)

    def from_tfds(*name, **options):
        asked.append((*name, options["split"], options["size"]))
        return pool

    monkeypatch.setattr(image_splits, "from_tfds", from_tfds)
    return asked


@pytest.mark.parametrize(
    ("name", "classes", "sizes"),
    [
        ("cu_birds", BIRDS, (140, 30, 30)),
        ("dtd", TEXTURES, (33, 7, 7)),
        ("vgg_flower", FLOWERS, (71, 15, 16)),
    ],
)
def test_domains_of_meta_dataset_have_the_sizes_of_the_paper(
    name, classes, sizes, monkeypatch
):
    asked = given(monkeypatch, classes)
    parts = data.meta_dataset(name)
    assert tuple(part.num_classes for part in parts) == sizes
    names = [n for part in parts for n in part.class_names]
    assert len(set(names)) == len(names) == sum(sizes)
    assert asked[0][2] == (84, 84)


def test_classes_are_those_of_the_authors_numbers(monkeypatch):
    given(monkeypatch, FLOWERS)
    test = data.meta_dataset("vgg_flower")[2]
    assert {"flower 5", "flower 98"} <= set(test.class_names)
    given(monkeypatch, BIRDS)
    # 008.Rhinoceros_Auklet is bird 7 of TFDS.
    assert "7" in data.meta_dataset("cu_birds")[2].class_names


def test_cub_deals_four_birds_at_a_time(monkeypatch):
    given(monkeypatch, BIRDS)
    train, validation, test = data.cub()
    assert train.class_names[:4] == ("0", "2", "4", "6")
    assert validation.class_names[:2] == ("1", "5")
    assert test.class_names[:2] == ("3", "7")
    assert [p.num_classes for p in (train, validation, test)] == [100, 50, 50]


def test_an_unknown_domain_and_missing_data_are_named(tmp_path):
    with pytest.raises(ValueError, match="`name` must be one of 'cu_birds', 'dtd'"):
        data.meta_dataset("birds")
    with pytest.raises(data.DatasetNotFoundError, match="608 of the 608.*image-net.or"):
        data.tiered_imagenet(data_dir=tmp_path)
    with pytest.raises(data.DatasetNotFoundError, match="dtd.*download=True"):
        data.meta_dataset("dtd", data_dir=str(tmp_path))


def test_the_error_says_how_to_get_each_other_domain_of_meta_dataset():
    # The ten domains of the paper's table: three are read, seven have a sentence.
    everything = {*image_splits.DOMAINS, *SOURCES}
    names = "ilsvrc_2012 omniglot aircraft cu_birds dtd quickdraw fungi vgg_flower"
    assert everything == {*names.split(), "traffic_sign", "mscoco"}
    page = pathlib.Path(__file__).parents[2] / "docs" / "howto" / "data.md"
    rows = [line for line in page.read_text("utf-8").splitlines() if line[:3] == "| `"]
    for name, source in SOURCES.items():
        with pytest.raises(data.DatasetNotFoundError) as raised:
            data.meta_dataset(name)
        message = str(raised.value)
        assert message.startswith(f"{name} of Meta-Dataset is not read by name. Downl")
        for part in (source.files, source.size, source.address, "read"):
            assert part in message
        assert source.address.startswith("https://")
        assert re.fullmatch(r"[\d.]+ [MG]B", source.size)
        [row] = [row for row in rows if row.startswith(f"| `{name}` |")]
        assert source.files in row
        assert f"| {source.size} |" in row
        # The functions that it names are there.
        for function in re.findall(r"`(\w+)[(`]", source.read):
            assert hasattr(data, function), function


def test_tiered_imagenet_reads_the_folders_of_imagenet(tmp_path):
    parts = image_splits.tiered_imagenet_classes()
    classes = [n for part in parts.values() for names in part.values() for n in names]
    assert len(set(classes)) == 608
    superclasses = [name for part in parts.values() for name in part]
    assert len(set(superclasses)) == len(superclasses) == 34
    for name in [*classes, "n00000000"]:
        folder = tmp_path / "tiered_imagenet" / name
        folder.mkdir(parents=True)
        (folder / "1.JPEG").touch()
    image = np.zeros([90, 99, 3], np.uint8)
    for name in ("n00000000", parts["test"]["n00020090"][0]):
        file = tmp_path / "tiered_imagenet" / name / "1.JPEG"
        keras.utils.save_img(file, image, scale=False)
    train, validation, test = data.tiered_imagenet(data_dir=tmp_path)
    assert [p.num_classes for p in (train, validation, test)] == [351, 97, 160]
    assert len(set(test.groups)) == 8
    assert test.class_names[0] == "n03314780"
    assert np.asarray(test.examples[[0]]).shape == (1, 84, 84, 3)
