"""Meta-gradients against closed forms and finite differences in float64."""

import contextlib
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    FAMILIES,
    RATE,
    batch_normalised,
    dense,
    difference,
    estimating,
    family,
    gradients,
    maml,
    mse,
    plain_adapt,
    regression,
    task_of,
    tensors,
)

from maml_keras import (
    MAML,
    SGD,
    Backprop,
    FirstOrder,
    Implicit,
    InnerLoop,
    MetaGradient,
    MetaGradientError,
    MultiStep,
    Phases,
    Reptile,
    check_meta_gradient,
)
from maml_keras.learner import learner
from maml_keras.outer.meta_step import mean_loss

# A parabola ------------------------------------------------------------------------

CURVATURE = 2.0


def parabola(y_true, y_pred):
    return 0.5 * CURVATURE * tf.square(y_pred - y_true)


def scalar_model(start):
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1, use_bias=False)])
    model.layers[0].kernel.assign([[start]])
    return model


def targets(support, query):
    """Tasks whose only input is 1, so the prediction equals the weight."""
    support, query = np.reshape(support, [-1, 1, 1]), np.reshape(query, [-1, 1, 1])
    ones = np.ones_like(support)
    return {"support_x": ones, "support_y": support, "query_x": ones}, query


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("task_map", ["parallel", "vectorized"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_gradient_of_parabola_is_closed_form(steps, task_map):
    # L(w) = a/2 w^2  =>  dL(w_K)/dw_0 = a w_0 (1 - rate a)^(2K)
    model = maml(scalar_model(3.0), loss=parabola, steps=steps, task_map=task_map)
    loss, (gradient,) = model.compute_meta_gradients(targets([0.0], [0.0]))
    shrink = 1 - RATE * CURVATURE
    # float64 with a handful of operations.
    np.testing.assert_allclose(gradient, [[6.0 * shrink ** (2 * steps)]], rtol=1e-12)
    np.testing.assert_allclose(loss, 9.0 * shrink ** (2 * steps), rtol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_gradient_is_mean_of_tasks_closed_forms(steps):
    # w_K - s = (w_0 - s) (1 - rate a)^K;  dL/dw_0 = a (w_K - q) (1 - rate a)^K
    support, query = np.array([1.0, -2.0, 4.0]), np.array([0.5, 3.0, -1.0])
    model = maml(scalar_model(3.0), loss=parabola, steps=steps)
    loss, (gradient,) = model.compute_meta_gradients(targets(support, query))
    shrink = (1 - RATE * CURVATURE) ** steps
    adapted = support + (3.0 - support) * shrink
    each = CURVATURE * (adapted - query) * shrink
    np.testing.assert_allclose(gradient, [[each.mean()]], rtol=1e-12)
    np.testing.assert_allclose(loss, np.square(adapted - query).mean(), rtol=1e-12)


# Layer families --------------------------------------------------------------------


def compiled(model, batch, *, xla=False):
    @tf.function(autograph=False, jit_compile=xla)
    def gradients(batch):
        return model.compute_meta_gradients(batch, seed=tf.constant([0, 1]))[1]

    return gradients(tensors(batch))


MODES = {
    "eager": lambda model, batch: model.compute_meta_gradients(batch)[1],
    "graph": compiled,
    "xla": functools.partial(compiled, xla=True),
}


def assert_matches_differences(name, *, steps, task_map, mode, tasks=2):
    model, batch = family(name)
    batch = tf.nest.map_structure(lambda a: a[:tasks], batch)
    got = MODES[mode](maml(model, steps=steps, task_map=task_map), batch)
    generator = np.random.default_rng(0)
    # An error in any number of the gradient shows in a random direction of them all.
    shapes = [v.shape for v in model.trainable_variables]
    directions = [[generator.normal(size=s) for s in shapes] for _ in range(2)]
    along = [sum(np.sum(g * d) for g, d in zip(got, ds)) for ds in directions]
    numeric = [difference(model, batch, ds, steps=steps) for ds in directions]
    # Central differences at 1e-6 leave up to 1e-8 of truncation and 1e-9 of rounding.
    np.testing.assert_allclose(
        along, numeric, rtol=1e-6, atol=1e-6 * np.abs(numeric).max()
    )


PLAIN = [name for name, kind in FAMILIES.items() if not kind.random]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", PLAIN)
def test_family_matches_plain_keras_differences(name):
    # One task; the next test and the closed forms above take the mean over tasks.
    steps = 1 if name in ("lstm", "gru") else 2
    how = {"task_map": "sequential", "mode": "eager"}
    assert_matches_differences(name, steps=steps, tasks=1, **how)


@pytest.mark.optimized
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("name", "steps", "task_map", "mode"),
    [
        ("dense", 5, "parallel", "graph"),
        ("conv_batch_norm", 1, "parallel", "graph"),
        ("batch_norm", 2, "vectorized", "graph"),
        ("embedding", 2, "vectorized", "graph"),
        ("dense", 2, "vectorized", "xla"),
        ("group_norm", 1, "vectorized", "xla"),
    ],
)
def test_maps_and_compilers_match_plain_keras_differences(name, steps, task_map, mode):
    assert_matches_differences(name, steps=steps, task_map=task_map, mode=mode)


def product():
    for name in PLAIN:
        ways = [("sequential", "eager"), ("sequential", "graph"), ("parallel", "graph")]
        # XLA takes minutes on a CPU to compile families that do not vectorise.
        if FAMILIES[name].vectorizes:
            ways += [("vectorized", "graph")]
            # XLA cannot compile the second derivative of Concatenate: an error.
            ways += [("vectorized", "xla")] if name != "multi_input" else []
        for steps in (1, 2, 5):
            for way in ways:
                yield (name, steps, *way)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "steps", "task_map", "mode"), list(product()))
