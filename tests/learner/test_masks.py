"""Masked positions count nowhere: not in the loss, not in a metric, on no path."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import maml

from maml_keras import Backprop, FirstOrder, Phases, Reptile
from maml_keras.evaluation.evaluate import evaluate_episodes
from maml_keras.evaluation.trace import trace_inner_loop
from maml_keras.learner import masks

pytestmark = pytest.mark.usefixtures("without_graphs")

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
WORDS = np.array([[[1, 2, 3, 0], [3, 1, 0, 0]], [[2, 4, 1, 1], [4, 0, 0, 0]]], "int32")
TAGS = np.array([[[0, 1, 1, 0], [1, 0, 0, 0]], [[1, 1, 0, 1], [0, 0, 0, 0]]], "int32")
TASK = {"support_x": WORDS, "support_y": TAGS, "query_x": WORDS}
KEPT = WORDS != 0


def tagger():
    """A tag for each word; padding is masked and would be tagged by the bias."""
    words = keras.Input([4], dtype="int32")
    embedded = keras.layers.Embedding(5, 3, mask_zero=True)(words)
    head = keras.layers.Dense(2, name="tags", bias_initializer="random_normal")
    return keras.Model(words, head(embedded))


def right(model):
    """For each task, the share of right tags among the words."""
    found = model.predict(TASK, verbose=0).argmax(-1) == TAGS
    return np.array([f[k].mean() for f, k in zip(found, KEPT)]), found[KEPT].mean()


@pytest.mark.parametrize("task_map", ["parallel", "vectorized"])
def test_accuracy_counts_no_padding(task_map):
    model = maml(tagger(), loss=LOSS, task_map=task_map)
    model.compile("sgd", metrics=["accuracy"])
    each, mean = right(model)
    result = evaluate_episodes(model, [(TASK, TAGS)], verbose=0)
    np.testing.assert_allclose(result.per_episode[:, -1], each, rtol=1e-6)
    trace = trace_inner_loop(model, [(TASK, TAGS)], verbose=0)
    np.testing.assert_allclose(trace.query().per_episode, result.per_episode, rtol=1e-6)
    shown = model.evaluate(TASK, TAGS, verbose=0, return_dict=True)
    np.testing.assert_allclose(shown["accuracy"], mean, rtol=1e-6)


def test_without_a_step_the_figures_are_those_of_keras():
    network = tagger()
    network.compile("sgd", loss=LOSS, metrics=["accuracy"])
    flat = WORDS.reshape(-1, 4), TAGS.reshape(-1, 4)
    _, accuracy = network.evaluate(*flat, verbose=0)
    model = maml(network, loss=LOSS, rate=0.0)
    model.compile("sgd", metrics=["accuracy"])
    shown = model.evaluate(TASK, TAGS, verbose=0, return_dict=True)
    np.testing.assert_allclose(shown["accuracy"], accuracy, rtol=1e-6)


@pytest.mark.parametrize(
    "estimator",
    [Backprop(), Reptile(), Phases([FirstOrder(), Backprop()], until=[2])],
    ids=["backprop", "reptile", "phases"],
)
def test_training_shows_the_accuracy_without_padding(estimator):
    model = maml(tagger(), loss=LOSS, meta_gradient=estimator)
    model.compile(keras.optimizers.SGD(0.0), metrics=["accuracy"])
    _, mean = right(model)
    shown = model.fit(TASK, TAGS, batch_size=2, verbose=0).history
    np.testing.assert_allclose(shown["accuracy"], [mean], rtol=1e-6)


def test_one_of_several_outputs_keeps_its_mask():
    network = tagger()
    words = network.inputs[0]
    pooled = keras.layers.GlobalAveragePooling1D()(network.layers[1].output)
    size = keras.layers.Dense(1)(pooled)
    both = keras.Model(words, {"tags": network.outputs[0], "size": size})
    model = maml(both, loss={"tags": LOSS, "size": "mse"}, rate=0.0)
    y = {"tags": TAGS, "size": np.zeros([2, 2, 1], "float32")}
    batch = {**TASK, "support_y": y}, y
    whole, tags, sizes, accuracy = (
        evaluate_episodes(model, [batch], metric=metric, verbose=0).per_episode[:, 0]
        for metric in (
            "loss",
            {"tags": "loss"},
            {"size": "loss"},
            {"tags": "accuracy"},
        )
    )
    np.testing.assert_allclose(tags + sizes, whole, rtol=1e-5)
    alone = maml(network, loss=LOSS, rate=0.0)
    np.testing.assert_allclose(accuracy, right(alone)[0], rtol=1e-6)


def test_an_ignored_class_counts_as_little_as_a_mask():
    ignoring = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=1
    )
    model = maml(tagger(), loss=ignoring, rate=0.0)
    found = model.predict(TASK, verbose=0).argmax(-1) == TAGS
    kept = KEPT & (TAGS != 1)
    expected = [f[k].mean() for f, k in zip(found, kept)]
    result = evaluate_episodes(model, [(TASK, TAGS)], verbose=0)
    np.testing.assert_allclose(result.per_episode[:, 0], expected, rtol=1e-6)


def test_a_mask_gets_axes_behind_its_own():
    mask = tf.constant([[True, False, True], [False, True, True]])
    assert masks.expanded(mask, 4).shape == [2, 3, 1, 1]
    assert masks.expanded(mask, 1) is mask
    deep = tf.ones([2, 3, 4])
    product = masks.together(deep, mask)
    np.testing.assert_array_equal(product, np.repeat(mask[..., None], 4, axis=2))
