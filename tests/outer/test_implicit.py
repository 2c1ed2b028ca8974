"""The implicit gradient against closed forms and `Backprop`."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    RATE,
    dense,
    estimating,
    gradients,
    mse,
    regression,
    task_of,
)

from maml_keras import (
    SGD,
    Backprop,
    Implicit,
    InnerLoop,
    last_layer,
)
from maml_keras.outer.implicit import conjugate_gradients

# "sequential" is the same loop as "parallel": test_task_maps.py compares them.
MAPS = ["parallel", "vectorized"]


LAMBDA = 2.0


def linear():
    """A linear model: its support loss is quadratic in the weights."""
    return keras.Sequential([keras.Input([3]), keras.layers.Dense(2, use_bias=False)])


def test_conjugate_gradients_need_one_step_for_each_unknown():
    generator = np.random.default_rng(0)
    root = generator.normal(size=[5, 5])
    matrix = tf.constant(root @ root.T + np.eye(5))
    target = tf.constant(generator.normal(size=[5]))
    found = conjugate_gradients(
        lambda x: [tf.linalg.matvec(matrix, x[0])], [target], steps=5
    )
    np.testing.assert_allclose(
        found[0], np.linalg.solve(matrix, target), rtol=1e-8, atol=1e-10
    )


def test_conjugate_gradients_of_a_zero_target_stay_at_zero():
    found = conjugate_gradients(lambda x: x, [tf.zeros([3])], steps=4)
    np.testing.assert_array_equal(found[0], np.zeros(3))


@pytest.mark.parametrize(
    ("eigenvalues", "target", "expected"),
    [
        # The first direction has negative curvature: the solver returns the target.
        ([-1.0, 0.5], [1.0, 1.0], [1.0, 1.0]),
        # By hand: d = t, length 5 / 3.75; then d . A d = -0.74, negative curvature.
        ([1.0, -0.25], [2.0, 1.0], [8.0 / 3.0, 4.0 / 3.0]),
        ([1.0, 4.0], [1.0, 2.0], [1.0, 0.5]),
    ],
)
def test_conjugate_gradients_stop_before_a_saddle(eigenvalues, target, expected):
    target = tf.constant(target)
    found = conjugate_gradients(lambda x: [x[0] * eigenvalues], [target], steps=2)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert float(tf.reduce_sum(found * target)) > 0.0


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("task_map", MAPS)
def test_implicit_gradient_of_a_quadratic_is_its_closed_form(task_map):
    # Support loss |X w - y|^2 / (n c): Hessian H = 2 X'X / (n c) for each output.
    # phi = (H + lambda)^-1 (b + lambda theta)
    # d L / d theta = lambda (H + lambda)^-1 d L / d phi
    model, batch = linear(), regression()
    learner = estimating(
        model,
        Implicit(cg_steps=3),
        rule=SGD(0.3),
        steps=30,
        task_map=task_map,
        proximal=LAMBDA,
    )
    got = gradients(learner, batch)[0]
    theta = model.trainable_variables[0].numpy()
    each = []
    for index in range(len(batch[1])):
        task, query_y = task_of(batch, index)
        x, y = task["support_x"].numpy(), task["support_y"].numpy()
        hessian = 2.0 * x.T @ x / y.size
        system = hessian + LAMBDA * np.eye(3)
        phi = np.linalg.solve(system, 2.0 * x.T @ y / y.size + LAMBDA * theta)
        query_x, query_y = task["query_x"].numpy(), query_y.numpy()
        query = 2.0 * query_x.T @ (query_x @ phi - query_y) / query_y.size
        each.append(LAMBDA * np.linalg.solve(system, query))
    # Three unknowns for each of two outputs with the same three eigenvalues: three
    # steps of conjugate gradients are exact; each of the 30 inner steps leaves at most
    # 0.4 of the distance to the solution.
    np.testing.assert_allclose(got, np.mean(each, axis=0), rtol=1e-7, atol=1e-10)


@pytest.mark.usefixtures("float64")
def test_implicit_approaches_backprop_as_the_inner_problem_is_solved():
    model, batch = dense(), regression(tasks=1)

    def distance(steps):
        options = {"rule": SGD(0.3), "steps": steps, "proximal": LAMBDA}
        backprop = gradients(estimating(model, Backprop(), **options), batch)
        implicit = gradients(estimating(model, Implicit(20), **options), batch)
        return max(np.abs(a - b).max() for a, b in zip(backprop, implicit))

    far, near, nearest = distance(2), distance(14), distance(40)
    assert far > 10 * near
    assert near > 10 * nearest
    assert nearest < 1e-6


@pytest.mark.usefixtures("float64")
def test_implicit_gradient_of_weights_that_do_not_adapt():
    # Compared with Backprop, which differentiates through all steps.
    model, batch = dense(), regression(tasks=1)
    options = {"steps": 30, "proximal": LAMBDA, "adapt": last_layer()}
    options["rule"] = SGD(0.3)
    implicit = gradients(estimating(model, Implicit(20), **options), batch)
    backprop = gradients(estimating(model, Backprop(), **options), batch)
    for a, b in zip(implicit, backprop):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


def test_implicit_takes_layers_of_several_float_types():
    def model(head):
        body = keras.layers.Dense(4, activation="tanh", dtype="float64")
        head = keras.layers.Dense(2, dtype=head)
        return keras.Sequential([keras.Input([3]), body, head])

    mixed, wide = model("float32"), model("float64")
    wide.set_weights(mixed.get_weights())
    found, expected = (
        gradients(estimating(m, Implicit(3), proximal=LAMBDA), regression())
        for m in (mixed, wide)
    )
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # float32


def test_proximal_step_pulls_back_to_the_initialisation():
    # By hand: g + lambda (phi - theta), zero at the first step.
    model, batch = linear(), regression(tasks=1)
    task, _ = task_of(batch, 0)
    theta = phi = model.trainable_variables[0].numpy()
    for _ in range(3):
        with tf.GradientTape() as tape:
            loss = mse(task["support_y"], model(task["support_x"]))
        g = tape.gradient(loss, model.trainable_variables)[0].numpy()
        phi = phi - RATE * (g + LAMBDA * (phi - theta))
        model.trainable_variables[0].assign(phi)
    expected = model(task["query_x"]).numpy()
    model.trainable_variables[0].assign(theta)
    learner = estimating(model, Backprop(), steps=3, proximal=LAMBDA)
    np.testing.assert_allclose(learner(batch[0])[0], expected, rtol=1e-4, atol=1e-6)


def test_implicit_needs_a_proximal_inner_problem():
    with pytest.raises(ValueError, match="proximal=lambda.*proximal=0.0"):
        estimating(dense(), Implicit())
    with pytest.raises(ValueError, match="`cg_steps` must be positive.*0"):
        Implicit(0)
    with pytest.raises(ValueError, match="`proximal` must be.*-1"):
        InnerLoop("mse", SGD(0.1), proximal=-1.0)
