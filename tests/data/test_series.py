"""Series, tokens and texts of unequal length become pools."""

import keras
import numpy as np
import pytest

from maml_keras.data import from_series


def test_series_are_padded_at_their_ends():
    series = [np.ones([2, 3]), 2 * np.ones([4, 3]), 3 * np.ones([1, 3])]
    pool = from_series(series, ["b", "a", "b"], example_groups=["x", "y", "z"])
    assert pool.examples.shape == (3, 4, 3)
    assert pool.examples.dtype == np.float32
    steps = pool.examples[:, :, 1].tolist()
    assert steps == [[2, 2, 2, 2], [1, 1, 0, 0], [3, 0, 0, 0]]
    assert pool.example_groups.tolist() == ["y", "x", "z"]
    assert from_series(series, [0, 1, 2], length=9).examples.shape == (3, 9, 3)


def test_padding_may_be_another_number():
    pool = from_series([[0.0, 1.0], [0.0]], [0, 1], padding=-1)
    assert pool.examples[:, :, 0].tolist() == [[0, 1], [0, -1]]


def test_series_without_padding_may_hold_any_step():
    assert not from_series([[0.0, 0.0], [0.0, 0.0]], [0, 1]).examples.any()


def test_windows_say_which_series_they_are_from():
    series = [np.arange(1.0, 8), np.arange(11.0, 13)]
    pool = from_series(series, [0, 1], window=3, stride=2)
    windows = [[1, 2, 3], [3, 4, 5], [5, 6, 7], [11, 12, 0]]
    assert pool.examples[:, :, 0].tolist() == windows
    assert pool.example_groups.tolist() == ["series 0"] * 3 + ["series 1"]
    apart = from_series(series, [0, 1], window=3, example_groups=["here", "there"])
    assert apart.example_groups.tolist() == ["here", "here", "there"]


@pytest.mark.parametrize("ragged", [False, True])
def test_texts_are_looked_up_by_a_fitted_layer(ragged):
    layer = keras.layers.TextVectorization(ragged=ragged)
    layer.adapt(["good film", "bad film film"])
    texts = ["film", "bad good", "unknown film good"]
    words = np.array(layer.get_vocabulary())
    pool = from_series(texts, [0, 1, 2], lookup=layer)
    read = [" ".join(words[row[row > 0]]) for row in pool.examples]
    assert read == ["film", "bad good", "[UNK] film good"]
    assert pool.examples.dtype == np.int32


def test_lists_of_words_are_looked_up_one_by_one():
    layer = keras.layers.StringLookup(vocabulary=["a", "b"], mask_token="")
    pool = from_series([["b", "a"], ["c"]], [0, 1], lookup=layer)
    assert pool.examples.tolist() == [[3, 2], [1, 0]]
    plain = keras.layers.StringLookup(vocabulary=["a", "b"])
    with pytest.raises(ValueError, match=r"above 0.*series 1, step 0.*mask_token=''"):
        from_series([["b", "a"], ["c"]], [0, 1], lookup=plain)


@pytest.mark.parametrize(
    ("series", "options", "message"),
    [
        ([[1.0]], {}, "1 series and 2 labels"),
        ([[1.0], []], {}, "series 1 with no steps"),
        ([[1.0], [1.0, np.nan]], {}, "series 1 with NaN or infinity in step 1"),
        ([[1.0], "text"], {}, "series 1 of text.*lookup"),
        ([[1.0], [[1.0], [2.0, 3.0]]], {}, "series 1 with steps of unequal"),
        ([np.ones([2, 3]), np.ones([2, 2])], {}, "series 0 with 3 and series 1 with 2"),
        ([[1.0], [0.0, 2.0]], {}, "series 1, step 0.*Pass padding=-1.0 here and"),
        ([[1, 2], [3, 0, 4]], {}, "above 0.*0 in series 1, step 1.*Add 1"),
        ([[1, 2], [-3]], {}, "above 0.*-3 in series 1"),
        ([[1, 2], [3]], {"padding": -1}, "`padding` must be 0 for tokens"),
        ([[1.0], [1.0, 2.0]], {"length": 1}, "length=1, but series 1 has 2 steps"),
        ([[1.0], [1.0]], {"stride": 1}, "`stride` needs `window`"),
        ([[1.0], [1.0]], {"window": 0}, "`window` must be an integer of at least 1"),
        ([[1.0], [1.0]], {"window": 2, "stride": 0.5}, "`stride` must be an integer"),
    ],
)
def test_wrong_series_are_named(series, options, message):
    with pytest.raises(ValueError, match=message):
        from_series(series, [0, 1], **options)


def test_no_series_and_no_words_are_refused():
    with pytest.raises(ValueError, match="must hold a series"):
        from_series([], [])
    layer = keras.layers.TextVectorization(vocabulary=["a"])
    with pytest.raises(ValueError, match="series 1 with no word that `lookup` keeps"):
        from_series(["a", ""], [0, 1], lookup=layer)
