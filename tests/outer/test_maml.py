"""`MAML` as a Keras model: `compile`, `fit`, `evaluate`, `predict`, saving, errors."""

import itertools
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    CountedMSE,
    assert_identical,
    batched,
    classification,
    compiled,
    dense,
    family,
    images,
    maml,
    multi_input,
    numpy_variables,
    plain_query_loss,
    regression,
)

from maml_keras import MAML, SGD, FirstOrder, InnerLoop, last_layer
from maml_keras.data import Sinusoid, episodes
from maml_keras.execution import task_maps
from maml_keras.outer.automatic_settings import steps_of_epoch
from maml_keras.outer.meta_step import meta_step

SCCE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@keras.saving.register_keras_serializable(package="tests")
def fourth_power(y_true, y_pred):
    return tf.reduce_mean((y_true - y_pred) ** 4, axis=-1)


class TakesDict(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(2)

    def call(self, x):
        return self.dense(x["a"]) + x["b"]


def test_a_subclassed_model_takes_a_dict():
    model = TakesDict()
    rows = {"a": np.ones([2, 4, 3], "float32"), "b": np.ones([2, 4, 2], "float32")}
    model({name: array[0] for name, array in rows.items()})
    y = np.ones([2, 4, 2], "float32")
    learner = compiled(model, steps=0)
    learner.fit({"support_x": rows, "support_y": y, "query_x": rows}, y, verbose=0)
    one = {name: array[0] for name, array in rows.items()}
    assert learner.adapt(one, y[0])(one).shape == (4, 2)


def test_inputs_by_name_fit_a_model_with_a_list_of_inputs():
    # Sorted by key, "frames" would come first and have one axis too many.
    rows = keras.Input([10], name="tokens")
    frames = keras.Input([10, 4], name="frames")
    flat = keras.layers.Flatten()(frames)
    joined = keras.layers.Concatenate()([rows, flat])
    model = keras.Model([rows, frames], keras.layers.Dense(1)(joined))
    x = {
        "tokens": np.ones([5, 10], "float32"),
        "frames": np.ones([5, 10, 4], "float32"),
    }
    adapted = maml(model).adapt(x, np.ones([5, 1], "float32"))
    assert adapted(x).shape == (5, 1)


def test_fit_learns_to_adapt():
    # Constant functions: one gradient step from a good start fits any of them.
    generator = np.random.default_rng(0)
    level = generator.normal(size=[64, 1, 1]).astype("float32")
    x = np.ones([64, 4, 1], "float32")
    batch = {"support_x": x, "support_y": level * x, "query_x": x}, level * x
    model = compiled(dense(1, 1), keras.optimizers.Adam(0.02), task_map="auto")
    before = model.evaluate(*batch, verbose=0)
    history = model.fit(*batch, batch_size=8, epochs=20, verbose=0).history
    assert len(history["loss"]) == 20
    assert model.evaluate(*batch, verbose=0) < 0.1 * before


def test_step_applies_the_mean_meta_gradient():
    model = compiled(optimizer=keras.optimizers.SGD(0.5), steps=2)
    batch = regression()
    _, gradients = model.compute_meta_gradients(batch)
    before = [v.numpy() for v in model.trainable_variables]
    model.train_on_batch(*batch)
    for old, gradient, variable in zip(before, gradients, model.trainable_variables):
        # float32, in a graph of its own.
        np.testing.assert_allclose(variable, old - 0.5 * gradient, rtol=1e-4, atol=1e-6)


def test_episodes_are_counted():
    model = compiled(steps=0)
    model.fit(*regression(tasks=5), batch_size=2, epochs=2, verbose=0)
    assert int(model.episodes_seen) == 10


def test_several_inputs():
    batch = regression({"a": (3,), "b": (2,)})
    model = compiled(multi_input())
    model.fit(*batch, batch_size=2, verbose=0)
    assert model.predict(batch[0], verbose=0).shape == (2, 3, 2)


def linear():
    return keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])


def test_eager_and_xla_give_the_weights_of_the_graph():
    model, batch = linear(), regression()
    weights = model.get_weights()

    def trained(**kwargs):
        model.set_weights(weights)
        wrapped = compiled(model, steps=1, task_map="auto", **kwargs)
        wrapped.fit(*batch, batch_size=2, epochs=3, verbose=0)
        return model.get_weights()

    graph = trained(jit_compile=False)
    for other in (trained(run_eagerly=True), trained(jit_compile=True)):
        for a, b in zip(graph, other):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # float32


