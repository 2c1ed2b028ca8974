"""A loaded export can be differentiated, and loads without a warning."""

import pathlib
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import assert_identical, dense, images, normalised, precision, regression

import maml_keras as mk
from maml_keras import MAML, SGD, FirstOrder, InnerLoop, MetaSGD

pytestmark = pytest.mark.journey

layers = keras.layers
NORMALISATIONS = {
    "batch": layers.BatchNormalization,
    "layer": layers.LayerNormalization,
}


@pytest.fixture(scope="module", params=NORMALISATIONS)
def network(request, tmp_path_factory):
    """A float64 export with a normalisation layer, and a task for it."""
    with precision("float64"):
        keras.utils.set_random_seed(0)
        model = normalised(NORMALISATIONS[request.param]())
        maml = MAML(model, InnerLoop("mse", SGD(0.1), steps=2))
        path = maml.export(tmp_path_factory.mktemp("export") / "network", verbose=0)
        batch = regression(support=6, queries=5)
    task = {name: tf.constant(values[0]) for name, values in batch[0].items()}
    task["support_y"] = tf.cast(task["support_y"], "float32")
    return path, task, tf.constant(batch[1][0])


@pytest.mark.slow
def test_loading_gives_no_warning(network, caplog):
    with caplog.at_level("WARNING", logger="absl"):
        tf.saved_model.load(str(network[0]))
    assert not caplog.records


FOLDER = pathlib.Path(__file__).parents[2] / "saved_models"
OTHERS = {
    "convolutions": lambda: images(layers.BatchNormalization()),
    "groups": lambda: normalised(layers.GroupNormalization(2)),
    "dense": dense,
}


@pytest.mark.parametrize("name", ["sinusoid", "omniglot", *OTHERS])
def test_loading_other_exports_gives_no_warning(name, caplog, tmp_path):
    path = FOLDER / name
    if name in OTHERS:
        maml = MAML(OTHERS[name](), InnerLoop("mse", SGD(0.1)))
        path = maml.export(tmp_path / "export", verbose=0)
    with caplog.at_level("WARNING", logger="absl"):
        tf.saved_model.load(str(path))
    assert not caplog.records


def slope(value, variables, directions, step=1e-5):
    """The derivative of `value()` along `directions`, by central differences."""
    ends = []
    for sign in (1.0, -1.0):
        for variable, direction in zip(variables, directions):
            variable.assign_add(sign * step * direction)
        ends.append(float(value()))
        for variable, direction in zip(variables, directions):
            variable.assign_sub(sign * step * direction)
    return (ends[0] - ends[1]) / (2 * step)


@pytest.mark.parametrize(
    "steps", [0, 2, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 4))]
)
def test_the_meta_gradient_goes_through_the_saved_inner_loop(network, steps):
    path, task, query_y = network
    saved = tf.saved_model.load(str(path))
    generator = np.random.default_rng(1)
    directions = [generator.normal(size=v.shape) for v in saved.trainable_variables]

    def query_loss():
        predictions = saved.adapt_and_predict(**task, steps=steps)
        return tf.reduce_mean(tf.square(predictions - query_y))

    with tf.GradientTape() as tape:
        loss = query_loss()
    gradient = tape.gradient(loss, saved.trainable_variables)
    found = sum(float(tf.reduce_sum(g * d)) for g, d in zip(gradient, directions))
    expected = slope(query_loss, saved.trainable_variables, directions)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_second_derivative_of_its_predictions_is_right(network):
    path, task, _ = network
    saved = tf.saved_model.load(str(path))
    generator = np.random.default_rng(2)
    variables = saved.trainable_variables
    directions = [generator.normal(size=v.shape) for v in variables]

    def slopes():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(saved.serve(task["query_x"])))
        found = tape.gradient(loss, variables)
        return sum(tf.reduce_sum(g * d) for g, d in zip(found, directions))

    with tf.GradientTape() as tape:
        value = slopes()
    second = tape.gradient(value, variables)
    found = sum(float(tf.reduce_sum(g * d)) for g, d in zip(second, directions))
    np.testing.assert_allclose(found, slope(slopes, variables, directions), rtol=1e-6)


def gradients_of(maml, path, steps):
    """Gradients of a loaded export's query loss for its weights and learned rates."""
    saved = tf.saved_model.load(str(maml.export(path, verbose=0)))
    task, query_y = regression()
    one = {name: tf.constant(values[0]) for name, values in task.items()}
    with tf.GradientTape() as tape:
        predictions = saved.adapt_and_predict(**one, steps=steps)
        loss = tf.reduce_mean(tf.square(predictions - query_y[0]))
    return tape.gradient(loss, [*saved.trainable_variables, *saved.rule_variables])


def test_an_export_has_exact_gradients_whatever_estimator_trained_it(tmp_path):
    model, inner = dense(), InnerLoop("mse", SGD(0.1), steps=2)
    exact = MAML(model, inner)
    batch = tf.nest.map_structure(lambda a: tf.constant(a[:1]), regression())
    _, expected = exact.compute_meta_gradients(batch)
    first = MAML(model, inner, meta_gradient=FirstOrder())
    _, other = first.compute_meta_gradients(batch)
    found = gradients_of(first, tmp_path / "first", steps=2)
    for ours, theirs, not_theirs in zip(found, expected, other, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
        assert np.abs(ours - not_theirs).max() > 1e-3 * np.abs(theirs).max()


def test_learned_rates_have_their_meta_gradient(tmp_path):
    maml = MAML(dense(), InnerLoop("mse", MetaSGD(0.1), steps=2))
    batch = tf.nest.map_structure(lambda a: tf.constant(a[:1]), regression())
    _, expected = maml.compute_meta_gradients(batch)
    found = gradients_of(maml, tmp_path / "export", steps=2)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_an_export_can_be_trained_further_and_saved_again(tmp_path):
    maml = MAML(dense(), InnerLoop("mse", SGD(0.1), steps=2))
    first = maml.export(tmp_path / "first", verbose=0)
    saved = tf.saved_model.load(str(first))
    task, query_y = regression()
    one = {name: tf.constant(values[0]) for name, values in task.items()}
    with tf.GradientTape() as tape:
        predictions = saved.adapt_and_predict(**one)
        loss = tf.reduce_mean(tf.square(predictions - query_y[0]))
    gradient = tape.gradient(loss, saved.trainable_variables)
    keras.optimizers.SGD(0.1).apply(gradient, saved.trainable_variables)
    tf.saved_model.save(saved, str(tmp_path / "better"), signatures=saved.signatures)
    for name in ("card.json", "learner.keras"):
        shutil.copy(first / name, tmp_path / "better" / name)
    better = tf.saved_model.load(str(tmp_path / "better"))
    before = [v.numpy() for v in maml.model.trainable_variables]
    after = [v.numpy() for v in saved.trainable_variables]
    assert np.abs(after[0] - before[0]).max() > 1e-3
    assert_identical(after, [v.numpy() for v in better.trainable_variables])
    better.fine_tune(one["support_x"], one["support_y"])
    better.reset()
    assert_identical(after, [v.numpy() for v in better.trainable_variables])
    assert_identical(
        after, [v.numpy() for v in mk.to_keras(tmp_path / "better").weights]
    )
    answer = better.signatures["adapt_and_predict"](
        **one, steps=tf.constant(2), learning_rate=tf.constant(0.1)
    )
    np.testing.assert_allclose(
        answer["predictions"], saved.adapt_and_predict(**one), rtol=1e-6
    )
    saved.reset()
    assert_identical(before, [v.numpy() for v in saved.trainable_variables])
