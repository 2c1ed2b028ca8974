"""`from_tfds` and `omniglot`, with a prepared copy of Omniglot if there is one."""

import importlib
import os
import pathlib

import numpy as np
import pytest

from maml_keras.data import (
    DatasetNotFoundError,
    NWayKShot,
    from_tfds,
    omniglot,
    split_classes,
)

pytestmark = pytest.mark.journey

DATA = os.environ.get("TFDS_DATA_DIR")
needs_omniglot = pytest.mark.skipif(
    DATA is None or not (pathlib.Path(DATA) / "omniglot").is_dir(),
    reason="TFDS_DATA_DIR is not set, or has no omniglot",
)
BOTH = "small1+small2"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def pool(cache):
    return omniglot(split=BOTH, cache_dir=cache)


@needs_omniglot
def test_omniglot_has_each_drawing_once(pool):
    # small1 (136 characters) and small2 (156) share 50 characters. Each has five
    # alphabets, together 8.
    assert pool.num_classes == 242
    assert set(pool.counts.tolist()) == {20}
    assert len(set(pool.groups)) == 8
    assert {"Greek", "Latin"} < set(pool.groups)
    images = {image.tobytes() for image in pool.examples}
    assert len(images) == len(pool.examples) == 4840


@needs_omniglot
def test_omniglot_names_are_alphabet_and_character(pool):
    for name, group in zip(pool.class_names, pool.groups, strict=True):
        assert name.startswith(f"{group}/character")
    greek = sorted(n for n in pool.class_names if n.startswith("Greek/"))
    assert greek == [f"Greek/character{c:02d}" for c in range(1, 25)]


@needs_omniglot
def test_omniglot_is_bright_ink_on_black(pool):
    assert pool.examples.shape == (4840, 28, 28, 1)
    assert pool.examples.dtype == np.uint8
    flat = pool.examples.reshape(4840, -1)
    assert np.median(flat, axis=1).max() == 0
    # Strokes are 2 to 3 of 105 pixels wide, which is about 0.7 of a pixel in 28. Where
    # strokes cross, a drawing reaches full ink.
    assert flat.max(axis=1).min() > 150
    assert np.median(flat.max(axis=1)) > 240
    assert 0.02 < (flat > 127).mean() < 0.2


@needs_omniglot
def test_omniglot_can_be_split_and_sampled(pool):
    train, _, test = split_classes(
        pool, train=5, validation=0, test=None, by="group", seed=0
    )
    assert len(set(train.groups)) == 5
    assert not set(train.groups) & set(test.groups)
    tasks = NWayKShot(train, ways=5, shots=1, queries=15, rotate_classes=True)
    task, _ = tasks.sample([0, 0])
    assert task["query_x"].shape == (75, 28, 28, 1)
    assert 0.6 < float(np.max(task["query_x"])) <= 1.0


@needs_omniglot
def test_order_of_splits_does_not_matter(tmp_path):
    parts = ["small1[:300]", "small2[:300]"]
    one = omniglot(split="+".join(parts), cache_dir=tmp_path)
    other = omniglot(split="+".join(reversed(parts)), cache_dir=tmp_path)
    assert one.fingerprint() == other.fingerprint()
    assert len(set(one.groups)) > 2


@needs_omniglot
def test_each_size_and_split_has_its_own_cache(tmp_path):
    # Few drawings suffice, because a sliced split has its own cache entry.
    small = omniglot(split="small1[:40]", size=14, cache_dir=tmp_path)
    large = omniglot(split="small1[:40]", size=20, cache_dir=tmp_path)
    other = omniglot(split="small1[:41]", size=14, cache_dir=tmp_path)
    assert small.examples.shape == (40, 14, 14, 1)
    assert large.examples.shape == (40, 20, 20, 1)
    assert other.examples.shape == (41, 14, 14, 1)
    assert len(list(tmp_path.glob("*.npz"))) == 3
    assert not list(tmp_path.glob("*.partial"))


@pytest.fixture
def preparations(monkeypatch):
    """Counts how often the drawings are read from TFDS."""
    # `import_module`, because `maml_keras.data.omniglot` is also a function.
    module = importlib.import_module("maml_keras.data.omniglot")
    calls = []
    real = module._prepare

    def counting(*arguments):
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(module, "_prepare", counting)
    return calls


