"""Models that differentiate in their `call`: exact meta-gradients, under every map.

A physics-informed network asks for derivatives of its output in its input, so the inner
gradient holds mixed derivatives, and the meta-gradient one order more.
"""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import RATE, maml

from maml_keras import (
    MAML,
    Adam,
    Chunked,
    InnerLoop,
    check_meta_gradient,
)

pytestmark = pytest.mark.usefixtures("float64")

MAPS = ["sequential", "parallel", "vectorized", Chunked(1)]


def derivative(function, x, order):
    if not order:
        return function(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        lower = derivative(function, x, order - 1)
    return tape.gradient(lower, x)


@keras.saving.register_keras_serializable(package="tests")
class Derivative(keras.Model):
    """A derivative of a network of one number, and the network times it."""

    vectorizes = True

    def __init__(self, network, order, **kwargs):
        super().__init__(**kwargs)
        self.network, self.order = network, order
        self.built = True

    def call(self, x):
        found = derivative(self.network, x, self.order)
        return found + self.network(x) * derivative(self.network, x, 1)

    def get_config(self):
        network = keras.saving.serialize_keras_object(self.network)
        return {"network": network, "order": self.order}

    @classmethod
    def from_config(cls, config):
        return cls(
            keras.saving.deserialize_keras_object(config["network"]), config["order"]
        )


@keras.saving.register_keras_serializable(package="tests")
class ThirdOfWave(keras.layers.Layer):
    """The third derivative of `sin(w x)` by tapes."""

    vectorizes = True

    def build(self, shape):
        self.w = self.add_weight(shape=(), initializer="ones", name="w")

    def call(self, x):
        return derivative(lambda x: tf.sin(self.w * x), x, 3)


def tasks(count=2, points=4):
    generator = np.random.default_rng(0)
    x, y = generator.uniform(-1, 1, [2, count, 2 * points, 1])
    task = {"support_x": x[:, :points], "support_y": y[:, :points]}
    return {**task, "query_x": x[:, points:]}, y[:, points:]


def closed_form(w, x, y):
    """The loss of `-w^3 cos(w x)`, the third derivative, with two derivatives in w."""
    c, s = np.cos(w * x), np.sin(w * x)
    r = -(w**3) * c - y
    first = -3 * w**2 * c + w**3 * x * s
    second = -6 * w * c + 6 * w**2 * x * s + w**3 * x**2 * c
    return np.mean(r**2), np.mean(2 * r * first), np.mean(2 * (first**2 + r * second))


def wave(w=1.0):
    model = keras.Sequential([keras.Input([1]), ThirdOfWave()])
    model.weights[0].assign(w)
    return model


@pytest.mark.parametrize("task_map", MAPS, ids=str)
def test_a_third_derivative_has_the_closed_meta_gradient(task_map):
    w, (task, query_y) = 1.3, tasks()
    mapped = maml(wave(w), task_map=task_map, steps=2)
    loss, (gradient,) = mapped.compute_meta_gradients((task, query_y))
    losses, gradients = [], []
    for i in range(len(query_y)):
        phi, slope = w, 1.0
        for _ in range(2):
            _, g, h = closed_form(phi, task["support_x"][i], task["support_y"][i])
            phi, slope = phi - RATE * g, slope * (1 - RATE * h)
        value, g, _ = closed_form(phi, task["query_x"][i], query_y[i])
        losses.append(value)
        gradients.append(g * slope)
    # float64 with a few dozen operations.
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-12)
    np.testing.assert_allclose(gradient, np.mean(gradients), rtol=1e-12)


def smooth(order):
    layers = keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(1)
    return Derivative(keras.Sequential([keras.Input([1]), *layers]), order)


@pytest.mark.parametrize(
    ("order", "task_map"),
    [
        (3, "parallel"),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in itertools.product((2, 3), MAPS)
        ),
    ],
    ids=str,
)
def test_meta_gradients_through_tapes_match_differences(order, task_map):
    checks = check_meta_gradient(
        maml(smooth(order), steps=2, task_map=task_map), tasks(), verbose=0
    )
    decided = [check for check in checks if check.decided]
    # The last bias drops out of derivatives, but not of `u u'`.
    assert len(decided) == len(checks) == 4
    assert max(check.error for check in decided) < 1e-6


@pytest.mark.slow
def test_adam_inside_is_exact_through_tapes():
    inner = InnerLoop("mse", Adam(0.01), steps=2)
    checks = check_meta_gradient(MAML(smooth(2), inner), tasks(), verbose=0)
    assert any(check.decided for check in checks)


def test_auto_vectorises_a_model_with_tapes_that_says_so():
    # A survey in `tf.init_scope`, which pauses tapes, once found no derivative here.
    model = maml(wave(), task_map="auto")
    model.compute_meta_gradients(tasks())
    assert "every layer vectorises" in str(model.task_map)


def test_auto_takes_the_loop_for_a_model_that_says_nothing(monkeypatch):
    monkeypatch.setattr(ThirdOfWave, "vectorizes", False)
    model = maml(wave(), task_map="auto")
    model.compute_meta_gradients(tasks())
    assert "ThirdOfWave may not vectorise" in str(model.task_map)
