"""The physics examples: their equations, their solutions, and one run in small form."""

import importlib
import pathlib

import numpy as np
import pytest
import tensorflow as tf

import maml_keras as mk

pytestmark = pytest.mark.journey

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch):
    """Imports an example or one of its parts by name."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module


def left_sides(model, solution, points, constants):
    """The operators of an equation on a function in place of a network, in float64."""
    model.network = solution
    points = tf.constant(points, tf.float64)
    rows = tf.constant(np.tile(constants, [len(points), 1]), tf.float64)
    return [value.numpy() for value in model.operators(points, rows)]


def test_poissons_equation_holds_for_its_solution(example):
    poisson = example("physics_poisson")
    model = poisson.Poisson(example("physics_parts.conditions").smooth_network(1))
    x = np.linspace(0.1, 3.0, 7)[:, None]
    u, found = left_sides(model, lambda x: tf.sin(3.0 * x) / 9.0, x, [0.0] * 4)
    np.testing.assert_allclose(u, np.sin(3 * x) / 9, rtol=1e-12)
    np.testing.assert_allclose(found, np.sin(3 * x), rtol=1e-12, atol=1e-14)
    # The closed form that the errors refer to, beside second differences.
    solved = poisson.Sources().solved(seed=3, count=2)
    a = solved.task["support_x"]["constants"][:, 0].numpy()
    x = solved.task["query_x"]["point"][0, :, 0].numpy()
    for own, real in zip(a, solved.solution):
        # Differences of 1,000 points err by (4 * 0.00314)^2 / 12 of the fastest wave.
        np.testing.assert_allclose(
            real[:, 0], poisson.by_differences(own, x), atol=1e-4
        )


def test_the_third_order_equation_holds_for_its_solution(example):
    ode = example("physics_ode")
    model = ode.Reading(example("physics_parts.conditions").smooth_network(1))
    own = lag, damping, frequency = 0.5, 0.3, 2.0

    def solution(t):
        # By the two roots of the oscillator and the root of the sensor.
        times = np.linspace(0.0, 3.0, 4)
        basis = [tf.exp(-t / lag)]
        decay = tf.exp(-damping * t)
        basis += [decay * tf.cos(frequency * t), decay * tf.sin(frequency * t)]
        known = ode.reading(times[:, None], *own)
        columns = np.stack(
            [
                np.exp(-times / lag),
                np.exp(-damping * times) * np.cos(frequency * times),
                np.exp(-damping * times) * np.sin(frequency * times),
            ],
            axis=1,
        )
        parts = np.linalg.lstsq(columns, known, rcond=None)[0][:, 0]
        return sum(part * one for part, one in zip(parts, basis))

    times = np.linspace(0.0, 3.0, 5)[:, None]
    s, first, second, residual = left_sides(model, solution, times, own)
    np.testing.assert_allclose(s, ode.reading(times, *own), atol=1e-12)
    np.testing.assert_allclose(residual, 0.0, atol=1e-12)
    np.testing.assert_allclose([s[0], first[0], second[0]], [[0], [1], [-1]], atol=1e-9)


def test_the_reading_follows_the_position(example):
    from scipy.integrate import solve_ivp

    ode = example("physics_ode")
    lag, damping, frequency = 0.4, 0.2, 2.5

    def change(_, state):
        s, x, v = state
        k = damping**2 + frequency**2
        return [(x - s) / lag, v, -2 * damping * v - k * x]

    times = np.linspace(0.0, 3.0, 9)
    how = {"t_eval": times, "rtol": 1e-10, "atol": 1e-12}
    found = solve_ivp(change, (0.0, 3.0), [0.0, 1.0, 0.0], **how).y[0]
    np.testing.assert_allclose(
        ode.reading(times, lag, damping, frequency), found, atol=1e-8
    )


def test_burgers_equation_holds_for_travelling_waves(example):
    burgers = example("physics_burgers")
    model = burgers.Burgers(example("physics_parts.conditions").smooth_network(2))
    speed, viscosity = 0.7, 0.1

    def wave(point):
        # The front `c - tanh((x - c t) / 2 v)` moves without changing its form.
        x, t = point[:, :1], point[:, 1:]
        return speed - tf.tanh((x - speed * t) / (2.0 * viscosity))

    points = np.random.default_rng(0).uniform([-1, 0], [1, 1], [9, 2])
    _, residual = left_sides(model, wave, points, [viscosity])
    np.testing.assert_allclose(residual, 0.0, atol=1e-10)


def test_the_method_of_lines_agrees_with_cole_and_hopf(example):
    burgers = example("physics_burgers")
    # u = int s(x - y) f(y) g(y) dy / int f(y) g(y) dy with s = -sin(pi .), f = exp(
    # -cos(pi (x - y)) / (2 pi v)) and the heat kernel g; both integrals by nodes.
    nodes, weights = np.polynomial.hermite.hermgauss(100)
    for viscosity in burgers.VISCOSITY:
        found = burgers.by_lines(viscosity)
        for row in (5, 10):
            y = np.sqrt(4.0 * viscosity * burgers.TIMES[row]) * nodes
            moved = burgers.PLACES[:, None] - y
            log = -np.cos(np.pi * moved) / (2.0 * np.pi * viscosity)
            mass = np.exp(log - log.max(axis=1, keepdims=True)) * weights
            exact = -(np.sin(np.pi * moved) * mass).sum(1) / mass.sum(1)
            # Cells of 1/160 err by their square, where the front is steep.
            np.testing.assert_allclose(found[row], exact, atol=2e-3)


def test_conditions_are_a_saved_and_adapted_keras_model(example, tmp_path):
    poisson = example("physics_poisson")
    network = example("physics_parts.conditions").smooth_network(1)
    maml = mk.MAML(poisson.Poisson(network), mk.InnerLoop("mse", mk.SGD(0.01), steps=2))
    task, _ = poisson.Sources().sample([0, 1])
    support = task["support_x"], task["support_y"]
    adapted = maml.adapt(*support, steps=20, verbose=0)
    before, after = (
        np.mean((m(support[0]) - support[1]) ** 2) for m in (maml.model, adapted)
    )
    assert after < before
    adapted.save(tmp_path / "solved.keras")
    import keras

    again = keras.models.load_model(tmp_path / "solved.keras")
    np.testing.assert_array_equal(again(support[0]), adapted(support[0]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["poisson", "ode", "burgers"])
def test_a_small_study_runs_and_draws(example, name, tmp_path, capsys):
    how = ["--meta-steps", "2", "--seeds", "2", "--tasks", "2", "--steps", "101"]
    found = example(f"physics_{name}").main([*how, "--out", str(tmp_path)])
    table = capsys.readouterr().out
    assert (tmp_path / f"{name}.png").exists()
    assert "| Meta-SGD | learned rates |" in table
    assert {start for start, _ in found} == {
        "random",
        "trained on all tasks",
        "Meta-SGD",
    }
    for (_, optimizer), one in found.items():
        assert len(one.steps) == 2
        if optimizer != "L-BFGS":
            errors = np.stack(one.errors)
            assert errors.shape == (2, 2, 102)
            assert np.isfinite(errors[..., 0]).all()
