"""The operations on shapes equal what replaces them."""

import numpy as np
import pytest
import tensorflow as tf
from lowered_operation import assert_same, draw, gradient


@pytest.mark.parametrize(
    ("a", "b"), [((2, 4), (2, 1)), ((2, 1, 4), (2, 3, 1)), ((2, 4), (2, 4))]
)
def test_the_derivative_of_broadcasting(a, b):
    assert_same(
        gradient(lambda x, y: x * y, [0, 1]),
        *(draw(*a), draw(*b, seed=1)),
        replaces=["BroadcastGradientArgs"],
    )


def test_the_derivative_of_a_concatenation():
    assert_same(
        gradient(lambda x, y: tf.concat([x, y, x], 1), [0, 1]),
        *(draw(3, 4, 2), draw(3, 1, 2, seed=1)),
        replaces=["ConcatOffset"],
    )


@pytest.mark.parametrize("axis", [None, [0], [1], [0, 2]])
def test_the_derivative_of_a_mean(axis):
    x = draw(3, 4, 5)

    def mean(x):
        return tf.reduce_mean(x * x, axis, keepdims=True)

    assert_same(gradient(mean, [0]), x, replaces=[])


@pytest.mark.parametrize(
    "part",
    [
        np.s_[:, 1:4],
        np.s_[:, -2],
        np.s_[:, ::2],
        np.s_[:, 1:-1:3],
        np.s_[:, -1, 1],
        np.s_[:, 2:2],
        np.s_[:, None, 1:4],
        np.s_[..., 1],
        np.s_[:, ..., None, 1:],
    ],
)
def test_the_derivative_of_a_slice(part):
    x = draw(2, 6, 3)
    assert_same(gradient(lambda x: x[part] * 2, [0]), x, replaces=["StridedSliceGrad"])


def test_what_slices_the_examples_is_refused_by_name():
    with pytest.raises(ValueError, match="StridedSliceGrad .* number is unknown"):
        assert_same(gradient(lambda x: x[1:], [0]), draw(3, 2), replaces=[])


def test_stitched_parts():
    def stitch(x):
        return tf.dynamic_stitch([[0, 3], [1], [2]], [x[:2], x[2:3], x[3:4]])

    assert_same(stitch, draw(4, 3), replaces=["DynamicStitch"])


def test_parts_of_shapes_are_known():
    def function(x):
        shape = tf.shape(x)
        return tf.reshape(x, [shape[0], shape[1] * shape[2]]) * tf.cast(
            tf.reduce_prod(tf.gather(shape, [1, 2])) + tf.size(x) + tf.rank(x),
            tf.float32,
        )

    assert_same(function, draw(2, 3, 4), replaces=["GatherV2", "Size"])
