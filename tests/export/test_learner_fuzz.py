"""Nonsense never gets a plausible answer from a file that learns."""

import pathlib

import numpy as np
import pytest

import maml_keras as mk
from maml_keras.export.learner_formats import LEARNER_FORMATS

pytestmark = pytest.mark.slow

pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")
pytest.importorskip("ai_edge_litert")

FOLDER = pathlib.Path(__file__).parents[2] / "saved_models"
CALLS = 300
WAYS = 5


def good(generator):
    """A task that is as it should be."""
    support, query = generator.integers(1, 7, 2)
    return {
        "support_x": generator.uniform(size=[support, 28, 28, 1]).astype("float32"),
        "support_y": generator.integers(0, WAYS, support).astype("int32"),
        "query_x": generator.uniform(size=[query, 28, 28, 1]).astype("float32"),
        "steps": np.array(generator.integers(0, 3), "int32"),
        "learning_rate": np.array(generator.uniform(0, 0.5), "float32"),
    }


def one_number(name, values):
    """Puts one bad number at a random place of an array."""

    def spoil(task, generator):
        array = task[name].copy()
        array.flat[generator.integers(array.size)] = generator.choice(values)
        return {**task, name: array}

    return spoil


def replaced(name, change):
    return lambda task, generator: {**task, name: change(task[name])}


NAN = [np.nan, np.inf, -np.inf]
LABELS = [-1, -7, WAYS, WAYS + 1, 2**31 - 1, -(2**31)]
EXTRA_AXIS = replaced("support_y", lambda y: y[:, None])
SPOILED = [
    one_number("support_x", NAN),
    one_number("query_x", NAN),
    one_number("support_y", LABELS),
    one_number("steps", [-1, -5, -(2**31)]),
    one_number("learning_rate", [np.nan, np.inf, -0.1, -np.inf, 1e30]),
    replaced("support_x", lambda x: x[:0]),
    replaced("query_x", lambda x: x[:0]),
    replaced("support_y", lambda y: y[:0]),
    replaced("support_y", lambda y: np.append(y, y[:1])),
    replaced("support_x", lambda x: x[:, :27]),
    replaced("query_x", lambda x: x[..., 0]),
    EXTRA_AXIS,
    lambda task, _: {**task, "support_x": task["support_x"][:0], "support_y": []},
]


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_nonsense_gives_nan_or_an_error(tmp_path, suffix):
    done = mk.convert(FOLDER / "omniglot", tmp_path / f"l{suffix}", adapt=True)
    run = LEARNER_FORMATS[done.format].open(done.paths[-1])
    generator = np.random.default_rng(0)
    outcomes = {"nan": 0, "error": 0}
    for call in range(CALLS):
        kind = call % len(SPOILED)
        right = good(generator)
        task = SPOILED[kind](right, generator)
        task["support_y"] = np.asarray(task["support_y"], "int32")
        if not task["learning_rate"] <= 1 and not task["steps"]:
            # Without a step, a large rate is no nonsense.
            task["steps"] = np.array(2, "int32")
        try:
            found = run("adapt_and_predict", **task)["predictions"]
        # Each runtime has its own errors.
        except Exception:
            outcomes["error"] += 1
            continue
        if SPOILED[kind] is EXTRA_AXIS and np.isfinite(found).all():
            # LiteRT takes arrays of any rank. The answer is right, too.
            expected = run("adapt_and_predict", **right)["predictions"]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
            continue
        assert np.isnan(found).all(), (call, kind, found)
        outcomes["nan"] += 1
    # Most nonsense reaches the graph, and a runtime still answers afterwards.
    assert outcomes["nan"] > CALLS / 3, outcomes
    assert np.isfinite(run("adapt_and_predict", **good(generator))["predictions"]).all()
