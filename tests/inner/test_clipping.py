"""Rules that clip inner gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import dense, regression

from maml_keras import (
    MAML,
    SGD,
    ClipByNorm,
    ClipByValue,
    InnerLoop,
    MetaSGD,
    check_meta_gradient,
)

pytestmark = pytest.mark.usefixtures("tasks_in_a_loop", "without_graphs")

GRADIENTS = [tf.constant([3.0, -0.5]), tf.constant([4.0])]
ZEROS = [tf.zeros([2]), tf.zeros([1])]


def test_value_bounds_each_entry():
    updated, _ = ClipByValue(SGD(1.0), 2.0).update(ZEROS, GRADIENTS, (), step=0)
    np.testing.assert_array_equal(updated[0], [-2.0, 0.5])
    np.testing.assert_array_equal(updated[1], [-2.0])


def test_norm_bounds_all_gradients_together():
    updated, _ = ClipByNorm(SGD(1.0), 1.0).update(ZEROS, GRADIENTS, (), step=0)
    norm = np.sqrt(9.0 + 0.25 + 16.0)
    np.testing.assert_allclose(updated[0], [-3.0 / norm, 0.5 / norm], rtol=1e-6)
    np.testing.assert_allclose(updated[1], [-4.0 / norm], rtol=1e-6)


def test_value_bounds_both_sides():
    gradients = [tf.constant([-3.0, 3.0])]
    (updated,), _ = ClipByValue(SGD(1.0), 2.0).update(
        [tf.zeros([2])], gradients, (), step=0
    )
    np.testing.assert_array_equal(updated, [2.0, -2.0])


@pytest.mark.parametrize("clip", [ClipByNorm, ClipByValue])
def test_gradients_within_the_limit_pass(clip):
    # The norm is 5.02: below the limit of 6, but its square is above.
    updated, _ = clip(SGD(1.0), 6.0).update(ZEROS, GRADIENTS, (), step=0)
    np.testing.assert_array_equal(updated[0], -GRADIENTS[0])


@pytest.mark.graphs
@pytest.mark.parametrize("limit", [0.05, 100.0])
@pytest.mark.parametrize("clip", [ClipByNorm, ClipByValue])
def test_meta_gradient_passes_through_clipping(clip, limit):
    model = MAML(dense(), InnerLoop("mse", clip(SGD(0.1), limit), steps=1))
    assert all(check.decided for check in check_meta_gradient(model, regression()))


def test_norm_of_zero_has_a_derivative():
    gradient = tf.zeros([2])
    with tf.GradientTape() as tape:
        tape.watch(gradient)
        updated, _ = ClipByNorm(SGD(1.0), 1.0).update(
            [tf.zeros([2])], [gradient], (), step=0
        )
        total = tf.reduce_sum(updated[0])
    np.testing.assert_array_equal(tape.gradient(total, gradient), [-1.0, -1.0])


def test_clipping_wraps_learned_rules(tmp_path):
    model = MAML(dense(), InnerLoop("mse", ClipByNorm(MetaSGD(0.1), 1.0)))
    assert len(model.trainable_variables) == 8
    model.compile("sgd")
    model.fit(*regression(), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.rule.limit == 1.0
    for a, b in zip(loaded.variables, model.variables):
        np.testing.assert_array_equal(a, b)


def test_wrong_arguments_are_refused():
    with pytest.raises(TypeError, match="`rule` must be an UpdateRule.*'sgd'"):
        ClipByNorm("sgd", 1.0)
    with pytest.raises(ValueError, match="`limit` must be positive.*limit=0"):
        ClipByValue(SGD(0.1), 0)
