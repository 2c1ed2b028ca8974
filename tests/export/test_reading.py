"""Exports read back as ordinary Keras models."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    RATE,
    assert_identical,
    batch_normalised,
    dense,
    maml,
    multi_input,
    regression,
)

import maml_keras as mk
from maml_keras import MAML, SGD, InnerLoop
from maml_keras.export import conversion
from maml_keras.export.module import _unique

pytestmark = [pytest.mark.journey, pytest.mark.usefixtures("tasks_in_a_loop")]

layers = keras.layers


def first(batch):
    return tf.nest.map_structure(lambda a: a[0], batch[0])


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model, its export and a task."""
    model = maml(batch_normalised(), steps=2)
    path = model.export(tmp_path_factory.mktemp("shipped") / "saved")
    return model, path, first(regression(support=5))


def test_to_keras_returns_the_initialisation(exported):
    model, path, _ = exported
    loaded = mk.to_keras(path)
    assert type(loaded) is keras.Sequential
    assert_identical(loaded.get_weights(), model.model.get_weights())


def test_fine_tune_equals_that_of_the_saved_model(exported):
    model, path, task = exported
    x, y = task["support_x"], task["support_y"]
    tuned = mk.fine_tune(path, x, y, steps=3, learning_rate=0.2)
    saved = tf.saved_model.load(str(path))
    saved.fine_tune(x, y, 3, 0.2)
    assert_identical(
        [v.numpy() for v in tuned.trainable_variables],
        [v.numpy() for v in saved.trainable_variables],
    )
    # The tuned model, with its moving statistics, predicts as `maml.adapt` does.
    adapted = model.adapt(x, y, steps=3, learning_rate=0.2)
    np.testing.assert_allclose(
        tuned(task["query_x"]), adapted(task["query_x"]), rtol=1e-4, atol=1e-5
    )
    # The tuned model is an ordinary one, which can be trained further.
    tuned.compile("sgd", "mse")
    tuned.fit(x, y, verbose=0)


def test_fine_tune_takes_lists_and_the_default_steps(exported):
    model, path, task = exported
    x, y = task["support_x"], task["support_y"]
    tuned, adapted = mk.fine_tune(path, x.tolist(), y.tolist()), model.adapt(x, y)
    np.testing.assert_allclose(
        tuned(task["query_x"]), adapted(task["query_x"]), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("steps", [1, 3])
def test_statistics_of_each_step_are_folded_in(steps, tmp_path):
    model = maml(batch_normalised(), steps=2, batch_norm="per_step_running")
    for variable in model.batch_norm.variables:  # Make the steps' rows differ.
        noise = keras.random.uniform(variable.shape)
        variable.assign(variable + noise)
    path, task = model.export(tmp_path / "saved"), first(regression())
    tuned = mk.fine_tune(path, task["support_x"], task["support_y"], steps=steps)
    saved = tf.saved_model.load(str(path))
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(
        mk.to_keras(path)(task["query_x"]), saved.serve(task["query_x"]), **close
    )
    np.testing.assert_allclose(
        tuned(task["query_x"]), saved.adapt_and_predict(**task, steps=steps), **close
    )
    # `predict_with` uses the statistics of the given number of steps.
    weights = saved.adapt(task["support_x"], task["support_y"], steps=steps)
    np.testing.assert_allclose(
        saved.predict_with(weights, task["query_x"], steps=steps),
        saved.adapt_and_predict(**task, steps=steps),
        **close,
    )


def test_several_inputs_are_tuned(tmp_path):
    path = maml(multi_input()).export(tmp_path / "saved")
    task = first(regression({"a": (3,), "b": (2,)}))
    mk.fine_tune(path, task["support_x"], task["support_y"])
    with pytest.raises(ValueError, match="`x` must be arrays in this nest"):
        mk.fine_tune(path, task["support_x"]["a"], task["support_y"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros([4, 2])}, r"`x` must have shape \(None, 3\)"),
        ({"x": np.zeros([0, 3])}, "`x` must hold an example"),
        ({"x": np.full([4, 3], np.nan)}, "`x` must be finite"),
        ({"x": np.full([4, 3], 1e300)}, "`x` must be finite"),
        ({"x": np.full([4, 3], "a")}, r"`x` must be numeric. Received: <U1\.$"),
        (
            {"x": np.zeros([4, 3], np.uint8)},
            r"Received: uint8. Pass `x.astype.*`x / 255.0` for",
        ),
        ({"y": list("abba")}, "`y` must be numeric. Received: <U1. Number the classes"),
        ({"y": np.zeros([3], int)}, "as each other. Received: 4 and 3"),
        ({"y": [0, 1, 1.5, 0]}, "`y` must hold integers that fit int32"),
        ({"y": [0, 1, 2**32, 0]}, "`y` must hold integers that fit int32"),
        ({"y": [0, 1, 2, 0]}, "^`y` must hold class numbers 0..1. Received: .* 2$"),
        ({"steps": -1}, "^`steps` must be an integer, 0 or more. Received: steps=-1"),
        ({"steps": 2.5}, "^`steps` must be an integer, 0 or more. Received: steps=2.5"),
        ({"learning_rate": float("nan")}, "^`learning_rate` must be a finite number"),
    ],
)
def test_bad_arguments_are_refused(classifier, change, message):
    good = {"x": np.arange(12.0).reshape(4, 3), "y": [0, 1, 1, 0]}
    with pytest.raises(ValueError, match=message):
        mk.fine_tune(classifier, **{**good, **change})


