"""Pools from folders of images, and the image data sets of papers."""

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


def test_a_folder_for_each_class(tmp_path):
    for name, value in [("cats", 10), ("apes", 200)]:
        for i in range(3):
            write(tmp_path / name / f"{i}.png", value + i)
    (tmp_path / "cats" / "notes.txt").write_text("no image")
    (tmp_path / "readme.md").write_text("no class")
    pool = data.from_folder(tmp_path)
    assert pool.class_names == ("apes", "cats")
    assert pool.counts.tolist() == [3, 3]
    assert pool.examples.shape == (6, 6, 6, 3)
    assert pool.examples[:, 0, 0, 0].tolist() == [200, 201, 202, 10, 11, 12]
    assert data.from_folder(tmp_path, channels=1).examples.shape[-1] == 1


def test_images_of_different_sizes_need_a_size(tmp_path):
    write(tmp_path / "a" / "0.png", 1)
    write(tmp_path / "b" / "0.png", 1, (8, 4))
    with pytest.raises(ValueError, match=r"`size` must be given.*\(8, 4, 3\)"):
        data.from_folder(tmp_path)
    pool = data.from_folder(tmp_path, size=(5, 5))
    assert pool.examples.shape == (2, 5, 5, 3)


def test_missing_and_broken_paths_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        data.from_folder(tmp_path / "nowhere")
    (tmp_path / "pictures.zip").touch()
    with pytest.raises(FileNotFoundError, match="which is a file"):
        data.from_folder(tmp_path / "pictures.zip")
    with pytest.raises(FileNotFoundError, match="holds no class folder"):
        data.from_folder(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match="which is empty"):
        data.from_folder(tmp_path)
    (tmp_path / "a" / "0.png").write_text("broken")
    with pytest.raises(ValueError, match=r"0\.png cannot be read"):
        data.from_folder(tmp_path)


@pytest.mark.parametrize("name", ["photo.WEBP", "scan.tif"])
def test_an_image_of_an_unsupported_format_is_named(name, tmp_path):
    write(tmp_path / "a" / "0.png", 1)
    (tmp_path / "a" / name).touch()
    with pytest.raises(ValueError, match=f"Received: .*{name}. Convert"):
        data.from_folder(tmp_path)


def test_a_class_without_images_is_refused(tmp_path):
    write(tmp_path / "a" / "0.png", 1)
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "thumbnails").touch()
    assert data.from_folder(tmp_path).class_names == ("a",)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"must have images.*b, which holds notes.txt"):
        data.from_folder(tmp_path)


def test_a_broken_link_is_named(tmp_path):
    write(tmp_path / "a" / "0.png", 1)
    (tmp_path / "a" / "1.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(ValueError, match=r"1\.png cannot be read"):
        data.from_folder(tmp_path)


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


@pytest.mark.parametrize("name", registry.PRESETS)
def test_every_preset_builds_its_model(name):
    preset = registry.get(name)
    maml = preset.build()
    assert maml.inner.steps == preset.inner_steps
    assert preset.iterations % preset.epoch == 0
    # A published figure needs its source.
    assert "arXiv" in preset.published or preset.published.startswith("none")
