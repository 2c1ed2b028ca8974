"""Batches of wrong form are refused; the message says what was expected and came."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import dense, maml

from maml_keras import evaluate_episodes
from maml_keras.learner.episode_checks import (
    check_batch,
    check_class_numbers,
    check_label_range,
    check_labels,
    check_values,
    check_weights,
)


def batch(**changes):
    task = {
        "support_x": tf.zeros([2, 4, 3]),
        "support_y": tf.zeros([2, 4, 1]),
        "query_x": tf.zeros([2, 5, 3]),
        "query_y": tf.zeros([2, 5, 1]),
        **changes,
    }
    query_y = task.pop("query_y")
    return task, query_y


def test_right_batch_passes():
    check_batch(*batch())
    check_batch(batch()[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"support_y": tf.zeros([2, 3, 1])}, "support_x.*support_y.*as many.*4.*3"),
        ({"query_y": tf.zeros([2, 4, 1])}, "query_x.*query_y.*as many.*5.*4"),
        ({"query_y": tf.zeros([3, 5, 1])}, "same number of tasks.*query_y: 3"),
        ({"query_x": tf.zeros([2, 5, 4])}, r"one shape.*\(3,\) and \(4,\)"),
        ({"support_x": tf.zeros([3])}, r"support_x.*\[tasks, examples.*shape=\(3,\)"),
        ({"query_y": tf.zeros([2, 0, 1])}, "query_y.*at least one example"),
        ({"support_x": tf.zeros([2, 0, 3])}, "support_x.*at least one example"),
        ({"extra": tf.zeros([2, 1])}, "exactly the keys.*extra"),
    ],
)
def test_wrong_form_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        check_batch(*batch(**changes))


def test_a_tuple_or_array_instead_of_a_dict_is_refused():
    with pytest.raises(ValueError, match="must be a dict.*Received: tuple"):
        check_batch((tf.zeros([2, 4, 3]), tf.zeros([2, 4, 1])))
    with pytest.raises(ValueError, match="Received: ndarray.*from_arrays.*adapt"):
        check_batch(np.zeros([4, 3]))


def test_unknown_sizes_pass():
    @tf.function(input_signature=[tf.TensorSpec([None, None, 3])])
    def checked(x):
        check_batch(batch(support_x=x)[0])
        return tf.constant(True)

    assert checked(tf.zeros([2, 4, 3]))


def test_several_inputs_are_checked_one_by_one():
    pair = {"a": tf.zeros([2, 4, 3]), "b": tf.zeros([2, 3, 3])}
    good = {"a": tf.zeros([2, 5, 3]), "b": tf.zeros([2, 5, 3])}
    with pytest.raises(ValueError, match="as many examples"):
        check_batch(*batch(support_x=pair, query_x=good))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted(bad):
    array = np.zeros([2, 3])
    check_values("support_x", array)
    array[0, 1] = bad
    with pytest.raises(ValueError, match="`support_x` must be finite.*1 of 6 values"):
        check_values("support_x", {"a": np.zeros(2), "b": array})


def test_integers_are_finite():
    check_values("support_y", np.array([1, 2]))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([["a", "b"]], dtype=object), r"names such as a.*np\.unique"),
        ([[0.0, 0.5]], r"float64 values such as 0\.5"),
        ([[[0, 1], [1, 0]]], "rows of 2 numbers, which look one-hot.*argmax"),
    ],
)
def test_labels_must_be_class_numbers(labels, message):
    with pytest.raises(ValueError, match=message):
        check_class_numbers("support_y", labels, (1, 2))


@pytest.mark.parametrize(
    ("labels", "output"),
    [
        ([[0, 1]], (1, 2)),
        ([[0.0, 1.0]], (1, 2)),
        ([[[0], [1]]], (1, 2)),  # Keras accepts a last axis of 1, too.
        ([[[0, 1], [1, 0]]], (1, 2, 2)),  # A class for each of two positions.
    ],
)
def test_class_numbers_pass(labels, output):
    check_class_numbers("support_y", labels, output)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 2, 3], r"0\.\.3, but 3 outputs.*ways=3"),
        ([0, 1], r"0\.\.1, but 3 outputs"),
        ([-1, 0, 2], r"-1\.\.2"),
    ],
)
def test_labels_must_fit_the_outputs(labels, message):
    check_labels("support_y", [0, 1, 2], 3)
    with pytest.raises(ValueError, match=message):
        check_labels("support_y", labels, 3)


def test_ragged_tasks_are_refused_with_the_way_out():
    ragged = tf.ragged.constant([[[1.0]] * 3, [[1.0]] * 2], ragged_rank=1)
    task = {"support_x": ragged, "support_y": ragged, "query_x": ragged}
    model = maml(dense(1, 1))
    model.compile("sgd")
    batches = tf.data.Dataset.from_tensors((task, ragged))
    for call in (
        lambda: model.fit(batches, verbose=0),
        lambda: model.compute_meta_gradients((task, ragged)),
        lambda: evaluate_episodes(model, batches, verbose=0),
    ):
        with pytest.raises(ValueError, match="`support_x` must be a dense.*Ragged"):
            call()


def test_labels_stay_in_the_range_of_the_outputs():
    check_label_range("query_y", np.array([[1, 2]]), 3)  # Not each class need occur.
    check_label_range("query_y", np.array([[0, 2]]), 3)
    for wrong in ([[-1, 2]], [[0, 3]]):
        with pytest.raises(ValueError, match=r"`query_y` must hold labels 0\.\.2"):
            check_label_range("query_y", np.array(wrong), 3)


@pytest.mark.parametrize(
    "outputs",
    [lambda *arrays: list(arrays), lambda *arrays: dict(zip("abc", arrays))],
    ids=["list", "dict"],
)
def test_weights_are_one_array_or_a_nest_like_that_of_the_targets(outputs):
    weights, targets = tf.ones([2, 3]), tf.ones([2, 3, 1])
    check_weights(outputs(weights, weights), outputs(targets, targets))
    check_weights(weights, outputs(targets, targets))


@pytest.mark.parametrize("shape", [[], [2], [2, 4], [3, 2]])
def test_weights_have_one_number_for_each_query_example(shape):
    with pytest.raises(ValueError, match=r"shape \[tasks, examples\].*: \(2, 3\)"):
        check_weights(tf.ones(shape), tf.ones([2, 3, 1]))


def test_lists_of_weights_and_targets_have_one_length():
    weights, targets = tf.ones([2, 3]), tf.ones([2, 3, 1])
    with pytest.raises(ValueError, match="a list of 1 for a list of 2"):
        check_weights([weights], [targets, targets])
    with pytest.raises(ValueError, match="a dict of a for a dict of b"):
        check_weights({"a": weights}, {"b": targets})
