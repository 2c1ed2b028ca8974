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
from maml_keras.learner import input_checks
from maml_keras.learner.losses import PureLoss
from maml_keras.outer import fit_checks


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
    ("largest", "scale", "warned"),
    [(1.0, 1 / 255, True), (1.5, 1 / 255, False), (1.0, 2.0, False)],
)
def test_a_warning_of_scaling_twice_needs_small_inputs_and_a_small_scale(
    largest, scale, warned
):
    layer = keras.layers.Rescaling(scale, name="to_one")
    model = keras.Sequential([keras.Input([2]), layer, keras.layers.Dense(1)])
    expected = pytest.warns(UserWarning, match=r"'to_one' scales them by 0\.0039")
    with expected if warned else warnings.catch_warnings(action="error"):
        input_checks.warn_of_scaling_twice(
            model, np.array([[largest, -0.5]], "float32")
        )


def test_whole_numbers_are_not_scaled_twice():
    model = keras.Sequential([keras.Input([2]), keras.layers.Rescaling(1 / 255)])
    with warnings.catch_warnings(action="error"):
        input_checks.warn_of_scaling_twice(model, np.array([[0, 1]], "uint8"))


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
    warned = [w for w in caught if "float images with values up to" in str(w.message)]
    unscaled = any(kind in request.node.name for kind in ("bytes", "fractions"))
    assert len(warned) == (3 if unscaled else 0)


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


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ((0, 17), "not bytes: the largest value here is 16. Divide by the largest"),
        ((0, 4096), "not bytes: the largest value here is 4095. Divide by the largest"),
    ],
)
def test_images_of_integers_that_are_not_bytes_get_advice_of_their_own(values, advice):
    x = np.resize(np.arange(*values), [2, 500, 4, 4, 1])
    task = {"support_x": x, "support_y": np.zeros([2, 500, 2]), "query_x": x}
    model = [keras.Input([4, 4, 1]), keras.layers.Flatten(), keras.layers.Dense(2)]
    learner = compiled(keras.Sequential(model))
    with pytest.raises(ValueError, match=advice):
        learner.fit(task, np.zeros([2, 500, 2]), verbose=0)
    with pytest.raises(ValueError, match=advice):
        learner.adapt(x[0], np.zeros([500, 2]))


@pytest.mark.parametrize(
    ("x", "layers", "warned"),
    [
        (np.full([2, 5, 3], 10_000_000), [], "numbers of up to 1e\\+07"),
        (np.full([2, 5, 3], -50_000.0), [], "numbers of up to 50000"),
        (np.full([2, 5, 64], 200.5), [], "float images with values up to 200.5"),
        (np.full([2, 5, 3], 50_000.0), [keras.layers.LayerNormalization()], None),
        (np.full([2, 5, 3], 999), [keras.layers.Embedding(1000, 2)], None),
        (np.full([2, 5, 3], 1000), [keras.layers.Embedding(1001, 2)], None),
    ],
    ids=["integers", "floats", "flattened", "normalised", "small", "words"],
)
def test_tables_far_from_size_one_give_a_warning(x, layers, warned):
    task = {"support_x": x, "support_y": np.zeros([2, 5, 2]), "query_x": x}
    model = [keras.Input(x.shape[2:]), *layers, keras.layers.Flatten()]
    learner = compiled(keras.Sequential([*model, keras.layers.Dense(2)]))
    learner.compile(keras.optimizers.SGD(0.0))  # Nothing has to stay finite.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        input_checks.warn_of_scale(learner.model, x)
    assert len(caught) == (warned is not None)
    if warned:
        with pytest.warns(UserWarning, match=warned):
            fit_checks.check_training_data(
                learner.learner,
                learner.inner,
                task,
                np.zeros([2, 5, 2]),
                outer=learner.inner.loss,
            )


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
    with pytest.raises(ValueError, match="`query_x` must be float32, scaled.*Pass"):
        compiled(steps=0).fit(task, query_y, verbose=0)


def test_targets_without_the_last_axis_are_refused_for_several_outputs():
    y = np.zeros([2, 5])
    several = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=r"must be \[tasks, examples, 2\]"):
        input_checks.check_targets(several, PureLoss("mse"), y)
    # For one output, Keras's losses take the targets without their axis.
    one = keras.Sequential([keras.Input([3]), keras.layers.Dense(1)])
    input_checks.check_targets(one, PureLoss("mse"), y)