def test_validation_early_stopping_and_checkpoints(tmp_path):
    # At rate 0 there is no improvement.
    model = compiled(optimizer=keras.optimizers.SGD(0.0), steps=0)
    path = tmp_path / "best.keras"
    history = model.fit(
        *regression(),
        validation_data=regression(seed=1),
        epochs=9,
        verbose=0,
        callbacks=[
            keras.callbacks.EarlyStopping("val_loss", patience=2),
            keras.callbacks.ModelCheckpoint(path, "val_loss", save_best_only=True),
        ],
    ).history
    assert len(history["val_loss"]) == 3
    loaded = keras.models.load_model(path)
    np.testing.assert_allclose(
        loaded.evaluate(*regression(seed=1), verbose=0),
        history["val_loss"][0],
        rtol=1e-6,
    )


@pytest.mark.usefixtures("without_graphs")
def test_the_seed_makes_a_run_repeatable():
    def run():
        keras.utils.set_random_seed(11)
        model = compiled(family("dropout")[0], "adam")
        model.fit(*regression(tasks=4), batch_size=2, epochs=2, verbose=0)
        return model.model.get_weights()

    first, second = run(), run()
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("without_graphs")
def test_logged_loss_is_the_mean_query_loss():
    model, batch = dense(), regression(tasks=5)
    wrapped = compiled(model, keras.optimizers.SGD(0.0))
    logged = wrapped.fit(*batch, batch_size=2, verbose=0).history["loss"][0]
    start = [v.numpy() for v in model.trainable_variables]
    expected = plain_query_loss(model, batch, start, steps=1)
    np.testing.assert_allclose(logged, expected, rtol=1e-5)  # float32
    np.testing.assert_allclose(wrapped.evaluate(*batch, verbose=0), expected, rtol=1e-5)


@pytest.mark.usefixtures("without_graphs")
def test_the_scale_of_the_loss_is_in_the_gradients_alone():
    model, (task, query_y) = maml(dense()), regression()
    plain, scaled = (
        meta_step(model, task, query_y, None, seed=None, scale=tf.constant(scale))
        for scale in (1.0, 8.0)
    )
    np.testing.assert_allclose(scaled.loss, plain.loss, rtol=1e-6)  # float32
    for a, b in zip(scaled.gradients, plain.gradients):
        np.testing.assert_allclose(a, 8.0 * b, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("without_graphs")
def test_outer_loss_may_differ_from_the_inner_one():
    batch = regression()
    model = dense()
    wrapped = compiled(model, keras.optimizers.SGD(0.0), loss="mse")
    wrapped.compile(keras.optimizers.SGD(0.0), loss="mae")
    predictions = wrapped.predict(batch[0], verbose=0)
    expected = np.abs(predictions - batch[1]).mean()
    np.testing.assert_allclose(wrapped.evaluate(*batch, verbose=0), expected, rtol=1e-5)
    logged = wrapped.train_on_batch(*batch)
    np.testing.assert_allclose(logged, expected, rtol=1e-5)


@pytest.mark.usefixtures("without_graphs")
def test_sample_weights_weigh_query_examples():
    batch = regression()
    weights = np.array([[1.0, 0.0, 2.0], [0.0, 0.5, 1.0]], "float32")
    wrapped = compiled(optimizer=keras.optimizers.SGD(0.0))
    errors = np.square(wrapped.predict(batch[0], verbose=0) - batch[1]).mean(axis=-1)
    expected = (errors * weights).mean()
    logged = wrapped.train_on_batch(*batch, sample_weight=weights)
    np.testing.assert_allclose(logged, expected, rtol=1e-5)  # float32
    evaluated = wrapped.evaluate(*batch, sample_weight=weights, verbose=0)
    np.testing.assert_allclose(evaluated, expected, rtol=1e-5)


@pytest.mark.usefixtures("without_graphs")
def test_metrics_are_measured_after_adaptation():
    batch = classification()
    model = compiled(
        dense(outputs=3), keras.optimizers.SGD(0.0), loss=SCCE, metrics=["accuracy"]
    )
    predictions = model.predict(batch[0], verbose=0)
    expected = (predictions.argmax(axis=-1) == batch[1]).mean()
    trained = model.fit(*batch, verbose=0).history["accuracy"][0]
    evaluated = model.evaluate(*batch, verbose=0, return_dict=True)["accuracy"]
    assert trained == pytest.approx(expected)
    assert evaluated == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("dense", 0),
        ("dense", 3),
        ("conv", 1),
        ("embedding", 2),
        ("layer_norm", 1),
        ("subclassed", 2),
    ],
)
def test_adapted_model_predicts_what_predict_does(name, steps):
    model, batch = family(name)
    wrapped = maml(model, steps=steps)
    before = numpy_variables(wrapped)
    adapted = wrapped.adapt(batch[0]["support_x"][1], batch[0]["support_y"][1])
    assert_identical(before, numpy_variables(wrapped))
    assert type(adapted) is type(model)
    query_x = batch[0]["query_x"][1]
    # float32, in another graph.
    np.testing.assert_allclose(
        adapted.predict(query_x, verbose=0),
        wrapped.predict(batch[0], verbose=0)[1],
        rtol=1e-4,
        atol=1e-5,
    )


