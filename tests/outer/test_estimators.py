"""Each meta-gradient against its own derivation."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    RATE,
    batch_normalised,
    dense,
    mse,
    plain_adapt,
    precision,
    regression,
    task_of,
)

from maml_keras import (
    MAML,
    SGD,
    Adam,
    Backprop,
    FirstOrder,
    Implicit,
    InnerLoop,
    MultiStep,
    Phases,
    Reptile,
    last_layer,
)
from maml_keras.outer.implicit import conjugate_gradients

pytestmark = pytest.mark.usefixtures("tasks_in_a_loop")

MAPS = ["sequential", "parallel", "vectorized"]


def wrapped(model, estimator, *, rule=None, steps=2, task_map="parallel", **inner):
    loop = InnerLoop("mse", rule or SGD(RATE), steps=steps, **inner)
    return MAML(model, loop, meta_gradient=estimator, task_map=task_map)


def gradients(model, batch):
    return [g.numpy() for g in model.compute_meta_gradients(batch)[1]]


def each_task(model, batch, at_end, *, steps=2):
    """The mean over tasks of `at_end(start, task, query_y)` at the adapted weights."""
    start = [v.numpy() for v in model.trainable_variables]
    found = []
    for index in range(len(batch[1])):
        task, query_y = task_of(batch, index)
        plain_adapt(model, task["support_x"], task["support_y"], steps=steps)
        found.append(at_end(start, task, query_y))
        for variable, value in zip(model.trainable_variables, start):
            variable.assign(value)
    return [np.mean(values, axis=0) for values in zip(*found)]


# First order -------------------------------------------------------------------------


@pytest.mark.parametrize("task_map", MAPS)
def test_first_order_is_the_query_gradient_at_the_adapted_weights(task_map):
    model, batch = dense(), regression()

    def query_gradient(start, task, query_y):
        with tf.GradientTape() as tape:
            loss = mse(query_y, model(task["query_x"]))
        return [g.numpy() for g in tape.gradient(loss, model.trainable_variables)]

    expected = each_task(model, batch, query_gradient)
    got = gradients(wrapped(model, FirstOrder(), task_map=task_map), batch)
    for a, b in zip(got, expected):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # float32
    exact = gradients(wrapped(model, Backprop()), batch)
    assert max(np.abs(a - b).max() for a, b in zip(got, exact)) > 1e-3


def test_first_order_equals_backprop_with_a_first_order_loop():
    model, batch = dense(), regression()
    one = gradients(wrapped(model, FirstOrder()), batch)
    other = gradients(wrapped(model, Backprop(), second_order=False), batch)
    for a, b in zip(one, other):
        np.testing.assert_array_equal(a, b)


# Reptile -----------------------------------------------------------------------------


@pytest.mark.parametrize("task_map", MAPS)
def test_reptile_is_the_path_of_the_inner_loop(task_map):
    model, batch = dense(), regression()

    def path(start, task, query_y):
        ends = [v.numpy() for v in model.trainable_variables]
        return [a - b for a, b in zip(start, ends)]

    expected = each_task(model, batch, path)
    got = gradients(wrapped(model, Reptile(), task_map=task_map), batch)
    for a, b in zip(got, expected):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)  # float32


def test_reptile_ignores_the_query_set():
    task, query_y = regression()
    model = wrapped(dense(), Reptile(), rule=Adam(0.01, beta_1=0.0))
    one = gradients(model, (task, query_y))
    for a, b in zip(one, gradients(model, (task, query_y + 1.0))):
        np.testing.assert_array_equal(a, b)


def test_reptile_moves_to_the_mean_of_the_adapted_weights():
    model, batch = dense(), regression()
    learner = wrapped(model, Reptile())

    def ends(start, task, query_y):
        return [v.numpy() for v in model.trainable_variables]

    expected = each_task(model, batch, ends)
    learner.compile(keras.optimizers.SGD(1.0))
    learner.train_on_batch(*batch)
    for variable, value in zip(model.trainable_variables, expected):
        np.testing.assert_allclose(variable, value, rtol=1e-4, atol=1e-6)  # float32


def test_reptile_moves_equally_far_under_a_scaled_loss():
    model, batch = dense(), regression()
    learner = wrapped(model, Reptile())

    def ends(start, task, query_y):
        return [v.numpy() for v in model.trainable_variables]

    expected = each_task(model, batch, ends)
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0))
    learner.compile(scaled)
    learner.train_on_batch(*batch)
    for variable, value in zip(model.trainable_variables, expected):
        np.testing.assert_allclose(variable, value, rtol=1e-4, atol=1e-6)  # float32


def test_reptile_leaves_weights_that_do_not_adapt():
    got = gradients(wrapped(dense(), Reptile(), adapt=last_layer()), regression())
    assert all(np.all(g == 0.0) for g in got[:2])
    assert all(np.any(g != 0.0) for g in got[2:])


@pytest.mark.parametrize(
    ("until", "phase"), [(1, Reptile()), (0, Backprop())], ids=["first", "second"]
)
def test_each_phase_is_scaled_by_its_own_rule_under_a_scaled_loss(until, phase):
    batch, moved = regression(), []
    phases = Phases([Reptile(), Backprop()], until=[1])
    for estimator, scaled in ((phase, False), (phases, True)):
        keras.utils.set_random_seed(0)
        learner = wrapped(dense(), estimator)
        optimizer = keras.optimizers.SGD(1.0)
        learner.compile(
            keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer
        )
        if not until:  # The first phase is over.
            learner.meta_steps.assign(1)
        learner.train_on_batch(*batch)
        moved.append([v.numpy() for v in learner.model.variables])
    for plain, in_phases in zip(*moved):
        np.testing.assert_allclose(in_phases, plain, rtol=1e-4, atol=1e-6)  # float32


# Implicit ----------------------------------------------------------------------------

LAMBDA = 2.0


def linear():
    """A linear model: its support loss is quadratic in the weights."""
    return keras.Sequential([keras.Input([3]), keras.layers.Dense(2, use_bias=False)])


@pytest.fixture
def float64():
    with precision("float64"):
        yield


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
    learner = wrapped(
        model, Implicit(cg_steps=3), steps=100, task_map=task_map, proximal=LAMBDA
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
    # steps of conjugate gradients are exact; 100 inner steps leave 1e-9.
    np.testing.assert_allclose(got, np.mean(each, axis=0), rtol=1e-7, atol=1e-10)


@pytest.mark.usefixtures("float64")
def test_implicit_approaches_backprop_as_the_inner_problem_is_solved():
    model, batch = dense(), regression()

    def distance(steps):
        backprop = gradients(
            wrapped(model, Backprop(), steps=steps, proximal=LAMBDA), batch
        )
        implicit = gradients(
            wrapped(model, Implicit(20), steps=steps, proximal=LAMBDA), batch
        )
        return max(np.abs(a - b).max() for a, b in zip(backprop, implicit))

    far, near, nearest = distance(2), distance(20), distance(100)
    assert far > 10 * near
    assert near > 10 * nearest
    assert nearest < 1e-6


@pytest.mark.usefixtures("float64")
def test_implicit_gradient_of_weights_that_do_not_adapt():
    # Compared with Backprop, which differentiates through all steps.
    model, batch = dense(), regression()
    options = {"steps": 200, "proximal": LAMBDA, "adapt": last_layer()}
    implicit = gradients(wrapped(model, Implicit(20), **options), batch)
    backprop = gradients(wrapped(model, Backprop(), **options), batch)
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
        gradients(wrapped(m, Implicit(3), proximal=LAMBDA), regression())
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
    learner = wrapped(model, Backprop(), steps=3, proximal=LAMBDA)
    np.testing.assert_allclose(learner(batch[0])[0], expected, rtol=1e-4, atol=1e-6)


def test_implicit_needs_a_proximal_inner_problem():
    with pytest.raises(ValueError, match="proximal=lambda.*proximal=0.0"):
        wrapped(dense(), Implicit())
    with pytest.raises(ValueError, match="`cg_steps` must be positive.*0"):
        Implicit(0)
    with pytest.raises(ValueError, match="`proximal` must be.*-1"):
        InnerLoop("mse", SGD(0.1), proximal=-1.0)


# Several steps -----------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_weights_of_the_steps_follow_the_papers_schedule(steps):
    objective = MultiStep(epochs=10, steps_per_epoch=500)
    others = np.full(steps - 1, 1.0 / steps)
    for epoch in range(14):
        got = objective.weights(tf.constant(epoch * 500 + 499), steps=steps).numpy()
        np.testing.assert_allclose(got[:-1], others, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(got.sum(), 1.0, rtol=1e-6)
        # Each epoch takes 1 / (steps * epochs), down to 0.03 / steps.
        others = np.maximum(others - 1.0 / steps / 10, 0.03 / steps)


def test_loss_of_several_steps_is_their_weighted_sum():
    model, batch = dense(), regression()
    losses = [
        float(wrapped(model, Backprop(), steps=k).compute_meta_gradients(batch)[0])
        for k in (1, 2, 3)
    ]
    objective = MultiStep(epochs=2, steps_per_epoch=10)
    learner = wrapped(model, Backprop(objective), steps=3)
    for seen, weights in [(0, [1 / 3] * 3), (10, [1 / 6, 1 / 6, 2 / 3])]:
        learner.meta_steps.assign(seen)
        got, _ = learner.compute_meta_gradients(batch)
        np.testing.assert_allclose(got, np.dot(weights, losses), rtol=1e-5)


def test_first_order_of_several_steps_is_a_sum_of_query_gradients():
    model, batch = dense(), regression()

    def query_gradient(start, task, query_y):
        with tf.GradientTape() as tape:
            loss = mse(query_y, model(task["query_x"]))
        return [g.numpy() for g in tape.gradient(loss, model.trainable_variables)]

    by_step = [each_task(model, batch, query_gradient, steps=k) for k in (1, 2, 3)]
    weights = [1 / 6, 1 / 6, 2 / 3]
    expected = [sum(w * g for w, g in zip(weights, parts)) for parts in zip(*by_step)]
    objective = MultiStep(epochs=2, steps_per_epoch=10)
    learner = wrapped(model, FirstOrder(objective), steps=3)
    learner.meta_steps.assign(10)
    for a, b in zip(gradients(learner, batch), expected):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # float32


def test_training_reports_the_last_steps_predictions():
    # The metric is the error after adaptation, not the weighted loss of all steps.
    model, (task, query_y) = dense(), regression()
    objective = MultiStep(epochs=2, steps_per_epoch=10)
    learner = wrapped(model, Backprop(objective), steps=3)
    learner.compile(keras.optimizers.SGD(0.0), metrics=["mse"])
    loss, error = learner.train_on_batch(task, query_y)
    adapted = wrapped(model, Backprop(), steps=3)(task)
    np.testing.assert_allclose(error, mse(query_y, adapted), rtol=1e-5)  # float32
    assert abs(loss - error) > 1e-3


def test_each_query_pass_knows_its_step(monkeypatch):
    # Per-step batch norm needs the step: the query pass at phi_k belongs to step k.
    learner = wrapped(dense(), Backprop(MultiStep(epochs=2, steps_per_epoch=10)))
    seen, query = [], learner.learner.query

    def noted(*args, step, **kwargs):
        seen.append(step)
        return query(*args, step=step, **kwargs)

    monkeypatch.setattr(learner.learner, "query", noted)
    learner.compute_meta_gradients(regression(tasks=1))
    assert seen == [1, 2]


def test_wrong_schedules_are_refused():
    with pytest.raises(ValueError, match="must be positive.*epochs=0"):
        MultiStep(epochs=0, steps_per_epoch=5)
    with pytest.raises(ValueError, match="`until` must be rising.*until=\\[3, 3\\]"):
        Phases([Backprop()] * 3, until=[3, 3])
    with pytest.raises(ValueError, match="2 phases and until=\\[\\]"):
        Phases([Backprop()] * 2, until=[])


# Phases ------------------------------------------------------------------------------


@pytest.mark.parametrize("task_map", MAPS)
@pytest.mark.parametrize(
    "compiled", [pytest.param(False, marks=pytest.mark.slow), True]
)
def test_each_phase_estimates_during_its_own_meta_steps(task_map, compiled):
    model, batch = dense(), regression()
    phases = [Reptile(), FirstOrder(), Backprop()]
    learner = wrapped(model, Phases(phases, until=[2, 5]), task_map=task_map)

    def run():
        return learner.compute_meta_gradients(batch)[1]

    run = tf.function(run, autograph=False) if compiled else run
    for step, phase in [(0, 0), (1, 0), (2, 1), (4, 1), (5, 2), (99, 2)]:
        learner.meta_steps.assign(step)
        expected = gradients(wrapped(model, phases[phase]), batch)
        for a, b in zip(run(), expected):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # float32


def test_phases_change_while_fit_runs_in_one_program():
    batch = regression()

    def trained(estimator, jit_compile):
        keras.utils.set_random_seed(0)
        learner = wrapped(dense(), estimator, task_map="vectorized")
        learner.compile(
            keras.optimizers.SGD(0.1), jit_compile=jit_compile, steps_per_execution=4
        )
        data = tf.data.Dataset.from_tensors(batch).repeat()
        learner.fit(data, steps_per_epoch=4, verbose=0)
        return learner.model.get_weights()

    phases = Phases([FirstOrder(), Backprop()], until=[2])
    one, other = trained(phases, True), trained(phases, False)
    for a, b in zip(one, other):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # float32
    always = trained(Backprop(), False)
    assert max(np.abs(a - b).max() for a, b in zip(always, other)) > 1e-5


ESTIMATORS = [
    FirstOrder(MultiStep(epochs=3, steps_per_epoch=4)),
    Reptile(),
    Implicit(7),
    Phases([FirstOrder(), Backprop()], until=[5]),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_config_round_trip(estimator):
    config = keras.saving.serialize_keras_object(estimator)
    revived = keras.saving.deserialize_keras_object(config)
    assert type(revived) is type(estimator)
    assert keras.saving.serialize_keras_object(revived) == config


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_moving_statistics_move_with_every_estimator(estimator):
    model = batch_normalised()
    learner = wrapped(model, estimator, proximal=LAMBDA)
    learner.compile("sgd")
    before = model.layers[1].moving_mean.numpy()
    learner.train_on_batch(*regression())
    assert np.abs(model.layers[1].moving_mean.numpy() - before).max() > 1e-4
