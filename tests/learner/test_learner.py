"""The model as a pure function of its weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    assert_identical,
    batch_normalised,
    dense,
    family,
    images,
    maml,
    numpy_variables,
    precision,
    regression,
    regularised,
    task_of,
    with_dropout,
)

from maml_keras import evaluate_episodes
from maml_keras.learner.learner import Learner, is_seed

layers = keras.layers


@pytest.mark.parametrize(
    "name", ["dense", "conv", "embedding", "attention", "multi_input", "subclassed"]
)
def test_prediction_equals_the_prediction_of_the_model(name):
    model, batch = family(name)
    x = task_of(batch, 0)[0]["support_x"]
    learner = Learner(model)
    output = learner(learner.weights(), learner.state(), x, training=False)
    np.testing.assert_allclose(output.predictions, model(x), rtol=1e-6, atol=1e-7)


def test_prediction_uses_the_weights_it_is_given():
    model, x = dense(), tf.ones([2, 3])
    learner = Learner(model)
    moved = [w + 0.5 for w in learner.weights()]
    got = learner(moved, learner.state(), x, training=False).predictions
    for variable, value in zip(model.trainable_variables, moved):
        variable.assign(value)
    np.testing.assert_allclose(got, model(x), rtol=1e-6)  # float32


@pytest.mark.parametrize("build", [batch_normalised, with_dropout])
def test_a_pass_does_not_change_the_model(build):
    model = build()
    learner = Learner(model)
    before = numpy_variables(model)
    output = learner(learner.weights(), learner.state(), tf.ones([2, 3]), training=True)
    assert_identical(before, numpy_variables(model))
    assert any(np.any(old != new) for old, new in zip(learner.state(), output.state))


def test_penalty_is_the_sum_of_the_models_losses():
    model = regularised()
    learner = Learner(model)
    output = learner(learner.weights(), [], tf.ones([2, 3]), training=False)
    kernels = [layer.kernel.numpy() for layer in model.layers]
    expected = 0.01 * np.sum(kernels[0] ** 2) + 0.1 * np.sum(kernels[1] ** 2)
    np.testing.assert_allclose(output.penalty, expected, rtol=1e-5)  # float32


def test_penalty_has_the_models_precision():
    with precision("float64"):
        learner = Learner(regularised())
        output = learner(
            learner.weights(), [], tf.ones([2, 3], tf.float64), training=False
        )
    assert output.penalty.dtype == tf.float64


def test_model_without_losses_has_no_penalty():
    learner = Learner(dense())
    output = learner(learner.weights(), [], tf.ones([2, 3]), training=False)
    assert float(output.penalty) == 0.0


def test_seeds_replace_generator_state_and_nothing_else():
    model = keras.Sequential(
        [
            keras.Input([3]),
            layers.Dropout(0.5),
            layers.Dense(3),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
        ]
    )
    learner = Learner(model)
    assert learner.num_seeds == 2
    seeds = np.array([[1, 2], [3, 4]])
    state = learner.state(tf.constant(seeds, tf.int32))
    plain = learner.state()
    found = [value for v, value in zip(learner.state_variables, state) if is_seed(v)]
    np.testing.assert_array_equal(found, seeds)
    for v, old, new in zip(learner.state_variables, plain, state):
        if not is_seed(v):
            np.testing.assert_array_equal(old, new)


def test_support_pass_advances_seeds_and_keeps_statistics():
    model = keras.Sequential(
        [
            keras.Input([3]),
            layers.Dropout(0.5),
            layers.Dense(3),
            layers.BatchNormalization(),
        ]
    )
    learner = Learner(model)
    state = learner.state()
    after = learner(learner.weights(), state, tf.ones([2, 3]), training=True).state
    kept = learner.advance(state, after)
    for v, old, new, got in zip(learner.state_variables, state, after, kept):
        np.testing.assert_array_equal(got, new if is_seed(v) else old)
        assert np.any(np.asarray(old) != np.asarray(new))
    moved = learner.moved(state, after)
    assert [learner.state_variables[i].name for i in moved] == [
        "moving_mean",
        "moving_variance",
    ]


def test_batch_statistics_are_those_of_the_batch():
    model = batch_normalised()
    x = np.random.default_rng(0).normal(size=[7, 3]).astype("float32")
    learner = Learner(model)
    mean, variance = learner.batch_statistics(learner.weights(), learner.state(), x)
    hidden = model.layers[0](x).numpy()
    # `batch_statistics` divides by 1 - momentum, which costs a digit of float32.
    np.testing.assert_allclose(mean, hidden.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, hidden.var(axis=0), rtol=1e-4, atol=1e-5)


def test_sparse_gradient_becomes_dense_and_none_becomes_zero():
    model = dense()
    learner = Learner(model)
    slices = tf.IndexedSlices(tf.ones([1, 4]), tf.constant([1]), tf.constant([3, 4]))
    with pytest.warns(UserWarning, match=r"dense\w*/bias"):
        filled = learner.filled([slices, None], learner.variables[:2])
    np.testing.assert_array_equal(filled[0], [[0] * 4, [1] * 4, [0] * 4])
    np.testing.assert_array_equal(filled[1], np.zeros(4))


def test_an_object_that_is_not_a_model_is_refused():
    with pytest.raises(TypeError, match=r"`keras.Model` of Keras 3. Received.*Dense"):
        Learner(layers.Dense(1))


def test_unbuilt_model_is_refused_by_the_layers_name():
    model = keras.Sequential([layers.Dense(1, name="late")])
    with pytest.raises(ValueError, match=r"must be built.*late.*keras\.Input"):
        Learner(model)


def test_model_without_trainable_weights_is_refused():
    model = images()
    model.trainable = False
    with pytest.raises(ValueError, match="must have trainable variables"):
        Learner(model)


def test_weights_inside_of_a_saved_model_are_refused_by_name(tmp_path):
    # Their gradient would be zero, though the predictions depend on them.
    dense().export(tmp_path / "saved", verbose=False)
    saved = keras.layers.TFSMLayer(
        str(tmp_path / "saved"), call_endpoint="serve", name="saved"
    )
    model = keras.Sequential([keras.Input([3]), saved, keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=r"'saved' \(TFSMLayer\).*trainable = False"):
        Learner(model)
    saved.trainable = False
    Learner(model)


@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"a": v}])
def test_raw_tensorflow_variable_is_refused_by_name(wrap):
    class Raw(layers.Layer):
        def __init__(self):
            super().__init__(name="raw")
            self.offset = wrap(tf.Variable(1.0))

        def call(self, x):
            return x

    model = keras.Sequential([keras.Input([3]), layers.Dense(2), Raw()])
    with pytest.raises(ValueError, match=r"Layer 'raw'.*'offset'.*add_weight"):
        Learner(model)


def test_a_layer_that_writes_to_its_own_weight_is_refused():
    # The written value would be lost: the next step starts from the task's weights.
    spectral = layers.SpectralNormalization(layers.Dense(2))
    learner = Learner(keras.Sequential([keras.Input([3]), spectral]))
    x, weights, state = np.ones([4, 3], "float32"), learner.weights(), learner.state()
    learner(weights, state, x, training=False)
    with pytest.raises(ValueError, match=r"assigns its trainable weight '.*kernel'"):
        learner(weights, state, x, training=True)


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match=r"'jax'.*KERAS_BACKEND=tensorflow"):
        Learner(dense())


def test_traced_functions_are_dropped_when_layers_are_frozen():
    model, (task, query_y) = dense(), regression()
    learner = maml(model)
    learner.compile("sgd")
    x, y = task["support_x"][0], task["support_y"][0]

    def moved():
        tuned = learner.adapt(x, y, steps=1)
        curve = evaluate_episodes(learner, [(task, query_y)], verbose=0).curve
        return np.abs(tuned.layers[0].kernel - model.layers[0].kernel).max(), curve

    before, curve = moved()
    model.layers[0].trainable = False
    learner.compile("sgd")
    after, frozen_curve = moved()
    assert before > 1e-3
    assert after == 0.0
    assert curve[0] == pytest.approx(frozen_curve[0])
    assert abs(curve[1] - frozen_curve[1]) > 1e-4