def test_adapt_takes_steps_and_rate():
    model, (task, _) = dense(), regression()
    support = task["support_x"][0], task["support_y"][0]
    got = maml(model).adapt(*support, steps=4, learning_rate=0.3)
    expected = maml(model, steps=4, rate=0.3).adapt(*support)
    for a, b in zip(got.get_weights(), expected.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    unchanged = maml(model).adapt(*support, steps=0)
    assert_identical(unchanged.get_weights(), model.get_weights())


def test_adapted_model_trains_and_saves_like_any_model(tmp_path):
    model, (task, _) = dense(), regression()
    adapted = maml(model).adapt(task["support_x"][0], task["support_y"][0])
    weights = model.get_weights()
    adapted.compile("sgd", "mse")
    adapted.fit(task["support_x"][0], task["support_y"][0], verbose=0)
    assert_identical(weights, model.get_weights())
    adapted.save(tmp_path / "adapted.keras")
    loaded = keras.models.load_model(tmp_path / "adapted.keras")
    np.testing.assert_array_equal(
        loaded(task["query_x"][0]), adapted(task["query_x"][0])
    )


def test_adapt_is_traced_once_for_every_number_of_steps():
    counted = CountedMSE()
    model, (task, _) = maml(dense(), loss=counted), regression()
    support = task["support_x"][0], task["support_y"][0]
    model.adapt(*support)
    traced = counted.calls
    for steps in (2, 3, 7):
        model.adapt(*support, steps=steps)
    assert counted.calls == traced > 0


def test_adapt_takes_another_number_of_axes_after_the_first():
    # Keras adds a missing channel axis to images.
    wrapped = maml(images())
    x = np.random.default_rng(0).normal(size=[5, 6, 6, 1]).astype("float32")
    y = np.ones([5, 2], "float32")
    for order in ((x, x[..., 0]), (x[..., 0], x)):
        first, second = (wrapped.adapt(it, y).get_weights() for it in order)
        for a, b in zip(first, second):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


class CountedSteps(MAML):
    traces = 0

    def train_step(self, data):
        self.traces += 1
        return super().train_step(data)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_first_step_is_traced_once(jit_compile):
    # A function that creates variables during its first trace is traced twice.
    inner = InnerLoop("mse", SGD(0.1), steps=0)
    model = CountedSteps(dense(), inner)
    model.compile("adam", metrics=["mae"], jit_compile=jit_compile)
    model.fit(*regression(), steps_per_epoch=1, verbose=0)
    assert model.traces == 1


@pytest.mark.usefixtures("without_graphs")
def test_saved_model_continues_training_like_the_original(tmp_path):
    inner = InnerLoop(fourth_power, SGD(0.05), steps=2, adapt=last_layer())
    model = MAML(dense(), inner, batch_norm="running", task_map="parallel", seed=3)
    model.compile(keras.optimizers.Adam(1e-2), loss="mae", metrics=["mse"])
    batch = regression()
    model.train_on_batch(*batch)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for key in ("inner", "meta_gradient", "task_map", "batch_norm", "seed"):
        assert loaded.get_config()[key] == model.get_config()[key]
    assert int(loaded.episodes_seen) == 2
    for _ in range(3):
        got = loaded.train_on_batch(*batch)
        np.testing.assert_allclose(got, model.train_on_batch(*batch), rtol=1e-6)
    for a, b in zip(loaded.get_weights(), model.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_weights_alone_can_be_saved(tmp_path):
    first, second = compiled(), compiled()
    first.save_weights(tmp_path / "model.weights.h5")
    second.load_weights(tmp_path / "model.weights.h5")
    assert_identical(first.model.get_weights(), second.model.get_weights())


def test_uncompiled_model_is_saved(tmp_path):
    model = maml(images())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    task, _ = regression((6, 6, 1))
    np.testing.assert_allclose(
        loaded.predict_on_batch(task), model.predict_on_batch(task), rtol=1e-5
    )


@pytest.mark.parametrize(
    "mapping",
    [
        task_maps.Loop(3, name="three"),
        task_maps.Chunked(2),
        task_maps.Chunked(2, task_maps.parallel()),
    ],
    ids=repr,
)
def test_task_map_is_saved_with_its_arguments(mapping):
    config = maml(dense(), task_map=mapping).get_config()
    assert repr(MAML.from_config(config).task_map) == repr(mapping)


def test_summary_counts_the_learners_weights(capsys):
    model = maml(dense())
    model.summary()
    weights, counters = (3 + 1) * 4 + (4 + 1) * 2, 2
    assert model.count_params() == weights + counters
    assert "26" in capsys.readouterr().out


@pytest.mark.parametrize(
    "policy",
    ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)],
)
def test_mixed_precision_trains(policy):
    model = keras.Sequential(
        [
            keras.Input([3]),
            keras.layers.Dense(4, activation="tanh", dtype=policy),
            keras.layers.BatchNormalization(dtype=policy),
            keras.layers.Dense(2, dtype=policy),
        ]
    )
    batch = regression(tasks=4)
    full, _ = maml(model, steps=1).compute_meta_gradients(batch)
    wrapped = maml(model, steps=1)
    optimizer = keras.optimizers.SGD(0.05)
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    wrapped.compile(optimizer)
    losses = wrapped.fit(*batch, epochs=5, verbose=0).history["loss"]
    # The log shows the loss without the scale that keeps float16 gradients from zero.
    np.testing.assert_allclose(losses[0], full, rtol=0.05)
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    assert all(v.dtype == "float32" for v in model.trainable_variables)


