"""`Sinusoid`: the distribution of the paper, checked from its parameters."""

import math

import numpy as np
import pytest

from maml_keras.data import Sinusoid, SinusoidOracle


@pytest.fixture(scope="module")
def waves():
    tasks = Sinusoid(shots=6, queries=4)
    amplitude, phase = tasks.parameters([5, 6], 20_000)
    task, query_y = tasks.sample_many([5, 6], 20_000)
    arrays = {key: value.numpy() for key, value in task.items()}
    return amplitude.numpy(), phase.numpy(), {**arrays, "query_y": query_y.numpy()}


@pytest.mark.parametrize(("part", "points"), [("support", 6), ("query", 4)])
def test_targets_are_the_sine_of_the_parameters(waves, part, points):
    amplitude, phase, arrays = waves
    x, y = arrays[f"{part}_x"], arrays[f"{part}_y"]
    assert x.shape == y.shape == (20_000, points, 1)
    assert x.dtype == y.dtype == np.float32
    expected = amplitude[:, None] * np.sin(x[..., 0].astype(float) - phase[:, None])
    # float32: an argument up to 8.2 and an amplitude up to 5, so 5 * 8.2 * 6e-8.
    np.testing.assert_allclose(y[..., 0], expected, atol=5e-6)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("amplitude", 0.1, 5.0), ("phase", 0.0, math.pi), ("x", -5.0, 5.0)],
)
def test_parameters_are_uniform_in_their_range(waves, name, low, high):
    amplitude, phase, arrays = waves
    x = np.concatenate([arrays["support_x"], arrays["query_x"]], axis=1)
    values = {"amplitude": amplitude, "phase": phase, "x": x}[name].ravel()
    assert values.min() >= np.float32(low)
    assert values.max() <= np.float32(high)
    # Ten equal bins; the share of a bin has std sqrt(0.1 * 0.9 / n), and chance exceeds
    # five standard deviations once in 10**6.
    share = np.histogram(values, bins=10, range=(low, high))[0] / len(values)
    np.testing.assert_allclose(share, 0.1, atol=5 * math.sqrt(0.09 / len(values)))


def test_draws_are_independent(waves):
    amplitude, phase, arrays = waves
    columns = [amplitude, phase, *arrays["support_x"][..., 0].T]
    columns += [*arrays["query_x"][..., 0].T]
    correlation = np.corrcoef(columns) - np.eye(len(columns))
    # A sample correlation of independent columns has std 1 / sqrt(n).
    assert np.abs(correlation).max() < 5 / math.sqrt(20_000)


def test_sample_is_the_first_task_of_sample_many():
    tasks = Sinusoid(shots=3, queries=2)
    task, query_y = tasks.sample([1, 2])
    tasks_, queries_y = tasks.sample_many([1, 2], 1)
    assert query_y.shape == (2, 1)
    np.testing.assert_array_equal(query_y, queries_y[0])
    np.testing.assert_array_equal(task["support_x"], tasks_["support_x"][0])


def test_ranges_can_be_chosen():
    tasks = Sinusoid(amplitude=(2.0, 2.5), phase=(1.0, 1.5), x=(0.0, 0.1))
    amplitude, phase = tasks.parameters([0, 0], 500)
    x = tasks.sample_many([0, 0], 500)[0]["query_x"].numpy()
    for values, low, high in ((amplitude, 2, 2.5), (phase, 1, 1.5), (x, 0, 0.1)):
        assert low <= np.min(values) < np.max(values) <= np.float32(high)
    assert "amplitude=(2.0, 2.5)" in repr(tasks)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shots": 0}, r"`shots` must be .* at least 1. Received: 0"),
        ({"queries": 2.0}, r"`queries` must be .* Received: 2.0"),
        ({"amplitude": (5.0, 0.1)}, r"`amplitude` must be .*low < high.*\(5.0, 0.1\)"),
        ({"phase": 3.0}, r"`phase` must be two finite numbers .* Received: 3.0"),
        ({"x": (0.0, math.inf)}, r"`x` must be two finite numbers"),
    ],
)
def test_wrong_arguments_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        Sinusoid(**arguments)


@pytest.mark.parametrize("seed", [[1, 2, 3], 5, [0.5, 1.0]])
def test_wrong_seed_is_explained(seed):
    with pytest.raises(ValueError, match=r"`seed` must be an int tensor of shape"):
        Sinusoid().sample(seed)


def test_the_oracle_gets_the_parameters_of_the_wave():
    family = Sinusoid(shots=3, queries=2)
    task, query_y = SinusoidOracle(family).sample_many([1, 2], 50)
    x, amplitude, phase = np.moveaxis(task["query_x"].numpy(), -1, 0)
    wave = amplitude * np.sin(x - phase)
    np.testing.assert_allclose(query_y[..., 0], wave, atol=5e-6)  # float32
    same = family.sample_many([1, 2], 50)[0]["query_x"][..., 0]
    np.testing.assert_array_equal(x, same)
