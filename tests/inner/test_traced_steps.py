"""A chain of steps that is traced once gives the numbers of a Python loop."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import CountedMSE, dense, regression

from maml_keras import MAML, SGD, InnerLoop
from maml_keras.inner.traced_steps import points
from maml_keras.learner.graph_survey import nodes_of

RNG = np.random.default_rng(0)
MATRIX, VECTOR = tf.constant(RNG.normal(size=[3, 3])), tf.constant(RNG.normal(size=[3]))
RATE = tf.constant(0.3, tf.float64)


def step(k, point, learned, fixed):
    """A step that depends on its number, on learned and on fixed tensors."""
    moving, count, still = point
    pull = tf.linalg.matvec(fixed, tf.tanh(moving)) * tf.cast(k + 1, moving.dtype)
    return moving - learned * pull * still, count + 2, still


def in_python(steps):
    point = VECTOR, tf.constant(1), RATE
    with tf.GradientTape() as outer:
        outer.watch([VECTOR, RATE])
        with tf.GradientTape() as tape:
            tape.watch([VECTOR, RATE])
            for k in range(steps):
                point = step(tf.constant(k), point, RATE, MATRIX)
            loss = tf.reduce_sum(point[0] ** 2)
        first = tape.gradient(loss, [VECTOR, RATE])
        total = tf.add_n([tf.reduce_sum(g) for g in first])
    return point[:2], first, outer.gradient(total, [VECTOR, RATE])


def in_a_chain(steps):
    with tf.GradientTape() as outer:
        outer.watch([VECTOR, RATE])
        with tf.GradientTape() as tape:
            tape.watch([VECTOR, RATE])
            start = VECTOR, tf.constant(1), RATE
            last = points(step, start, RATE, MATRIX, steps=steps)[-1]
            loss = tf.reduce_sum(last[0] ** 2)
        first = tape.gradient(loss, [VECTOR, RATE])
        total = tf.add_n([tf.reduce_sum(g) for g in first])
    return last[:2], first, outer.gradient(total, [VECTOR, RATE])


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "graph"])
def test_values_and_two_derivatives_equal_those_of_a_loop(steps, wrap):
    expected = in_python(steps)
    found = wrap(in_a_chain)(steps)
    for a, b in zip(tf.nest.flatten(found), tf.nest.flatten(expected)):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    others = tf.nest.flatten(in_python(steps + 1))
    assert all(
        np.any(np.abs(a - b) > 1e-6) for a, b in zip(others, tf.nest.flatten(expected))
    )


def test_unchanged_values_stay_the_same_tensor():
    @tf.function
    def run():
        chain = points(step, (VECTOR, tf.constant(1), RATE), RATE, MATRIX, steps=3)
        assert all(point[2] is chain[0][2] for point in chain)
        assert chain[1][0] is not chain[0][0]

    run()


def test_random_numbers_differ_from_step_to_step():
    def noisy(k, point, learned, fixed):
        return point + tf.random.uniform([])

    tf.random.set_seed(0)
    chain = tf.function(lambda w: points(noisy, w, (), (), steps=3))(tf.constant(0.0))
    assert len(set(np.diff(chain).tolist())) == 3


@pytest.mark.parametrize("steps", [1, 2])
def test_a_rule_whose_state_changes_its_form_is_refused(steps):
    class Lazy(SGD):
        def update(self, weights, gradients, state, **options):
            weights, _ = super().update(weights, gradients, (), **options)
            return weights, gradients

    wrapped = MAML(dense(), InnerLoop("mse", Lazy(0.1), steps=steps))
    with pytest.raises(ValueError, match=r"Lazy.update.*that `start` makes"):
        wrapped.compute_meta_gradients(regression())


def counted(steps, task_map="parallel"):
    loss = CountedMSE()
    inner = InnerLoop(loss, SGD(0.1), steps=steps)
    wrapped = MAML(dense(), inner, task_map=task_map)
    function = tf.function(wrapped.compute_meta_gradients)
    batch = tf.nest.map_structure(tf.constant, regression())
    size = len(nodes_of(function.get_concrete_function(batch).graph))
    return loss.calls, size


def test_more_inner_steps_hardly_take_longer_to_trace():
    (few, small), (many, large) = counted(2), counted(6)
    assert few == many
    assert large < 1.5 * small


def test_vectorised_steps_are_built_one_by_one():
    # Otherwise `tf.vectorized_map` would rewrite each call of a step, with all tensors
    # that its derivative could need.
    (few, _), (many, _) = counted(2, "vectorized"), counted(4, "vectorized")
    assert many == few + 2


def test_a_weight_that_the_support_loss_ignores_does_not_adapt():
    class Decaying(SGD):
        def update(self, weights, gradients, state, **options):
            return [0.5 * w - g for w, g in zip(weights, gradients)], state

    inputs = keras.Input([3])
    outputs = keras.layers.Dense(2, name="used")(inputs), keras.layers.Dense(1)(inputs)
    model = keras.Model(inputs, outputs)

    def first(y_true, y_pred):
        return tf.reduce_mean((y_true - y_pred[0]) ** 2)

    inner = InnerLoop(first, Decaying(0.1), steps=2)
    learner = MAML(model, inner).learner
    x, y = np.ones([4, 3]), np.ones([4, 2])
    last = inner.trajectory(learner, learner.weights(), learner.state(), x, y)[-1]
    for variable, before, after in zip(
        learner.variables, learner.weights(), last.weights
    ):
        assert (after is before or np.array_equal(before, after)) == (
            "used" not in variable.path
        )
