"""A pool on disk gives the episodes of the same pool in memory, without reading all."""

import json
import os
import pickle

import numpy as np
import pytest

from maml_keras import data

GENERATOR = np.random.default_rng(0)
EXAMPLES = {
    "images": GENERATOR.integers(0, 256, [12, 5, 5, 3], np.uint8),
    "rows": GENERATOR.integers(0, 256, [12, 4], np.uint8),
    "series": GENERATOR.normal(size=[12, 6, 2]).astype(np.float32),
    "tokens": GENERATOR.integers(0, 1000, [12, 7], np.int32),
    "numbers": GENERATOR.normal(size=[12]).astype(np.float32),
}


def pool(examples):
    return data.Pool(
        examples,
        counts=[4, 3, 5],
        class_names="abc",
        groups="xyx",
        example_groups=list("abcabcabcabc"),
    )


@pytest.mark.parametrize("name", EXAMPLES)
def test_episodes_are_those_of_the_pool_in_memory(name, tmp_path):
    held = pool(EXAMPLES[name])
    written = data.to_disk(held, tmp_path / "a.pool")
    opened = pickle.loads(pickle.dumps(data.open_pool(tmp_path / "a.pool")))
    assert repr(opened) == repr(held)
    assert opened.groups == held.groups
    assert opened.example_groups.tolist() == held.example_groups.tolist()
    for other in (written, opened):
        assert other.fingerprint() == held.fingerprint()
        np.testing.assert_array_equal(other.examples, held.examples)
    drawn = [
        data.NWayKShot(part.select([2, 0]), ways=2, shots=1, queries=3).sample([0, 1])
        for part in (held, opened)
    ]
    (task, query_y), (other, other_y) = drawn
    np.testing.assert_array_equal(query_y, other_y)
    for key in task:
        assert task[key].dtype == other[key].dtype
        np.testing.assert_array_equal(task[key], other[key])


def test_the_file_is_one_that_numpy_reads(tmp_path):
    data.to_disk(pool(EXAMPLES["images"]), tmp_path / "a.pool")
    read = np.load(tmp_path / "a.pool" / "examples-0.npy")
    np.testing.assert_array_equal(read, EXAMPLES["images"])


def test_a_pool_is_written_in_pieces_and_opened_without_reading(tmp_path, monkeypatch):
    module = __import__("maml_keras.data.disk_pool", fromlist=["disk_pool"])
    monkeypatch.setattr(module, "PIECE", 200)  # Two images.
    written = data.to_disk(pool(EXAMPLES["images"]), tmp_path / "a.pool")
    np.testing.assert_array_equal(written.examples, EXAMPLES["images"])

    def refuse(*_):
        raise AssertionError("examples were read")

    monkeypatch.setattr(os, "preadv", refuse)
    opened = data.open_pool(tmp_path / "a.pool")
    part = opened.select([1, 2])
    fingerprints = {p.fingerprint() for p in (opened, part, opened.select([2, 1]))}
    assert len(fingerprints) == 3


def test_a_system_without_positioned_reads_reads_the_same(tmp_path, monkeypatch):
    opened = data.to_disk(pool(EXAMPLES["images"]), tmp_path / "a.pool")
    monkeypatch.delattr(os, "preadv")  # As on Windows.
    read = opened.examples[[7, 0, 11]]
    np.testing.assert_array_equal(read, EXAMPLES["images"][[7, 0, 11]])
    examples = tmp_path / "a.pool" / "examples-0.npy"
    examples.write_bytes(examples.read_bytes()[:-1])
    with pytest.raises(ValueError, match="must hold row 11"):
        opened.examples[[11]]


def test_a_split_warns_of_copies_from_the_keys_beside_the_file(tmp_path):
    x = EXAMPLES["images"].copy()
    x[11] = x[0]
    opened = data.to_disk(pool(x), tmp_path / "a.pool")
    with pytest.warns(UserWarning, match="1 different examples are in train and in te"):
        data.split_classes(opened, train=["a", "b"], validation=0, test=["c"])


def test_a_pool_is_not_written_over(tmp_path):
    data.to_disk(pool(EXAMPLES["rows"]), tmp_path / "a.pool")
    with pytest.raises(FileExistsError, match="must not exist yet.*a.pool"):
        data.to_disk(pool(EXAMPLES["rows"]), tmp_path / "a.pool")


def test_a_failed_write_leaves_nothing(tmp_path):
    broken = pool(EXAMPLES["rows"])
    broken.groups = [object()]  # No JSON.
    with pytest.raises(TypeError):
        data.to_disk(broken, tmp_path / "a.pool")
    assert not list(tmp_path.iterdir())


def test_damaged_pools_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.pool, which does not exist"):
        data.open_pool(tmp_path / "nowhere.pool")
    with pytest.raises(FileNotFoundError, match=r"which has no pool.json"):
        data.open_pool(tmp_path)
    path = tmp_path / "a.pool"
    opened = data.to_disk(pool(EXAMPLES["images"]), path)
    examples, head = path / "examples-0.npy", path / "pool.json"
    whole = examples.read_bytes()
    examples.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"examples-0.npy must hold row 11"):
        opened.examples[[0, 11]]
    with pytest.raises(ValueError, match=r"examples-0.npy must be a whole NumPy file"):
        data.open_pool(path)
    examples.unlink()
    with pytest.raises(ValueError, match=r"a.pool must be a whole pool.*examples-0"):
        data.open_pool(path)
    examples.write_bytes(whole)
    written = json.loads(head.read_text())
    head.write_text(json.dumps({**written, "format": 99}))
    with pytest.raises(ValueError, match=r"pool.json must be of format 1.*99"):
        data.open_pool(path)
    head.write_text(json.dumps({**written, "counts": "four"}))
    with pytest.raises(ValueError, match=r"pool.json must have .*`counts`"):
        data.open_pool(path)
    head.write_text("{")
    with pytest.raises(ValueError, match=r"pool.json"):
        data.open_pool(path)
