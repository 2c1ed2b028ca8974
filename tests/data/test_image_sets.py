"""The image data sets of papers."""

import keras
import numpy as np
import pytest

from maml_keras import data
from maml_keras.data import image_sets
from maml_keras.experiments import registry


def write(path, value, size=(6, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full([*size, 3], value, "uint8")
    keras.utils.save_img(path, image, scale=False)


def test_cifar_fs_is_64_16_20():
    held_out = {*image_sets.CIFAR_FS_VALIDATION, *image_sets.CIFAR_FS_TEST}
    assert len(image_sets.CIFAR_FS_VALIDATION) == 16
    assert len(image_sets.CIFAR_FS_TEST) == 20
    assert len(held_out) == 36


@pytest.mark.parametrize("name", ["mini_imagenet_5w1s", "cifar_fs_5w1s"])
def test_a_preset_without_its_data_says_how_to_get_it(name, tmp_path):
    remedy = "image-net.org" if name.startswith("mini") else "download=True"
    with pytest.raises(data.DatasetNotFoundError, match=remedy):
        registry.get(name).families(data_dir=str(tmp_path))


def test_mini_imagenet_reads_its_folders(tmp_path):
    for part in ("train", "val", "test"):
        for c in range(5):
            for i in range(16):
                write(tmp_path / "mini_imagenet" / part / f"{part}{c}" / f"{i}.png", i)
    families = registry.get("mini_imagenet_5w1s").families(data_dir=tmp_path)
    task, _ = families.test.sample([0, 1])
    assert task["support_x"].shape == (5, 84, 84, 3)
    names = [set(family.pool.class_names) for family in families]
    parts = "train", "val", "test"
    assert names == [{f"{part}{c}" for c in range(5)} for part in parts]


def test_cifar_fs_holds_out_the_classes_of_the_paper(monkeypatch):
    validation, test = image_sets.CIFAR_FS_VALIDATION, image_sets.CIFAR_FS_TEST
    others = [f"other{i}" for i in range(64)]
    pool = data.from_arrays(
        np.arange(100), np.arange(100), class_names=[*test, *others, *validation]
    )
    monkeypatch.setattr(image_sets, "from_tfds", lambda *_, **__: pool)
    parts = [sorted(part.class_names) for part in data.cifar_fs()]
    assert parts == [sorted(others), sorted(validation), sorted(test)]


def test_fc100_holds_out_the_superclasses_of_the_paper(monkeypatch):
    validation, test = image_sets.FC100_VALIDATION, image_sets.FC100_TEST
    others = [f"other{i}" for i in range(60)]
    pool = data.from_arrays(
        np.arange(100), np.arange(100), class_names=[*test, *others, *validation]
    )
    monkeypatch.setattr(image_sets, "from_tfds", lambda *_, **__: pool)
    parts = [sorted(part.class_names) for part in data.fc100()]
    assert parts == [sorted(others), sorted(validation), sorted(test)]
    # A superclass of CIFAR-100 has five classes, such as people.
    assert {"baby", "boy", "girl", "man", "woman"} <= set(test)


@pytest.mark.parametrize("name", registry.PRESETS)
def test_every_preset_builds_its_model(name):
    preset = registry.get(name)
    maml = preset.build()
    assert maml.inner.steps == preset.inner_steps
    assert preset.iterations % preset.epoch == 0
    # A published figure needs its source.
    assert "arXiv" in preset.published or preset.published.startswith("none")
