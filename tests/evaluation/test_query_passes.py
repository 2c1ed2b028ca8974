"""Queries predicted together or one at a time."""

import keras
import numpy as np
import pytest
from helpers import (
    batch_normalised,
    dense,
    maml,
    regression,
)

from maml_keras.evaluation.evaluate import evaluate_episodes

pytestmark = pytest.mark.usefixtures("without_graphs")


def evaluated(model, *batches, **kwargs):
    return evaluate_episodes(model, batches, verbose=0, **kwargs)


def by_hand(model, batch):
    """The loss of each task from one call of the model for each query."""
    task, query_y = batch
    count = query_y.shape[1]
    parts = [{**task, "query_x": task["query_x"][:, i : i + 1]} for i in range(count)]
    rows = np.concatenate([model.predict_on_batch(part) for part in parts], axis=1)
    return np.square(rows - query_y).mean(axis=(1, 2))


@pytest.mark.parametrize(
    ("policy", "task_map"),
    [
        ("transductive", "parallel"),
        pytest.param("inductive", "parallel", marks=pytest.mark.slow),
        # Without graphs, each of the calls would be vectorised anew.
        pytest.param("beside", "vectorized", marks=pytest.mark.graphs),
    ],
)
def test_queries_alone_are_predicted_one_call_each(policy, task_map):
    steps = 1 if task_map == "vectorized" else 2
    model = maml(batch_normalised(), steps=steps, batch_norm=policy, task_map=task_map)
    batch = regression(queries=3)
    alone = evaluated(model, batch, queries="alone")
    together = evaluated(model, batch)
    np.testing.assert_allclose(
        alone.per_episode[:, -1], by_hand(model, batch), rtol=1e-4
    )
    gap = np.abs(alone.per_episode[:, -1] - together.per_episode[:, -1]).max()
    assert gap > 0.05 if policy == "transductive" else gap < 1e-5  # float32
    assert "3 queries a task, each alone" in str(alone)
    assert "3 queries a task, together" in str(together)
    assert (alone.summary()["queries"], together.summary()["queries"]) == (
        "alone",
        "together",
    )


def test_queries_alone_keep_their_masks():
    # A masked position counts neither in a batch nor alone.
    x = keras.Input([4, 3])
    h = keras.layers.LSTM(4, return_sequences=True)(keras.layers.Masking()(x))
    model = maml(keras.Model(x, keras.layers.Dense(2)(h)), task_map="sequential")
    task, _ = regression((4, 3))
    task["query_x"][:, 0, 2:] = 0.0
    task["support_y"] = np.ones([2, 4, 4, 2], "float32")
    query_y = np.random.default_rng(1).normal(size=[2, 3, 4, 2]).astype("float32")
    found = [
        evaluated(model, (task, query_y), metric="loss", queries=queries).per_episode
        for queries in ("alone", "together")
    ]
    np.testing.assert_allclose(*found, rtol=1e-5)  # float32


def test_queries_have_two_forms():
    with pytest.raises(ValueError, match="`queries` must be one of.*'apart'"):
        evaluated(maml(dense()), regression(), queries="apart")
