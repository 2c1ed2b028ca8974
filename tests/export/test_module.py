"""Functions of an export: errors, threads, sizes and equal numbers."""

import concurrent.futures
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    RATE,
    assert_identical,
    dense,
    images,
    regression,
)

import maml_keras as mk
from maml_keras import MAML, SGD, Adam, ClipByNorm, InnerLoop

pytestmark = pytest.mark.journey

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def first(batch):
    """The first task's arguments by name."""
    return tf.nest.map_structure(lambda a: a[0], batch[0])


def answered_side_by_side(saved, tasks, threads=8):
    """Predictions for each task, computed by threads that start together."""
    start = threading.Barrier(threads)

    def work(mine):
        start.wait()
        return [saved.adapt_and_predict(*task).numpy() for task in mine]

    shares = [tasks[i::threads] for i in range(threads)]
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(work, shares))
    return [found[i % threads][i // threads] for i in range(len(tasks))]


def check_threads(model, shape, tmp_path, calls=200):
    maml = MAML(model, InnerLoop("mse", SGD(RATE), steps=2))
    path = str(maml.export(tmp_path / "saved"))
    task, _ = regression(shape, tasks=8 * calls)
    tasks = list(zip(*task.values()))
    # The export is loaded again, so that the threads also share the first call.
    found = answered_side_by_side(tf.saved_model.load(path), tasks)
    serial = tf.saved_model.load(path)
    assert_identical(found, [serial.adapt_and_predict(*t).numpy() for t in tasks])
    assert not np.array_equal(found[0], found[1])


@pytest.mark.slow
def test_threads_get_the_same_as_a_single_thread(tmp_path):
    check_threads(dense(), (3,), tmp_path)


@pytest.mark.slow
def test_threads_get_the_same_as_a_single_thread_from_convolutions(tmp_path):
    check_threads(images(keras.layers.BatchNormalization()), (6, 6, 1), tmp_path)


def contexts():
    return keras.Sequential(
        [
            keras.Input([3]),
            mk.ContextInput(2),
            keras.layers.Dense(4, activation="tanh"),
            keras.layers.Dense(2),
        ]
    )


COMPOSITIONS = {
    "adam_clipped": lambda: MAML(
        dense(), InnerLoop("mse", ClipByNorm(Adam(0.05), 0.5), steps=2)
    ),
    "context": lambda: mk.recipes.cavia(contexts(), "mse", 0.1, steps=2),
    "low_rank": lambda: MAML(
        mk.with_low_rank_adapters(dense(), rank=2), InnerLoop("mse", SGD(1.0), steps=2)
    ),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_an_export_predicts_as_its_composition_does(name, tmp_path):
    maml, batch = COMPOSITIONS[name](), regression()
    for variable in maml.trainable_variables:
        if variable.name != "context":  # Training keeps the context at zero.
            variable.assign(variable + 0.1 * keras.random.normal(variable.shape))
    saved = tf.saved_model.load(str(maml.export(tmp_path / "saved")))
    task = first(batch)
    close = {"rtol": 1e-4, "atol": 1e-5}  # float32, in another order
    expected = maml.predict(batch[0], verbose=0)[0]
    np.testing.assert_allclose(saved.adapt_and_predict(**task), expected, **close)
    assert np.abs(expected - saved.serve(task["query_x"])).max() > 1e-3
    longer = maml.adapt(task["support_x"], task["support_y"], steps=5)
    np.testing.assert_allclose(
        saved.adapt_and_predict(**task, steps=5), longer(task["query_x"]), **close
    )


def test_two_exports_of_a_model_are_the_same(tmp_path):
    maml, task = (
        MAML(dense(), InnerLoop("mse", SGD(RATE), steps=3)),
        first(regression()),
    )
    paths = [maml.export(tmp_path / name) for name in "ab"]
    files = "variables/variables.data-00000-of-00001", "card.json"
    for file in files:
        a, b = ((path / file).read_bytes() for path in paths)
        assert a == b
    a, b = (tf.saved_model.load(str(path)) for path in paths)
    assert_identical(
        [a.adapt_and_predict(**task).numpy(), a.serve(task["query_x"]).numpy()],
        [b.adapt_and_predict(**task).numpy(), b.serve(task["query_x"]).numpy()],
    )


EXPORTS = """
import keras, sys
from maml_keras import MAML, SGD, InnerLoop
keras.utils.set_random_seed(0)
layers = keras.layers
body = layers.Conv2D(3, 3), layers.BatchNormalization(), layers.Flatten()
model = keras.Sequential([keras.Input([6, 6, 1]), *body, layers.Dense(2)])
MAML(model, InnerLoop("mse", SGD(0.1))).export(sys.argv[1], verbose=0)
"""


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(tmp_path):
    for name in "ab":
        command = [sys.executable, "-c", EXPORTS, str(tmp_path / name)]
        subprocess.run(command, check=True, capture_output=True)
    files = "saved_model.pb", "variables/variables.data-00000-of-00001", "card.json"
    for file in files:
        a, b = ((tmp_path / name / file).read_bytes() for name in "ab")
        assert a == b, file


@pytest.mark.parametrize(
    "build",
    [
        lambda: MAML(mk.models.mlp(), InnerLoop("mse", SGD(0.01))),
        pytest.param(
            lambda: MAML(mk.models.conv4(ways=5), InnerLoop(CROSS_ENTROPY, SGD(0.4))),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["mlp", "conv4"],
)
def test_reference_networks_are_small_on_disk(build, tmp_path):
    maml = build()
    path = maml.export(tmp_path / "saved")
    size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    weights = 4 * maml.model.count_params()
    # The copy for Keras is left out: it alone is as large as the weights.
    assert size - (path / "learner.keras").stat().st_size <= 1.2 * weights + 1e6
