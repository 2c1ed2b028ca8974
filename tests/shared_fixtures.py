"""Fixtures and settings for all tests; conftest.py says which processes need them."""

import gc
import warnings

import keras
import pytest
import tensorflow as tf
from helpers import precision
from tensorflow.python.eager import context
from tensorflow.python.util import tf_stack

from maml_keras.backend import progress
from maml_keras.execution import auto_task_map, task_maps
from maml_keras.experiments import own_settings
from maml_keras.monitoring.watch import Watch

# Tracing creates millions of objects that stay. A garbage collection after each 700
# objects, the default, takes a tenth of the suite's time. A much higher threshold than
# this one would keep the memory of unused graphs for too long.
gc.set_threshold(20_000, 10, 10)

# As many processes run tests as there are cores. More threads for one small operation
# would wait for cores that other tests use.
tf.config.threading.set_intra_op_parallelism_threads(1)

# TensorFlow keeps the Python stack of each operation for its error messages. Pytest
# makes the stack deep, so that taking it is a sixth of the time of a trace. No test
# reads it.
_ONE_STACK = tf_stack.extract_stack()
tf_stack.extract_stack = lambda *_, **__: _ONE_STACK

# A new seed makes TensorFlow drop its kernels, because some of them hold a generator.
# Making them again takes half of the time of a small test without graphs. Keras keeps
# its generators elsewhere, so the kernels may stay.
_SEEDED = context.Context._set_global_seed


def _seeded_beside_its_kernels(self, seed):
    handle, self._context_handle = self._context_handle, None
    _SEEDED(self, seed)
    self._context_handle = handle


context.Context._set_global_seed = _seeded_beside_its_kernels


@pytest.fixture(autouse=True)
def _same_numbers_every_time(request):
    """Seeds each test, so that its weights do not depend on earlier tests."""
    # The data tests set their own seeds and never build a model.
    if request.path.parent.name != "data":
        keras.utils.set_random_seed(7)


@pytest.fixture(autouse=True)
def _graphs_run_as_traced(request):
    """Leaves TensorFlow's optimisation of graphs to the tests that need it.

    The optimisation takes an eighth of the suite's time. Slow tests and tests marked
    `optimized` have it, as a user's program does.
    """
    wanted = any(map(request.node.get_closest_marker, ["optimized", "slow"]))
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": not wanted})


@pytest.fixture(scope="module", autouse=True)
def _what_is_kept_is_not_searched_again():
    """Freezes traced functions, which stay, so that no collection visits them again."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture
def tasks_in_a_loop(request, monkeypatch):
    """Makes `task_map="auto"` the map that traces fastest, without XLA.

    For modules that train many small models and do not test maps:
    tests/execution/test_task_maps.py shows that all maps give the same numbers. A test
    marked `default_map` runs like a user's model.
    """
    if request.node.get_closest_marker("default_map"):
        return
    monkeypatch.setitem(auto_task_map.MAPS, "auto", task_maps.parallel)


@pytest.fixture
def without_graphs(request):
    """Runs each `tf.function` as plain Python.

    A meta-step of a few weights runs in a fifth of the time that its trace takes. For
    tests of numbers that do not depend on graphs: tests/outer/test_maml.py and
    tests/outer/test_meta_gradients.py show that graphs give the same numbers. A test
    marked `graphs` runs like a user's model.
    """
    if request.node.get_closest_marker("graphs"):
        yield
        return
    tf.config.run_functions_eagerly(True)
    # TensorFlow warns that Keras's datasets stay graphs.
    warnings.filterwarnings(
        "ignore", "Even though the .*functions_eagerly", UserWarning
    )
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def few_validation_tasks(monkeypatch):
    """Lets baselines choose their settings on 5 validation tasks in place of 100."""
    monkeypatch.setattr(own_settings, "VALIDATION_TASKS", 5)


@pytest.fixture
def looks():
    """Lets `no_looks` leave `Watch` as it is in a test that needs its looks."""


@pytest.fixture
def no_looks(request, monkeypatch):
    """Runs skip `Watch`'s looks, a quarter of a short run's time."""
    if "looks" not in request.fixturenames:
        monkeypatch.setattr(Watch, "on_epoch_end", lambda *_, **__: None)


@pytest.fixture
def float64():
    """New models and arrays have the type float64."""
    with precision("float64"):
        yield


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """The float type of new models and arrays."""
    with precision(request.param):
        yield request.param


@pytest.fixture
def at_once(monkeypatch):
    """Makes bars appear at once, as for long work."""
    monkeypatch.setattr(progress, "SECONDS", 0.0)
