"""The training graph is optimised with fewer passes; results stay the same."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import batch_normalised, regression
from tensorflow.python.eager import context

import maml_keras as mk
from maml_keras.backend import graph_passes
from maml_keras.backend.graph_passes import without_idle_passes
from maml_keras.outer import keras_functions

pytestmark = pytest.mark.optimized


def passes():
    """The optimiser's settings for functions that are called now."""
    serialized = context.context().function_call_options.config_proto_serialized
    return tf.compat.v1.ConfigProto.FromString(serialized).graph_options.rewrite_options


def fitted(steps=1, **kwargs):
    keras.utils.set_random_seed(0)
    maml = mk.MAML(batch_normalised(), mk.InnerLoop("mse", mk.SGD(0.1), steps=steps))
    maml.compile(keras.optimizers.Adam(1e-2), **kwargs)
    maml.fit(tf.data.Dataset.from_tensors(regression()).repeat(3), verbose=0)
    return maml.get_weights()


def test_passes_are_off_inside_and_unchanged_outside():
    before = passes()
    inside = without_idle_passes(lambda _: passes())(None)
    assert all(getattr(inside, name) == inside.OFF for name in graph_passes.IDLE)
    assert inside.meta_optimizer_iterations == inside.ONE
    assert inside.memory_optimization == inside.NO_MEM_OPT
    # Passes that speed up derivatives stay on.
    assert inside.constant_folding == inside.arithmetic_optimization == inside.DEFAULT
    assert passes() == before != inside


@pytest.mark.parametrize("error", [StopIteration, ValueError])
def test_an_error_passes_through_and_restores_the_settings(error):
    def failing(_):
        raise error("the data has ended")

    before = passes()
    with pytest.raises(error, match="the data has ended"):
        without_idle_passes(failing)(None)
    assert passes() == before


def test_options_of_the_user_stay_in_force():
    before = tf.config.optimizer.get_experimental_options()
    assert "remapping" not in before
    here = context.context()
    try:
        tf.config.optimizer.set_experimental_options({"remapping": True})
        inside = without_idle_passes(lambda _: passes())(None)
        assert inside.remapping == inside.ON
        assert inside.layout_optimizer == inside.OFF
    finally:  # TensorFlow has no public way to undo the option.
        del here._optimizer_experimental_options["remapping"]
        here.function_call_options = None
    assert tf.config.optimizer.get_experimental_options() == before


def test_training_uses_fewer_passes_and_gives_the_same_weights(monkeypatch):
    seen = []

    def spying(function):
        short = without_idle_passes(lambda it: (seen.append(passes()), function(it))[1])
        return short

    monkeypatch.setattr(keras_functions, "without_idle_passes", spying)
    short = fitted(jit_compile=False)
    assert len(seen) >= 3
    assert all(p.remapping == p.OFF for p in seen)
    monkeypatch.setattr(keras_functions, "without_idle_passes", lambda f: f)
    for got, want in zip(short, fitted(jit_compile=False)):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)  # float32


@pytest.mark.parametrize("setting", ["run_eagerly", "jit_compile"])
def test_eager_and_xla_training_do_not_change_passes(monkeypatch, setting):
    def never(function):
        raise AssertionError("there is no graph to optimise")

    monkeypatch.setattr(keras_functions, "without_idle_passes", never)
    fitted(steps=0, **{setting: True})


def test_graphs_for_gpus_keep_all_passes(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    assert without_idle_passes(passes) is passes
