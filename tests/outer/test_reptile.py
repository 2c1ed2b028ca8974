"""Reptile: the path of the inner loop as a meta-gradient."""

import keras
import numpy as np
import pytest
from helpers import (
    dense,
    each_task,
    estimating,
    gradients,
    regression,
)

from maml_keras import (
    Adam,
    Reptile,
    last_layer,
)

# "sequential" is the same loop as "parallel": test_task_maps.py compares them.
MAPS = ["parallel", "vectorized"]


@pytest.mark.parametrize("task_map", MAPS)
def test_reptile_is_the_path_of_the_inner_loop(task_map):
    model, batch = dense(), regression()

    def path(start, task, query_y):
        ends = [v.numpy() for v in model.trainable_variables]
        return [a - b for a, b in zip(start, ends)]

    expected = each_task(model, batch, path)
    got = gradients(estimating(model, Reptile(), task_map=task_map), batch)
    for a, b in zip(got, expected):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)  # float32


def test_reptile_ignores_the_query_set():
    task, query_y = regression()
    model = estimating(dense(), Reptile(), rule=Adam(0.01, beta_1=0.0))
    one = gradients(model, (task, query_y))
    for a, b in zip(one, gradients(model, (task, query_y + 1.0))):
        np.testing.assert_array_equal(a, b)


def test_reptile_moves_to_the_mean_of_the_adapted_weights():
    model, batch = dense(), regression()
    learner = estimating(model, Reptile())

    def ends(start, task, query_y):
        return [v.numpy() for v in model.trainable_variables]

    expected = each_task(model, batch, ends)
    learner.compile(keras.optimizers.SGD(1.0))
    learner.train_on_batch(*batch)
    for variable, value in zip(model.trainable_variables, expected):
        np.testing.assert_allclose(variable, value, rtol=1e-4, atol=1e-6)  # float32


def test_reptile_moves_equally_far_under_a_scaled_loss():
    model, batch = dense(), regression()
    learner = estimating(model, Reptile())

    def ends(start, task, query_y):
        return [v.numpy() for v in model.trainable_variables]

    expected = each_task(model, batch, ends)
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0))
    learner.compile(scaled)
    learner.train_on_batch(*batch)
    for variable, value in zip(model.trainable_variables, expected):
        np.testing.assert_allclose(variable, value, rtol=1e-4, atol=1e-6)  # float32


def test_reptile_leaves_weights_that_do_not_adapt():
    got = gradients(estimating(dense(), Reptile(), adapt=last_layer()), regression())
    assert all(np.all(g == 0.0) for g in got[:2])
    assert all(np.any(g != 0.0) for g in got[2:])