def test_targets_may_be_bytes(exported):
    _, path, task = exported
    x, y = task["support_x"], task["support_y"] > 0
    tuned = [
        mk.fine_tune(path, x, y.astype(dtype), steps=2)
        for dtype in ("uint8", "float32")
    ]
    assert_identical(*(model.predict(x, verbose=0) for model in tuned))


def test_divergence_raises_the_message_of_the_check(exported):
    _, path, task = exported
    with pytest.raises(ValueError, match="^Adaptation has diverged: .* the inputs.$"):
        mk.fine_tune(path, task["support_x"], task["support_y"], learning_rate=1e30)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    path = tmp_path_factory.mktemp("classifier") / "saved"
    return MAML(dense(), InnerLoop(loss, SGD(RATE), steps=3)).export(path)


def test_warm_start_fits_any_model_with_the_same_weights(classifier):
    inputs = keras.Input([3])
    hidden = layers.Dense(4, activation="relu", name="other")(inputs)
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(hidden))
    mk.warm_start(model, classifier)
    assert_identical(model.get_weights(), mk.to_keras(classifier).get_weights())
    # With the same layers, Keras's own `load_weights` gives the same.
    same = dense()
    same.load_weights(classifier / "learner.keras")
    assert_identical(same.get_weights(), model.get_weights())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda: dense(outputs=5),
            r"Weight 2 differs: .*head/kernel \(4, 5\) in the model, .* \(4, 2\) in",
        ),
        (
            lambda: keras.Sequential([dense(), layers.Dense(1)]),
            "Weight 4 differs: .* in the model, none in the export",
        ),
        (
            lambda: keras.Sequential([keras.Input([3]), layers.Dense(4)]),
            "Weight 2 differs: none in the model",
        ),
        (lambda: keras.Sequential([layers.Dense(4)]), "must be built"),
    ],
)
def test_the_first_weight_that_differs_is_named_and_none_changed(
    classifier, model, message
):
    model = model()
    if not model.built and "built" not in message:
        model.build([None, 3])
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        mk.warm_start(model, classifier)
    assert_identical(before, model.get_weights())


class Unregistered(keras.layers.Dense):
    """A class that Keras does not know."""


def test_a_class_that_keras_does_not_know_is_named(tmp_path):
    model = keras.Sequential([keras.Input([3]), Unregistered(2)])
    path = MAML(model, InnerLoop("mse", SGD(0.1))).export(tmp_path / "own")
    with pytest.raises(ValueError, match="(?s)class that Keras does not know.*Unreg"):
        mk.to_keras(path)
    known = {"Unregistered": Unregistered}
    assert isinstance(mk.to_keras(path, custom_objects=known).layers[0], Unregistered)
    with pytest.raises(ValueError, match="class that Keras does not know"):
        conversion.convert_file(path, tmp_path / "own.tflite")
    done = conversion.convert_file(path, tmp_path / "own.tflite", custom_objects=known)
    assert done.difference < 1e-5


def test_a_folder_without_an_export_is_named(tmp_path):
    for read in (mk.to_keras, lambda p: mk.fine_tune(p, [[0.0]], [0])):
        with pytest.raises(FileNotFoundError, match="folder with a SavedModel"):
            read(tmp_path)


def test_a_saved_model_of_keras_is_refused(tmp_path):
    dense().export(tmp_path / "plain", verbose=False)
    for read in (mk.to_keras, lambda p: mk.fine_tune(p, [[0.0]], [0])):
        with pytest.raises(ValueError, match="without fine_tune, steps_taken, card.js"):
            read(tmp_path / "plain")


