"""Shared by all tests."""

import gc

import keras
import pytest

from maml_keras.execution import auto_task_map, task_maps

# Tracing makes millions of objects that stay: looking for rubbish after each 700 of
# them takes a tenth of the suite's time. Much rarer than this is too rare: a graph that
# nobody needs holds its memory until it is found.
gc.set_threshold(20_000, 10, 10)


@pytest.fixture(autouse=True)
def _same_numbers_every_time(request):
    """Weights are drawn from the test's own seed, whatever ran before it."""
    # The data tests seed themselves and never build a model.
    if request.path.parent.name != "data":
        keras.utils.set_random_seed(7)


@pytest.fixture(scope="module", autouse=True)
def _what_is_kept_is_not_searched_again():
    """Traced functions stay for good, and each full collection would walk them all."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture
def tasks_in_a_loop(request, monkeypatch):
    """`task_map="auto"` is the map that is quickest to trace, and leaves XLA out.

    For modules that train many small models and look at something else:
    tests/execution/test_task_maps.py shows that all maps give the same. A test marked
    `default_map` runs as a user's model would.
    """
    if request.node.get_closest_marker("default_map"):
        return
    monkeypatch.setitem(auto_task_map.MAPS, "auto", task_maps.parallel)
