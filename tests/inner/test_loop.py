"""The inner loop compared with adaptation in plain Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    RATE,
    Momentum,
    classification,
    dense,
    family,
    plain_adapt,
    regression,
    regularised,
    task_of,
    with_dropout,
)

from maml_keras import SGD, Adam, InnerLoop, PrototypicalHead, last_layer
from maml_keras.learner.learner import Learner


def started(model, batch):
    task, _ = task_of(batch, 0)
    learner = Learner(model)
    support = task["support_x"], task["support_y"]
    return learner, (learner.weights(), learner.state(), *support)


@pytest.mark.parametrize("name", ["dense", "batch_norm", "embedding", "regularised"])
@pytest.mark.parametrize("steps", [1, 3])
def test_trajectory_ends_at_the_weights_of_plain_keras(name, steps):
    model, batch = family(name)
    learner, arguments = started(model, batch)
    loop = InnerLoop("mse", SGD(RATE), steps=steps)
    points = loop.trajectory(learner, *arguments, training=True)
    assert len(points) == steps + 1
    plain_adapt(model, *arguments[2:], steps=steps)
    for got, variable in zip(points[-1].weights, model.trainable_variables):
        # float32, the same sums in another order.
        np.testing.assert_allclose(got, variable, rtol=1e-4, atol=1e-6)


def test_trajectory_starts_at_the_initialisation():
    model = dense()
    learner, arguments = started(model, regression())
    first = InnerLoop("mse", SGD(RATE)).trajectory(learner, *arguments)[0]
    for got, variable in zip(first.weights, model.trainable_variables):
        np.testing.assert_array_equal(got, variable)


def test_steps_of_the_call_override_the_loops():
    learner, arguments = started(dense(), regression())
    loop = InnerLoop("mse", SGD(RATE), steps=1)
    assert len(loop.trajectory(learner, *arguments, steps=4)) == 5


@pytest.mark.parametrize("rule", [SGD(RATE), Momentum(RATE), Adam(RATE)])
def test_loop_in_the_graph_ends_at_the_weights_of_the_trajectory(rule):
    learner, arguments = started(dense(), regression())
    loop = InnerLoop("mse", rule)
    unrolled = loop.trajectory(learner, *arguments, steps=3)[-1]
    looped = loop.adapt(learner, *arguments, steps=tf.constant(3))
    for a, b in zip(unrolled.weights, looped.weights):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)  # float32


SCCE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.parametrize("start", [None, PrototypicalHead()])
def test_the_loop_in_the_graph_drops_nothing_out(start):
    inputs = keras.Input([3])
    h = keras.layers.Dropout(0.5, seed=1)(keras.layers.Dense(4)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(h))
    learner, arguments = started(model, classification())
    loop = InnerLoop(SCCE, SGD(RATE), start=start)
    unrolled = loop.trajectory(learner, *arguments, steps=2)[-1]
    looped = loop.adapt(learner, *arguments, steps=tf.constant(2))
    for a, b in zip(unrolled.weights, looped.weights):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)  # float32


def test_learning_rate_can_be_given_at_run_time():
    learner, arguments = started(dense(), regression())
    other = InnerLoop("mse", SGD(RATE)).adapt(
        learner, *arguments, steps=2, learning_rate=tf.constant(0.3)
    )
    expected = InnerLoop("mse", SGD(0.3)).adapt(learner, *arguments, steps=2)
    for a, b in zip(other.weights, expected.weights):
        np.testing.assert_allclose(a, b, rtol=1e-6)  # float32


def test_only_chosen_weights_move():
    model = dense()
    learner, arguments = started(model, regression())
    loop = InnerLoop("mse", SGD(RATE), adapt=last_layer())
    last = loop.trajectory(learner, *arguments)[-1]
    moved = [
        bool(np.any(new.numpy() != v.numpy()))
        for new, v in zip(last.weights, model.trainable_variables)
    ]
    assert moved == [False, False, True, True]


def test_regularisers_count_in_the_inner_loss():
    # The data term is zero, so only the penalty changes the weights.
    model = regularised()
    learner, arguments = started(model, regression())
    loop = InnerLoop(lambda y_true, y_pred: 0.0 * y_pred, SGD(RATE))
    last = loop.trajectory(learner, *arguments)[-1]
    kernel = model.layers[1].kernel.numpy()
    expected = kernel * (1 - 2 * 0.1 * RATE)  # d (0.1 w^2) / dw
    np.testing.assert_allclose(last.weights[2], expected, rtol=1e-5)  # float32


def test_dropout_draws_a_fresh_mask_at_each_step_in_training_only():
    learner, arguments = started(with_dropout(), regression())
    loop = InnerLoop("mse", SGD(RATE), steps=2)
    trained = loop.trajectory(learner, *arguments, training=True)
    seeds = [point.state[0].numpy().tolist() for point in trained]
    assert len({str(seed) for seed in seeds}) == 3
    again = loop.trajectory(learner, *arguments, training=False)
    assert len({str(point.state[0].numpy().tolist()) for point in again}) == 1


def test_weight_without_influence_does_not_move():
    model = dense()
    learner, arguments = started(model, regression())
    loop = InnerLoop(lambda y_true, y_pred: tf.zeros_like(y_pred), SGD(RATE))
    last = loop.trajectory(learner, *arguments)[-1]
    for new, variable in zip(last.weights, model.trainable_variables):
        np.testing.assert_array_equal(new, variable)


def test_config_round_trip():
    loop = InnerLoop(
        keras.losses.Huber(delta=0.5),
        Momentum(0.3, decay=0.5),
        steps=4,
        adapt=last_layer(),
        second_order=False,
    )
    revived = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(loop)
    )
    assert revived.get_config() == loop.get_config()
    assert (revived.steps, revived.second_order) == (4, False)
    assert repr(revived.adapt_selector) == "LastLayer()"
    assert (revived.rule.learning_rate, revived.rule.decay) == (0.3, 0.5)


@pytest.mark.parametrize("steps", [-1, 1.5, True])
def test_impossible_steps_are_refused(steps):
    with pytest.raises(ValueError, match=f"`steps` must be an integer.*{steps}"):
        InnerLoop("mse", SGD(), steps=steps)


def test_keras_optimizer_as_rule_is_refused():
    with pytest.raises(
        TypeError, match=r"must be an UpdateRule.*maml_keras.SGD\(0.01\).*`compile`"
    ):
        InnerLoop("mse", keras.optimizers.SGD())
    with pytest.raises(TypeError, match=r"must be an UpdateRule.*type float\.$"):
        InnerLoop("mse", 0.01)


def test_selector_of_another_kind_is_refused():
    with pytest.raises(TypeError, match="must be a selector.*'head'"):
        InnerLoop("mse", SGD(), adapt="head")


@pytest.mark.parametrize("steps", [2, np.int64(2), 2.0])
def test_steps_are_any_whole_number(steps):
    assert InnerLoop("mse", SGD(0.1), steps=steps).steps == 2