@needs_omniglot
def test_second_call_reads_the_cache(tmp_path, preparations):
    pools = [omniglot(split="small1[:40]", cache_dir=tmp_path) for _ in range(2)]
    assert len(preparations) == 1
    assert pools[0].fingerprint() == pools[1].fingerprint()


@needs_omniglot
def test_cache_directory_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("MAML_KERAS_CACHE", str(tmp_path / "new"))
    omniglot(split="small1[:40]")
    assert len(list((tmp_path / "new").glob("omniglot-*.npz"))) == 1


@needs_omniglot
def test_from_tfds_reads_and_resizes():
    got = from_tfds("omniglot", split="small1[:300]", size=(14, 20))
    assert got.examples.shape == (300, 14, 20, 3)
    assert got.examples.dtype == np.uint8
    # Dark ink on white, like the images in TFDS.
    assert np.median(got.examples) == 255
    assert got.examples.min() < 128


@needs_omniglot
def test_from_tfds_names_classes_by_the_label_feature(pool):
    got = from_tfds("omniglot", split="small1[:300]", label_key="alphabet")
    assert got.examples.shape == (300, 105, 105, 3)
    assert set(got.class_names) < set(pool.groups)
    limited = from_tfds(
        "omniglot", split="small1[:300]", label_key="alphabet", class_limit=20
    )
    assert limited.class_names == got.class_names[: limited.num_classes]
    assert 0 < limited.num_classes < got.num_classes


@needs_omniglot
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "trian"}, r"`split` must be .*\['small1', 'small2'\].*'trian'"),
        ({"split": "small1[:5"}, r"`split` must be .* Received: 'small1\[:5'"),
        ({"split": "small1", "image_key": "x"}, r"`image_key` must be .*Received: 'x'"),
        ({"split": "small1", "label_key": "x"}, r"`label_key` must be .*Received: 'x'"),
        ({"split": "small1", "class_limit": 0}, r"`x` must hold at least one"),
        ({"split": "small1[:0]"}, r"`split` must be .* no data"),
    ],
)
def test_wrong_arguments_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        from_tfds("omniglot", **arguments)


@needs_omniglot
def test_omniglot_explains_wrong_splits(tmp_path):
    with pytest.raises(ValueError, match=r"`split` must be made of"):
        omniglot(split="train+test", cache_dir=tmp_path)


def test_unknown_name_is_explained():
    with pytest.raises(ValueError, match=r"Received: 'omniglt'. Did you .*'omniglot'"):
        from_tfds("omniglt")


@pytest.mark.parametrize("load", [omniglot, lambda **k: from_tfds("omniglot", **k)])
def test_missing_data_says_what_to_do(tmp_path, load):
    with pytest.raises(DatasetNotFoundError) as caught:
        load(split="train", data_dir=str(tmp_path))
    message = str(caught.value)
    assert "'omniglot'" in message
    assert str(tmp_path) in message
    for remedy in ("download=True", "--download", "--data-dir", "TFDS_DATA_DIR"):
        assert remedy in message
    assert "\n" not in message
    assert isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize(
    "failure", [ConnectionError("no route\nto host"), AssertionError(), OSError("full")]
)
def test_failed_download_is_the_same_error(tmp_path, monkeypatch, failure):
    import tensorflow_datasets as tfds

    def download_and_prepare(self, **_):
        raise failure

    monkeypatch.setattr(
        tfds.core.DatasetBuilder, "download_and_prepare", download_and_prepare
    )
    with pytest.raises(DatasetNotFoundError, match="could not be downloaded") as caught:
        omniglot(split="train", data_dir=str(tmp_path), download=True)
    assert caught.value.__cause__ is failure
    reason = str(failure).split("\n")[0] or type(failure).__name__
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_environment_variable_is_read_at_call_time(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "elsewhere"))
    with pytest.raises(DatasetNotFoundError, match="elsewhere"):
        from_tfds("omniglot")


@pytest.mark.parametrize("size", [0, 28.0, True])
def test_wrong_size_is_explained(size):
    with pytest.raises(ValueError, match=r"`size` must be a positive integer"):
        omniglot(size=size)
