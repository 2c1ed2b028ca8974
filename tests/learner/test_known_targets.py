"""`KnownTargets` leaves out targets of NaN, in losses, metrics, training and use."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import maml_keras as mk
from maml_keras.learner import weights
from maml_keras.learner.losses import PureLoss

pytestmark = pytest.mark.usefixtures("tasks_in_a_loop")

NAN = float("nan")
losses = keras.losses
Y = np.array([[1.0, NAN, 3.0], [NAN, NAN, 2.0], [0.5, -1.0, 4.0]], "float32")
P = np.array([[0.0, 9.0, 1.0], [8.0, 7.0, 2.5], [0.5, 1.0, 4.0]], "float32")
# (1 + 4 + 0.25 + 0 + 4 + 0) / 6: three rows, six known targets.
MEAN = 9.25 / 6


def squares(y_true, y_pred):
    return tf.reduce_mean(tf.square(y_true - y_pred), axis=-1)


@pytest.mark.parametrize(
    "function",
    ["mse", "mean_squared_error", losses.MeanSquaredError(), squares],
    ids=["short", "name", "loss", "own"],
)
def test_the_loss_is_the_mean_over_the_known_targets(function):
    loss = PureLoss(mk.KnownTargets(function))
    np.testing.assert_allclose(loss(Y, P), MEAN, rtol=1e-6)
    graph = tf.function(loss)(tf.constant(Y), tf.constant(P))
    np.testing.assert_allclose(graph, MEAN, rtol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        "mse",
        "mae",
        losses.Huber(delta=0.3),
        losses.LogCosh(),
        losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1),
        losses.BinaryFocalCrossentropy(),
        losses.Poisson(),
        losses.MeanSquaredLogarithmicError(),
        losses.MeanAbsolutePercentageError(),
    ],
)
def test_without_nan_nothing_changes_and_a_nan_changes_as_its_absence(function):
    generator = np.random.default_rng(0)
    y = (generator.random([5, 2]) > 0.5).astype("float32")
    p = generator.uniform(0.1, 0.9, [5, 2]).astype("float32")
    plain, known = PureLoss(function), PureLoss(mk.KnownTargets(function))
    np.testing.assert_allclose(known(y, p), plain(y, p), rtol=1e-5)
    # With the second target unknown in each row, the first alone remains.
    masked = np.where([True, False], y, NAN)
    np.testing.assert_allclose(known(masked, p), plain(y[:, :1], p[:, :1]), rtol=1e-5)


def test_weights_of_rows_weigh_their_known_targets():
    output = weights.weighed(tf.constant(P), tf.constant([2.0, 0.0, 1.0]))
    expected = (2 * (1 + 4) + (0 + 4 + 0)) / (2 * 2 + 3)
    np.testing.assert_allclose(
        PureLoss(mk.KnownTargets("mse"))(Y, output), expected, rtol=1e-6
    )


def test_all_unknown_is_zero_with_a_gradient_of_zero():
    p = tf.Variable(P)
    with tf.GradientTape() as tape:
        loss = PureLoss(mk.KnownTargets("mse"))(np.full_like(P, NAN), p)
    assert float(loss) == 0.0
    assert not np.any(tape.gradient(loss, p))


@pytest.mark.parametrize("loss", ["mean_squared_error", "log_cosh"])
def test_the_meta_gradient_is_that_of_the_loss_written_by_hand(loss):
    """One inner step of a linear model, in float64, beside finite differences."""
    generator = np.random.default_rng(1)
    x, q = generator.normal(size=[2, 4, 2])
    y, qy = generator.normal(size=[2, 4, 3])
    y[0, 1] = y[2, :] = qy[1, 0] = NAN
    term = {"mean_squared_error": np.square, "log_cosh": lambda e: np.log(np.cosh(e))}
    slope = {"mean_squared_error": lambda e: 2 * e, "log_cosh": np.tanh}

    def by_hand(w):
        known = ~np.isnan(y)
        error = np.where(known, x @ w - y, 0.0)
        w = w - 0.3 * x.T @ slope[loss](error) / known.sum()
        known = ~np.isnan(qy)
        return term[loss](np.where(known, q @ w - qy, 0.0)).sum() / known.sum()

    w = generator.normal(size=[2, 3])
    expected = np.zeros_like(w)
    for place in np.ndindex(w.shape):
        step = np.zeros_like(w)
        step[place] = 1e-5
        expected[place] = (by_hand(w + step) - by_hand(w - step)) / 2e-5
    known = PureLoss(mk.KnownTargets(loss))
    variable = tf.Variable(w)
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            inner.watch(start := tf.convert_to_tensor(variable))
            first = known(tf.constant(y), x @ start)
        adapted = start - 0.3 * inner.gradient(first, start)
        second = known(tf.constant(qy), q @ adapted)
    # Keras rounds the logarithm of 2 in `log_cosh` to float32.
    np.testing.assert_allclose(second, by_hand(w), rtol=1e-8)
    # Differences of 1e-5 have an error of about 1e-10.
    np.testing.assert_allclose(outer.gradient(second, variable), expected, atol=1e-8)


@pytest.mark.parametrize(
    "function",
    [
        "sparse_categorical_crossentropy",
        losses.CategoricalCrossentropy(),
        losses.CosineSimilarity(),
        keras.metrics.AUC(),
        3,
    ],
)
def test_what_is_no_mean_over_targets_is_refused(function):
    with pytest.raises(ValueError, match="must be a mean over the targets of a row"):
        mk.KnownTargets(function)


def test_unknown_names_and_other_shapes_are_refused():
    with pytest.raises(ValueError, match="name of a loss or .* Received: 'nothing'"):
        mk.KnownTargets("nothing")
    with pytest.raises(ValueError, match=r"\(3, 3\) for predictions \(3, 2\)"):
        mk.KnownTargets("mse")(Y, P[:, :2])


def test_the_loss_can_be_written_and_read():
    focal = losses.BinaryFocalCrossentropy(from_logits=True)
    loss = PureLoss({"a": mk.KnownTargets(focal), "b": mk.KnownTargets("mse")})
    again = PureLoss.deserialize(loss.described())
    both = {"a": Y, "b": Y}, {"a": P, "b": P}
    np.testing.assert_allclose(again(*both), loss(*both))
    assert PureLoss(mk.KnownTargets(lambda a, b: squares(a, b))).described() is None
    logits = losses.BinaryCrossentropy(from_logits=True)
    assert PureLoss(mk.KnownTargets(logits)).decision == 0.0
    partial = functools.partial(keras.losses.huber, delta=0.5)
    assert PureLoss(mk.KnownTargets(partial)).takes_missing


def linear(loss, **options):
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input([2]), keras.layers.Dense(3)])
    maml = mk.MAML(network, mk.InnerLoop(loss, mk.SGD(0.1)))
    maml.compile(keras.optimizers.SGD(0.1), **options)
    return maml


def batch(*, missing=True):
    generator = np.random.default_rng(2)
    x, q, y, qy = (generator.normal(size=[4, 5, n]) for n in (2, 2, 3, 3))
    x, q, y, qy = (a.astype("float32") for a in (x, q, y, qy))
    if missing:
        y[generator.random(y.shape) < 0.4] = NAN
        qy[generator.random(qy.shape) < 0.4] = NAN
        y[:, 0, 0] = qy[:, 0, 0] = 1.0
    return {"support_x": x, "support_y": y, "query_x": q}, qy


# Another test below trains a graph.
@pytest.mark.usefixtures("without_graphs")
@pytest.mark.parametrize("weighed", [False, True])
def test_training_and_metrics_count_known_targets_alone(weighed):
    task, query_y = batch()
    weight = np.ones([4, 5], "float32")
    if weighed:
        weight[1, 3:] = 0.0
        weight[2, :] = 2.0
        task["query_weight"] = weight
    maml = linear(
        mk.KnownTargets("mse"), metrics=["mae", mk.KnownTargets("mean_squared_error")]
    )
    predictions = maml.predict(task, verbose=0)
    logs = maml.evaluate(task, query_y, verbose=0, return_dict=True)
    counted = ~np.isnan(query_y) * weight[..., None]
    error = np.nan_to_num(query_y - predictions)
    mae = (np.abs(error) * counted).sum() / counted.sum()
    mse = (error**2 * counted).sum() / counted.sum()
    np.testing.assert_allclose(logs["mean_absolute_error"], mae, rtol=1e-5)
    np.testing.assert_allclose(logs["mean_squared_error"], mse, rtol=1e-5)
    every = (error**2 * counted).sum((1, 2)) / counted.sum((1, 2))
    np.testing.assert_allclose(logs["loss"], every.mean(), rtol=1e-5)
    # A metric with and without the wrapper.
    metric = mk.KnownTargets("mae") if weighed else "mean_absolute_error"
    result = mk.evaluate_episodes(maml, [(task, query_y)], metric=metric)
    mine = (np.abs(error) * counted).sum((1, 2)) / counted.sum((1, 2))
    np.testing.assert_allclose(result.per_episode[:, 1], mine, rtol=1e-5)
    history = maml.fit(task, query_y, epochs=2, verbose=0).history["loss"]
    assert history[-1] < history[0]


@pytest.mark.default_map
def test_a_target_that_is_nowhere_known_leaves_its_weights_alone():
    task, query_y = batch(missing=False)
    task["support_y"][..., 1] = query_y[..., 1] = NAN
    maml = linear(mk.KnownTargets("mse"))
    before = maml.model.layers[0].kernel.numpy()
    maml.fit(task, query_y, epochs=3, verbose=0)
    moved = maml.model.layers[0].kernel.numpy() != before
    assert moved[:, [0, 2]].all()
    assert not moved[:, 1].any()
    adapted = maml.adapt(task["support_x"][0], task["support_y"][0])
    moved = adapted.layers[0].kernel.numpy() != maml.model.layers[0].kernel.numpy()
    assert moved[:, [0, 2]].all()
    assert not moved[:, 1].any()


def test_nan_where_no_loss_leaves_it_out_is_refused():
    task, query_y = batch()
    with pytest.raises(ValueError, match=r"support_y.*wrapped: `mk.KnownTargets"):
        linear("mse").fit(task, query_y, verbose=0)
    outer = linear(mk.KnownTargets("mse"))
    outer.compile(keras.optimizers.SGD(0.1), loss="mse")
    with pytest.raises(ValueError, match="`query_y` must be finite"):
        outer.fit(task, query_y, verbose=0)
    task["support_y"][0, 0, 0] = np.inf
    with pytest.raises(ValueError, match="`support_y` must be finite. Received: 1 of"):
        linear(mk.KnownTargets("mse")).fit(task, query_y, verbose=0)
    own = keras.metrics.MeanAbsoluteError()
    counting = linear(mk.KnownTargets("mse"), metrics=[own])
    with pytest.raises(ValueError, match="must leave out missing targets"):
        counting.evaluate(*batch(), verbose=0)


def test_the_saved_model_and_the_export_know_it(tmp_path):
    task, query_y = batch()
    maml = linear(mk.KnownTargets("mse"), metrics=["mae"])
    expected = maml.evaluate(task, query_y, verbose=0, return_dict=True)
    maml.save(tmp_path / "a.keras")
    again = keras.saving.load_model(tmp_path / "a.keras")
    got = again.evaluate(task, query_y, verbose=0, return_dict=True)
    assert got == pytest.approx(expected, rel=1e-6)
    export = maml.export(tmp_path / "saved", verbose=0)
    x, y, q = (task[n][0] for n in ("support_x", "support_y", "query_x"))
    saved = tf.saved_model.load(str(export))
    adapted = maml.adapt(x, y).predict(q, verbose=0)
    np.testing.assert_allclose(
        saved.adapt_and_predict(x, y, q), adapted, rtol=1e-5, atol=1e-6
    )
    tuned = mk.fine_tune(export, x, y, verbose=0)
    np.testing.assert_allclose(
        tuned.predict(q, verbose=0), adapted, rtol=1e-5, atol=1e-6
    )
    y[0, 0] = np.inf
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be finite"):
        saved.adapt_and_predict(x, y, q)
    with pytest.raises(ValueError, match="Array `y` must be finite"):
        mk.fine_tune(export, x, y, verbose=0)


@pytest.mark.journey
@pytest.mark.parametrize("ending", ["onnx", "tflite"])
def test_files_that_learn_leave_out_targets_of_nan(tmp_path, ending):
    task, _ = batch()
    export = linear(mk.KnownTargets("mse")).export(tmp_path / "saved", verbose=0)
    path = tmp_path / f"a.{ending}"
    mk.convert(export, path, adapt=True)
    given = {name: values[0] for name, values in task.items()}
    given["steps"] = np.array(2, "int32")
    given["learning_rate"] = np.array(0.1, "float32")

    def answers():
        if ending == "onnx":
            runtime = pytest.importorskip("onnxruntime")
            return runtime.InferenceSession(str(path)).run(None, given)[0]
        runtime = pytest.importorskip("ai_edge_litert.interpreter")
        runner = runtime.Interpreter(str(path)).get_signature_runner(
            "adapt_and_predict"
        )
        return next(iter(runner(**given).values()))

    saved = tf.saved_model.load(str(export))
    np.testing.assert_allclose(
        answers(), saved.adapt_and_predict(**given), rtol=1e-5, atol=1e-6
    )
    given["support_y"][0, 0] = np.inf
    assert np.isnan(answers()).all()
