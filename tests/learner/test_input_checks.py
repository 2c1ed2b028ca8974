"""Bytes, unscaled images and examples of another size are refused or give a warning."""

import warnings

import keras
import numpy as np
import pytest
from helpers import (
    compiled,
    regression,
)

from maml_keras.evaluation.evaluate import evaluate_episodes


def scaling(inputs=(3,)):
    return keras.Sequential(
        [
            keras.Input(inputs),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Dense(2),
        ]
    )


def test_bytes_are_refused_unless_the_model_scales_them():
    task, query_y = regression()
    bytes_ = {k: v.astype("uint8") if k != "support_y" else v for k, v in task.items()}
    with pytest.raises(ValueError, match=r"`support_x` must be float32, scaled"):
        compiled(steps=0).fit(bytes_, query_y, verbose=0)
    learner = compiled(scaling(), steps=0)
    learner.fit(bytes_, query_y, verbose=0)
    learner.adapt(bytes_["support_x"][0], task["support_y"][0])


def test_scaled_inputs_are_not_scaled_again_in_silence():
    task, query_y = regression()
    scaled = {k: v if k == "support_y" else np.tanh(v) for k, v in task.items()}
    with pytest.warns(UserWarning, match="lie in .* scales them by 0.0039"):
        compiled(scaling(), steps=0).fit(scaled, query_y, verbose=0)
    wide = {k: v if k == "support_y" else 100 * v for k, v in task.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled(scaling(), steps=0).fit(wide, query_y, verbose=0)


@pytest.mark.parametrize(
    ("images", "layer"),
    [
        (lambda draw: draw.integers(0, 256, [2, 5, 4, 4, 1]), keras.layers.Flatten()),
        (lambda draw: 255 * draw.random([2, 5, 4, 4, 1]), keras.layers.Flatten()),
        (lambda draw: draw.integers(0, 2, [2, 5, 4, 4, 1]), keras.layers.Flatten()),
        (
            lambda draw: draw.integers(0, 256, [2, 5, 4, 4, 1]),
            keras.layers.Rescaling(1 / 255),
        ),
    ],
    ids=["bytes", "fractions", "small", "scaled"],
)
def test_unscaled_images_as_floats_give_a_warning(images, layer, request):
    x = images(np.random.default_rng(0)).astype("float32")
    task = {"support_x": x, "support_y": np.zeros([2, 5, 2]), "query_x": x}
    model = [keras.Input([4, 4, 1]), layer, keras.layers.Flatten()]
    learner = compiled(keras.Sequential([*model, keras.layers.Dense(2)]), steps=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        learner.fit(task, np.zeros([2, 5, 2]), verbose=0)
        learner.adapt(x[0], np.zeros([5, 2]))
        evaluate_episodes(learner, [(task, np.zeros([2, 5, 2]))], verbose=0)
    warned = [w for w in caught if "whole numbers up to 255" in str(w.message)]
    assert len(warned) == (3 if "[bytes]" in request.node.name else 0)


def test_examples_of_another_size_are_refused_before_any_layer():
    task, query_y = regression((4,))
    message = r"examples of shape \(3,\).* Received: \(4,\), in shape=\(2, 4, 4\)"
    with pytest.raises(ValueError, match=message):
        compiled(steps=0).fit(task, query_y, verbose=0)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_images_of_whole_numbers_are_bytes(dtype):
    x = np.full([2, 5, 4, 4, 1], 200, dtype)
    task = {"support_x": x, "support_y": np.zeros([2, 5, 2]), "query_x": x}
    model = keras.Sequential(
        [keras.Input([4, 4, 1]), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    learner = compiled(model, steps=0)
    with pytest.raises(ValueError, match=f"float32, scaled. Received: {dtype}. Divide"):
        learner.fit(task, np.zeros([2, 5, 2]), verbose=0)
    with pytest.raises(ValueError, match=f"Received: {dtype}. Pass `support_x / 255"):
        learner.adapt(x[0], np.zeros([5, 2]))


@pytest.mark.parametrize("shape", [(3,), (3, 4)], ids=["table", "series"])
@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_counts_that_are_not_images_are_accepted(shape, dtype):
    task, query_y = regression(shape)
    task = {
        k: v if k == "support_y" else np.abs(100 * v).clip(0, 255).astype(dtype)
        for k, v in task.items()
    }
    model = keras.Sequential(
        [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    learner = compiled(model, steps=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learner.fit(task, query_y, verbose=0)
        learner.adapt(task["support_x"][0], task["support_y"][0])


def test_examples_of_another_size_are_refused_in_adaptation_and_evaluation():
    model = keras.Sequential(
        [
            keras.Input([4, 4, 1]),
            keras.layers.GlobalAveragePooling2D(),  # Takes images of any size.
            keras.layers.Dense(2),
        ]
    )
    learner = compiled(model, steps=0)
    x = np.zeros([2, 5, 3, 3, 1], "float32")
    task = {"support_x": x, "support_y": np.zeros([2, 5, 2]), "query_x": x}
    message = r"examples of shape \(4, 4, 1\).* Received: \(3, 3, 1\)"
    with pytest.raises(ValueError, match=message):
        learner.adapt(x[0], np.zeros([5, 2]))
    with pytest.raises(ValueError, match=message):
        evaluate_episodes(learner, [(task, np.zeros([2, 5, 2]))], verbose=0)


def test_bytes_for_queries_alone_are_refused():
    task, query_y = regression()
    task["query_x"] = task["query_x"].astype("uint8")
    with pytest.raises(ValueError, match="`query_x` must be float32, scaled.*Divide"):
        compiled(steps=0).fit(task, query_y, verbose=0)
