"""Pools from folders of images."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_keras import data


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


def test_files_are_read_side_by_side_in_their_order(tmp_path, monkeypatch):
    asked = []
    read = tf.data.Dataset.map

    def seen(self, *args, **options):
        asked.append(options)
        return read(self, *args, **options)

    monkeypatch.setattr(tf.data.Dataset, "map", seen)
    expected = []
    for number in range(60):
        # Files take different times: a large one beside small ones.
        side = 400 if number % 7 == 0 else 2
        image = np.full([side, side, 3], number, np.uint8)
        path = tmp_path / f"class{number // 30}" / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(tf.io.encode_png(image).numpy())
        expected.append(number)
    pool = data.from_folder(tmp_path, size=(2, 2))
    assert pool.examples[:, 0, 0, 0].tolist() == expected
    assert asked[0]["num_parallel_calls"] == tf.data.AUTOTUNE
    # The first of two damaged files is named.
    for name in ("class1/41.png", "class1/52.png"):
        (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(ValueError, match="41.png cannot be read as an image"):
        data.from_folder(tmp_path, size=(2, 2))


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


def test_wrong_groups_and_options_are_explained(tmp_path):
    write(tmp_path / "greek" / "alpha" / "0.png", 1)
    with pytest.raises(ValueError, match="or pass groups='parent' if it is a group"):
        data.from_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"group/class/image.png.*no class fol"):
        data.from_folder(tmp_path / "greek", groups="parent")
    with pytest.raises(ValueError, match="`groups` must be 'parent' or None"):
        data.from_folder(tmp_path, groups="class")
    with pytest.raises(ValueError, match="`lazy` and `cache` exclude each other"):
        data.from_folder(tmp_path, groups="parent", lazy=True, cache=True)
    assert data.from_folder(tmp_path, groups="parent").class_names == ("greek/alpha",)
