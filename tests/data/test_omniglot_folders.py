"""Omniglot from folders: layouts, sizes, polarities, and what is missing or double."""

import importlib
import shutil
import types

import numpy as np
import pytest
import tensorflow as tf

from maml_keras.data import omniglot, split_classes
from maml_keras.data.omniglot_folders import (
    contents,
    holds_drawings,
    list_drawings,
    read_drawings,
)

# Two characters of a background alphabet and one of an evaluation alphabet, by the
# numbers that the author's files have.
PLACES = {("Tagalog", 1): 911, ("Tagalog", 2): 912, ("Angelic", 1): 965}
ALPHABETS = ["Angelic", "Tagalog"]


def drawing(number, drawer, size=28):
    """Ink 255 on paper 0: a block whose place says which character and drawer."""
    image = np.zeros([105, 105, 1], np.uint8)
    row, column = 5 * (number % 7), 4 * drawer
    image[row : row + 30, column : column + 12] = 255
    return image[:: 105 // size][:size, :: 105 // size][:, :size]


def write(root, *, sectioned=False, white_paper=True, size=28, drawers=20):
    for (alphabet, character), number in PLACES.items():
        part = "images_evaluation" if number >= 965 else "images_background"
        folder = root / (part if sectioned else "") / alphabet
        folder /= f"character{character:02d}"
        folder.mkdir(parents=True)
        for drawer in range(1, drawers + 1):
            ink = drawing(number, drawer, size)
            image = 255 - ink if white_paper else ink
            file = folder / f"{number:04d}_{drawer:02d}.png"
            file.write_bytes(tf.io.encode_png(image).numpy())
    return root


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write(tmp_path_factory.mktemp("alphabets"))


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def listed(root, alphabets=ALPHABETS):
    # Both alphabets have more characters than the few of these tests.
    with pytest.warns(UserWarning, match="is not whole"):
        return list_drawings(root, alphabets)


def read(root, size=28):
    return read_drawings(listed(root), size, verbose=0)


def test_a_pool_has_the_names_of_folders_and_says_who_drew(whole):
    pool = read(whole)
    assert pool.class_names == (
        "Angelic/character01",
        "Tagalog/character01",
        "Tagalog/character02",
    )
    assert pool.groups == ("Angelic", "Tagalog", "Tagalog")
    assert pool.counts.tolist() == [20, 20, 20]
    assert pool.example_groups[[0, 19, 20]].tolist() == [
        "Angelic/drawer01",
        "Angelic/drawer20",
        "Tagalog/drawer01",
    ]
    for row, (number, drawer) in {7: (965, 8), 20: (911, 1), 59: (912, 20)}.items():
        np.testing.assert_array_equal(pool.examples[row], drawing(number, drawer))


def test_who_drew_stays_with_the_drawings_of_a_part(whole):
    parts = split_classes(read(whole), train=1, validation=1, test=1)
    for part in parts:
        [alphabet] = part.groups
        expected = [f"{alphabet}/drawer{drawer:02d}" for drawer in range(1, 21)]
        assert part.example_groups.tolist() == expected


def test_all_layouts_and_polarities_give_the_same_pool(whole, tmp_path):
    expected = read(whole).fingerprint()
    archives = write(tmp_path / "archives", sectioned=True, white_paper=False)
    assert read(archives).fingerprint() == expected
    shutil.rmtree(archives / "images_evaluation")
    part = read_drawings(listed(archives, ["Tagalog"]), 28, verbose=0)
    below = read_drawings(
        listed(archives / "images_background", ["Tagalog"]), 28, verbose=0
    )
    assert part.fingerprint() == below.fingerprint()
    assert part.num_classes == 2


def test_large_drawings_become_what_tfds_gives(tmp_path):
    root = write(tmp_path, size=105, drawers=3)
    pool = read(root)
    rows = [(965, 0, 0), (911, 1, 0), (912, 1, 1)]
    images = [drawing(row[0], d, 105) for row in rows for d in (1, 2, 3)]
    table = {
        "image": 255 - np.repeat(images, 3, axis=-1),
        "label": np.repeat([0, 1, 2], 3),
        "alphabet": np.repeat([row[1] for row in rows], 3),
        "alphabet_char_id": np.repeat([row[2] for row in rows], 3),
    }
    names = types.SimpleNamespace(names=ALPHABETS)
    info = types.SimpleNamespace(features={"alphabet": names})
    by_tfds = importlib.import_module("maml_keras.data.omniglot")._prepare(
        types.SimpleNamespace(info=info),
        tf.data.Dataset.from_tensor_slices(table),
        28,
        0,
    )
    assert pool.class_names == by_tfds.class_names
    assert pool.groups == by_tfds.groups
    for start in (0, 3, 6):  # TFDS does not keep the order of the drawers.
        ours, theirs = (
            sorted(image.tobytes() for image in p.examples[start : start + 3])
            for p in (pool, by_tfds)
        )
        assert ours == theirs


def test_a_folder_of_drawings_is_told_from_another(whole, tmp_path):
    assert holds_drawings(whole)
    assert not holds_drawings(whole / "Tagalog")
    assert not holds_drawings(tmp_path)
    assert not holds_drawings(tmp_path / "nowhere")
    assert holds_drawings(write(tmp_path / "archives", sectioned=True, drawers=1))


def test_what_is_missing_is_named(copy):
    (copy / "Tagalog/character01/0911_07.png").unlink()
    shutil.rmtree(copy / "Angelic")
    with pytest.warns(UserWarning, match="is not whole") as caught:
        list_drawings(copy, ALPHABETS)
    [warning] = caught
    assert "Missing, 17 in all: the alphabet Angelic" in str(warning.message)
    assert "drawing 07 of Tagalog/character01, Tagalog/character03" in str(
        warning.message
    )


def test_a_drawing_in_two_files_is_refused(copy):
    folder = copy / "Tagalog/character01"
    shutil.copy(folder / "0911_07.png", folder / "0911_07.jpg")
    with pytest.raises(ValueError, match=r"there once.*0911_07\.jpg and .*0911_07\.pn"):
        list_drawings(copy, ALPHABETS)


def test_an_alphabet_in_both_parts_is_refused(tmp_path):
    root = write(tmp_path, sectioned=True, drawers=2)
    shutil.copytree(root / "images_background/Tagalog", root / PART / "Tagalog")
    with pytest.raises(ValueError, match="there once.*images_background.*images_eval"):
        list_drawings(root, ALPHABETS)


PART = "images_evaluation"


def test_a_character_under_two_names_is_refused(copy):
    shutil.copytree(copy / "Tagalog/character01", copy / "Tagalog/character03")
    with pytest.raises(ValueError, match="there once.*for Tagalog/character03"):
        list_drawings(copy, ALPHABETS)


def test_a_file_of_another_character_is_refused(copy):
    file = copy / "Tagalog/character01/0911_07.png"
    file.rename(file.with_name("0912_07.png"))
    with pytest.raises(ValueError, match="begin with the same number.*0912_07"):
        list_drawings(copy, ALPHABETS)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Tagalog", "Tagalok", "Did you mean 'Tagalog'"),
        ("Tagalog/character02", "Tagalog/character18", "to character17. Received"),
        ("Tagalog/character02", "Tagalog/second", "to character17. Received"),
        (
            "Tagalog/character02/0912_01.png",
            "Tagalog/character02/0912_01 (1).png",
            "NNNN_DD.png.*Received",
        ),
        (
            "Tagalog/character02/0912_01.png",
            "Tagalog/character02/0912_21.png",
            "01 to 20",
        ),
    ],
)
def test_a_wrong_name_is_refused(copy, old, new, message):
    (copy / old).rename(copy / new)
    with pytest.raises(ValueError, match=message):
        list_drawings(copy, ALPHABETS)


