"""DropBlock drops whole squares, and keeps the mean."""

import keras
import numpy as np
import pytest

from maml_keras.models.drop_block import DropBlock

ONES = np.ones([6, 9, 9, 8], "float32")


def test_zeros_are_unions_of_squares_and_the_rest_is_scaled_up():
    dropped = np.asarray(DropBlock(0.1, size=3, seed=0)(ONES, training=True))
    zero = dropped == 0.0
    windows = np.lib.stride_tricks.sliding_window_view(zero, (3, 3), axis=(1, 2))
    whole = windows.all(axis=(-2, -1))
    covered = np.zeros_like(zero)
    for i, row, column, channel in np.argwhere(whole):
        covered[i, row : row + 3, column : column + 3, channel] = True
    np.testing.assert_array_equal(covered, zero)
    assert zero.any()
    for example in dropped:  # Each by itself.
        kept = example[example > 0.0]
        np.testing.assert_allclose(kept, example.size / kept.size, rtol=1e-5)


@pytest.mark.parametrize(("rate", "size"), [(0.05, 3), (0.1, 1), (0.05, 5)])
def test_the_share_of_zeros_is_the_rate(rate, size):
    x = np.ones([50, 12, 12, 20], "float32")
    dropped = np.asarray(DropBlock(rate, size=size, seed=0)(x, training=True))
    # Overlapping squares count once: by hand, for a number far from the border.
    drawn = rate / size**2 * 12**2 / (12 - size + 1) ** 2
    inner = dropped[:, size:-size, size:-size]
    expected = 1.0 - (1.0 - drawn) ** (size**2)
    assert np.mean(inner == 0.0) == pytest.approx(expected, rel=0.1)


def test_only_training_drops_and_each_pass_draws_anew():
    layer = DropBlock(0.2, size=3, seed=0)
    np.testing.assert_array_equal(layer(ONES, training=False), ONES)
    np.testing.assert_array_equal(DropBlock(0.0)(ONES, training=True), ONES)
    first, second = (np.asarray(layer(ONES, training=True)) for _ in range(2))
    assert np.any(first != second)


def test_a_square_is_no_larger_than_the_map():
    x = np.ones([200, 2, 2, 4], "float32")
    dropped = np.asarray(DropBlock(0.2, size=5, seed=0)(x, training=True))
    whole = dropped.reshape(200, 4, 4) == 0.0  # [examples, positions, channels]
    np.testing.assert_array_equal(whole.all(axis=1), whole.any(axis=1))
    assert whole.mean() == pytest.approx(0.2, abs=0.05)


def test_the_layer_is_rebuilt_from_its_configuration():
    layer = DropBlock(0.2, size=3, seed=4, name="squares")
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate": 1.0}, r"`rate` must be in \[0, 1\). Received: rate=1.0"),
        ({"rate": -0.1}, "Received: rate=-0.1"),
        ({"rate": 0.1, "size": 0}, "`size` must be an integer, 1 or more"),
        ({"rate": 0.1, "size": 2.5}, "Received: size=2.5"),
    ],
)
def test_values_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DropBlock(**arguments)
