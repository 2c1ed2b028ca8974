"""`meta_album`: stand-ins of the archives, and what is missing."""

import json

import keras
import numpy as np
import pytest

from maml_keras import data
from maml_keras.data.catalogue import CATALOGUE


def archive(root, name="BRD_Mini", *, info=None, between=",", columns=None):
    """Two birds of one family and one of another, two photographs each."""
    folder = root / "meta_album" / name
    (folder / "images").mkdir(parents=True)
    rows = [columns or ["FILE_NAME", "CATEGORY", "SUPER_CATEGORY"]]
    birds = {"wren": "small", "eagle": "large", "robin": "small"}
    for number, (bird, family) in enumerate(birds.items()):
        for i in range(2):
            pixels = np.full([16, 16, 3], 80 * number + i, np.uint8)
            file = f"{bird}_{i}.png"
            keras.utils.save_img(folder / "images" / file, pixels, scale=False)
            rows.append([file, bird, family])
    lines = [between.join(row) for row in rows]
    (folder / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    if info is not None:
        (folder / "info.json").write_text(json.dumps(info), encoding="utf-8")
    return folder


@pytest.mark.parametrize("lazy", [True, False])
def test_an_archive_becomes_classes_in_groups(lazy, tmp_path, monkeypatch):
    monkeypatch.setenv("MAML_KERAS_CACHE", str(tmp_path / "cache"))
    archive(tmp_path)
    pool = data.meta_album("BRD_Mini", data_dir=tmp_path, size=8, lazy=lazy, verbose=0)
    assert pool.class_names == ("eagle", "robin", "wren")
    assert pool.groups == ("large", "small", "small")
    means = np.asarray(pool.examples).mean(axis=(1, 2, 3)).tolist()
    assert means == [80, 81, 160, 161, 0, 1]
    assert pool.examples.shape == (6, 8, 8, 3)
    tasks = data.NWayKShot(pool, ways=2, shots=1, queries=1)
    assert tasks.sample([0, 1])[0]["support_x"].shape == (2, 8, 8, 3)


def test_names_of_columns_and_tabs_are_those_of_the_archive(tmp_path):
    names = {"image_column_name": "file", "category_column_name": "bird"}
    archive(
        tmp_path,
        info={**names, "csv_with_tab": True},
        between="\t",
        columns=["file", "bird", "family"],
    )
    pool = data.meta_album("BRD_Mini", data_dir=tmp_path)
    assert pool.num_classes == 3
    assert pool.groups is None


def test_what_is_missing_says_how_to_get_it(tmp_path):
    folder = archive(tmp_path)
    with pytest.raises(data.DatasetNotFoundError) as raised:
        data.meta_album("PLT_Micro", data_dir=tmp_path)
    for part in ("meta_album/PLT_Micro", "there are BRD_Mini", "meta-album.github.io"):
        assert part in str(raised.value)
    (folder / "images/wren_1.png").unlink()
    with pytest.raises(ValueError, match="images/wren_1.png of class 'wren'.*Unzip"):
        data.meta_album("BRD_Mini", data_dir=tmp_path)
    (folder / "labels.csv").write_text("a,b\n", encoding="utf-8")
    with pytest.raises(ValueError, match="FILE_NAME and CATEGORY.*the columns a, b"):
        data.meta_album("BRD_Mini", data_dir=tmp_path)


def test_the_catalogue_tells_which_are_there(tmp_path):
    assert CATALOGUE["meta_album"].find(tmp_path) == ""
    archive(tmp_path)
    assert CATALOGUE["meta_album"].find(tmp_path).startswith("BRD_Mini in")
