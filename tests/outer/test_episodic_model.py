"""`evaluate` and `predict` see all data, and `evaluate` shows the loss of `fit`."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    assert_identical,
    batch_normalised,
    classification,
    dense,
    maml,
    numpy_variables,
    regression,
)

from maml_keras import MAML, SGD, Backprop, FirstOrder, InnerLoop, Phases
from maml_keras.data import Sinusoid, episodes
from maml_keras.execution import xla_choice
from maml_keras.learner.losses import PureLoss
from maml_keras.models.networks import mlp
from maml_keras.outer.meta_step import meta_step

pytestmark = pytest.mark.journey

layers = keras.layers
BATCHES, TASKS = 30, 2


@pytest.fixture
def compiled_at_once(monkeypatch):
    """XLA compiles short trainings, too."""
    monkeypatch.setattr(xla_choice, "EARNED_BACK", 1)


def sinusoids(seed, count=BATCHES * TASKS):
    return episodes(Sinusoid(), batch_size=TASKS, seed=seed, num_episodes=count)


def small():
    """A network so small that `fit` joins its meta-steps into one program."""
    keras.utils.set_random_seed(0)
    model = MAML(mlp(hidden=[8]), InnerLoop("mse", SGD(0.01)), seed=0)
    model.compile("adam")
    return model


def fitted(model, **kwargs):
    endless = episodes(Sinusoid(), batch_size=TASKS, seed=1)
    history = model.fit(endless, steps_per_epoch=20, verbose=0, **kwargs)
    assert model.steps_per_execution == 20
    return history


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_at_once")
@pytest.mark.parametrize("before", [True, False])
def test_all_batches_count_after_joined_steps(before):
    model, tasks = small(), sinusoids(2)
    if before:
        model.evaluate(tasks, verbose=0)
        model.predict(tasks, verbose=0)
    fitted(model)
    alone = [model.evaluate(*batch, batch_size=TASKS, verbose=0) for batch in tasks]
    np.testing.assert_allclose(
        model.evaluate(tasks, verbose=0), np.mean(alone), rtol=1e-4
    )
    assert len(model.predict(tasks, verbose=0)) == BATCHES * TASKS
    assert model.steps_per_execution == 20


@pytest.mark.usefixtures("compiled_at_once")
def test_validation_sees_as_many_batches_as_requested():
    model, seen = small(), []

    class Count(keras.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            seen.append(batch)

    endless = episodes(Sinusoid(), batch_size=TASKS, seed=3)
    fitted(model, validation_data=endless, validation_steps=7, callbacks=[Count()])
    assert seen == list(range(7))
    assert len(model.predict(endless, steps=3, verbose=0)) == 3 * TASKS


def test_evaluation_keeps_the_steps_per_execution_of_the_user():
    model = small()
    model.compile("adam", steps_per_execution=4)
    seen = []

    class Count(keras.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            seen.append(batch)

    model.evaluate(sinusoids(2, 16), verbose=0, callbacks=[Count()])
    assert seen == [3, 7]


def regularised_and_summed():
    x = keras.Input([3])
    h = layers.Dense(4, activation="tanh", kernel_regularizer="l2")(x)
    loss = keras.losses.MeanSquaredError(reduction="sum")
    return maml(keras.Model(x, layers.Dense(2)(h)), loss=loss, rate=0.01)


def masked():
    x = keras.Input([3])
    h = layers.Reshape([3, 1])(x)
    h = layers.Masking(0.0)(h)
    h = layers.Dense(2)(h)
    return maml(keras.Model(x, h))


@pytest.mark.parametrize("make", [regularised_and_summed, masked])
def test_evaluate_shows_the_loss_of_training(make):
    model = make()
    model.compile("sgd")
    task, query_y = regression(outputs=2)
    if make is masked:
        query_y = np.stack([query_y] * 3, axis=2)
        task["support_y"] = np.stack([task["support_y"]] * 3, axis=2)
        for name in ("support_x", "query_x"):
            task[name][:, :2, 1:] = 0.0
    expected, _ = model.compute_meta_gradients((task, query_y))
    found = model.evaluate(task, query_y, verbose=0)
    np.testing.assert_allclose(found, float(expected), rtol=1e-5)


def test_compute_loss_is_a_mean_over_tasks():
    model = regularised_and_summed()
    model.compile("sgd")
    y, predictions = np.zeros([5, 3, 2], "float32"), np.ones([5, 3, 2], "float32")
    assert float(model.compute_loss(y=y, y_pred=predictions)) == 3.0


# Refused arguments, and counters -----------------------------------------------------


def two_outputs():
    x = keras.Input([3])
    model = keras.Model(x, [layers.Dense(2)(x), layers.Dense(2)(x)])
    return maml(model, loss=["mse", "mae"])


def test_each_output_has_its_own_weights():
    model = two_outputs()
    model.compile("sgd")
    task, y = regression(tasks=2)
    task["support_y"] = [task["support_y"]] * 2
    ones, zeros = np.ones([2, 3], "float32"), np.zeros([2, 3], "float32")

    def loss(*weights):
        batch = (task, [y, y], *weights)
        value = float(model.compute_meta_gradients(batch)[0])
        np.testing.assert_allclose(model.test_on_batch(*batch), value, rtol=1e-5)
        return value

    first, second = loss([ones, zeros]), loss([zeros, ones])
    np.testing.assert_allclose(first + second, loss(), rtol=1e-5)
    assert abs(first - second) > 1e-2
    np.testing.assert_allclose(loss(ones), loss(), rtol=1e-6)


@pytest.mark.parametrize("shape", [[2], [1, 3], [2, 4]])
def test_weights_that_are_not_one_for_each_query_are_refused(shape):
    model = maml(dense())
    model.compile("sgd", run_eagerly=True)
    with pytest.raises(ValueError, match=r"`sample_weight` must have shape \[tasks"):
        model.train_on_batch(*regression(), np.ones(shape, "float32"))


@pytest.mark.parametrize("weights", [[1], {"a": 1}, [1, 2, 3]])
def test_weights_in_another_nest_than_the_targets_are_refused(weights):
    model = two_outputs()
    model.compile("sgd")
    task, y = regression(tasks=2)
    task["support_y"] = [task["support_y"]] * 2
    ones = tf.nest.map_structure(lambda _: np.ones([2, 3], "float32"), weights)
    with pytest.raises(ValueError, match="in a nest like query_y"):
        model.compute_meta_gradients((task, [y, y], ones))


def test_class_weights_are_refused():
    model = maml(dense(outputs=3), loss="sparse_categorical_crossentropy")
    model.compile("sgd")
    weights = {0: 1.0, 1: 2.0, 2: 1.0}
    with pytest.raises(ValueError, match="another class in each task"):
        model.fit(*classification(), class_weight=weights, verbose=0)
    with pytest.raises(ValueError, match="another class in each task"):
        model.train_on_batch(*classification(), class_weight=weights)


def test_bytes_are_refused_by_every_method_that_takes_tasks():
    model = maml(dense())
    model.compile("sgd")
    task, query_y = regression()
    task = {k: v if k == "support_y" else v.astype("uint8") for k, v in task.items()}
    for call in (
        lambda: model.predict(task, verbose=0),
        lambda: model.evaluate(task, query_y, verbose=0),
        lambda: model(task),
        lambda: model.train_on_batch(task, query_y),
    ):
        with pytest.raises(ValueError, match="must be float32, scaled"):
            call()


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), -0.1])
def test_an_impossible_learning_rate_is_refused(rate):
    x, y = np.zeros([2, 3], "float32"), np.zeros([2, 2], "float32")
    with pytest.raises(ValueError, match="`learning_rate` must be a finite number"):
        maml(dense()).adapt(x, y, learning_rate=rate)


def test_meta_steps_are_counted_for_any_number_of_tasks():
    seen = []

    class Witness(Backprop):
        def __call__(self, problem):
            seen.append(int(problem.iteration))
            return super().__call__(problem)

    model = maml(dense(inputs=1, outputs=1), meta_gradient=Witness())
    model.compile("sgd", run_eagerly=True)
    model.fit(episodes(Sinusoid(), batch_size=4, seed=1, num_episodes=9), verbose=0)
    # Batches of four, four and one task.
    assert list(dict.fromkeys(seen)) == [0, 1, 2]
    assert int(model.meta_steps) == 3
    assert int(model.episodes_seen) == 9


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("map_", ["parallel", "vectorized"])
def test_unchanged_state_is_not_assigned(again, map_):
    """An average of equal copies sooner or later differs from them in the last bit."""
    body = batch_normalised(outputs=2)
    body.layers[0].trainable = False
    inner = InnerLoop("mse", SGD(0.1), steps=2, rematerialize=again)
    model = MAML(
        body,
        inner,
        meta_gradient=Phases([FirstOrder(), Backprop()], until=[1]),
        batch_norm="frozen",
        task_map=map_,
    )
    model.compile("sgd")
    frozen = list(body.non_trainable_variables)
    for v in frozen:
        v.assign(np.random.default_rng(0).uniform(0.1, 3.0, v.shape))
    before = [v.numpy() for v in frozen]
    counts = []

    @tf.function  # An eager `tf.cond` would run only one of its branches.
    def step(task, query_y):
        moved = meta_step(model, task, query_y, None, seed=None, scale=1.0).state
        counts.append(len(moved))

    step(*regression(tasks=7))
    assert set(counts) == {0}
    model.fit(*regression(tasks=7), epochs=3, batch_size=7, verbose=0)
    assert_identical(before, [v.numpy() for v in frozen])


class Noisy(layers.Layer):
    def __init__(self, seeds=None, **kwargs):
        super().__init__(**kwargs)
        self.seeds = seeds

    def call(self, x):
        return keras.random.dropout(x, 0.5, seed=self.seeds)


def test_noise_without_a_seed_generator_is_refused():
    model = keras.Sequential([keras.Input([3]), Noisy(), layers.Dense(2)])
    learner = maml(model)
    learner.compile("sgd")
    with pytest.raises(ValueError, match="without a generator of its own"):
        learner.fit(*regression(), verbose=0)
    own = Noisy(keras.random.SeedGenerator(1))
    learner = maml(keras.Sequential([keras.Input([3]), own, layers.Dense(2)]))
    learner.compile("sgd")
    before = numpy_variables(learner.model)
    learner.fit(*regression(), verbose=0)
    assert any(np.any(a != b) for a, b in zip(before, numpy_variables(learner.model)))


def test_float_targets_are_cast_to_the_type_of_predictions():
    loss = PureLoss(lambda y, p: tf.abs(y - p))
    y, p = np.ones([2, 1]), tf.zeros([2, 1])
    assert y.dtype == np.float64
    assert float(loss(y, p)) == 1.0


# Counters --------------------------------------------------------------------------


def ended_after(count, error=None):
    for batch in sinusoids(1, count * TASKS):
        yield tf.nest.map_structure(np.asarray, batch)
    if error is not None:
        raise error


@pytest.mark.parametrize(
    "source", ["generator", pytest.param("dataset", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("error", [None, OSError("disk gone")])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"jit_compile": True},
        {"jit_compile": False, "steps_per_execution": 4},
        {"run_eagerly": True},
    ],
)
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_steps_are_counted_that_were_taken(source, error, options):
    model = small()
    model.compile("adam", **options)
    data = ended_after(6, error)
    if source == "dataset":
        spec = tf.nest.map_structure(
            lambda t: tf.TensorSpec(t.shape, t.dtype), next(iter(sinusoids(1)))
        )
        data = tf.data.Dataset.from_generator(
            lambda: ended_after(6, error), output_signature=spec
        )
    # A generator's own error is raised as it is.
    kind = OSError if source == "generator" else tf.errors.OpError
    raised = pytest.raises(kind, match="disk gone")
    with contextlib.nullcontext() if error is None else raised:
        model.fit(data, steps_per_epoch=4, epochs=3, verbose=0)
    # Batches of one program are read together: if one of them fails none is used.
    taken = 4 if error is not None and model._fuses and source == "dataset" else 6
    if source == "dataset" and error is None and model.steps_per_execution == 1:
        taken = 10  # Keras draws the dataset anew in the third epoch.
    assert int(model.meta_steps) == taken
    assert int(model.optimizer.iterations) == taken
    assert int(model.episodes_seen) == taken * TASKS


def test_the_saved_optimizer_is_loaded_if_the_loss_is_not_scaled(tmp_path):
    # Under float16 Keras scales the loss unless told otherwise, but saves no such word.
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = maml(dense())
        model.compile(keras.optimizers.Adam(0.01), auto_scale_loss=False)
        model.train_on_batch(*regression())
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    finally:
        keras.config.set_dtype_policy(policy)
    assert isinstance(loaded.optimizer, keras.optimizers.Adam)
    saved, kept = loaded.optimizer.variables, model.optimizer.variables
    assert_identical([v.numpy() for v in kept], [v.numpy() for v in saved])


def test_a_compiled_untrained_model_loads_without_a_warning(tmp_path):
    # Warnings are errors in these tests.
    model = maml(dense())
    model.compile(keras.optimizers.Adam(0.01))
    keras.saving.save_model(model, tmp_path / "maml.keras")
    loaded = keras.saving.load_model(tmp_path / "maml.keras")
    assert not loaded.optimizer.built
    # A trained model's optimizer state is still loaded.
    loaded.optimizer.build(loaded.trainable_variables)
    for variable in loaded.optimizer.variables[2:]:
        variable.assign(variable + 1.0)
    loaded.save(tmp_path / "maml.keras")
    again = keras.saving.load_model(tmp_path / "maml.keras")
    for a, b in zip(loaded.optimizer.variables, again.optimizer.variables):
        np.testing.assert_array_equal(a, b)


def test_a_file_without_the_entry_of_the_optimizer_loads(tmp_path):
    model = maml(dense())
    model.compile("adam")
    config = model.get_compile_config()
    del config["optimizer_built"]
    model.compile_from_config(config)
    assert model.optimizer.built
