"""How one inner step changes the weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import RATE, Momentum, dense, regression

from maml_keras import MAML, SGD, InnerLoop, check_meta_gradient

RULES = [SGD, Momentum]


def test_sgd_steps_against_the_gradient():
    weights = [tf.constant([1.0, -2.0]), tf.constant(3.0)]
    gradients = [tf.constant([10.0, 20.0]), tf.constant(-1.0)]
    updated, state = SGD(0.1).update(weights, gradients, (), step=0)
    np.testing.assert_allclose(updated[0], [0.0, -4.0], atol=1e-6)  # float32
    np.testing.assert_allclose(updated[1], 3.1, rtol=1e-6)
    assert state == ()


@pytest.mark.parametrize("rate", [0.5, tf.constant(0.5)])
def test_sgd_rate_of_the_call_overrides(rate):
    (updated,), _ = SGD(0.1).update(
        [tf.constant(1.0)], [tf.constant(1.0)], (), step=0, learning_rate=rate
    )
    assert float(updated) == 0.5


def test_sgd_rate_is_exact_in_float64():
    one = tf.constant(1.0, tf.float64)
    (updated,), _ = SGD(0.1).update([one], [one], (), step=0)
    assert float(updated) == 1.0 - 0.1  # Not the float32 next to 0.1.


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_sgd_keeps_the_weights_type(dtype):
    one = tf.ones([2], dtype)
    (updated,), _ = SGD(0.1).update([one], [tf.ones([2])], (), step=0)
    assert updated.dtype == dtype


@pytest.mark.parametrize("rate", [-0.1, float("nan"), float("inf")])
def test_impossible_rate_is_refused(rate):
    with pytest.raises(ValueError, match=f"`learning_rate` must be a finite.*{rate}"):
        SGD(rate)


@pytest.mark.parametrize("rule", RULES)
def test_config_round_trip(rule):
    revived = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(rule(0.3))
    )
    assert type(revived) is rule
    assert revived.learning_rate == 0.3


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("task_map", ["sequential", "parallel"])
def test_every_map_gives_the_same(rule, task_map):
    model, batch = dense(), regression()

    def meta_gradients(name):
        wrapped = MAML(model, InnerLoop("mse", rule(RATE), steps=2), task_map=name)
        return wrapped.compute_meta_gradients(batch)[1]

    for a, b in zip(meta_gradients(task_map), meta_gradients("vectorized")):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # float32


def test_learned_rate_is_meta_trained_saved_and_exact(tmp_path):
    model = MAML(dense(), InnerLoop("mse", Momentum(RATE), steps=2))
    assert len(model.trainable_variables) == 5
    checks = check_meta_gradient(model, regression())
    assert checks[-1].path.endswith("rate")
    # The rate is float32 also in the twin, which its differences feel.
    assert all(c.error < 1e-3 for c in checks)
    model.compile(keras.optimizers.SGD(0.1))
    model.train_on_batch(*regression())
    assert abs(float(model.rule.rate) - RATE) > 1e-4
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.rule.rate, model.rule.rate)
