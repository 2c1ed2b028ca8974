"""Recurrent layers that run step by step give the results of Keras's loop."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from maml_keras.backend.recurrent import LONGEST, unrolled
from maml_keras.learner.graph_survey import nodes_of

CELLS = {
    "SimpleRNN": lambda **k: layers.SimpleRNN(3, **k),
    "LSTM": lambda **k: layers.LSTM(3, **k),
    "GRU": lambda **k: layers.GRU(3, **k),
    "stacked": lambda **k: layers.RNN([layers.LSTMCell(2), layers.GRUCell(3)], **k),
}


def operations(layer, x):
    function = tf.function(layer).get_concrete_function(tf.TensorSpec(x.shape, x.dtype))
    return {node.op for node in nodes_of(function.graph)}


def sequences(length=5):
    return np.random.default_rng(0).normal(size=[2, length, 4]).astype("float32")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"return_sequences": True},
        {"go_backwards": True, "return_sequences": True},
        {"return_state": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", CELLS)
def test_step_by_step_gives_the_results_of_the_loop(name, options):
    keras.utils.set_random_seed(0)
    layer, x = CELLS[name](**options), sequences()
    expected = layer(x)
    with unrolled():
        got = layer(x)
        assert not any("While" in op for op in operations(layer, x))
    assert any("While" in op for op in operations(layer, x))
    for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(expected)):
        np.testing.assert_allclose(a, b, atol=1e-6)  # float32


def test_bidirectional_runs_step_by_step():
    layer, x = layers.Bidirectional(layers.LSTM(3)), sequences()
    expected = layer(x)
    with unrolled():
        np.testing.assert_allclose(layer(x), expected, atol=1e-6)


def test_masked_sequences_keep_kerass_loop():
    model = keras.Sequential([layers.Masking(), layers.LSTM(3)])
    x = sequences()
    x[0, 3:] = 0.0
    expected = model(x)
    with unrolled():
        np.testing.assert_allclose(model(x), expected, atol=1e-6)
        assert any("While" in op for op in operations(model, x))


def test_long_sequences_keep_kerass_loop():
    layer = layers.LSTM(3)
    x = sequences(LONGEST + 1)
    layer(x)
    with unrolled():
        assert any("While" in op for op in operations(layer, x))


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("length", [5, LONGEST + 1])
def test_kernels_without_a_second_derivative_are_never_used(kind, length, monkeypatch):
    # On a GPU, Keras tries cuDNN first. On a CPU, the call fails, but it is visible.
    asked = []

    def cudnn(*arguments, **options):
        asked.append(kind)
        raise NotImplementedError

    monkeypatch.setattr(keras.src.backend, kind, cudnn)
    layer, x = CELLS[kind.upper()](), sequences(length)
    expected = layer(x)
    assert asked
    asked.clear()
    with unrolled():
        np.testing.assert_allclose(layer(x), expected, atol=1e-6)
        np.testing.assert_allclose(
            layer(x, mask=np.ones([2, length], bool)), expected, atol=1e-6
        )
    assert not asked
