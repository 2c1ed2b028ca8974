"""Recomputed steps give the numbers of steps that keep their activations."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import RATE, dense, maml, precision, regression, tensors
from keras import layers

from maml_keras import MAML, SGD, InnerLoop
from maml_keras.backend.rematerialized_loop import points
from maml_keras.inner.rules import UpdateRule
from maml_keras.learner.graph_survey import nodes_of

pytestmark = pytest.mark.optimized


class LearnedRate(UpdateRule):
    """A rule with a meta-learned rate, and with momentum."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.rate = self.add_weight(shape=(), initializer="ones", name="rate")
        self.built = True

    def start(self, weights):
        return [tf.zeros_like(w) for w in weights]

    def update(self, weights, gradients, state, *, step, learning_rate=None):
        rate = (
            0.1
            * tf.convert_to_tensor(self.rate)
            / (1 + tf.cast(step, weights[0].dtype))
        )
        state = [0.5 * s + g for s, g in zip(state, gradients)]
        return [w - rate * s for w, s in zip(weights, state)], state


def model():
    return keras.Sequential(
        [
            keras.Input([6, 6, 1]),
            layers.Conv2D(3, 3, activation="tanh"),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


def meta_gradient(learner, steps, rematerialize, rule, compiled, **options):
    inner = InnerLoop("mse", rule, steps=steps, rematerialize=rematerialize, **options)
    wrapped = MAML(learner, inner, task_map="parallel", seed=1)
    function = wrapped.compute_meta_gradients
    return (tf.function(function) if compiled else function)(batch())


def batch():
    rng = np.random.default_rng(0)
    task = {
        "support_x": rng.normal(size=[1, 4, 6, 6, 1]),
        "support_y": rng.normal(size=[1, 4, 2]),
        "query_x": rng.normal(size=[1, 3, 6, 6, 1]),
    }
    return tensors((task, rng.normal(size=[1, 3, 2])))


# Each pair of settings appears once.
@pytest.mark.parametrize(
    ("steps", "options", "compiled"),
    [
        (1, {}, False),
        (3, {}, True),
        (3, {"second_order": False}, False),
        (1, {"second_order": False}, True),
    ],
    ids=str,
)
def test_same_loss_and_gradients_to_rounding(steps, options, compiled):
    with precision("float64"):
        learner, rule = model(), LearnedRate()
        kept = meta_gradient(learner, steps, False, rule, compiled, **options)
        again = meta_gradient(learner, steps, True, rule, compiled, **options)
    np.testing.assert_allclose(again[0], kept[0], rtol=1e-12)
    assert len(kept[1]) == 7  # Six variables of the model, and the rule's rate.
    assert abs(kept[1][-1]) > 1e-4
    for a, b in zip(again[1], kept[1]):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_every_point_is_differentiable():
    # d/dw (w^2 + w^4 + w^8) at w = 1.1
    w = tf.constant(1.1, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(w)
        path = points(lambda k, p, learned, fixed: p * p, w, (), (), steps=3)
        loss = tf.add_n(path[1:])
    expected = 2 * 1.1 + 4 * 1.1**3 + 8 * 1.1**7
    np.testing.assert_allclose(tape.gradient(loss, w), expected, rtol=1e-12)


def test_graph_does_not_grow_with_the_steps():
    def size(steps):
        inner = InnerLoop("mse", SGD(0.1), steps=steps, rematerialize=True)
        wrapped = MAML(model(), inner, task_map="sequential")
        function = tf.function(wrapped.compute_meta_gradients)
        return len(nodes_of(function.get_concrete_function(batch()).graph))

    assert size(8) < 1.2 * size(2)


def test_options_of_the_graph_optimiser_do_not_change():
    before = tf.config.optimizer.get_experimental_options()
    wrapped = maml(keras.Sequential([keras.Input([3]), layers.Dense(2)]))
    wrapped.inner.rematerialize = True
    tf.function(wrapped.compute_meta_gradients)(tensors(regression()))
    after = tf.config.optimizer.get_experimental_options()
    assert {**after, "disable_meta_optimizer": False} == {
        **before,
        "disable_meta_optimizer": False,
    }
    assert not after.get("disable_meta_optimizer")


def test_rematerialize_is_saved():
    inner = InnerLoop("mse", SGD(0.1), rematerialize=True)
    assert InnerLoop.from_config(inner.get_config()).rematerialize


def test_tasks_do_not_wait_for_each_other():
    # TensorFlow runs stateful calls one after another, even calls of two tasks in a
    # parallel loop. Then conv-4 takes twice as long on two cores.
    learner = MAML(
        dense(),
        InnerLoop("mse", SGD(RATE), steps=2, rematerialize=True),
        task_map="parallel",
    )
    step = tf.function(learner.compute_meta_gradients, autograph=False)
    graph = step.get_concrete_function(tensors(regression())).graph
    kinds = {node.op for node in nodes_of(graph)}
    assert "PartitionedCall" in kinds
    assert "StatefulPartitionedCall" not in kinds
