"""The calibration error against a loop over queries, and against scikit-learn."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

import maml_keras as mk
from maml_keras.evaluation.calibration import BINS, Calibration, task_statistics

pytestmark = pytest.mark.usefixtures("without_graphs")

TASKS, QUERIES, WAYS = 12, 40, 3


def softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def identity(loss, outputs=WAYS):
    """A model whose outputs are its inputs before adaptation."""
    layer = keras.layers.Dense(outputs, use_bias=False)
    model = keras.Sequential([keras.Input([outputs]), layer])
    layer.set_weights([np.eye(outputs)])
    return mk.MAML(model, mk.InnerLoop(loss, mk.SGD(0.1)), task_map="sequential")


def batch(x, y, **more):
    return [({"support_x": x, "support_y": y, "query_x": x, **more}, y)]


def evaluated(maml, batches, **options):
    options = {"steps": 0, "verbose": 0, **options}
    return mk.evaluate_episodes(maml, batches, **options)


@pytest.fixture
def logits_and_classes():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, [TASKS, QUERIES, WAYS]).astype("float32")
    # Half as sure as the logits say: the model is too sure.
    chances = softmax(0.5 * logits)
    draws = rng.random([TASKS, QUERIES, 1])
    return logits, (chances.cumsum(-1) < draws).sum(-1).astype("int32")


def error_by_hand(rows, classes):
    """The expected calibration error, query by query."""
    bins = [[] for _ in range(BINS)]
    for row, right in zip(rows, classes):
        bins[min(int(row.max() * BINS), BINS - 1)].append(
            (row.max(), float(row.argmax() == right))
        )
    total = 0.0
    for found in filter(None, bins):
        confidence, accuracy = np.mean(found, axis=0)
        total += len(found) / len(classes) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize("form", ["logits", "probabilities", "one_hot"])
def test_figures_equal_a_loop_and_scikit_learn(form, logits_and_classes):
    logits, classes = logits_and_classes
    x, y = logits, classes
    kinds = {
        "logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "probabilities": keras.losses.SparseCategoricalCrossentropy(),
        "one_hot": keras.losses.CategoricalCrossentropy(from_logits=True),
    }
    if form == "probabilities":
        x = softmax(logits)
    if form == "one_hot":
        y = np.eye(WAYS, dtype="float32")[classes]
    found = evaluated(identity(kinds[form]), batch(x, y))
    rows, right = softmax(logits).reshape(-1, WAYS), classes.ravel()
    one = found.calibration
    assert one.error() == pytest.approx(error_by_hand(rows, right), abs=1e-5)
    assert one.nll() == pytest.approx(
        log_loss(right, rows, labels=range(WAYS)), rel=1e-4
    )
    brier = np.square(rows - np.eye(WAYS)[right]).sum(1).mean()
    assert one.brier() == pytest.approx(brier, rel=1e-5)
    sure, hits = rows.max(1), rows.argmax(1) == right
    assert one.overconfidence() == pytest.approx(sure.mean() - hits.mean(), abs=1e-5)
    assert one.overconfidence() > 0.05
    true, predicted = calibration_curve(hits, sure, n_bins=BINS, strategy="uniform")
    bins = one.bins()
    some = bins["count"] > 0
    np.testing.assert_allclose(bins["accuracy"][some], true, atol=1e-6)
    np.testing.assert_allclose(bins["confidence"][some], predicted, atol=1e-5)
    assert bins["count"].sum() == TASKS * QUERIES
    # Beside accuracy, in the result's own figures.
    assert found.mean == pytest.approx(hits.mean())
    assert found.summary()["calibration"]["error"] == [one.error()]
    assert f"calibration error {one.error():.2%}" in str(one)
    assert f"{one.error():.2%}" in one.table()


def test_the_interval_over_tasks_agrees_with_the_jackknife(logits_and_classes):
    logits, classes = logits_and_classes
    statistics = task_statistics(
        tf.constant(softmax(logits)), classes, tf.ones(classes.shape)
    )
    found = Calibration(statistics.numpy()[:, None], np.zeros([TASKS, 1], bool))
    rows = softmax(logits)
    left = [
        error_by_hand(
            np.delete(rows, i, 0).reshape(-1, WAYS), np.delete(classes, i, 0).ravel()
        )
        for i in range(TASKS)
    ]
    jackknife = 1.96 * np.sqrt((TASKS - 1) * np.var(left))
    # Two estimates of one standard error, from twelve tasks.
    assert found.half_width() == pytest.approx(jackknife, rel=0.4)


def test_labels_are_judged_one_by_one():
    x = np.array([[[0.9, 0.2], [0.6, 0.7]]], "float32")
    y = np.array([[[1.0, 0.0], [0.0, np.nan]]], "float32")
    loss = mk.KnownTargets(keras.losses.BinaryCrossentropy())
    found = evaluated(identity(loss, 2), batch(x, y)).calibration
    # Confidences 0.9, 0.8 and 0.6, of which the last is wrong; the fourth is unknown.
    assert found.error() == pytest.approx((0.1 + 0.2 + 0.6) / 3, abs=1e-6)
    assert found.brier() == pytest.approx(2 * (0.01 + 0.04 + 0.36) / 3, abs=1e-6)


def test_padding_and_an_ignored_class_do_not_count():
    x = np.array([[[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]], "float32")
    y = np.array([[0, 0, 1]], "int32")
    maml = identity(keras.losses.SparseCategoricalCrossentropy(), 2)
    weights = np.array([[1.0, 1.0, 0.0]], "float32")
    padded = evaluated(
        maml, batch(x, y, support_weight=weights, query_weight=weights)
    ).calibration
    assert padded.error() == pytest.approx((0.1 + 0.8) / 2, abs=1e-6)
    assert padded.bins()["count"].sum() == 2
    ignoring = keras.losses.SparseCategoricalCrossentropy(ignore_class=-1)
    y = np.array([[0, 0, -1]], "int32")
    ignored = evaluated(identity(ignoring, 2), batch(x, y)).calibration
    assert ignored.error() == pytest.approx(padded.error(), abs=1e-6)
    assert ignored.brier() == pytest.approx(padded.brier(), abs=1e-6)


def test_diverged_tasks_are_left_out_and_steps_can_be_cut():
    rows = tf.constant([[[0.9, 0.1]], [[np.nan, np.nan]]])
    statistics = task_statistics(rows, tf.constant([[0], [0]]), tf.ones([2, 1]))
    statistics = np.stack([statistics.numpy()] * 2, axis=1)
    found = Calibration(statistics, np.array([[False, False], [False, True]]))
    assert found.error() == pytest.approx(0.1)
    assert np.isnan(found.half_width())  # One task has no interval.
    assert np.isnan(found.until(0).error())
    assert found.summary()["error"] == [None, pytest.approx(0.1)]


def test_regression_has_no_calibration():
    x = np.ones([2, 3, 1], "float32")
    found = evaluated(identity("mse", 1), batch(x, x))
    assert found.calibration is None
    assert "calibration" not in found.summary()


def test_the_result_keeps_calibration_at_each_step(logits_and_classes):
    x, y = logits_and_classes
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    found = evaluated(identity(loss), batch(x[:2], y[:2]), steps=2)
    assert found.calibration.steps == 2
    assert found.until(1).calibration.steps == 1
    # The support set is the query set, so adaptation lowers the likelihood's loss.
    assert found.calibration.nll(2) < found.calibration.nll(0)
