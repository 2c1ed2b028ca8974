"""The named arguments and outputs of an export."""

import json

import keras
import pytest
import tensorflow as tf
from helpers import (
    RATE,
    classification,
    dense,
    multi_input,
    regression,
)

from maml_keras import MAML, SGD, InnerLoop, MetaSGD

pytestmark = pytest.mark.journey

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

WAYS = 3


def first(batch):
    """The first task's arguments by name."""
    return tf.nest.map_structure(lambda a: a[0], batch[0])


def test_the_card_describes_every_function(tmp_path):
    maml = MAML(dense(outputs=WAYS), InnerLoop(CROSS_ENTROPY, MetaSGD(RATE), steps=2))
    path = maml.export(tmp_path / "saved")
    described = json.loads((path / "card.json").read_text())["functions"]
    saved = tf.saved_model.load(str(path))
    assert all(callable(getattr(saved, name)) for name in described)
    assert described["adapt_and_predict"] == {
        "arguments": {
            "support_x": {"shape": [None, 3], "dtype": "float32"},
            "support_y": {"shape": [None], "dtype": "int32"},
            "query_x": {"shape": [None, 3], "dtype": "float32"},
            "steps": {"shape": [], "dtype": "int32", "default": 2},
            "learning_rate": {"shape": [], "dtype": "float32", "default": -1.0},
        },
        "returns": {"shape": [None, WAYS], "dtype": "float32"},
    }
    weights = described["adapt"]["returns"]
    assert described["predict_with"]["arguments"]["weights"] == weights
    task = first(classification(ways=WAYS))
    found = saved.adapt(task["support_x"], task["support_y"])
    assert {k: list(v.shape) for k, v in found.items()} == {
        k: v["shape"] for k, v in weights.items()
    }
    assert described["reset"]["arguments"] == {}


def test_signatures_have_names(tmp_path):
    maml = MAML(multi_input(), InnerLoop("mse", SGD(RATE)))
    saved = tf.saved_model.load(str(maml.export(tmp_path / "saved")))
    serve, adapt = (
        saved.signatures[name] for name in ("serving_default", "adapt_and_predict")
    )
    assert sorted(serve.structured_input_signature[1]) == ["x_a", "x_b"]
    assert sorted(adapt.structured_input_signature[1]) == [
        *("learning_rate", "query_x_a", "query_x_b", "steps"),
        *("support_x_a", "support_x_b", "support_y"),
    ]
    assert list(adapt.structured_outputs) == ["predictions"]
    task = first(regression({"a": (3,), "b": (2,)}))
    # All arrays of a nest must hold equally many examples.
    uneven = {"a": task["query_x"]["a"][:1], "b": task["query_x"]["b"]}
    with pytest.raises(tf.errors.InvalidArgumentError, match="as many examples as eac"):
        saved.serve(uneven)
