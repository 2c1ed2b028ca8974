"""Update rules: how one inner step changes the weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import RATE, Momentum, dense, regression

from maml_keras import MAML, SGD, Adam, InnerLoop, check_meta_gradient
from maml_keras.inner import rules

pytestmark = pytest.mark.usefixtures("tasks_in_a_loop", "without_graphs")

RULES = [SGD, Momentum, rules.Momentum, Adam]


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
    assert float(updated) == 1.0 - 0.1  # With 0.1 in float64, not rounded to float32.


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_sgd_keeps_the_weights_type(dtype):
    one = tf.ones([2], dtype)
    (updated,), _ = SGD(0.1).update([one], [tf.ones([2])], (), step=0)
    assert updated.dtype == dtype


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_adam_moves_weights_of_half_precision(dtype):
    # In half precision 0.999 is 1, and the square of a small gradient is 0.
    weights, gradients = [tf.ones([2], dtype)], [tf.constant([1e-4, 2.0], dtype)]
    rule = Adam(0.1, beta_1=0.0)
    (updated,), state = rule.update(weights, gradients, rule.start(weights), step=0)
    assert updated.dtype == dtype
    np.testing.assert_allclose(tf.cast(updated, tf.float32), 0.9, rtol=1e-2)
    assert {moment.dtype for moment in tf.nest.flatten(state)} == {tf.float32}


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
def test_every_map_gives_the_same(rule):
    model, batch = dense(), regression()

    def meta_gradients(name):
        wrapped = MAML(model, InnerLoop("mse", rule(RATE), steps=2), task_map=name)
        return wrapped.compute_meta_gradients(batch)[1]

    for a, b in zip(meta_gradients("parallel"), meta_gradients("vectorized")):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # float32


@pytest.mark.graphs
def test_learned_rate_is_meta_trained_saved_and_exact(tmp_path):
    model = MAML(dense(), InnerLoop("mse", Momentum(RATE), steps=2))
    assert len(model.trainable_variables) == 5
    checks = check_meta_gradient(model, regression())
    assert checks[-1].path.endswith("rate")
    # The rate is float32 also in the twin, so the differences are less exact.
    assert all(c.error < 1e-3 for c in checks)
    model.compile(keras.optimizers.SGD(0.1))
    model.train_on_batch(*regression())
    assert abs(float(model.rule.rate) - RATE) > 1e-4
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.rule.rate, model.rule.rate)


# Against Keras's optimizers ----------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "optimizer"),
    [
        (rules.Momentum(0.1, 0.7), keras.optimizers.SGD(0.1, 0.7)),
        (
            rules.Momentum(0.1, 0.7, nesterov=True),
            keras.optimizers.SGD(0.1, 0.7, nesterov=True),
        ),
        (Adam(0.1), keras.optimizers.Adam(0.1)),
        (Adam(0.1, beta_1=0.0), keras.optimizers.Adam(0.1, beta_1=0.0)),
        (
            Adam(0.1, 0.8, 0.9),
            keras.optimizers.Adam(0.1, beta_1=0.8, beta_2=0.9),
        ),
    ],
    ids=["momentum", "nesterov", "adam", "reptile_adam", "adam_numbers"],
)
def test_steps_equal_the_steps_of_the_keras_optimizer(rule, optimizer):
    generator = np.random.default_rng(0)
    start = generator.normal(size=[3, 2]).astype("float32")
    variable = keras.Variable(start)
    optimizer.build([variable])
    weights, state = [tf.constant(start)], rule.start([tf.constant(start)])
    for step in range(4):
        gradient = tf.constant(generator.normal(size=[3, 2]).astype("float32"))
        optimizer.apply([gradient], [variable])
        weights, state = rule.update(weights, [gradient], state, step=step)
    # float32; Keras applies both corrections of Adam to the rate, which changes the
    # effect of epsilon.
    np.testing.assert_allclose(weights[0], variable.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("gradient", [0.0, 1e-3, -2.0])
def test_derivative_of_adam_is_its_formula_also_at_zero(gradient):
    # One step: w - rate g / (|g| + eps), whose slope is -rate eps / (|g| + eps)^2.
    rule, epsilon = Adam(0.1, epsilon=1e-2), 1e-2
    g = tf.constant(gradient, tf.float64)
    weight = [tf.constant(1.0, tf.float64)]
    with tf.GradientTape() as tape:
        tape.watch(g)
        (updated,), _ = rule.update(weight, [g], rule.start(weight), step=0)
    slope = tape.gradient(updated, g)
    expected = -0.1 * epsilon / (abs(gradient) + epsilon) ** 2
    # In float64, beta_2 is rounded like a Python float.
    np.testing.assert_allclose(slope, expected, rtol=1e-9)


@pytest.mark.graphs
@pytest.mark.parametrize("rule", [rules.Momentum(0.1), Adam(0.01, epsilon=1e-2)])
def test_meta_gradient_passes_through_the_state_of_a_rule(rule):
    # Three steps, so that the state that is carried between steps matters.
    model = MAML(dense(), InnerLoop("mse", rule, steps=3))
    assert all(check.decided for check in check_meta_gradient(model, regression()))


def test_each_task_has_its_own_rule_state():
    # With a state shared over tasks, the order of tasks would matter.
    task, _ = regression(tasks=3)
    model = MAML(dense(), InnerLoop("mse", Adam(0.05), steps=3))
    swapped = {k: v[::-1] for k, v in task.items()}
    np.testing.assert_allclose(
        model(task), model(swapped)[::-1], rtol=1e-5, atol=1e-6
    )  # float32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rules.Momentum(0.1, 1.0), "`momentum` must be in.*1.0"),
        (lambda: Adam(0.1, beta_1=-0.1), "`beta_1` must be in.*-0.1"),
        (lambda: Adam(0.1, epsilon=0.0), "`epsilon` must be positive.*0.0"),
    ],
)
def test_numbers_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_rate_of_nan_does_not_override_the_rule():
    one = tf.ones([1])
    (updated,), _ = SGD(0.1).update([one], [one], (), step=0, learning_rate=np.nan)
    np.testing.assert_allclose(updated, [0.9], rtol=1e-6)
