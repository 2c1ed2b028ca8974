"""A task whose numbers are not finite: noticed, named, and never trained on."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import assert_identical, dense, regression

from maml_keras import (
    MAML,
    SGD,
    BadTaskError,
    Chunked,
    FirstOrder,
    InnerLoop,
)
from maml_keras.data.pipeline_options import untuned
from maml_keras.outer import bad_task_policies
from maml_keras.outer.meta_step import meta_step

# An optimised graph must find such numbers, too: the check multiplies by zero.
pytestmark = pytest.mark.optimized

TASKS, BATCHES, BAD = 4, 4, 2
FUSED = {"jit_compile": True, "steps_per_execution": BATCHES}
WAYS_TO_RUN = {
    "fused": ("vectorized", FUSED),
    "xla": ("vectorized", {"jit_compile": True, "steps_per_execution": 1}),
    "graph": ("vectorized", {"jit_compile": False}),
    "several steps a call": (
        "parallel",
        {"jit_compile": False, "steps_per_execution": 3},
    ),
    "parallel": ("parallel", {"jit_compile": False}),
    "sequential": ("sequential", {"jit_compile": False}),
    "chunked": (Chunked(2), {"jit_compile": False}),
    "eager": ("parallel", {"run_eagerly": True}),
}
FEWER_IN_FAST_TESTS = [
    pytest.param(
        how,
        marks=[pytest.mark.slow]
        if how in ("chunked", "sequential", "several steps a call")
        else [],
    )
    for how in WAYS_TO_RUN
]


def diverge(task, query_y):
    task["support_y"][1] *= 1e30


def spoil(name, value):
    def put(task, query_y):
        {**task, "query_y": query_y}[name][1, 0, 0] = value

    return put


def good(task, query_y):
    """Leaves the batch as it is."""


def batches(spoiler, at=BAD, count=BATCHES):
    made = [regression(tasks=TASKS, seed=seed) for seed in range(count)]
    if at < count:
        spoiler(*made[at])
    return made


def dataset(made):
    # TensorFlow's tuner would delay the end of an iterator that is given up.
    return untuned(
        tf.data.Dataset.from_tensor_slices(
            tf.nest.map_structure(lambda *arrays: np.stack(arrays), *made)
        )
    )


def network():
    return keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])


def learner(how="parallel", model=None, loss="mse", rate=0.1, steps=1, **kwargs):
    task_map, options = WAYS_TO_RUN[how]
    keras.utils.set_random_seed(0)
    inner = InnerLoop(loss, SGD(rate), steps=steps)
    maml = MAML(model or network(), inner, task_map=task_map, seed=0, **kwargs)
    maml.compile(keras.optimizers.Adam(0.01), metrics=["mae"], **options)
    return maml


def fitted(maml, made, **kwargs):
    return maml.fit(dataset(made), verbose=0, **kwargs).history


def numbers(maml):
    return [np.array(v) for v in [*maml.weights, *maml.optimizer.variables]]


def assert_after(maml, steps):
    assert int(maml.meta_steps) == int(maml.optimizer.iterations) == steps
    assert int(maml.episodes_seen) == steps * TASKS


@functools.cache
def built(how, steps=1):
    """A model to share, whose trace is the most costly part, and its first numbers."""
    # With two steps the gradient has to be a product of large numbers.
    model = dense() if steps == 2 else None
    maml = learner(how, model, steps=steps, bad_tasks="skip")
    maml.optimizer.build(maml.trainable_variables)
    start = numbers(maml)
    # The first `fit` decides whether bad tasks are counted.
    fitted(maml, batches(good))
    return maml, start


def untrained(how="parallel", *, bad_tasks="stop", **kwargs):
    """The shared model as it was before its first step. A trace knows no policy."""
    maml, start = built(how, **kwargs)
    for variable, value in zip([*maml.weights, *maml.optimizer.variables], start):
        variable.assign(value)
    maml.bad_tasks = bad_task_policies.get(bad_tasks)
    return maml


@functools.cache
def after_good_steps():
    """The numbers of a run that ends before the bad batch."""
    maml = untrained()
    fitted(maml, batches(good, count=BAD))
    return numbers(maml)


@functools.cache
def after_three_tasks():
    """The weights if the third step has three tasks, by hand."""
    by_hand = untrained()
    for index, batch in enumerate(batches(diverge)):
        if index == BAD:
            batch = tf.nest.map_structure(lambda a: np.delete(a, 1, axis=0), batch)
        by_hand.train_on_batch(*batch)
    return [v.numpy() for v in by_hand.trainable_variables]


@pytest.mark.parametrize("how", FEWER_IN_FAST_TESTS)
def test_stop_raises_with_everything_as_before_the_step(how):
    expected = after_good_steps()
    maml = untrained(how)
    message = (
        r"A meta-step needs finite numbers. Received: 1 of 4 tasks is bad: episode 9 "
        r"\(task 1 of its batch\): .* as before that step. .*bad_tasks='skip'"
    )
    with pytest.raises(BadTaskError, match=message) as caught:
        fitted(maml, batches(diverge))
    assert [(t.position, t.episode) for t in caught.value.bad_tasks] == [(1, 9)]
    assert_after(maml, BAD)
    found = numbers(maml)
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # float32, Adam


@pytest.mark.parametrize("how", FEWER_IN_FAST_TESTS)
def test_skip_takes_the_mean_over_the_other_tasks(how):
    expected = after_three_tasks()
    maml = untrained(how, bad_tasks="skip")
    history = fitted(maml, batches(diverge))
    assert history["bad_tasks"] == [1.0]
    assert_after(maml, BATCHES)
    for v, w in zip(maml.trainable_variables, expected):
        np.testing.assert_allclose(v, w, rtol=1e-4, atol=1e-5)  # float32, Adam
    assert np.isfinite([history["loss"], history["mae"]]).all()


def root(y_true, y_pred):
    """A finite loss whose derivative is infinite where a prediction is right."""
    return tf.sqrt(tf.abs(y_true - y_pred))


def right(task, query_y):
    # The network of the test answers zero to zeros, and so is right.
    task["query_x"][1], query_y[1] = 0.0, 0.0
    task["support_x"][1] = 0.0


SPOILS = {
    "NaN in support_x": (spoil("support_x", np.nan), "1 of 12 values of `support_x`"),
    "NaN in support_y": (spoil("support_y", np.nan), "1 of 8 values of `support_y`"),
    "infinity in query_x": (spoil("query_x", np.inf), "1 of 9 values of `query_x`"),
    "NaN in query_y": (spoil("query_y", np.nan), "1 of 6 values of `query_y`"),
    "weights of one step": (
        lambda task, query_y: task["support_y"][1].fill(1e25),
        "after inner step 2 '.*kernel' is not finite",
    ),
}


@pytest.mark.parametrize("name", SPOILS)
def test_the_first_number_that_is_not_finite_is_named(name):
    spoiler, what = SPOILS[name]
    # In the last case the first step leads to 1e24, and the second one's gradient is
    # the product of two such numbers.
    maml = untrained(steps=2)
    before = numbers(maml)
    made = batches(spoiler, at=0, count=1)
    with pytest.raises(BadTaskError, match=f"1 of 4 tasks is bad: episode 1 .*{what}"):
        maml.train_on_batch(*made[0])
    assert_identical(before, numbers(maml))


@pytest.mark.parametrize("how", ["fused", "parallel"])
def test_a_finite_loss_with_a_gradient_that_is_not(how):
    net = keras.Sequential([keras.Input([3]), keras.layers.Dense(2, use_bias=False)])
    maml = learner(how, net)
    maml.compile(keras.optimizers.Adam(0.01), loss=root, **WAYS_TO_RUN[how][1])
    what = "query loss is 0, but the meta-gradient of '.*kernel' is not finite"
    with pytest.raises(BadTaskError, match=what):
        fitted(maml, batches(right))
    assert_after(maml, BAD)


@pytest.mark.parametrize("how", ["fused", "parallel", "eager"])
def test_adapted_weights_that_no_loss_shows(how):
    # tanh of infinity is one, and its derivative nothing: first-order MAML sees it not.
    hidden = keras.layers.Dense(4, activation="tanh", use_bias=False)
    net = keras.Sequential([keras.Input([3]), hidden, keras.layers.Dense(2)])
    net.layers[-1].trainable = False

    def run_away(task, query_y):
        # Gradients of 1e28 that the rate makes infinite, in each task: the
        # numbers of any other task would not be finite for this network and rate.
        task["support_x"][:] = 1e-3
        task["support_y"][:] = 1e38
        task["query_x"][:] = 1.0

    maml = learner(how, net, rate=1e20, loss="mae", meta_gradient=FirstOrder())
    net.layers[-1].kernel.assign(np.full([4, 2], 1e32, "float32"))
    made = batches(run_away)
    loss, gradients = maml.compute_meta_gradients(made[BAD])
    assert np.isfinite([loss, *(np.abs(g).max() for g in gradients)]).all()
    with pytest.raises(BadTaskError, match="after inner step 1 '.*kernel' is not"):
        fitted(maml, made[BAD:])
    assert_after(maml, 0)


def test_the_search_has_every_derivative_that_the_step_has():
    # TensorFlow has no second derivative of softsign; the library supplies it.
    maml = learner(model=dense(activation="softsign"), bad_tasks="skip")
    assert fitted(maml, batches(diverge))["bad_tasks"] == [1.0]


def test_all_tasks_bad_raises_whatever_the_policy():
    maml = untrained(bad_tasks="skip")
    task, query_y = batches(good)[0]
    query_y[...] = np.nan
    with pytest.raises(BadTaskError, match="4 of 4 tasks are bad: first episode 0 "):
        maml.train_on_batch(task, query_y)
    assert_after(maml, 0)


def test_weights_that_were_not_finite_before_are_named():
    maml = untrained(bad_tasks="skip")
    kernel = maml.model.trainable_variables[0]
    kernel.assign(np.full(kernel.shape, np.nan))
    with pytest.raises(BadTaskError, match="'.*kernel' that were NaN or infin"):
        maml.train_on_batch(*batches(good)[0])


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_a_mean_that_overflows_is_no_step(policy):
    maml = learner(bad_tasks=policy)
    # One value for a task: the tasks are finite, and the sum over them is not.
    maml.compile("sgd", loss=lambda y, p: 2e38 + tf.reduce_mean(tf.square(y - p)))
    with pytest.raises(
        BadTaskError, match="mean over 4 tasks, or a norm .* not finite"
    ):
        maml.train_on_batch(*batches(good)[0])
    assert_after(maml, 0)


OPTIMIZERS = {
    "second moments": {},
    "global_clipnorm": {"global_clipnorm": 1.0},
    "clipnorm": {"clipnorm": 1.0},
    "clipvalue": {"clipvalue": 1.0},
}


# In the optimizer the square of such a gradient is infinite: a norm makes the weights
# NaN, and a second moment stops its weight for ever.
@pytest.mark.parametrize(
    ("how", "name"),
    [
        *(("parallel", name) for name in OPTIMIZERS),
        ("fused", "global_clipnorm"),
        ("eager", "global_clipnorm"),
    ],
)
def test_a_gradient_that_an_optimizer_cannot_square_is_not_applied(how, name):
    maml = learner(how, rate=0.0)
    optimizer = keras.optimizers.Adam(0.01, **OPTIMIZERS[name])
    maml.compile(optimizer, **WAYS_TO_RUN[how][1])
    made = [regression(tasks=TASKS, seed=seed) for seed in range(BATCHES)]
    task, query_y = made[BAD]
    task["query_x"][1], query_y[1] = 100.0, 1e18
    _, gradients = maml.compute_meta_gradients(made[BAD])
    assert all(np.isfinite(g).all() for g in gradients)
    with pytest.raises(
        BadTaskError, match="task 1 .* norm of the meta-gradient is not"
    ):
        fitted(maml, made)
    assert_after(maml, BAD)
    assert all(np.isfinite(n).all() for n in numbers(maml))


def test_such_a_task_is_left_out():
    maml = learner(rate=0.0, bad_tasks="skip")
    maml.compile(keras.optimizers.Adam(0.01, global_clipnorm=1.0), jit_compile=False)
    task, query_y = regression(tasks=TASKS, seed=0)
    by_hand = tf.nest.map_structure(lambda a: np.delete(a, 1, axis=0), (task, query_y))
    task["query_x"][1], query_y[1] = 100.0, 1e18
    maml.train_on_batch(task, query_y)
    other = learner(rate=0.0)
    other.compile(keras.optimizers.Adam(0.01, global_clipnorm=1.0), jit_compile=False)
    other.train_on_batch(*by_hand)
    for v, w in zip(maml.trainable_variables, other.trainable_variables):
        np.testing.assert_allclose(v, w, rtol=1e-5, atol=1e-6)  # float32, Adam


def test_an_evaluation_reports_what_it_found_and_changes_nothing():
    maml = untrained()
    before = numbers(maml)
    found = maml.evaluate(dataset(batches(spoil("query_y", np.nan))), verbose=0)
    assert np.isnan(found[0])
    assert np.isfinite(maml.evaluate(dataset(batches(good)), verbose=0)).all()
    assert_identical(before, numbers(maml))


def test_a_metric_and_an_epoch_count_anew():
    maml = untrained(bad_tasks="skip")
    history = maml.fit(dataset(batches(diverge)), epochs=2, verbose=0).history
    assert history["bad_tasks"] == [1.0, 1.0]
    assert "bad_tasks" not in fitted(learner(), batches(good))


def test_the_first_of_an_epoch_is_told_by_name(caplog):
    maml = untrained(bad_tasks="skip")
    with caplog.at_level("WARNING"):
        fitted(maml, [batches(diverge)[BAD]] * 3)
    said = [record.message for record in caplog.records]
    assert len(said) == 1
    assert "1 of 4 tasks is bad: episode 1 (task 1 of its batch)" in said[0]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_loop_of_ones_own_in_a_graph_leaves_all_as_it_is(jit_compile):
    # XLA compiles a vectorised step faster than a loop.
    maml = learner("graph" if jit_compile else "parallel")
    step = tf.function(maml.train_step, jit_compile=jit_compile)
    made = batches(diverge)
    assert np.isfinite(step(made[0])["loss"])
    before = numbers(maml)
    assert np.isnan(step(made[BAD])["loss"])
    assert_identical(before, numbers(maml))
    assert np.isfinite(step(made[1])["loss"])


def test_a_loop_of_ones_own_run_eagerly_raises_or_skips():
    made = batches(diverge)
    with pytest.raises(BadTaskError):
        learner().train_step(made[BAD])
    skipping = learner(bad_tasks="skip")
    assert np.isfinite(skipping.train_step(made[BAD])["loss"])
    assert_after(skipping, 1)


def test_an_optimizer_that_scales_the_loss_finds_its_scale():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        maml = learner(model=dense())
    finally:
        keras.config.set_dtype_policy(policy)
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.01), initial_scale=2.0**20
    )
    maml.compile(optimizer, jit_compile=False)
    before = maml.model.get_weights()
    # Gradients of 2 ** 20 are beyond half precision, and are halved until they fit.
    maml.fit(dataset(batches(good)), epochs=5, verbose=0)
    assert float(optimizer.dynamic_scale) < 2.0**20
    assert not np.allclose(before[0], maml.model.get_weights()[0])
    with pytest.raises(BadTaskError):
        maml.train_on_batch(*batches(diverge)[BAD])


def test_dropout_draws_the_masks_that_it_would_have_drawn():
    def net():
        keras.utils.set_random_seed(0)
        drop = keras.layers.Dropout(0.5, seed=1)
        head = keras.layers.Dense(2)
        return keras.Sequential([keras.Input([3]), drop, head])

    made = batches(diverge)[BAD]
    skipping = learner("parallel", net(), bad_tasks="skip")
    skipping.train_on_batch(*made)
    # The same batch, whose bad task is a good one that has no part in the mean.
    by_hand = learner("parallel", net())
    each = meta_step(
        by_hand,
        *batches(good)[BAD],
        None,
        seed=None,
        scale=1.0,
        tasks=tf.constant([0, 2, 3]),
    )
    by_hand.optimizer.apply(each.gradients, by_hand.trainable_variables)
    for v, w in zip(skipping.trainable_variables, by_hand.trainable_variables):
        np.testing.assert_allclose(v, w, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("without_graphs")
def test_the_policy_is_saved(tmp_path):
    maml = learner(bad_tasks="skip")
    maml.train_on_batch(*batches(good)[0])
    maml.save(tmp_path / "maml.keras")
    loaded = keras.saving.load_model(tmp_path / "maml.keras")
    assert loaded.train_on_batch(*batches(diverge)[BAD], return_dict=True)["bad_tasks"]
    config = maml.get_config()
    del config["bad_tasks"]  # As files of before have it.
    again = MAML.from_config(config)
    again.compile("adam")
    with pytest.raises(BadTaskError):
        again.train_on_batch(*batches(diverge)[BAD])


def test_a_policy_that_does_not_exist():
    with pytest.raises(ValueError, match=r"\['skip', 'stop'\].*'ignore'"):
        learner(bad_tasks="ignore")
