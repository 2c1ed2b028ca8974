"""The query losses that meta-training minimises."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    dense,
    each_task,
    estimating,
    gradients,
    mse,
    regression,
)

from maml_keras import (
    Backprop,
    FirstOrder,
    MultiStep,
)


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_weights_of_the_steps_follow_the_papers_schedule(steps):
    objective = MultiStep(epochs=10, steps_per_epoch=500)
    others = np.full(steps - 1, 1.0 / steps)
    for epoch in range(14):
        got = objective.weights(tf.constant(epoch * 500 + 499), steps=steps).numpy()
        np.testing.assert_allclose(got[:-1], others, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(got.sum(), 1.0, rtol=1e-6)
        # Each epoch takes 1 / (steps * epochs), down to 0.03 / steps.
        others = np.maximum(others - 1.0 / steps / 10, 0.03 / steps)


def test_loss_of_several_steps_is_their_weighted_sum():
    model, batch = dense(), regression()
    losses = [
        float(estimating(model, Backprop(), steps=k).compute_meta_gradients(batch)[0])
        for k in (1, 2, 3)
    ]
    objective = MultiStep(epochs=2, steps_per_epoch=10)
    learner = estimating(model, Backprop(objective), steps=3)
    for seen, weights in [(0, [1 / 3] * 3), (10, [1 / 6, 1 / 6, 2 / 3])]:
        learner.meta_steps.assign(seen)
        got, _ = learner.compute_meta_gradients(batch)
        np.testing.assert_allclose(got, np.dot(weights, losses), rtol=1e-5)


def test_first_order_of_several_steps_is_a_sum_of_query_gradients():
    model, batch = dense(), regression()

    def query_gradient(start, task, query_y):
        with tf.GradientTape() as tape:
            loss = mse(query_y, model(task["query_x"]))
        return [g.numpy() for g in tape.gradient(loss, model.trainable_variables)]

    by_step = [each_task(model, batch, query_gradient, steps=k) for k in (1, 2, 3)]
    weights = [1 / 6, 1 / 6, 2 / 3]
    expected = [sum(w * g for w, g in zip(weights, parts)) for parts in zip(*by_step)]
    objective = MultiStep(epochs=2, steps_per_epoch=10)
    learner = estimating(model, FirstOrder(objective), steps=3)
    learner.meta_steps.assign(10)
    for a, b in zip(gradients(learner, batch), expected):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # float32


def test_training_reports_the_last_steps_predictions():
    # The metric is the error after adaptation, not the weighted loss of all steps.
    model, (task, query_y) = dense(), regression()
    objective = MultiStep(epochs=2, steps_per_epoch=10)
    learner = estimating(model, FirstOrder(objective), steps=3)
    learner.compile(keras.optimizers.SGD(0.0), metrics=["mse"])
    loss, error = learner.train_on_batch(task, query_y)
    adapted = estimating(model, Backprop(), steps=3)(task)
    np.testing.assert_allclose(error, mse(query_y, adapted), rtol=1e-5)  # float32
    assert abs(loss - error) > 1e-3


def test_each_query_pass_knows_its_step(monkeypatch):
    # Per-step batch norm needs the step: the query pass at phi_k belongs to step k.
    learner = estimating(dense(), Backprop(MultiStep(epochs=2, steps_per_epoch=10)))
    seen, query = [], learner.learner.query

    def noted(*args, step, **kwargs):
        seen.append(step)
        return query(*args, step=step, **kwargs)

    monkeypatch.setattr(learner.learner, "query", noted)
    learner.compute_meta_gradients(regression(tasks=1))
    assert seen == [1, 2]
