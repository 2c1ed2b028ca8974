"""Shared by all tests."""

import gc

import keras
import pytest


@pytest.fixture(autouse=True)
def _same_numbers_every_time(request):
    """Weights are drawn from the test's own seed, whatever ran before it."""
    # The data tests seed themselves and never build a model.
    if not request.path.name.startswith("test_data_"):
        keras.utils.set_random_seed(7)


@pytest.fixture(scope="module", autouse=True)
def _what_is_kept_is_not_searched_again():
    """Traced functions stay for good, and each full collection would walk them all."""
    yield
    gc.collect()
    gc.freeze()
