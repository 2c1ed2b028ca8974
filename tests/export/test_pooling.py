"""The derivatives of pools equal those of TensorFlow's own operations."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from lowered_operation import assert_same, draw, gradient


@pytest.mark.parametrize(
    ("padding", "stride"), list(itertools.product(["SAME", "VALID"], [1, 2, 3]))
)
def test_strides_of_odd_and_even_sizes(padding, stride):
    x = draw(2, 6, 7, 2)
    for pool, operation in (
        (tf.nn.max_pool2d, "MaxPoolGrad"),
        (tf.nn.avg_pool2d, "AvgPoolGrad"),
    ):
        assert_same(
            gradient(lambda x, pool=pool: pool(x, [2, 3], stride, padding), [0]),
            x,
            replaces=[operation],
        )


def test_the_first_of_equal_numbers_gets_the_gradient():
    # Whole numbers from 0 to 2: almost every window has several largest numbers.
    x = np.random.default_rng(0).integers(0, 3, [2, 6, 6, 2]).astype("float32")
    assert_same(
        gradient(lambda x: tf.nn.max_pool2d(x, 3, 2, "SAME"), [0]),
        x,
        replaces=["MaxPoolGrad"],
    )


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_three_dimensions(padding):
    x = draw(2, 4, 5, 4, 2)
    for pool, operation in (
        (tf.nn.max_pool3d, "MaxPool3DGrad"),
        (tf.nn.avg_pool3d, "AvgPool3DGrad"),
    ):
        assert_same(
            gradient(lambda x, pool=pool: pool(x, 2, 2, padding), [0]),
            x,
            replaces=[operation],
        )