def test_every_combination_matches_plain_keras_differences(name, steps, task_map, mode):
    assert_matches_differences(name, steps=steps, task_map=task_map, mode=mode)


def test_dropout_with_fixed_seed_matches_differences():
    model, batch = family("dropout")
    checks = check_meta_gradient(maml(model, steps=2), batch)
    assert len(checks) == 4
    assert all(check.decided for check in checks)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("steps", [1, 2])
def test_every_family_passes_the_shipped_check(name, steps):
    model, batch = family(name)
    checks = check_meta_gradient(maml(model, steps=steps), batch)
    assert [c.path for c in checks] == [v.path for v in model.trainable_variables]
    assert all(check.decided for check in checks)


# Normalisation ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "layer_norm",
        pytest.param("group_norm", marks=pytest.mark.slow),
        pytest.param("own_norm", marks=pytest.mark.slow),
    ],
)
def test_keras_own_moments_fail_the_check(monkeypatch, name):
    # A layer norm with a written-out derivative does not use `tf.nn.moments`.
    for scope in ("exact_moments", "written_out"):
        monkeypatch.setattr(learner, scope, contextlib.nullcontext)
    model, batch = family(name)
    with pytest.raises(
        MetaGradientError, match=r"dense\w*/kernel.*relative error"
    ) as e:
        check_meta_gradient(maml(model, steps=2), batch)
    errors = [
        float(part.split(")")[0]) for part in str(e.value).split("relative error ")[1:]
    ]
    # Documented as 0.03 to 0.2 over a whole model; single directions scatter around.
    assert 0.02 < max(errors) < 2.0


# First order -----------------------------------------------------------------------


def first_order_by_hand(model, batch, steps):
    """The mean over tasks of the query gradient at plainly adapted weights."""
    start = [v.numpy() for v in model.trainable_variables]
    each = []
    for index in range(len(batch[1])):
        task, query_y = task_of(batch, index)
        plain_adapt(model, task["support_x"], task["support_y"], steps=steps)
        with tf.GradientTape() as tape:
            loss = mse(query_y, model(task["query_x"], training=True))
        each.append(tape.gradient(loss, model.trainable_variables))
        for variable, value in zip(model.trainable_variables, start):
            variable.assign(value)
    return [np.mean(gradients, axis=0) for gradients in zip(*each)]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "steps"), [("dense", 3), ("batch_norm", 1)])
def test_first_order_is_query_gradient_at_adapted_weights(name, steps):
    model, batch = family(name)
    got = maml(model, steps=steps, second_order=False).compute_meta_gradients(batch)[1]
    for gradient, expected in zip(got, first_order_by_hand(model, batch, steps)):
        # float64, the same sums in another order.
        np.testing.assert_allclose(gradient, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2])
