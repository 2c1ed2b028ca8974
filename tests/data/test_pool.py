"""`Pool` and `from_arrays`."""

import numpy as np
import pytest
from helpers import lettered

from maml_keras.data import Pool, from_arrays


def test_from_arrays_groups_by_label_in_stable_order():
    pool = from_arrays(np.array([[1.0], [2.0], [3.0], [4.0]]), [5, 2, 5, 2])
    assert pool.class_names == ("2", "5")
    assert pool.counts.tolist() == [2, 2]
    assert pool.offsets.tolist() == [0, 2]
    assert pool.examples.ravel().tolist() == [2.0, 4.0, 1.0, 3.0]
    assert pool.num_classes == 2


def test_from_arrays_takes_names_and_groups_by_label():
    pool = from_arrays(
        np.arange(3), [2, 0, 2], class_names=["a", "b", "c"], groups=["x", "y", "z"]
    )
    assert pool.class_names == ("a", "c")
    assert pool.groups == ("x", "z")
    named = from_arrays(np.arange(3), ["q", "p", "q"], groups=["x", "y"])
    assert named.class_names == ("p", "q")
    assert named.groups == ("x", "y")
    assert named.examples.tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("uint8", "uint8"),
        ("float64", "float32"),
        ("float16", "float32"),
        ("bool", "float32"),
        ("int32", "int32"),
        ("int64", "int64"),
    ],
)
def test_dtypes(given, kept):
    pool = from_arrays(np.array([0, 1, 1]).astype(given), [0, 0, 1])
    assert pool.examples.dtype == kept
    assert pool.examples.tolist() == [0, 1, 1]


def test_later_changes_of_the_arrays_do_not_change_the_pool():
    x = np.zeros([4, 2], np.float32)
    pool = from_arrays(x, [0, 0, 1, 1])
    x += 1
    assert not pool.examples.any()
    with pytest.raises(ValueError, match="read-only"):
        pool.examples[0] = 1


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (np.zeros([3]), [0, 1], {}, r"same length.*shape \(3,\), y of shape \(2,\)"),
        (np.zeros([2]), [[0, 1], [1, 0]], {}, r"not one-hot.*y\.argmax"),
        (np.zeros([2]), [[0], [1]], {}, r"shape \(2, 1\).*y\.ravel"),
        (np.zeros([0, 4]), [], {}, r"`x` must hold at least one .* \(0, 4\)"),
        ([1.0, np.nan], [0, 1], {}, r"`x` must be finite. Received: 1 NaN"),
        ([1.0, np.inf], [0, 1], {}, r"`x` must be finite"),
        (["a", "b"], [0, 1], {}, r"`x` must be numeric. Received: dtype <U1"),
        ([1.0, 2.0], [0.0, 1.0], {}, r"`y` must be integers or strings.*float64"),
        ([1, 2], [0, 2], {"class_names": ["a", "b"]}, r"2 names for labels 0 to 2"),
        ([1, 2], [-1, 0], {"class_names": ["a", "b"]}, r"2 names for labels -1 to 0"),
        ([1, 2], ["a", "b"], {"class_names": ["a", "b"]}, r"leave `class_names` out"),
        ([1, 2], [0, 1], {"class_names": ["a", "a"]}, r"must be unique.*'a'"),
        ([1, 2], [0, 1], {"groups": ["g"]}, r"1 groups for 2 classes"),
    ],
)
def test_wrong_arrays_are_explained(x, y, options, message):
    with pytest.raises(ValueError, match=message):
        from_arrays(x, y, **options)


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


def names(pools):
    return [list(pool.class_names) for pool in pools]


class Column:
    """A column of a table, as NumPy sees it: an array of objects."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=object)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (Column(["b", "a", "b"]), ("a", "b")),
        (Column([2, 0, 2]), ("0", "2")),
        (np.array([True, False, True]), ("False", "True")),
        (Column([True, False, True]), ("False", "True")),
        (np.array([b"b", b"a", b"b"]), ("a", "b")),
    ],
)
def test_labels_are_taken_from_columns_of_any_kind(labels, names):
    pool = from_arrays(np.arange(3.0), labels)
    assert pool.class_names == names
    assert pool.examples.tolist() == [1.0, 0.0, 2.0]


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


class NotAvailable:
    """The missing value of pandas, which refuses to be compared."""

    def __repr__(self):
        return "<NA>"

    def __ne__(self, other):
        return self

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")


@pytest.mark.parametrize("missing", [None, float("nan"), NotAvailable()])
def test_missing_labels_are_counted(missing):
    with pytest.raises(ValueError, match="1 missing labels.*Leave these examples out"):
        from_arrays(np.arange(3.0), Column(["b", missing, "b"]))


class Table(Column):
    columns = ("length", "colour")

    def __getitem__(self, name):
        return np.array({"length": [1.0, 2.0], "colour": ["red", "blue"]}[name])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([[1.0, 2.0], [1.0]], "one shape.*mk.data.from_series"),
        (Column([np.zeros(2), np.zeros(3)]), "one shape.*mk.data.from_series"),
        ({"a": {"b": np.zeros(2)}}, r"`x\['a'\]` must be one array.*the keys b"),
        ({}, r"dict of arrays by name.*the keys \[\]"),
        ({"a": [0, 1], "b": [0]}, r"`x\['b'\]` and `y` must have the same length"),
        ({"a": [0, 1], "b": [0, np.nan]}, r"`x\['b'\]` must be finite.*in row 1"),
        (np.array([1, "one"], object), r"dtype object, with 'one' in row 1"),
        (Table([[1.0, "red"], [2.0, "blue"]]), "the columns colour.*get_dummies"),
    ],
)
def test_inputs_without_one_shape_or_with_text_name_the_way_out(x, message):
    with pytest.raises(ValueError, match=message):
        from_arrays(x, [0, 1])


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
