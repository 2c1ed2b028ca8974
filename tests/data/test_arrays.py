"""`from_arrays`: labels and arrays of many kinds, and what is refused."""

import numpy as np
import pytest

from maml_keras.data import from_arrays


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