def test_inner_of_another_kind_is_refused():
    with pytest.raises(TypeError, match=r"`inner` must be an InnerLoop.*Received"):
        MAML(dense(), SGD(0.1))


@pytest.mark.parametrize("wrong", ["first_order", FirstOrder])  # A name and a class.
def test_meta_gradient_of_another_kind_is_refused(wrong):
    with pytest.raises(TypeError, match=r"must be a MetaGradient.*FirstOrder\(\)"):
        MAML(dense(), InnerLoop("mse", SGD(0.1)), meta_gradient=wrong)


def test_selector_that_fits_nothing_fails_at_construction():
    model = keras.Sequential([keras.Input([3]), keras.layers.Dense(1)])
    from maml_keras import all_but_last_layer

    with pytest.raises(ValueError, match="must choose at least one trainable weight"):
        MAML(model, InnerLoop("mse", SGD(), adapt=all_but_last_layer()))


@pytest.mark.parametrize("steps", [-1, 0.5])
def test_adapt_refuses_impossible_steps(steps):
    with pytest.raises(ValueError, match="`steps` must be an integer"):
        maml(dense()).adapt(np.zeros([2, 3]), np.zeros([2, 2]), steps=steps)


def test_a_layer_frozen_after_a_first_adapt_does_not_adapt():
    learner, (task, _) = maml(dense()), regression()
    x, y = task["support_x"][0], task["support_y"][0]
    before, first = learner.model.layers[0].get_weights(), learner.adapt(x, y)
    assert not np.allclose(first.layers[0].kernel, before[0])
    learner.model.layers[0].trainable = False
    frozen = learner.adapt(x, y)
    assert_identical(frozen.layers[0].get_weights(), before)
    assert not np.allclose(frozen.layers[1].kernel, learner.model.layers[1].kernel)


def test_a_wholly_frozen_model_is_refused():
    learner, (task, _) = maml(dense()), regression()
    learner.trainable = False
    with pytest.raises(ValueError, match="Received: all frozen"):
        learner.compile("sgd")
    with pytest.raises(ValueError, match="Received: all frozen"):
        learner.adapt(task["support_x"][0], task["support_y"][0])


