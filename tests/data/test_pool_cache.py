"""Pools that are kept on disk: what is read again, and what is made again."""

import numpy as np
import pytest

from maml_keras.data.arrays import from_arrays
from maml_keras.data.pool_cache import cached, cached_on_disk


@pytest.fixture
def made():
    """Counts the preparations; `made(groups)` is a function that prepares."""
    calls = []

    def prepared(groups=None):
        def prepare():
            calls.append(groups)
            x = np.arange(8, dtype=np.uint8).reshape(4, 2, 1)
            by = groups and ["Ann", "Bob", "Ann", "Cy"]
            return from_arrays(
                x, ["a", "b", "a", "c"], groups=groups, example_groups=by
            )

        return prepare

    prepared.calls = calls
    return prepared


@pytest.mark.parametrize("groups", [None, ["x", "y", "x"]])
def test_the_second_call_reads_an_equal_pool(tmp_path, made, groups):
    first, second = (cached("p", {"k": 1}, made(groups), tmp_path) for _ in range(2))
    assert len(made.calls) == 1
    assert first.fingerprint() == second.fingerprint()
    assert second.groups == (groups and tuple(groups))
    assert (second.example_groups is None) == (groups is None)
    assert not list(tmp_path.glob("*.partial"))


def test_another_key_or_name_has_another_file(tmp_path, made):
    for name, key in (("p", {"k": 1}), ("p", {"k": 2}), ("q", {"k": 1})):
        cached(name, key, made(), tmp_path)
    assert len(made.calls) == len(list(tmp_path.glob("*.npz"))) == 3


@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "other content"])
def test_a_damaged_file_is_made_again(tmp_path, made, damage):
    expected = cached("p", {}, made(), tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    if damage == "other content":
        with np.load(path) as saved:
            arrays = dict(saved)
        np.savez(path, **{**arrays, "examples": arrays["examples"] + 1})
    else:
        damaged = {"empty": b"", "truncated": whole[:-100], "text": b"not an archive"}
        path.write_bytes(damaged[damage])
    again = cached("p", {}, made(), tmp_path)
    assert again.fingerprint() == expected.fingerprint()
    cached("p", {}, made(), tmp_path)
    assert len(made.calls) == 2


def test_a_folder_that_cannot_be_written_is_a_warning_in_the_log(
    tmp_path, made, caplog
):
    (tmp_path / "file").write_text("in the way")
    assert cached("p", {}, made(), tmp_path / "file").num_classes == 3
    assert "could not be cached" in caplog.text
    assert "writable cache_dir" in caplog.text


def test_a_pool_on_disk_is_made_once_and_again_if_damaged(tmp_path, made):
    first, second = (cached_on_disk("p", {}, made(), tmp_path) for _ in range(2))
    assert len(made.calls) == 1
    assert first.fingerprint() == second.fingerprint() == made()().fingerprint()
    made.calls.clear()
    (path,) = tmp_path.iterdir()
    (path / "pool.json").write_text("")
    for _ in range(2):
        again = cached_on_disk("p", {}, made(), tmp_path)
        assert again.fingerprint() == first.fingerprint()
    assert len(made.calls) == 1


def test_a_pool_that_cannot_be_kept_on_disk_is_returned(tmp_path, made, caplog):
    (tmp_path / "file").write_text("in the way")
    pool = cached_on_disk("p", {}, made(), tmp_path / "file")
    assert pool.num_classes == 3
    assert "writable cache_dir" in caplog.text
