"""Inner gradients in float16 equal those in float32, whatever the size of the loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import regression

from maml_keras import MAML, SGD, InnerLoop
from maml_keras.inner import loss_scale
from maml_keras.learner.learner import Learner

pytestmark = pytest.mark.usefixtures("without_graphs")


def network(policy):
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input([3]),
            keras.layers.Dense(8, activation="tanh", dtype=policy),
            keras.layers.Dense(2, dtype=policy),
        ]
    )


def maml(policy, size=1.0, task_map="parallel"):
    """Two inner steps on `size` times the mean squared error, which cancels out."""

    def loss(y, predictions):
        error = tf.cast(predictions, tf.float32) - y
        return size * tf.reduce_mean(tf.square(error), axis=-1)

    inner = InnerLoop(loss, SGD(0.1 / size), steps=2)
    return MAML(network(policy), inner, task_map=task_map)


def changes(policy, size):
    """How adaptation changes the weights."""
    task, _ = regression(tasks=1)
    wrapped = maml(policy, size)
    before = wrapped.model.get_weights()
    after = wrapped.adapt(task["support_x"][0], task["support_y"][0]).get_weights()
    return [a - b for a, b in zip(after, before)]


def meta_gradients(policy, task_map="parallel"):
    return maml(policy, task_map=task_map).compute_meta_gradients(regression(tasks=2))[
        1
    ]


def error(found, expected):
    """The largest difference, relative to the largest number of the same variable."""
    found, expected = [np.array(f) for f in found], [np.array(e) for e in expected]
    return max(np.abs(f - e).max() / np.abs(e).max() for f, e in zip(found, expected))


# Unscaled, the derivatives of the last three losses underflow or overflow in float16.
@pytest.mark.parametrize("size", [1.0, 1e-7, 1e-12, 1e6])
def test_inner_steps_are_those_of_float32(size):
    assert error(changes("mixed_float16", size), changes("float32", 1.0)) < 5e-3


@pytest.mark.graphs
@pytest.mark.parametrize("task_map", ["parallel", "vectorized"])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_meta_gradients_are_those_of_float32(policy, task_map):
    found, expected = meta_gradients(policy, task_map), meta_gradients("float32")
    assert error(found, expected) < (0.05 if "bfloat16" in policy else 0.01)


def test_the_scale_is_a_power_of_two_below_the_limit():
    for size in (3e-9, 1e-3, 0.7, 1.0, 700.0, 5e6):
        factor = float(loss_scale.scale([None, tf.constant([size, -size / 3])]))
        assert np.log2(factor) % 1 == 0.0
        assert 512 <= size * factor <= 1024
    for useless in ([], [None], [0.0, 0.0], [np.inf], [np.nan, 1.0]):
        slopes = [s if s is None else tf.constant(s) for s in useless]
        assert float(loss_scale.scale(slopes)) == 1.0


def test_weights_that_the_loss_ignores_have_no_gradient():
    used, ignored = tf.constant([2.0]), tf.constant([1.0])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([used, ignored])
        predictions = used * 3.0
        loss = tf.reduce_sum(predictions**2)
    found = loss_scale.gradient(tape, loss, [used, ignored], predictions)
    assert found[1] is None
    np.testing.assert_allclose(found[0], [36.0])


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        (["float32"], False),
        (["mixed_bfloat16"], False),
        (["mixed_float16", "float32"], True),
    ],
)
def test_one_layer_in_float16_is_enough(policies, expected):
    layers = [keras.layers.Dense(2, dtype=p) for p in policies]
    model = keras.Sequential([keras.Input([3]), *layers])
    assert loss_scale.computes_in_float16(Learner(model)) is expected
