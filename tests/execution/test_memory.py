"""`memory_estimate`: its parts against numbers known by hand, and its advice."""

import keras
import numpy as np
import psutil
import pytest
import tensorflow as tf
from helpers import classification, dense, maml, numpy_variables, regression

import maml_keras as mk


def estimate(task_map="sequential", tasks=4, optimizer="adam", **kwargs):
    learner = maml(dense(units=50), task_map=task_map, **kwargs)
    learner.compile(optimizer)
    return learner.memory_estimate(regression(tasks=tasks, queries=500))


def test_tasks_at_once_are_those_of_the_map():
    found = {
        name: estimate(task_map, tasks=6)
        for name, task_map in {
            "sequential": "sequential",
            "vectorized": "vectorized",
            "chunked": mk.Chunked(2),
        }.items()
    }
    at_once = {name: f.tasks_at_once for name, f in found.items()}
    assert at_once == {"sequential": 1, "vectorized": 6, "chunked": 2}
    for name, f in found.items():
        assert f.tasks_bytes == at_once[name] * f.task_bytes
    # A query pass of 500 examples and 50 units, kept for its derivative.
    one = found["sequential"].task_bytes
    assert 500 * 50 * 4 <= one <= 6 * 500 * 50 * 4


def test_tasks_on_several_cores_do_not_peak_together(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    found = estimate("parallel", tasks=6)
    one = found.task_bytes
    assert found.tasks_at_once == 4
    assert one < found.tasks_bytes < found.tasks_at_once * one


def test_a_batch_is_arrays_or_specs_and_changes_nothing():
    learner = maml(dense())
    learner.compile("adam")
    before, config = numpy_variables(learner), learner.get_config()
    batch = regression()
    specs = tf.nest.map_structure(lambda a: tf.TensorSpec(a.shape, a.dtype), batch)
    found = [learner.memory_estimate(b) for b in (batch, specs)]
    assert found[0].total_bytes == found[1].total_bytes
    assert learner.get_config() == config
    for old, new in zip(before, numpy_variables(learner)):
        np.testing.assert_array_equal(old, new)


def test_the_optimizer_counts_with_its_state():
    weights = 4 * dense(units=50).count_params()
    sizes = {name: estimate(optimizer=name).state_bytes for name in ("sgd", "adam")}
    assert sizes == {"sgd": weights, "adam": 3 * weights}


def test_memory_of_inner_steps_is_saved_by_rematerialization():
    def task_bytes(steps, rematerialize):
        inner = mk.InnerLoop(
            "mse", mk.SGD(0.1), steps=steps, rematerialize=rematerialize
        )
        learner = mk.MAML(dense(units=50), inner, task_map="sequential")
        return learner.memory_estimate(regression(support=500)).task_bytes

    few, many = task_bytes(2, False), task_bytes(8, False)
    assert many > 2.5 * few
    assert task_bytes(8, True) < 0.5 * many


@pytest.mark.parametrize(
    ("task_map", "free", "advice"),
    [
        ("vectorized", 0, "rematerialize=True"),
        ("vectorized", 0.6, "Chunked(4)"),
        ("vectorized", 0.2, "task_map='sequential'"),
        ("sequential", 0, "FirstOrder()"),
    ],
)
def test_advice_if_the_training_does_not_fit(monkeypatch, task_map, free, advice):
    fitting = estimate(task_map, tasks=8, steps=2)
    assert fitting.fits
    assert fitting.advice == ()
    left = int(fitting.total_bytes - (1 - free) * fitting.tasks_bytes)
    memory = psutil.virtual_memory()._replace(available=left)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    found = estimate(task_map, tasks=8, steps=2)
    assert not found.fits
    assert "This will not fit." in str(found)
    assert advice in str(found)


def test_a_wrong_batch_is_refused():
    learner = maml(dense(outputs=3))
    task, query_y = classification()
    with pytest.raises(ValueError, match="no query_y"):
        learner.memory_estimate(task)
    unknown = tf.TensorSpec([None, *query_y.shape[1:]], "int32")
    with pytest.raises(ValueError, match=r"known sizes.*shape=\(None, 6\)"):
        learner.memory_estimate((task, unknown))


def test_the_learner_is_not_compiled_yet():
    learner = maml(dense())
    assert learner.memory_estimate(regression()).state_bytes == 4 * sum(
        v.numpy().size for v in learner.trainable_variables
    )
    assert keras.config.floatx() == "float32"