@keras.saving.register_keras_serializable(package="tests")
class TwoAlike(keras.Model):
    """Two layers of one shape. The configuration does not tell which one is frozen."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second = layers.Dense(3), layers.Dense(3)

    def call(self, x):
        return self.second(self.first(x))


def test_weights_return_to_their_own_layers(tmp_path):
    model, (task, _) = TwoAlike(), regression(outputs=3)
    model(task["query_x"][0])
    model.first.trainable = False
    signature = tf.TensorSpec([None, 3]), tf.TensorSpec([None, 3])
    learner = MAML(model, InnerLoop("mse", SGD(RATE)))
    path = learner.export(tmp_path / "saved", input_signature=signature)
    back = mk.to_keras(path)
    assert_identical(back.get_weights(), model.get_weights())
    assert [layer.trainable for layer in (back.first, back.second)] == [False, True]
    tuned = mk.fine_tune(path, task["support_x"][0], task["support_y"][0], steps=2)
    np.testing.assert_array_equal(tuned.first.kernel, model.first.kernel)
    assert np.abs(tuned.second.kernel - model.second.kernel).max() > 1e-4


def test_one_of_several_outputs_may_have_class_numbers(tmp_path):
    x = keras.Input([3])
    outputs = {"kind": layers.Dense(4)(x), "size": layers.Dense(1)(x)}
    loss = {
        "kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "size": "mse",
    }
    model = MAML(keras.Model(x, outputs), InnerLoop(loss, SGD(RATE), steps=2))
    path = model.export(tmp_path / "saved")
    inputs = np.random.default_rng(0).normal(size=[5, 3]).astype("float32")
    targets = {"kind": np.arange(5) % 4, "size": np.ones([5, 1], "float32")}
    tuned = mk.fine_tune(path, inputs, targets, steps=2)
    adapted = model.adapt(inputs, targets, steps=2)
    for key in outputs:
        np.testing.assert_allclose(tuned(inputs)[key], adapted(inputs)[key], 1e-5)
    assert not np.allclose(tuned(inputs)["kind"], model.model(inputs)["kind"])


def test_a_single_frozen_weight_returns_to_its_place(tmp_path):
    model = keras.Sequential(
        [keras.Input([3]), *(layers.Dense(3, use_bias=False) for _ in range(2))]
    )
    model.layers[0].kernel.trainable = False
    path = MAML(model, InnerLoop("mse", SGD(RATE))).export(tmp_path / "saved")
    back = mk.to_keras(path)
    assert_identical(back.get_weights(), model.get_weights())
    assert not back.layers[0].kernel.trainable
    learner = conversion._exported(path, None)
    assert_identical(learner.model.get_weights(), model.get_weights())


def test_a_conversion_keeps_each_layers_own_weights(tmp_path):
    model, (task, _) = TwoAlike(), regression(outputs=3)
    model(task["query_x"][0])
    model.first.trainable = False
    signature = tf.TensorSpec([None, 3]), tf.TensorSpec([None, 3])
    path = MAML(model, InnerLoop("mse", SGD(RATE))).export(
        tmp_path / "saved", input_signature=signature
    )
    found = conversion._exported(path, None).model
    assert_identical(found.get_weights(), model.get_weights())


def test_a_dict_of_one_input_stays_a_dict(tmp_path):
    x = keras.Input([3], name="a")
    model = keras.Model({"a": x}, {"out": layers.Dense(2)(x)})
    learner = MAML(model, InnerLoop({"out": "mse"}, SGD(RATE)))
    path = learner.export(tmp_path / "saved")
    (task, _) = regression()
    inputs, targets = {"a": task["support_x"][0]}, {"out": task["support_y"][0]}
    tuned, adapted = mk.fine_tune(path, inputs, targets), learner.adapt(inputs, targets)
    query = {"a": task["query_x"][0]}
    np.testing.assert_allclose(tuned(query)["out"], adapted(query)["out"], 1e-5)


def test_a_vocabulary_in_a_table_is_refused():
    lookup = layers.IntegerLookup(vocabulary=[5, 7])
    model = keras.Sequential(
        [
            keras.Input([2], dtype="int64"),
            lookup,
            layers.Embedding(4, 3),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    for refused in (
        lambda: MAML(model, InnerLoop("mse", SGD(RATE))),
        lambda: mk.with_low_rank_adapters(model),
    ):
        with pytest.raises(ValueError, match="IntegerLookup.*keeps its vocabulary"):
            refused()


def test_weights_of_equal_names_get_different_names():
    names = ["b/w", "b/w_2", "b/w", "b/w_2", "c"]
    unique = _unique(names)
    assert len(set(unique)) == 5
    assert unique[:2] == names[:2]
    assert unique[-1] == "c"