def test_second_order_differs_from_first_order(steps):
    model, batch = family("dense")
    second = maml(model, steps=steps).compute_meta_gradients(batch)[1]
    first = maml(model, steps=steps, second_order=False).compute_meta_gradients(batch)[
        1
    ]
    for a, b in zip(first, second):
        assert np.linalg.norm(a - b) > 0.01 * np.linalg.norm(b)


@pytest.mark.parametrize("kwargs", [{"steps": 0}, {"rate": 0.0, "steps": 3}])
def test_without_adaptation_the_meta_gradient_is_the_query_gradient(kwargs):
    model, batch = family("dense")
    got = maml(model, **kwargs).compute_meta_gradients(batch)[1]
    for gradient, expected in zip(got, first_order_by_hand(model, batch, steps=0)):
        # float32, the same sums in another order.
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_loss_is_mean_over_tasks():
    model, batch = dense(), regression(tasks=3)
    whole, _ = maml(model).compute_meta_gradients(batch)
    each = [
        maml(model).compute_meta_gradients(
            tf.nest.map_structure(lambda a, i=i: a[i : i + 1], batch)
        )[0]
        for i in range(3)
    ]
    np.testing.assert_allclose(whole, np.mean(each), rtol=1e-6)  # float32


@pytest.mark.usefixtures("float64", "without_graphs")
@pytest.mark.parametrize("name", ["dropout", "regularised"])
def test_the_loss_alone_is_the_loss_of_the_meta_step(name):
    model, (task, query_y) = family(name)
    weighs = Backprop(MultiStep(epochs=3, steps_per_epoch=4))
    estimators = [Backprop(), weighs, FirstOrder(weighs.objective), Reptile(), Twice()]
    for estimator, seed in zip(estimators, tf.constant([[0, 1], [2, 3]] * 3)):
        learner = estimating(model, estimator)
        learner.meta_steps.assign(5)
        expected, _ = learner.compute_meta_gradients((task, query_y), seed=seed)
        found = mean_loss(learner, task, query_y, seed=seed)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_config_round_trip_keeps_objective():
    config = keras.saving.serialize_keras_object(Backprop())
    revived = keras.saving.deserialize_keras_object(config)
    assert type(revived) is Backprop
    assert type(revived.objective) is type(Backprop().objective)


@pytest.mark.parametrize(
    ("meta_gradient", "second_order", "title"),
    [
        (Backprop(), True, "Backprop, second order"),
        (Backprop(), False, "Backprop, first order"),
        (FirstOrder(), True, "FirstOrder"),
        (Phases([FirstOrder(), Backprop()], until=[1]), True, "FirstOrder then Back"),
        (
            Phases(
                [Backprop(MultiStep(epochs=1, steps_per_epoch=1)), Backprop()],
                until=[1],
            ),
            True,
            "Backprop, second order",
        ),
    ],
    ids=["backprop", "first order", "FirstOrder", "phases", "MAML++"],
)
def test_the_title_names_the_order_of_derivatives(meta_gradient, second_order, title):
    inner = InnerLoop("mse", SGD(RATE), second_order=second_order)
    assert meta_gradient.title(inner).startswith(title)
    assert meta_gradient.title(inner).count("second") <= 1
    exact = "First" not in title and second_order
    assert meta_gradient.is_derivative(inner) == exact


@keras.saving.register_keras_serializable(package="tests")
class Twice(MetaGradient):
    """A custom meta-gradient needs one method only."""

    def __call__(self, problem):
        estimate = Backprop()(problem)
        return estimate._replace(gradients=[2.0 * g for g in estimate.gradients])


def test_a_custom_meta_gradient_is_saved_with_the_model(tmp_path):
    batch = regression()
    model = MAML(dense(), InnerLoop("mse", SGD(RATE)), meta_gradient=Twice())
    model.compile("sgd")
    model.save(tmp_path / "own.keras")
    loaded = keras.saving.load_model(tmp_path / "own.keras")
    assert type(loaded.meta_gradient) is Twice
    for own, plain in zip(
        loaded.compute_meta_gradients(batch)[1],
        maml(model.model, rate=RATE).compute_meta_gradients(batch)[1],
    ):
        np.testing.assert_allclose(own, 2.0 * plain, rtol=1e-5, atol=1e-6)


# "sequential" is the same loop as "parallel": test_task_maps.py compares them.
MAPS = ["parallel", "vectorized"]


