"""Several steps in one program give the same results as single steps."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import CountedMSE

from maml_keras import MAML, SGD, InnerLoop, models
from maml_keras.data import Sinusoid, episodes
from maml_keras.execution import fused_steps, xla_choice

pytestmark = pytest.mark.journey


@pytest.fixture(autouse=True)
def compiled_from_the_first_step_on(monkeypatch):
    monkeypatch.setattr(xla_choice, "EARNED_BACK", 1)


def run(data, *, loss="mse", fit=(), **options):
    keras.utils.set_random_seed(0)
    model = MAML(models.mlp(), InnerLoop(loss, SGD(0.01)), seed=0)
    model.compile(keras.optimizers.Adam(1e-2), metrics=["mae"], **options)
    history = model.fit(data, verbose=0, **dict(fit))
    return model, history.history


def sinusoids(count=None):
    return episodes(Sinusoid(), batch_size=4, seed=1, num_episodes=count)


def assert_same(one, other):
    (a, first), (b, second) = one, other
    for name, values in first.items():
        np.testing.assert_allclose(values, second[name], rtol=1e-4)  # float32
    for v, w in zip(a.get_weights(), b.get_weights()):
        np.testing.assert_allclose(v, w, atol=1e-4)
    assert int(a.episodes_seen) == int(b.episodes_seen)
    assert int(a.optimizer.iterations) == int(b.optimizer.iterations)


@pytest.mark.parametrize(
    "steps_per_epoch", [pytest.param(6, marks=pytest.mark.slow), 7]
)
def test_endless_data_gives_the_results_of_single_steps(steps_per_epoch):
    fit = {"steps_per_epoch": steps_per_epoch, "epochs": 2}
    fused = run(sinusoids(), fit=fit)
    assert fused[0].jit_compile
    assert fused[0].steps_per_execution == steps_per_epoch
    single = run(sinusoids(), fit=fit, jit_compile=False, steps_per_execution=1)
    assert_same(fused, single)


def test_data_that_ends_inside_a_call_is_used_to_its_end():
    # 5 batches with 3 in a call: calls of 3 and 2.
    options = {"jit_compile": True, "steps_per_execution": 3}
    fused = run(sinusoids(20), fit={"epochs": 2}, **options)
    assert int(fused[0].episodes_seen) == 40
    single = run(
        sinusoids(20), fit={"epochs": 2}, jit_compile=False, steps_per_execution=1
    )
    assert_same(fused, single)


def test_without_xla_the_steps_are_one_program_too(monkeypatch):
    calls, walked = [], fused_steps._Program.run
    monkeypatch.setattr(
        fused_steps._Program,
        "run",
        lambda *args: (calls.append(1), walked(*args))[1],
    )
    fit = {"steps_per_epoch": 6, "epochs": 2}
    fused = run(sinusoids(), fit=fit, jit_compile=False, steps_per_execution=3)
    assert len(calls) == 4
    single = run(sinusoids(), fit=fit, jit_compile=False, steps_per_execution=1)
    assert len(calls) == 4
    assert_same(fused, single)


@pytest.mark.slow
def test_batches_without_a_fixed_shape_run_by_kerass_own_function():
    ragged = sinusoids(10)  # 4, 4 and 2 tasks
    assert ragged.element_spec[1].shape[0] is None
    options = {"jit_compile": True, "steps_per_execution": 2}
    model, _ = run(ragged, **options)
    assert int(model.episodes_seen) == 10


def test_a_step_is_traced_once():
    counted = CountedMSE()
    model, _ = run(sinusoids(), loss=counted, fit={"steps_per_epoch": 2})
    traced = counted.calls
    model.fit(sinusoids(), steps_per_epoch=2, epochs=3, verbose=0)
    assert counted.calls == traced > 0


def test_the_request_auto_is_saved_and_not_the_chosen_setting():
    model, _ = run(sinusoids(), fit={"steps_per_epoch": 2})
    config = model.get_compile_config()
    assert config["jit_compile"] == "auto"
    assert config["steps_per_execution"] == "auto"


def test_eager_and_large_models_run_step_by_step():
    model, _ = run(sinusoids(), fit={"steps_per_epoch": 2}, run_eagerly=True)
    assert not model.jit_compile
    assert model.steps_per_execution == 1
    assert isinstance(model.episodes_seen.value, tf.Variable)


@pytest.mark.parametrize(("steps", "count"), [(3, 3), (12, 10)])
def test_a_call_reads_the_batches_that_it_needs_and_no_more(steps, count):
    iterator = iter(tf.data.Dataset.range(10))
    spec = iterator.element_spec
    read, arrays = tf.function(lambda: fused_steps._read(iterator, steps, spec))()
    assert int(read) == count
    np.testing.assert_array_equal(arrays[0][:count], np.arange(count))
    # The next call goes on with the batch after the last.
    assert [int(x) for x in iterator] == list(range(count, 10))
