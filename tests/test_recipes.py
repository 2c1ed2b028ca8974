"""The published algorithms as compositions of parts."""

import ast
import inspect

import keras
import numpy as np
import pytest
from helpers import classification, dense, regression

import maml_keras as mk
from maml_keras import Backprop, models, recipes
from maml_keras.outer.meta_gradients import FirstOrder
from maml_keras.outer.objectives import FinalStep, MultiStep

pytestmark = pytest.mark.usefixtures("tasks_in_a_loop")

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
    """Tasks with three classes around three random points, different in each task."""
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


# These differ from MAML by one part only, which tests/journeys/test_contract.py trains.
LIKE_MAML = {"fomaml", "anil", "boil", "meta_curvature", "meta_sgd"}


@pytest.mark.journey
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in LIKE_MAML else [])
        for name in recipes.RECIPES
    ],
)
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


# For each paper: the rule, which of (body, batch norm, head) adapts, the estimator,
# lambda, the start of the loop and the batch-norm policy.
ALL, HEAD, BODY = [True] * 6, [False] * 4 + [True] * 2, [True] * 4 + [False] * 2
NOT_NORM = [True, True, False, False, True, True]
PLAIN = "Initialisation", "transductive"
DEFINITIONS = {
    "maml": ("SGD", ALL, "Backprop", 0.0, *PLAIN),
    "fomaml": ("SGD", ALL, "FirstOrder", 0.0, *PLAIN),
    "anil": ("SGD", HEAD, "Backprop", 0.0, *PLAIN),
    "boil": ("SGD", BODY, "Backprop", 0.0, *PLAIN),
    "meta_sgd": ("MetaSGD", ALL, "Backprop", 0.0, *PLAIN),
    "maml_plus_plus": ("PerStepSGD", NOT_NORM, "Phases", 0.0, PLAIN[0], "per_step"),
    "reptile": ("Adam", ALL, "Reptile", 0.0, *PLAIN),
    "imaml": ("SGD", ALL, "Implicit", 2.0, *PLAIN),
    "cavia": ("SGD", [True] + [False] * 6, "Backprop", 0.0, *PLAIN),
    "proto_maml": ("SGD", ALL, "Backprop", 0.0, "PrototypicalHead", "transductive"),
    "meta_curvature": ("MetaCurvature", ALL, "Backprop", 0.0, *PLAIN),
    "prototypical": ("SGD", HEAD, "Backprop", 0.0, "PrototypicalHead", "transductive"),
    "ridge": ("SGD", HEAD, "Backprop", 0.0, "RidgeHead", "transductive"),
}


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_matches_the_definition_of_its_paper(name):
    model = network(context=4 if name == "cavia" else 0)
    learner = recipes.get(name)(model, CROSS_ENTROPY, 0.3, steps=4)
    inner = learner.inner
    found = (
        type(inner.rule).__name__,
        inner.adapt_selector.select(model),
        type(learner.meta_gradient).__name__,
        inner.proximal,
        type(inner.start_from).__name__,
        learner.batch_norm.name,
    )
    assert found == DEFINITIONS[name]
    assert (inner.steps, inner.rule.learning_rate, inner.second_order) == (4, 0.3, True)
    if name == "reptile":
        assert inner.rule.beta_1 == 0.0
    if name == "imaml":
        assert learner.meta_gradient.cg_steps == 5


def test_first_order_differs_from_the_gradient_of_maml():
    model, batch = dense(), regression()
    first, second = (
        recipe(model, "mse", 0.1).compute_meta_gradients(batch)[1]
        for recipe in (recipes.fomaml, recipes.maml)
    )
    for a, b in zip(first, second):
        assert np.linalg.norm(a - b) > 0.01 * np.linalg.norm(b)


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_a_recipe_is_ten_lines_at_most(name):
    (function,) = ast.parse(inspect.getsource(recipes.get(name))).body
    body = function.body[1:]  # All but the docstring.
    assert body[-1].end_lineno - body[0].lineno + 1 <= 10


def clouds(ways, *, tasks=16, seed=0):
    """Tasks with `ways` classes, each a cloud around a random point."""
    generator = np.random.default_rng(seed)
    task, query_y = classification(tasks=tasks, ways=ways, shots=2, queries=4)
    centres = generator.normal(size=[tasks, ways, 3], scale=3.0)
    rows = np.arange(tasks)[:, None]
    for key, y in (("support_x", task["support_y"]), ("query_x", query_y)):
        task[key] = (0.3 * task[key] + centres[rows, y]).astype("float32")
    return task, query_y


@pytest.mark.journey
def test_proto_maml_can_be_tested_with_other_ways_than_in_training():
    def trained(recipe, outputs):
        model = keras.Sequential(
            [
                keras.Input([3]),
                keras.layers.Dense(8, activation="tanh"),
                keras.layers.Dense(outputs, name="head"),
            ]
        )
        learner = recipe(model, CROSS_ENTROPY, 0.01, steps=2, task_map="sequential")
        learner.compile("adam", jit_compile=False)
        learner.fit(*clouds(5), epochs=3, verbose=0)
        return learner

    learner = trained(recipes.proto_maml, 10)
    for ways in (3, 7):
        result = mk.evaluate_episodes(learner, [clouds(ways, seed=1)], verbose=0)
        assert result.mean > 0.8  # Chance is 0.33 and 0.14.
    plain = trained(recipes.maml, 5)
    with pytest.raises(ValueError, match="as many ways as the model has outputs"):
        plain.fit(*clouds(3, seed=1), verbose=0)


def test_a_network_without_a_context_is_refused():
    with pytest.raises(ValueError, match=r"context layer.*`models.mlp\(context=5\)`"):
        recipes.cavia(network(), CROSS_ENTROPY)
    frozen = models.mlp(context=2)
    frozen.get_layer("context_input").trainable = False
    with pytest.raises(
        ValueError, match="has a frozen one: set `trainable = True` on the layer"
    ):
        recipes.cavia(frozen, "mse")


@pytest.mark.journey
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


def test_an_unknown_name_raises_with_the_nearest_name():
    with pytest.raises(ValueError, match="Did you mean 'reptile'"):
        recipes.get("reptil")


@pytest.mark.journey
def test_imaml_clips_its_inner_gradient_if_requested():
    model = recipes.imaml(dense(), "mse", 0.01, clip_norm=10.0)
    assert type(model.rule).__name__ == "ClipByNorm"
    assert type(recipes.imaml(dense(), "mse", 0.01).rule).__name__ == "SGD"
