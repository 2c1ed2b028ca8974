"""Starts: the weights from which the inner loop starts."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import classification, precision

from maml_keras import (
    MAML,
    SGD,
    InnerLoop,
    PrototypicalHead,
    all_but_last_layer,
    check_meta_gradient,
    evaluate_episodes,
)
from maml_keras.export.file_adaptation import adapt_file
from maml_keras.inner.starts import prototypical_weights

pytestmark = pytest.mark.usefixtures("tasks_in_a_loop", "without_graphs")

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def embedding(ways=3, **head):
    return keras.Sequential(
        [
            keras.Input([3]),
            keras.layers.Dense(5, activation="tanh"),
            keras.layers.Dense(ways, name="head", **head),
        ]
    )


def wrapped(model, *, steps=1, rate=0.1, **kwargs):
    start = PrototypicalHead()
    inner = InnerLoop(CROSS_ENTROPY, SGD(rate), steps=steps, start=start)
    return MAML(model, inner, **kwargs)


def distances_to_prototypes(model, task, index):
    body = model.layers[0]
    x, y = body(task["support_x"][index]).numpy(), task["support_y"][index]
    queries = body(task["query_x"][index]).numpy()
    prototypes = np.stack([x[y == c].mean(axis=0) for c in range(y.max() + 1)])
    return np.square(queries[:, None] - prototypes).sum(axis=-1)


@pytest.mark.parametrize("task_map", ["parallel", "vectorized"])
def test_a_prototypical_head_without_steps_is_a_prototypical_network(task_map):
    model, (task, _) = embedding(), classification()
    predictions = wrapped(model, steps=0, task_map=task_map)(task)
    for index in range(2):
        expected = tf.nn.softmax(-distances_to_prototypes(model, task, index))
        got = tf.nn.softmax(predictions[index])
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)  # float32


def test_head_from_prototypes_adapts_with_the_rest():
    # By hand: prototypes into the head, then one plain step on all weights.
    model, (task, _) = embedding(), classification(tasks=1)
    got = wrapped(model)(task)[0]
    x, y = task["support_x"][0], task["support_y"][0]
    kernel, bias = prototypical_weights(model.layers[0](x), tf.constant(y), ways=3)
    model.layers[1].kernel.assign(kernel)
    model.layers[1].bias.assign(bias)
    with tf.GradientTape() as tape:
        loss = CROSS_ENTROPY(y, model(x))
    for variable, g in zip(
        model.trainable_variables, tape.gradient(loss, model.trainable_variables)
    ):
        variable.assign_sub(0.1 * g)
    np.testing.assert_allclose(got, model(task["query_x"][0]), rtol=1e-4, atol=1e-5)


def test_a_weight_of_an_example_counts_as_copies_of_it():
    x = np.random.default_rng(0).standard_normal([4, 3]).astype("float32")
    y = np.array([0, 1, 0, 1])
    given = prototypical_weights(
        tf.constant(x), tf.constant(y), tf.constant([2.0, 1.0, 1.0, 0.0]), ways=2
    )
    copies = [0, 0, 1, 2]  # The example of weight zero is padding.
    expected = prototypical_weights(
        tf.constant(x[copies]), tf.constant(y[copies]), ways=2
    )
    for got, wanted in zip(given, expected):
        np.testing.assert_allclose(got, wanted, rtol=1e-6)


@pytest.mark.graphs
@pytest.mark.parametrize("steps", [0, 1])
def test_meta_gradient_passes_through_the_prototypes(steps):
    # Otherwise the body would be trained through the steps only: with 0 steps, never.
    learner = wrapped(embedding(), steps=steps)
    checks = check_meta_gradient(learner, classification())
    assert abs(checks[0].analytic) > 1e-3
    assert [c.analytic for c in checks[2:]] == [0.0, 0.0]  # The head's own weights.


def test_an_episode_may_have_fewer_classes_than_the_head():
    # Heads with 3 and with 7 units give the same probabilities for the same task.
    (task, query_y) = classification()
    small, large = embedding(3), embedding(7)
    large.layers[0].set_weights(small.layers[0].get_weights())
    few = tf.nn.softmax(wrapped(small, steps=2)(task))
    many = tf.nn.softmax(wrapped(large, steps=2)(task))
    np.testing.assert_allclose(many[..., :3], few, rtol=1e-4, atol=1e-6)  # float32
    np.testing.assert_array_equal(many[..., 3:], np.zeros([2, 6, 4]))
    learner = wrapped(large)
    learner.compile("sgd", metrics=["accuracy"])
    history = learner.fit(task, query_y, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert evaluate_episodes(learner, [(task, query_y)], verbose=0).num_tasks == 2


def test_training_works_in_half_precision():
    with precision("float32"):
        keras.config.set_dtype_policy("mixed_float16")
        learner = wrapped(embedding(7), steps=2)
        learner.compile("sgd")
        history = learner.fit(*classification(), verbose=0)
    assert np.isfinite(history.history["loss"]).all()


@pytest.mark.graphs
def test_saved_and_exported_models_start_at_the_prototypes(tmp_path):
    learner, (task, _) = wrapped(embedding(), steps=2), classification()
    learner.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(task), learner(task), rtol=1e-5, atol=1e-6)
    learner.export(tmp_path / "export")
    saved = tf.saved_model.load(str(tmp_path / "export"))
    got = saved.adapt_and_predict(
        tf.constant(task["support_x"][0], tf.float32),
        tf.constant(task["support_y"][0], tf.int32),
        tf.constant(task["query_x"][0], tf.float32),
    )
    np.testing.assert_allclose(got, learner(task)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.graphs
def test_an_export_has_prototypes_also_if_the_head_does_not_adapt(tmp_path):
    inner = InnerLoop(
        CROSS_ENTROPY,
        SGD(0.1),
        steps=2,
        start=PrototypicalHead(),
        adapt=all_but_last_layer(),
    )
    learner, (task, _) = MAML(embedding(), inner), classification()
    learner.export(tmp_path / "export")
    saved = tf.saved_model.load(str(tmp_path / "export"))
    one = {
        "support_x": tf.constant(task["support_x"][0], tf.float32),
        "support_y": tf.constant(task["support_y"][0], tf.int32),
    }
    query = tf.constant(task["query_x"][0], tf.float32)
    expected = learner(task)[0]
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(
        saved.adapt_and_predict(**one, query_x=query), expected, **close
    )
    weights = saved.adapt(**one)
    np.testing.assert_allclose(saved.predict_with(weights, query), expected, **close)


@pytest.mark.graphs
def test_the_table_of_adapt_begins_at_the_prototypes(tmp_path):
    learner, (task, _) = wrapped(embedding(), steps=2), classification()
    path = learner.export(tmp_path / "export")
    x, y = task["support_x"][0], task["support_y"][0]
    np.savez(tmp_path / "task.npz", x=x, y=y)
    line = adapt_file(path, tmp_path / "task.npz", steps=0).splitlines()[-1]
    before, after = line.split()[1:3]
    assert before == after
    right = np.argmax(learner.adapt(x, y, steps=0)(x), -1) == y
    assert float(before) == pytest.approx(np.mean(right), rel=1e-3)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: embedding(activation="softmax"), "no activation.*Dense 'head'"),
        (lambda: embedding(use_bias=False), "with a bias"),
        (lambda: embedding(trainable=False), "a trainable Dense.*Dense 'head'"),
        (
            lambda: keras.Sequential(
                [keras.Input([4, 4, 1]), keras.layers.Conv2D(3, 3, name="end")]
            ),
            "ends in a trainable Dense.*Conv2D 'end'",
        ),
    ],
)
def test_a_model_without_a_plain_head_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        wrapped(model())


def test_targets_have_to_be_class_numbers():
    inner = InnerLoop("mse", SGD(0.1), start=PrototypicalHead())
    with pytest.raises(ValueError, match="needs class numbers.*'mse'"):
        MAML(embedding(), inner)
    with pytest.raises(TypeError, match="`start` must be a Start.*'head'"):
        InnerLoop("mse", SGD(0.1), start="head")