class Counting(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.mean = keras.metrics.Mean(name="sparsity")

    def call(self, x):
        self.mean.update_state(x)
        return x


def test_metrics_inside_layers_give_a_warning():
    model = keras.Sequential([keras.Input([3]), Counting(), keras.layers.Dense(2)])
    with pytest.warns(UserWarning, match="keep metrics, which stay at zero.*counting"):
        maml(model)
    trained = dense()
    trained.compile("sgd", "mse", metrics=["mae"])  # A metric outside the layers.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        maml(trained)


def test_an_update_rule_as_optimizer_is_refused():
    with pytest.raises(TypeError, match=r"`keras.optimizers.SGD\(0.01\)`.*`InnerLoop`"):
        maml(dense()).compile(SGD(0.1))


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return regression(seed=index)


@pytest.mark.parametrize("kind", ["generator", "py_dataset"])
def test_fit_takes_every_kind_of_data(kind):
    data = {
        "generator": lambda: [(regression(seed=i) for i in itertools.count())],
        "py_dataset": lambda: [Batches()],
    }[kind]()
    model = compiled(steps=0)
    before = numpy_variables(model)
    kwargs = {"generator": {"steps_per_epoch": 2}}.get(kind, {})
    history = model.fit(*data, verbose=0, **kwargs)
    assert np.isfinite(history.history["loss"][0])
    assert int(model.episodes_seen) == 4
    assert any(np.any(a != b) for a, b in zip(before, numpy_variables(model)))


def test_dataset_and_arrays_give_the_same_weights():
    model, batch = dense(), regression(tasks=4)
    weights = model.get_weights()
    of_arrays, of_dataset = compiled(model, steps=0), compiled(model, steps=0)
    of_arrays.fit(*batch, batch_size=2, shuffle=False, verbose=0)
    by_arrays = model.get_weights()
    assert any(np.any(a != b) for a, b in zip(by_arrays, weights))
    model.set_weights(weights)
    of_dataset.fit(batched(batch), verbose=0)
    assert_identical(by_arrays, model.get_weights())
    assert int(of_arrays.episodes_seen) == int(of_dataset.episodes_seen) == 4


def test_steps_per_execution_give_the_weights_of_single_steps():
    model, batch = linear(), regression(tasks=8)
    weights = model.get_weights()
    # One program of several steps needs batches of fixed shape.
    data = tf.data.Dataset.from_tensor_slices(batch).batch(2, drop_remainder=True)

    def trained(**kwargs):
        model.set_weights(weights)
        learner = compiled(model, task_map="auto", **kwargs)
        learner.fit(data, epochs=2, verbose=0)
        return model.get_weights()

    single = trained(jit_compile=False, steps_per_execution=1)
    for jit_compile in (False, True):
        joined = trained(jit_compile=jit_compile, steps_per_execution=4)
        for a, b in zip(joined, single):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # float32


@pytest.mark.parametrize("size", [1, 2])
def test_endless_episodes_continue_where_the_model_stopped(size):
    seen = []

    def spy(y_true, y_pred):
        tf.py_function(lambda y: seen.append(y.numpy()), [y_true], [])
        return tf.square(y_true - y_pred)

    batches = episodes(Sinusoid(), batch_size=size, seed=4)
    model = maml(dense(1, 1), steps=0, task_map="sequential")
    model.compile("sgd", loss=spy)
    model.fit(batches, steps_per_epoch=2, verbose=0)
    model.fit(batches, steps_per_epoch=2, verbose=0)
    expected = [y for _, query_y in batches.take(4) for y in query_y.numpy()]
    assert_identical(expected, seen)


def test_loss_weights_are_refused():
    with pytest.raises(ValueError, match="`loss_weights` is not supported"):
        maml(dense()).compile("sgd", loss_weights=[1.0])


def test_fit_before_compile_is_refused():
    with pytest.raises(ValueError, match="compile"):
        maml(dense()).fit(*regression())


def test_a_generator_takes_exactly_the_requested_steps():
    learner = compiled(steps=0)
    # The state after a `fit` on a dataset of small tasks.
    learner.jit_compile, learner.steps_per_execution = True, 100

    def endless():
        while True:
            yield regression()

    learner.fit(endless(), steps_per_epoch=3, verbose=0)
    assert int(learner.meta_steps) == 3
    assert (learner.jit_compile, learner.steps_per_execution) == (False, 1)


def test_meta_steps_of_an_epoch():
    task, query_y = regression(tasks=10)
    batches = tf.data.Dataset.from_tensors((task, query_y))
    assert steps_of_epoch(task, batch_size=4) == 3
    assert steps_of_epoch(task, batch_size=4, validation_split=0.2) == 2
    assert steps_of_epoch(task) == 1
    assert steps_of_epoch(batches.repeat(7)) == 7
    assert steps_of_epoch(batches.repeat(7), steps_per_epoch=10) == 7
    assert steps_of_epoch(batches.repeat(), steps_per_epoch=10) == 10
    assert steps_of_epoch(batches.repeat()) is None
    assert steps_of_epoch(iter(()), steps_per_epoch=10) == 10
