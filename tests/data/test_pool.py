"""`Pool`: its classes, its parts and its fingerprint."""

import numpy as np
import pytest
from helpers import lettered

from maml_keras.data import Pool, from_arrays


def test_later_changes_of_the_arrays_do_not_change_the_pool():
    x = np.zeros([4, 2], np.float32)
    pool = from_arrays(x, [0, 0, 1, 1])
    x += 1
    assert not pool.examples.any()
    with pytest.raises(ValueError, match="read-only"):
        pool.examples[0] = 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"counts": [3]}, r"`counts` must have one entry per class name"),
        ({"counts": [3, 0]}, r"at least 1. Received: 0 for class 'b'"),
        ({"counts": [1, 1]}, r"a sum of 2 for 3 examples"),
        ({"groups": ["g"]}, r"1 groups for 2 classes"),
    ],
)
def test_inconsistent_pool_is_explained(options, message):
    arguments = {"counts": [1, 2], "class_names": ["a", "b"], **options}
    with pytest.raises(ValueError, match=message):
        Pool(np.zeros([3]), **arguments)


def test_select_keeps_the_given_order_of_classes():
    pool = lettered().select([4, 1])
    assert pool.class_names == ("c04", "c01")
    assert pool.groups == ("g1", "g1")
    assert pool.examples.ravel().tolist() == [400, 401, 402, 100, 101, 102]
    for wrong in ([12], [-1], [1, 1]):
        with pytest.raises(ValueError, match=r"different integers in \[0, 12\)"):
            lettered().select(wrong)


def test_drop_smaller_than_keeps_equal():
    pool = from_arrays(np.arange(6), [0, 1, 1, 2, 2, 2])
    assert pool.drop_smaller_than(2).class_names == ("1", "2")
    assert pool.drop_smaller_than(2).examples.tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="Received: 4, but the largest class has 3"):
        pool.drop_smaller_than(4)


def test_fingerprint_depends_on_every_part():
    base = {
        "examples": np.arange(4, dtype=np.int32),
        "counts": [2, 2],
        "class_names": ["a", "b"],
        "groups": ["g", "h"],
    }
    changes = [
        {},
        {"examples": np.array([0, 1, 2, 4], np.int32)},
        {"examples": np.arange(4, dtype=np.int64)},
        {"examples": np.arange(4, dtype=np.int32)[:, None]},
        {"counts": [1, 3]},
        {"class_names": ["a", "c"]},
        {"groups": ["g", "g"]},
        {"groups": None},
    ]
    prints = []
    for change in changes:
        arguments = {**base, **change}
        prints.append(Pool(arguments.pop("examples"), **arguments).fingerprint())
        arguments = {**base, **change}
        assert Pool(arguments.pop("examples"), **arguments).fingerprint() == prints[-1]
    assert len(set(prints)) == len(changes)


def test_repr_shows_classes_groups_and_shape():
    assert repr(lettered()) == (
        "Pool(12 classes in 3 groups, 36 examples of shape (1,) int32, 3 per class)"
    )
    assert repr(lettered().select([])) == (
        "Pool(no classes, examples of shape (1,) int32)"
    )


def test_groups_of_examples_stay_with_their_examples():
    pool = from_arrays(
        np.arange(5.0), [1, 0, 1, 0, 2], example_groups=["a", "b", "c", "d", "e"]
    )
    assert pool.example_groups.tolist() == ["b", "d", "a", "c", "e"]
    part = pool.select([2, 0])
    assert part.examples.tolist() == [4.0, 1.0, 3.0]
    assert part.example_groups.tolist() == ["e", "b", "d"]
    assert pool.drop_smaller_than(2).example_groups.tolist() == ["b", "d", "a", "c"]


def test_groups_of_examples_are_part_of_the_fingerprint():
    plain, named, other = (
        from_arrays(np.arange(2.0), [0, 1], example_groups=groups)
        for groups in (None, ["a", "b"], ["b", "a"])
    )
    prints = {pool.fingerprint() for pool in (plain, named, other)}
    assert len(prints) == 3


def test_groups_of_examples_must_match_them():
    with pytest.raises(ValueError, match="one group per example. Received: 1 groups"):
        from_arrays(np.arange(2.0), [0, 1], example_groups=["a"])
    with pytest.raises(ValueError, match=r"one group per example. Received: shape \(1"):
        Pool(np.arange(2.0), counts=[2], class_names=["a"], example_groups=["a"])


def test_several_inputs_stay_together():
    x = {"image": np.arange(6, dtype=np.uint8).reshape(6, 1, 1), "age": np.arange(6.0)}
    pool = from_arrays(x, [1, 0, 1, 0, 2, 2]).select([2, 0])
    assert {k: v.ravel().tolist() for k, v in pool.examples.items()} == {
        "age": [4, 5, 1, 3],
        "image": [4, 5, 1, 3],
    }
    assert repr(pool) == (
        "Pool(2 classes, 4 examples of {age: shape () float32, image: shape (1, 1) "
        "uint8}, 2 per class)"
    )
    assert pool.fingerprint() != from_arrays(x, [0] * 6).fingerprint()
