"""Weights of tasks, and federated learning as a composition, by hand beside it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import RATE, batch_normalised, dense, regression

import maml_keras as mk
from maml_keras.inner import mini_batches

SIZES = [7, 2, 5]


def clients(sizes=SIZES, seed=1):
    """Uneven clients: a padded batch, and the same without padding, one by one."""
    task, query_y = regression(tasks=len(sizes), support=max(sizes), seed=seed)
    weight = (np.arange(max(sizes)) < np.reshape(sizes, [-1, 1])).astype("float32")
    alone = [
        (
            {
                "support_x": task["support_x"][i : i + 1, :n],
                "support_y": task["support_y"][i : i + 1, :n],
                "query_x": task["query_x"][i : i + 1],
            },
            query_y[i : i + 1],
        )
        for i, n in enumerate(sizes)
    ]
    return ({**task, "support_weight": weight}, query_y), alone


def averaging(model, *, steps, task_map="parallel", weights=None, **inner):
    """Federated averaging: Reptile, an outer rate of one, and weights by size."""
    maml = mk.MAML(
        model,
        mk.InnerLoop("mse", mk.SGD(RATE), steps=steps, **inner),
        meta_gradient=mk.Reptile(),
        task_weights=weights or mk.BySize(),
        task_map=task_map,
        seed=0,
    )
    maml.compile(keras.optimizers.SGD(1.0))
    return maml


def updated_by_keras(model, x, y, parts):
    """What a client's weights become by plain Keras on the parts, in their order."""
    local = keras.models.clone_model(model)
    local.set_weights(model.get_weights())
    local.compile(keras.optimizers.SGD(RATE), "mse", run_eagerly=True)
    for rows in parts:
        local.train_on_batch(x[rows], y[rows])
    return local.get_weights()


@pytest.mark.parametrize(
    ("size", "epochs"), [(None, 2), (2, 1), (2, 3), (4, 2)], ids=str
)
def test_a_round_of_federated_averaging_is_the_one_by_hand(size, epochs):
    keras.utils.set_random_seed(0)
    model = dense()
    batch, alone = clients()
    found = []
    for (task, _), n in zip(alone, SIZES):
        parts = [range(n)] * epochs
        if size is not None:
            steps = -(-epochs * n // min(size, n))
            parts = [
                mini_batches.positions(k, n, size=size, seed=3).numpy()
                for k in range(steps)
            ]
            seen = np.bincount(np.concatenate(parts), minlength=n)
            assert seen.min() >= epochs  # Each example in each epoch.
        x, y = task["support_x"][0], task["support_y"][0]
        found.append(updated_by_keras(model, x, y, [list(p) for p in parts]))
    expected = [np.average(w, axis=0, weights=SIZES) for w in zip(*found)]
    if size is None:
        maml = averaging(model, steps=epochs)
    else:
        most = -(-epochs * max(SIZES) // size)
        local = {"batch_size": size, "batch_seed": 3, "epochs": epochs}
        maml = averaging(model, steps=most, **local)
    maml.train_on_batch(*batch)
    for got, wanted in zip(model.get_weights(), expected):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)  # float32


def test_a_round_of_per_fedavg_is_the_one_by_hand():
    """Linear clients, whose meta-gradient NumPy has in closed form.

    `(I - a H_i) grad q_i(w - a grad s_i(w))`, averaged over clients by their sizes.
    """
    generator = np.random.default_rng(0)
    batch, alone = clients()
    start = generator.normal(size=[3, 2]).astype("float32")
    layers = [keras.Input([3]), keras.layers.Dense(2, use_bias=False)]
    model = keras.Sequential(layers)
    model.set_weights([start])
    maml = mk.recipes.maml(model, "mse", RATE, task_weights=mk.BySize())
    maml.compile(keras.optimizers.SGD(0.5))
    maml.train_on_batch(*batch)
    gradients = []
    for task, query_y in alone:
        (x, y), (q, z) = (
            (task["support_x"][0].astype("float64"), task["support_y"][0]),
            (task["query_x"][0].astype("float64"), query_y[0]),
        )
        adapted = start - RATE * x.T @ (x @ start - y) / len(x)
        hessian = x.T @ x / len(x)  # The loss is a mean over two outputs.
        outer = q.T @ (q @ adapted - z) / len(q)
        gradients.append((np.eye(3) - RATE * hessian) @ outer)
    expected = start - 0.5 * np.average(gradients, axis=0, weights=SIZES)
    np.testing.assert_allclose(model.get_weights()[0], expected, rtol=1e-5)  # float32


@pytest.mark.parametrize("task_map", ["sequential", "vectorized", mk.Chunked(1)])
def test_every_task_map_weighs_tasks_alike(task_map):
    keras.utils.set_random_seed(0)
    model, (batch, _) = dense(), clients()
    one, other = (
        averaging(model, steps=2, task_map=m).compute_meta_gradients(
            tf.nest.map_structure(tf.constant, batch)
        )
        for m in ("parallel", task_map)
    )
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)  # float32


def test_loss_and_moving_statistics_are_weighed_too():
    keras.utils.set_random_seed(0)
    model = batch_normalised()
    start = model.get_weights()
    batch, alone = clients()
    maml = averaging(model, steps=1)
    losses, weights = [], []
    for one in alone:
        model.set_weights(start)
        losses.append(maml.compute_meta_gradients(one)[0])
        maml.train_on_batch(*one)
        weights.append(model.get_weights())
    model.set_weights(start)
    loss, _ = maml.compute_meta_gradients(batch)
    maml.train_on_batch(*batch)
    np.testing.assert_allclose(loss, np.average(losses, weights=SIZES), rtol=1e-5)
    for got, each in zip(model.get_weights(), zip(*weights)):
        wanted = np.average(each, axis=0, weights=SIZES)
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)  # float32


def test_equal_tasks_are_the_plain_mean_and_the_default():
    keras.utils.set_random_seed(0)
    model, batch = dense(), regression(tasks=3)
    plain, equal, sized = (
        mk.recipes.maml(model, "mse", RATE, **how).compute_meta_gradients(batch)
        for how in (
            {},
            {"task_weights": mk.EqualTasks()},
            {"task_weights": mk.BySize()},  # All tasks are of one size.
        )
    )
    for a, b, c in zip(*(tf.nest.flatten(g) for g in (plain, equal, sized))):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, rtol=1e-6, atol=1e-7)  # float32


def test_a_saved_model_keeps_its_weights_of_tasks(tmp_path):
    maml = averaging(dense(), steps=1)
    maml.save(tmp_path / "maml.keras")
    loaded = keras.saving.load_model(tmp_path / "maml.keras")
    assert isinstance(loaded.task_weights, mk.BySize)
    config = maml.get_config()
    del config["task_weights"]  # A file of before.
    assert isinstance(mk.MAML.from_config(config).task_weights, mk.EqualTasks)


def test_another_object_is_refused():
    with pytest.raises(TypeError, match=r"must be a TaskWeights, such as BySize\(\)"):
        averaging(dense(), steps=1, weights="size")
