"""An export can be differentiated by whoever loads it, and loads without a warning."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import normalised, precision, regression

from maml_keras import MAML, SGD, InnerLoop

layers = keras.layers
NORMALISATIONS = {
    "batch": layers.BatchNormalization,
    "layer": layers.LayerNormalization,
}


@pytest.fixture(scope="module", params=NORMALISATIONS)
def network(request, tmp_path_factory):
    """An export in float64 with such a layer, a task, and what TensorFlow warned of."""
    with precision("float64"):
        keras.utils.set_random_seed(0)
        model = normalised(NORMALISATIONS[request.param]())
        maml = MAML(model, InnerLoop("mse", SGD(0.1), steps=2))
        path = maml.export(tmp_path_factory.mktemp("export") / "network", verbose=0)
        batch = regression(support=6, queries=5)
    task = {name: tf.constant(values[0]) for name, values in batch[0].items()}
    task["support_y"] = tf.cast(task["support_y"], "float32")
    return path, task, tf.constant(batch[1][0])


def test_loading_warns_of_nothing(network, caplog):
    with caplog.at_level("WARNING", logger="absl"):
        tf.saved_model.load(str(network[0]))
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


@pytest.mark.parametrize("steps", [0, 1, 2, 4])
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