def test_first_order_equals_backprop_with_a_first_order_loop():
    model, batch = dense(), regression()
    one = gradients(estimating(model, FirstOrder()), batch)
    other = gradients(estimating(model, Backprop(), second_order=False), batch)
    for a, b in zip(one, other):
        np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("without_graphs")
def test_each_phase_is_scaled_by_its_own_rule_under_a_scaled_loss():
    model, batch = dense(), regression()
    start = model.get_weights()
    learner = estimating(model, Phases([Reptile(), Backprop()], until=[1]), steps=1)
    optimizer = keras.optimizers.SGD(1.0)
    learner.compile(keras.optimizers.LossScaleOptimizer(optimizer))
    for step, phase in enumerate([Reptile(), Backprop()]):
        model.set_weights(start)
        found = gradients(estimating(model, phase, steps=1), batch)
        assert int(learner.meta_steps) == step
        learner.train_on_batch(*batch)
        for new, old, gradient in zip(model.get_weights(), start, found):
            # float32, and a scale of 32768.
            np.testing.assert_allclose(new, old - gradient, rtol=1e-4, atol=1e-6)


LAMBDA = 2.0


def test_wrong_schedules_are_refused():
    with pytest.raises(ValueError, match="must be positive.*epochs=0"):
        MultiStep(epochs=0, steps_per_epoch=5)
    with pytest.raises(ValueError, match="`until` must be rising.*until=\\[3, 3\\]"):
        Phases([Backprop()] * 3, until=[3, 3])
    with pytest.raises(ValueError, match="2 phases and until=\\[\\]"):
        Phases([Backprop()] * 2, until=[])


@pytest.mark.parametrize("task_map", MAPS)
@pytest.mark.parametrize(
    "compiled", [pytest.param(False, marks=pytest.mark.slow), True]
)
def test_each_phase_estimates_during_its_own_meta_steps(task_map, compiled):
    model, batch = dense(), regression()
    phases = [Reptile(), FirstOrder(), Backprop()]
    learner = estimating(model, Phases(phases, until=[2, 5]), task_map=task_map)

    def run():
        return learner.compute_meta_gradients(batch)[1]

    run = tf.function(run, autograph=False) if compiled else run
    expected = [gradients(estimating(model, phase), batch) for phase in phases]
    for step, phase in [(0, 0), (1, 0), (2, 1), (4, 1), (5, 2), (99, 2)]:
        learner.meta_steps.assign(step)
        for a, b in zip(run(), expected[phase]):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # float32


def test_phases_change_while_fit_runs_in_one_program():
    model = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
    batch = regression()
    start = model.get_weights()
    first, second = FirstOrder(), Backprop()
    phases = Phases([first, second], until=[2])
    learner = estimating(model, phases, steps=1, task_map="vectorized")
    learner.compile(keras.optimizers.SGD(0.1), jit_compile=True, steps_per_execution=4)
    data = tf.data.Dataset.from_tensors(batch).repeat()
    learner.fit(data, steps_per_epoch=4, verbose=0)
    got = model.get_weights()

    def trained_by_hand(estimators):
        model.set_weights(start)
        for estimator in estimators:
            found = gradients(estimating(model, estimator, steps=1), batch)
            moved = [w - 0.1 * g for w, g in zip(model.get_weights(), found)]
            model.set_weights(moved)
        return model.get_weights()

    for a, b in zip(got, trained_by_hand([first, first, second, second])):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # float32
    always = trained_by_hand([second] * 4)
    assert max(np.abs(a - b).max() for a, b in zip(always, got)) > 1e-5


ESTIMATORS = [
    FirstOrder(MultiStep(epochs=3, steps_per_epoch=4)),
    Reptile(),
    Implicit(2),
    Phases([FirstOrder(), Backprop()], until=[5]),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_config_round_trip(estimator):
    config = keras.saving.serialize_keras_object(estimator)
    revived = keras.saving.deserialize_keras_object(config)
    assert type(revived) is type(estimator)
    assert keras.saving.serialize_keras_object(revived) == config


@pytest.mark.usefixtures("without_graphs")
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_moving_statistics_move_with_every_estimator(estimator):
    model = batch_normalised()
    learner = estimating(model, estimator, steps=1, proximal=LAMBDA)
    learner.compile("sgd")
    before = model.layers[1].moving_mean.numpy()
    learner.train_on_batch(*regression())
    assert np.abs(model.layers[1].moving_mean.numpy() - before).max() > 1e-4
