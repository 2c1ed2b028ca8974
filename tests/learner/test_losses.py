"""`PureLoss` gives the values of Keras's own losses."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_keras.learner.losses import PureLoss

losses = keras.losses
GENERATOR = np.random.default_rng(0)
REAL = GENERATOR.normal(size=[6, 3]).astype("float32")
OTHER = GENERATOR.normal(size=[6, 3]).astype("float32")
PROBABLE = np.exp(OTHER) / np.exp(OTHER).sum(axis=1, keepdims=True)
ONE_HOT = np.eye(3, dtype="float32")[[0, 2, 1, 1, 0, 2]]
CLASSES = np.array([0, 2, 1, 1, 0, 2])
BINARY = (REAL > 0).astype("float32")
WEIGHTS = np.array([1.0, 0.0, 2.0, 0.5, 1.0, 3.0], "float32")

CASES = {
    "mse": ("mse", REAL, OTHER),
    "mae": (losses.MeanAbsoluteError(), REAL, OTHER),
    "huber": (losses.Huber(delta=0.3), REAL, OTHER),
    "log_cosh": (losses.LogCosh(), REAL, OTHER),
    "msle": (losses.MeanSquaredLogarithmicError(), REAL**2, OTHER**2),
    "poisson": (losses.Poisson(), REAL**2, PROBABLE),
    "kl": (losses.KLDivergence(), PROBABLE[::-1], PROBABLE),
    "cosine": (losses.CosineSimilarity(), REAL, OTHER),
    "hinge": (losses.CategoricalHinge(), ONE_HOT, OTHER),
    "binary": (losses.BinaryCrossentropy(from_logits=True), BINARY, OTHER),
    "focal": (losses.BinaryFocalCrossentropy(), BINARY, PROBABLE),
    "categorical": (
        losses.CategoricalCrossentropy(label_smoothing=0.1),
        ONE_HOT,
        PROBABLE,
    ),
    "sparse": (losses.SparseCategoricalCrossentropy(from_logits=True), CLASSES, OTHER),
    "sparse_column": (
        losses.SparseCategoricalCrossentropy(from_logits=True),
        CLASSES[:, None],
        OTHER,
    ),
    "ignored_class": (
        losses.SparseCategoricalCrossentropy(ignore_class=1),
        CLASSES,
        PROBABLE,
    ),
    "sum": (losses.MeanSquaredError(reduction="sum"), REAL, OTHER),
    "column_against_flat": (losses.MeanSquaredError(), REAL[:, :1], OTHER[:, 0]),
    "flat_against_column": (losses.MeanSquaredError(), REAL[:, 0], OTHER[:, :1]),
    "sequence": (
        losses.MeanSquaredError(),
        REAL.reshape(2, 3, 3),
        OTHER.reshape(2, 3, 3),
    ),
}


def in_keras(identifier, y_true, y_pred, sample_weight=None):
    loss = losses.get(identifier)
    if not isinstance(loss, losses.Loss):
        loss = losses.MeanSquaredError()
    return loss(y_true, y_pred, sample_weight)


@pytest.mark.parametrize("case", CASES)
def test_value_equals_the_value_in_keras(case):
    identifier, y_true, y_pred = CASES[case]
    got = PureLoss(identifier)(tf.constant(y_true), tf.constant(y_pred))
    # float32.
    np.testing.assert_allclose(got, in_keras(*CASES[case]), rtol=1e-5)
    assert got.shape == []


@pytest.mark.parametrize("case", [case for case in CASES if case != "sequence"])
def test_weighted_value_equals_the_value_in_keras(case):
    identifier, y_true, y_pred = CASES[case]
    got = PureLoss(identifier)(tf.constant(y_true), tf.constant(y_pred), WEIGHTS)
    expected = in_keras(identifier, y_true, y_pred, WEIGHTS)
    np.testing.assert_allclose(got, expected, rtol=1e-5)  # float32
    assert abs(float(got) - float(in_keras(*CASES[case]))) > 1e-4


def test_function_of_each_example_is_averaged():
    loss = PureLoss(lambda y_true, y_pred: tf.reduce_max(abs(y_true - y_pred), axis=-1))
    expected = np.abs(REAL - OTHER).max(axis=1).mean()
    np.testing.assert_allclose(loss(REAL, tf.constant(OTHER)), expected, rtol=1e-6)


def test_function_that_returns_a_scalar_is_kept():
    loss = PureLoss(lambda y_true, y_pred: tf.reduce_sum(tf.abs(y_true - y_pred)))
    expected = np.abs(REAL - OTHER).sum()
    np.testing.assert_allclose(loss(REAL, tf.constant(OTHER)), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "seen"), [("float16", "float32"), ("float64", "float32"), ("int64",) * 2]
)
def test_targets_get_the_float_type_of_the_predictions_but_stay_whole(given, seen):
    found = []

    def own(y_true, y_pred):
        found.append(y_true.dtype.name)
        return tf.reduce_sum(y_pred, axis=-1)

    PureLoss(own)(tf.zeros([2, 3], given), tf.zeros([2, 3], "float32"))
    assert found == [seen]


def test_losses_of_several_outputs_are_summed():
    expected = np.square(REAL - OTHER).mean() + np.abs(ONE_HOT - PROBABLE).mean()
    named = PureLoss({"a": "mse", "b": "mae"})
    got = named(
        {"a": REAL, "b": ONE_HOT},
        {"a": tf.constant(OTHER), "b": tf.constant(PROBABLE)},
    )
    np.testing.assert_allclose(got, expected, rtol=1e-6)  # float32
    listed = PureLoss(["mse", "mae"])
    got = listed([REAL, ONE_HOT], [tf.constant(OTHER), tf.constant(PROBABLE)])
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_masked_values_are_ignored_as_in_keras(weights):
    mask = np.array([True, False, True, True, False, True])
    y_pred = tf.constant(OTHER)
    y_pred._keras_mask = tf.constant(mask)
    got = PureLoss("mse")(REAL, y_pred, weights)
    expected = losses.MeanSquaredError()(REAL, y_pred, weights)
    np.testing.assert_allclose(got, expected, rtol=1e-5)  # float32
    unmasked = PureLoss("mse")(REAL, tf.constant(OTHER), weights)
    assert abs(float(got - unmasked)) > 1e-3


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_half_precision_is_summed_in_float32(dtype):
    y_pred = tf.cast(OTHER, dtype)
    got = PureLoss("mse")(tf.constant(REAL), y_pred)
    assert got.dtype == tf.float32
    expected = np.square(REAL - tf.cast(y_pred, tf.float32)).mean()
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("identifier", "sparse"),
    [
        ("sparse_categorical_crossentropy", True),
        (losses.SparseCategoricalCrossentropy(from_logits=True), True),
        (losses.sparse_categorical_crossentropy, True),
        ("categorical_crossentropy", False),
        ("mse", False),
        (["mse", "mae"], False),
    ],
)
def test_losses_of_class_numbers_are_recognised(identifier, sparse):
    assert PureLoss(identifier).is_sparse_categorical == sparse


@pytest.mark.parametrize(
    "identifier", ["mse", losses.Huber(delta=0.3), {"a": "mse", "b": losses.Huber()}]
)
def test_config_round_trip(identifier):
    loss = PureLoss(identifier)
    assert PureLoss.deserialize(loss.serialize()).serialize() == loss.serialize()


def test_a_column_of_weights_gives_one_weight_per_example():
    got = PureLoss("mse")(REAL, tf.constant(OTHER), WEIGHTS[:, None])
    expected = losses.MeanSquaredError()(REAL, OTHER, WEIGHTS)
    np.testing.assert_allclose(got, expected, rtol=1e-6)  # float32


def test_unknown_name_is_refused():
    with pytest.raises(ValueError, match="no_such_loss"):
        PureLoss("no_such_loss")


def test_none_is_refused():
    with pytest.raises(ValueError, match="`loss` must be a Keras loss identifier"):
        PureLoss(None)


HUBER = functools.partial(keras.losses.huber, delta=0.5)


class Callable:
    def __call__(self, y_true, y_pred):
        return tf.reduce_mean((y_true - y_pred) ** 2, axis=-1)


@pytest.mark.parametrize(
    ("function", "name"),
    [(HUBER, "huber"), (functools.partial(HUBER), "huber"), (Callable(), "Callable")],
    ids=["partial", "partial of a partial", "instance"],
)
def test_any_callable_has_a_name(function, name):
    loss = PureLoss(function)
    assert (loss.name, loss.is_sparse_categorical) == (name, False)
    assert np.isfinite(float(loss(tf.ones([2, 1]), tf.zeros([2, 1]))))


def test_a_partial_loss_of_class_numbers_is_recognised():
    function = keras.losses.sparse_categorical_crossentropy
    loss = PureLoss(functools.partial(function, from_logits=True, ignore_class=-1))
    assert loss.is_sparse_categorical
    assert loss.ignored_class == -1


@pytest.mark.parametrize(
    "function",
    [HUBER, Callable(), lambda a, b: a - b, {"a": "mse", "b": HUBER}],
    ids=["partial", "instance", "lambda", "nest"],
)
def test_a_loss_that_cannot_be_saved_is_described_as_none(function):
    assert PureLoss(function).described() is None


def test_a_loss_that_can_be_saved_is_described_by_its_configuration():
    loss = PureLoss(keras.losses.Huber(delta=0.5))
    assert loss.described() == loss.serialize()


def test_a_loss_of_class_numbers_is_recognised_under_any_name():
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, name="ce")
    assert PureLoss(loss).is_sparse_categorical


def test_weighted_mean_equals_the_mean_in_keras():
    loss = losses.MeanSquaredError(reduction="mean_with_sample_weight")
    expected = float(loss(REAL, OTHER, sample_weight=WEIGHTS))
    plain = float(losses.MeanSquaredError()(REAL, OTHER, sample_weight=WEIGHTS))
    assert abs(expected - plain) > 1e-2
    found = float(PureLoss(loss)(REAL, OTHER, WEIGHTS))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("weights", [WEIGHTS, 0 * np.asarray(WEIGHTS)])
def test_weighted_mean_of_masked_labels_equals_the_mean_in_keras(weights):
    loss = losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=-1, reduction="mean_with_sample_weight"
    )
    logits = np.random.default_rng(0).normal(size=[len(weights), 3]).astype("float32")
    labels = np.arange(len(weights)) % 3
    labels[0] = -1
    expected = float(loss(labels, logits, sample_weight=weights))
    found = float(PureLoss(loss)(labels, logits, weights))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.isfinite(found)


def test_one_loss_for_several_outputs_applies_to_each_output():
    # As in Keras's `fit`: the sum over outputs, not the mean over a stacked array.
    for loss in ("mse", losses.MeanSquaredError()):
        one = PureLoss(loss)
        first, second = one(REAL, OTHER), one(OTHER, 2 * REAL)
        both = one([REAL, OTHER], [OTHER, 2 * REAL])
        np.testing.assert_allclose(both, first + second, rtol=1e-6)
        weighted = one([REAL, OTHER], [OTHER, 2 * REAL], WEIGHTS)
        np.testing.assert_allclose(
            weighted, one(REAL, OTHER, WEIGHTS) + one(OTHER, 2 * REAL, WEIGHTS), 1e-6
        )
    named = one({"a": REAL}, {"a": OTHER})
    np.testing.assert_allclose(named, one(REAL, OTHER))


@pytest.mark.parametrize(
    ("loss", "decision"),
    [
        ("binary_crossentropy", 0.5),
        (losses.BinaryCrossentropy(), 0.5),
        (losses.BinaryCrossentropy(from_logits=True), 0.0),
        (functools.partial(losses.binary_crossentropy, from_logits=True), 0.0),
        ("mse", None),
    ],
)
def test_a_binary_loss_says_where_it_decides(loss, decision):
    assert PureLoss(loss).decision == decision


def test_one_value_for_all_examples_cannot_be_weighted():
    def mean_error(y_true, y_pred):
        return tf.reduce_mean(tf.square(y_true - y_pred))

    weighted = tf.ones([3, 1])
    weighted._keras_mask = tf.constant([1.0, 1.0, 0.0])
    with pytest.raises(ValueError, match="a value for each example"):
        PureLoss(mean_error)(tf.zeros([3, 1]), weighted)
    weighted._keras_mask = None
    assert float(PureLoss(mean_error)(tf.zeros([3, 1]), weighted)) == 1.0


def test_class_numbers_of_several_outputs_are_found_unless_a_function_takes_them_all():
    name = "sparse_categorical_crossentropy"
    function = keras.losses.sparse_categorical_crossentropy
    one = PureLoss(name).class_numbers(CLASSES, OTHER)
    assert [classes for _, classes, _ in one] == [3]
    own = PureLoss(function).class_numbers(CLASSES, OTHER)
    assert [classes for _, classes, _ in own] == [3]
    outputs = [OTHER, OTHER[:, :2]]
    each = PureLoss(name).class_numbers([CLASSES, CLASSES], outputs)
    assert [classes for _, classes, _ in each] == [3, 2]
    assert not PureLoss(function).class_numbers([CLASSES, CLASSES], outputs)


@pytest.mark.parametrize(
    ("loss", "expected"), [("mse", True), ("categorical_crossentropy", False)]
)
def test_a_loss_that_compares_each_output_with_a_target_is_known(loss, expected):
    assert PureLoss(loss).is_elementwise is expected
