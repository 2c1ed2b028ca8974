"""The numbers of a trace of the inner loop, computed again by hand."""

import helpers
import keras
import numpy as np
import pytest
import tensorflow as tf

import maml_keras as mk
from maml_keras.evaluation.trace import EXAMPLES, predictions_along

pytestmark = pytest.mark.usefixtures("tasks_in_a_loop", "without_graphs")

RATE, STEPS = 0.1, 3


def by_hand(model, task, query_y, clip=None):
    """Losses and norms of one task by a plain loop over a copy of the model."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    mse = keras.losses.MeanSquaredError()
    support, query, gradients, updates = [], [], [], []
    for k in range(STEPS + 1):
        query.append(float(mse(query_y, copy(task["query_x"]))))
        with tf.GradientTape() as tape:
            loss = mse(task["support_y"], copy(task["support_x"]))
        support.append(float(loss))
        if k == STEPS:
            break
        grads = tape.gradient(loss, copy.trainable_variables)
        # Each layer has two variables, kernel and bias.
        gradients.append([tf.linalg.global_norm(grads[i : i + 2]) for i in (0, 2)])
        scale = 1.0
        if clip is not None:
            scale = min(1.0, clip / float(tf.linalg.global_norm(grads)))
        updates.append([RATE * scale * norm for norm in gradients[-1]])
        for variable, gradient in zip(copy.trainable_variables, grads):
            variable.assign_sub(RATE * scale * gradient)
    return support, query, gradients, updates


@pytest.mark.parametrize("clip", [None, 0.5])
def test_losses_and_norms_equal_those_of_a_plain_loop(clip):
    model = helpers.dense()
    rule = mk.SGD(RATE) if clip is None else mk.ClipByNorm(mk.SGD(RATE), clip)
    maml = mk.MAML(model, mk.InnerLoop("mse", rule, steps=1))
    before = [v.numpy() for v in maml.variables]
    task, query_y = helpers.regression(tasks=3)
    trace = mk.trace_inner_loop(maml, [(task, query_y)], steps=STEPS)
    assert trace.metric == "loss"
    assert trace.chance is None
    for i in range(3):
        one = {name: array[i] for name, array in task.items()}
        support, query, gradients, updates = by_hand(model, one, query_y[i], clip)
        # Sums of a few dozen float32 terms in another order.
        near = {"rtol": 1e-5}
        np.testing.assert_allclose(trace.support_loss[i], support, **near)
        np.testing.assert_allclose(trace.query_loss[i], query, **near)
        np.testing.assert_allclose(trace.gradient_norms[i], gradients, **near)
        # A difference of weights of size one.
        np.testing.assert_allclose(trace.update_norms[i], updates, rtol=1e-4)
    assert [layer.rpartition("/")[2] for layer in trace.layers][-1] == "head"
    for old, new in zip(before, maml.variables):
        np.testing.assert_array_equal(old, new.numpy())


def test_a_trace_equals_evaluate_episodes_on_classes():
    maml = mk.recipes.meta_sgd(
        helpers.batch_normalised(outputs=3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        0.1,
        steps=2,
    )
    batches = [helpers.classification(tasks=2, seed=s) for s in (0, 1, 2)]
    trace = mk.trace_inner_loop(maml, batches, num_tasks=4)
    expected = mk.evaluate_episodes(maml, batches, num_tasks=4, verbose=0)
    ours = trace.query()
    np.testing.assert_allclose(ours.per_episode, expected.per_episode)
    assert str(ours) == str(expected)
    assert trace.chance == pytest.approx(1 / 3)
    assert trace.gradient_norms.shape == (4, 2, 3)
    # The first tasks are kept completely.
    assert trace.examples["predictions"].shape == (EXAMPLES, 3, 6, 3)
    drawn = {k: trace.examples[k] for k in ("support_x", "support_y", "query_x")}
    np.testing.assert_allclose(
        predictions_along(maml, drawn, steps=2),
        trace.examples["predictions"],
        rtol=1e-4,
        atol=1e-5,
    )


def test_one_hot_rows_count_as_classes():
    model = helpers.dense(outputs=3)
    task, labels = helpers.classification(tasks=3)
    rows = np.eye(3, dtype="float32")
    of_rows = {**task, "support_y": rows[task["support_y"]]}, rows[labels]
    kinds = "SparseCategoricalCrossentropy", "CategoricalCrossentropy"
    losses = [getattr(keras.losses, kind)(from_logits=True) for kind in kinds]
    by_number, by_row = (
        mk.trace_inner_loop(mk.MAML(model, mk.InnerLoop(loss, mk.SGD(RATE))), [batch])
        for loss, batch in zip(losses, [(task, labels), of_rows])
    )
    assert by_row.metric == by_number.metric == "accuracy"
    assert by_row.chance == by_number.chance == pytest.approx(1 / 3)
    np.testing.assert_array_equal(by_row.query_metric, by_number.query_metric)


def test_only_layers_that_adapt_have_norms_and_zero_steps_give_none():
    inner = mk.InnerLoop("mse", mk.SGD(RATE), adapt=mk.last_layer())
    maml = mk.MAML(helpers.dense(), inner)
    batch = helpers.regression()
    assert mk.trace_inner_loop(maml, [batch]).gradient_norms.shape == (2, 1, 1)
    none = mk.trace_inner_loop(maml, [batch], steps=0)
    assert none.gradient_norms.shape == (2, 0, 1)
    assert none.query_loss.shape == (2, 1)


@pytest.mark.graphs
def test_it_is_traced_once(monkeypatch):
    maml = mk.MAML(helpers.dense(), mk.InnerLoop("mse", mk.SGD(RATE)))
    batch = helpers.regression()
    mk.trace_inner_loop(maml, [batch])
    [(compiled, _)] = maml.__dict__["_inner_traces"].values()
    maml.model.set_weights([2 * w for w in maml.model.get_weights()])
    again = mk.trace_inner_loop(maml, [batch, batch], num_tasks=4)
    assert compiled.experimental_get_tracing_count() == 1
    expected = mk.evaluate_episodes(maml, [batch], num_tasks=2, verbose=0)
    np.testing.assert_allclose(again.query_loss[2:], expected.per_episode, rtol=1e-5)


def test_no_episode_is_refused():
    maml = mk.MAML(helpers.dense(), mk.InnerLoop("mse", mk.SGD(RATE)))
    with pytest.raises(ValueError, match="at least one batch"):
        mk.trace_inner_loop(maml, [])


def test_a_batch_without_targets_or_no_tasks_is_refused():
    batch = helpers.regression()
    model = helpers.maml(helpers.dense())
    with pytest.raises(ValueError, match="no query_y"):
        mk.trace_inner_loop(model, [batch[:1]], num_tasks=2)
    with pytest.raises(ValueError, match="`num_tasks` must be positive"):
        mk.trace_inner_loop(model, [batch], num_tasks=0)
