"""The published algorithms as compositions."""

import keras
import numpy as np
import pytest
from helpers import classification

from maml_keras import Backprop, models, recipes
from maml_keras.meta_gradients import FirstOrder
from maml_keras.objectives import FinalStep, MultiStep

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(context=0):
    joined = [models.ContextInput(context)] if context else []
    return keras.Sequential(
        [
            keras.Input([3]),
            *joined,
            keras.layers.Dense(6, activation="tanh"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(3, name="head"),
        ]
    )


def separable(seed=0):
    """Tasks with three classes around three points of their own."""
    generator = np.random.default_rng(seed)
    task, query_y = classification(tasks=8, shots=3, queries=5, seed=seed)
    centres = generator.normal(size=[8, 3, 3], scale=2.0)
    rows = np.arange(8)[:, None]
    task = {
        "support_x": 0.3 * task["support_x"] + centres[rows, task["support_y"]],
        "support_y": task["support_y"],
        "query_x": 0.3 * task["query_x"] + centres[rows, query_y],
    }
    return {k: v.astype("float32" if "x" in k else "int32") for k, v in task.items()}, (
        query_y.astype("int32")
    )


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_learns_and_is_saved(name, tmp_path):
    keras.utils.set_random_seed(0)
    model = network(context=4 if name == "cavia" else 0)
    steps = {"imaml": 5, "reptile": 5}.get(name, 2)
    rate = {"reptile": 0.02, "imaml": 0.5, "cavia": 1.0}.get(name, 0.2)
    learner = recipes.get(name)(
        model, CROSS_ENTROPY, rate, steps=steps, task_map="parallel"
    )
    outer = keras.optimizers.SGD(0.5) if name == "reptile" else "adam"
    learner.compile(outer, metrics=["accuracy"], jit_compile=False)
    task, query_y = separable()
    losses = learner.fit(task, query_y, epochs=40, verbose=0).history["loss"]
    assert losses[-1] < 0.95 * losses[0]
    learner.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(task), learner(task), rtol=1e-5, atol=1e-6)


def test_plus_plus_goes_through_its_phases():
    estimator = recipes.maml_plus_plus(
        network(),
        CROSS_ENTROPY,
        multi_step_epochs=2,
        first_order_epochs=5,
        steps_per_epoch=10,
    ).meta_gradient
    kinds = [(type(p), type(p.objective)) for p in estimator.phases]
    assert kinds == [
        (FirstOrder, MultiStep),
        (FirstOrder, FinalStep),
        (Backprop, FinalStep),
    ]
    assert estimator.until == [20, 50]


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'reptile'"):
        recipes.get("reptil")
