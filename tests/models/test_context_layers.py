"""Context parameters (CAVIA)."""

import keras
import numpy as np
import pytest
from helpers import regression

from maml_keras import check_meta_gradient, matching, models, recipes
from maml_keras.models.context_layers import ContextFilm, ContextInput

pytestmark = pytest.mark.usefixtures("tasks_in_a_loop", "without_graphs")


def test_context_is_appended_to_the_features():
    layer = ContextInput(2)
    x = np.arange(6.0, dtype="float32").reshape(2, 3)
    layer(x)
    layer.context.assign([7.0, 8.0])
    np.testing.assert_array_equal(layer(x), [[0, 1, 2, 7, 8], [3, 4, 5, 7, 8]])
    assert layer.compute_output_shape((None, 3)) == (None, 5)


def test_film_scales_and_shifts_channels():
    layer = ContextFilm(1)
    x = np.ones([1, 2, 2, 3], "float32")
    layer(x)
    layer.context.assign([2.0])
    layer.scale.assign([[1.0, 2.0, 3.0]])
    layer.shift.assign([[0.0, -1.0, 1.0]])
    np.testing.assert_array_equal(layer(x)[0, 0, 0], [3.0, 3.0, 9.0])


@pytest.mark.parametrize(
    ("task_map", "jit_compile"), [("parallel", False), ("vectorized", True)]
)
def test_only_the_context_adapts_and_stays_at_zero_in_training(task_map, jit_compile):
    model = models.mlp(inputs=3, outputs=2, hidden=[8], context=4)
    learner = recipes.cavia(model, "mse", 0.5, steps=2, task_map=task_map)
    task, query_y = regression()
    context = next(v for v in model.trainable_variables if v.path.endswith("/context"))
    adapted = learner.adapt(task["support_x"][0], task["support_y"][0])
    changed = [
        not np.array_equal(a, b)
        for a, b in zip(adapted.get_weights(), model.get_weights())
    ]
    assert changed == [v is context for v in model.variables]
    learner.compile(keras.optimizers.Adam(0.01), jit_compile=jit_compile)
    learner.fit(task, query_y, epochs=2, verbose=0)
    np.testing.assert_array_equal(context, np.zeros(4))


@pytest.mark.graphs
def test_meta_gradient_is_exact():
    model = models.mlp(inputs=3, outputs=2, hidden=[8], activation="tanh", context=4)
    checks = check_meta_gradient(recipes.cavia(model, "mse", steps=2), regression())
    assert all(check.decided for check in checks)


def test_conv4_takes_a_context():
    model = models.conv4(filters=8, context=5)
    chosen = matching(r"/context$").select(model)
    assert sum(chosen) == 1
    assert model.predict(np.zeros([1, 28, 28, 1]), verbose=0).shape == (1, 5)


def test_a_context_of_size_zero_is_refused():
    with pytest.raises(ValueError, match="`size` must be positive.*size=0"):
        ContextInput(0)


def test_a_model_without_context_is_refused():
    with pytest.raises(ValueError, match="must hold a context layer"):
        recipes.cavia(models.mlp(), "mse")
