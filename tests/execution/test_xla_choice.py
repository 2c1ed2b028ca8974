"""XLA compiles where that pays, and training goes on where XLA cannot compile."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import regression

from maml_keras import MAML, SGD, InnerLoop
from maml_keras.execution import xla_choice


def uncompilable(y_true, y_pred):
    """Mean squared error through an operation that XLA does not have."""
    text = tf.strings.as_string(tf.reduce_mean(y_pred))
    zero = 0.0 * tf.cast(tf.strings.length(text), y_pred.dtype)
    return tf.reduce_mean(tf.square(y_true - y_pred)) + zero


def endless():
    return tf.data.Dataset.from_tensors(regression()).repeat()


def four_batches():
    parts = tf.data.Dataset.from_tensor_slices(regression(tasks=8))
    return parts.batch(2, drop_remainder=True)


def model_of(metrics=(), **options):
    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
    model = MAML(net, InnerLoop("mse", SGD(0.1)))
    model.compile(keras.optimizers.Adam(0.01), metrics=list(metrics), **options)
    return model


def test_a_short_training_does_not_compile_and_a_long_one_does(monkeypatch):
    monkeypatch.setattr(xla_choice, "EARNED_BACK", 8)
    model = model_of()
    model.fit(endless(), steps_per_epoch=4, epochs=1, verbose=0)
    assert not model.jit_compile
    model = model_of()
    model.fit(endless(), steps_per_epoch=4, epochs=2, verbose=0)
    assert model.jit_compile


def test_the_steps_of_earlier_trainings_count(monkeypatch):
    monkeypatch.setattr(xla_choice, "EARNED_BACK", 8)
    model = model_of()
    model.fit(endless(), steps_per_epoch=4, verbose=0)
    assert not model.jit_compile
    model.fit(endless(), steps_per_epoch=4, verbose=0)
    assert model.jit_compile
    # The compilation is paid for.
    monkeypatch.setattr(xla_choice, "EARNED_BACK", 10_000)
    model.fit(endless(), steps_per_epoch=4, verbose=0)
    assert model.jit_compile


def test_epochs_before_the_initial_epoch_count_once(monkeypatch):
    monkeypatch.setattr(xla_choice, "EARNED_BACK", 16)
    model = model_of()
    model.fit(endless(), steps_per_epoch=4, epochs=2, verbose=0)
    model.fit(endless(), steps_per_epoch=4, epochs=3, initial_epoch=2, verbose=0)
    assert not model.jit_compile  # Twelve meta-steps in all, as without a break.


def trained_on(data):
    """A model whose metric XLA cannot compile, after eight steps on four batches."""
    model = model_of([uncompilable])
    if data == "arrays":
        arrays, how = regression(tasks=8), {"batch_size": 2, "shuffle": False}
        history = model.fit(*arrays, epochs=2, verbose=0, **how)
    elif data == "finite":
        history = model.fit(four_batches(), epochs=2, verbose=0)
    else:
        history = model.fit(
            four_batches().repeat(), steps_per_epoch=4, epochs=2, verbose=0
        )
    return model, history.history


@functools.cache
def trained_without_xla():
    """The weights and the history if nothing tries XLA; each kind of data has them."""
    model, history = trained_on("finite")
    assert not model._xla_refused
    return model.get_weights(), history


@pytest.mark.parametrize("data", ["endless", "finite", "arrays"])
def test_a_step_that_xla_cannot_compile_runs_without_xla(data, monkeypatch):
    weights, expected = trained_without_xla()
    monkeypatch.setattr(xla_choice, "EARNED_BACK", 1)
    model, history = trained_on(data)
    assert model._xla_refused
    assert not model.jit_compile
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-5)
    for v, w in zip(model.get_weights(), weights):
        np.testing.assert_allclose(v, w, rtol=1e-4, atol=1e-6)
    assert int(model.meta_steps) == int(model.optimizer.iterations) == 8


def test_a_compilation_that_was_asked_for_fails_in_the_words_of_xla():
    model = model_of([uncompilable], jit_compile=True)
    with pytest.raises(tf.errors.OpError, match="XLA"):
        model.fit(endless(), steps_per_epoch=4, verbose=0)


def test_other_errors_are_raised():
    assert not xla_choice.refused_by_xla(tf.errors.OutOfRangeError(None, None, "end"))

    def failing(batch):
        raise tf.errors.OutOfRangeError(None, None, "no such class")

    function = xla_choice.with_fallback(failing, lambda: failing, pytest.fail)
    with pytest.raises(tf.errors.OutOfRangeError, match="no such class"):
        function(regression())
