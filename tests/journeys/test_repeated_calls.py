"""What a process holds does not grow with the number of calls."""

import functools
import gc

import keras
import psutil
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

from maml_keras import MAML, SGD, InnerLoop, WholeBackup, evaluate_episodes
from maml_keras.data import Sinusoid, episodes
from maml_keras.models.networks import mlp

pytestmark = [pytest.mark.journey, pytest.mark.slow]


@functools.cache
def batches():
    return episodes(Sinusoid(), batch_size=2, seed=1)


@functools.cache
def unseen():
    return episodes(Sinusoid(), batch_size=2, seed=2, num_episodes=4)


def fit(maml, folder):
    maml.fit(batches(), steps_per_epoch=2, verbose=0)


def fit_under_xla(maml, folder):
    fit(maml, folder)


def fit_with_a_backup(maml, folder):
    maml.fit(batches(), steps_per_epoch=2, verbose=0, callbacks=[WholeBackup(folder)])


def evaluate(maml, folder):
    maml.evaluate(unseen(), verbose=0)
    evaluate_episodes(maml, unseen(), steps=1, verbose=0)


def adapt(maml, folder):
    task, _ = next(iter(unseen()))
    maml.adapt(task["support_x"][0], task["support_y"][0], verbose=0)


def save_and_load(maml, folder):
    maml.save(folder / "maml.keras")
    keras.saving.load_model(folder / "maml.keras")


def export_and_load(maml, folder):
    exported = maml.export(folder / "export", verbose=0)
    task, _ = next(iter(unseen()))
    served = tf.saved_model.load(str(exported))
    served.adapt(task["support_x"][0], task["support_y"][0], 1, 0.01)


CALLS = [
    fit,
    fit_under_xla,
    fit_with_a_backup,
    evaluate,
    adapt,
    save_and_load,
    export_and_load,
]


def held():
    """What is alive, without a number of bytes, which would depend on the machine."""
    for _ in range(3):
        gc.collect()
    alive = [type(thing).__name__ for thing in gc.get_objects()]
    process = psutil.Process()
    return {
        "graphs": alive.count("FuncGraph"),
        "iterators": alive.count("OwnedIterator"),
        "variables": alive.count("ResourceVariable"),
        "functions of the runtime": len(context.context().list_function_names()),
        "files": len(process.open_files()),
    }


@pytest.mark.parametrize("call", CALLS)
def test_repeated_calls_keep_nothing(call, tmp_path):
    keras.utils.set_random_seed(0)
    maml = MAML(mlp(hidden=[8]), InnerLoop("mse", SGD(0.01)), seed=0)
    maml.compile("adam", jit_compile=call is fit_under_xla)
    for _ in range(2):  # The first calls trace and fill caches.
        call(maml, tmp_path)
    before = held()
    for _ in range(3):
        call(maml, tmp_path)
    assert held() == before
