"""Derivatives that TensorFlow lacks are supplied, and right."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import curved_gradient, second_derivative

from maml_keras.backend.missing_derivatives import (
    no_derivative_missing,
)

X = np.random.default_rng(0).normal(size=[6, 4, 4, 2])

BOXES = np.array([[0.1, 0.15, 0.8, 0.9], [0.05, 0.2, 1.2, 0.7]])


def softsign(x):
    return tf.nn.softsign(x)


def crop(x):
    return tf.image.crop_and_resize(x, BOXES, [0, 3], [3, 5])


def crop_nearest(x):
    return tf.image.crop_and_resize(x, BOXES, [0, 3], [3, 5], method="nearest")


def pool(x):
    return tf.nn.max_pool_with_argmax(x, 2, 2, "VALID")[0]


def pool_of_batch(x):
    return tf.nn.max_pool_with_argmax(x, 2, 1, "SAME", include_batch_in_index=True)[0]


def segment_mean(x):
    return tf.sparse.segment_mean(x, [0, 2, 3, 3], [0, 0, 1, 1])


def segment_sqrt_n(x):
    return tf.sparse.segment_sqrt_n(x, [0, 2, 3, 5], [0, 0, 1, 1])


def segment_sum(x):
    return tf.sparse.segment_sum(x, [0, 2, 3, 3], [0, 0, 1, 2])


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize(
    "function",
    [
        softsign,
        crop,
        crop_nearest,
        pool,
        pool_of_batch,
        segment_mean,
        segment_sqrt_n,
        segment_sum,
    ],
)
def test_supplied_second_derivative_matches_differences(function, graph):
    x = tf.constant(X)
    generator = np.random.default_rng(1)
    along, moved = generator.normal(size=[2, *X.shape])
    call = tf.function(second_derivative) if graph else second_derivative
    with no_derivative_missing(str):
        found = float(tf.reduce_sum(call(function, x, along) * moved))
    # Crops are float32, whatever the image is.
    step, tolerance = (1e-3, 1e-3) if "crop" in function.__name__ else (1e-5, 1e-8)
    ends = [curved_gradient(function, x + sign * step * moved) for sign in (1.0, -1.0)]
    expected = float(tf.reduce_sum((ends[0] - ends[1]) * along)) / (2 * step)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def test_second_derivative_of_a_crop_in_its_boxes_is_right():
    image = tf.constant(X, tf.float32)

    def gradient_of_image(boxes):
        with tf.GradientTape() as tape:
            tape.watch(image)
            crops = tf.image.crop_and_resize(image, boxes, [0, 3], [3, 5])
            value = tf.reduce_sum(tf.sin(crops))
        return tf.reduce_sum(tape.gradient(value, image) * X)

    moved = np.random.default_rng(1).normal(size=BOXES.shape).astype("float32")
    boxes = tf.constant(BOXES, tf.float32)
    with no_derivative_missing(str), tf.GradientTape() as tape:
        tape.watch(boxes)
        value = gradient_of_image(boxes)
        found = float(tf.reduce_sum(tape.gradient(value, boxes) * moved))
    step = 1e-3
    ends = [float(gradient_of_image(boxes + s * step * moved)) for s in (1, -1)]
    # float32 differences.
    np.testing.assert_allclose(found, (ends[0] - ends[1]) / (2 * step), rtol=1e-2)
