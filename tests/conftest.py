"""Shared by all tests."""

import keras
import pytest


@pytest.fixture(autouse=True)
def _same_numbers_every_time(request):
    """Weights are drawn from the test's own seed, whatever ran before it."""
    # The data tests seed themselves and never build a model.
    if not request.path.name.startswith("test_data_"):
        keras.utils.set_random_seed(7)