def test_hidden_files_are_left_alone(copy):
    (copy / "__MACOSX").mkdir()
    (copy / "Tagalog/.DS_Store").touch()
    assert len(listed(copy)) == 60


def test_a_folder_without_drawings_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="without a drawing of Angelic"):
        list_drawings(tmp_path, ALPHABETS)
    with pytest.raises(FileNotFoundError, match="is missing"):
        list_drawings(tmp_path / "nowhere", ALPHABETS)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (drawing(911, 1), "all white on black. Received: .*02.png on white and .*01"),
        (255 - drawing(911, 1)[:14], "square. Received: .* of 14x28"),
        (np.full([28, 28, 1], 200, np.uint8), "at most 55 from the paper"),
    ],
)
def test_an_image_that_is_no_drawing_is_refused(copy, image, message):
    file = copy / "Tagalog/character01/0911_01.png"
    file.write_bytes(tf.io.encode_png(image).numpy())
    with pytest.raises(ValueError, match=message):
        read_drawings(listed(copy, ["Tagalog"]), 28, verbose=0)


def test_the_cache_holds_until_a_file_changes(copy, tmp_path, monkeypatch):
    module = importlib.import_module("maml_keras.data.omniglot")
    reads = []

    def counted(*args, **kwargs):
        reads.append(1)
        return read_drawings(*args, **kwargs)

    monkeypatch.setattr(module, "read_drawings", counted)

    def load(**where):
        with pytest.warns(UserWarning, match="is not whole"):
            return omniglot(**where, split="small2", cache_dir=tmp_path / "cache")

    first, second = load(path=copy), load(data_dir=str(copy))
    assert first.fingerprint() == second.fingerprint()
    assert second.example_groups.tolist() == first.example_groups.tolist()
    assert len(reads) == 1
    file = copy / "Tagalog/character01/0911_01.png"
    file.write_bytes(tf.io.encode_png(255 - drawing(911, 5)).numpy())
    changed = load(path=copy)
    assert len(reads) == 2
    np.testing.assert_array_equal(changed.examples[0], drawing(911, 5))
    assert contents(copy, listed(copy)) == contents(copy, listed(copy))
