"""Parts of batches for replicas: all tasks once, in order; only the own are made."""

import numpy as np
import pytest
import tensorflow as tf

from maml_keras.data import Sinusoid, episodes
from maml_keras.data.shares import Share


def pieces(stream, replicas, workers=1, batches=2):
    """For each batch the parts of all replicas, in the order of the replicas."""
    here = replicas // workers
    shares = [Share(w * here, here, replicas) for w in range(workers)]
    found = [
        [y.numpy() for _, y in stream.shared(share).take(here * batches)]
        for share in shares
    ]
    return [
        [part for own in found for part in own[b * here : (b + 1) * here]]
        for b in range(batches)
    ]


@pytest.mark.parametrize(
    ("replicas", "workers", "sizes"),
    [(2, 1, [4, 3]), (2, 2, [4, 3]), (4, 2, [2, 2, 2, 1]), (7, 1, [1] * 7)],
)
def test_parts_of_a_batch_joined_are_the_batch(replicas, workers, sizes):
    stream = episodes(Sinusoid(shots=2), batch_size=7, seed=1)
    whole = [y.numpy() for _, y in stream.take(2)]
    for batch, parts in zip(whole, pieces(stream, replicas, workers)):
        assert [len(part) for part in parts] == sizes
        np.testing.assert_array_equal(np.concatenate(parts), batch)


def test_a_short_last_batch_leaves_replicas_without_tasks():
    stream = episodes(Sinusoid(shots=2), batch_size=4, seed=1, num_episodes=5)
    (_, last) = pieces(stream, replicas=2)
    assert [len(part) for part in last] == [1, 0]
    assert len(list(stream.shared(Share(0, 2, 2)))) == 4  # and no part more


def test_equal_parts_have_a_fixed_shape():
    stream = episodes(Sinusoid(shots=2), batch_size=6, seed=1)
    _, query_y = stream.shared(Share(0, 3, 3)).element_spec
    assert query_y.shape == [2, 10, 1]


def test_a_process_makes_only_its_own_tasks():
    made = []

    class Counting(Sinusoid):
        def fill(self, plan):
            tf.py_function(lambda n: made.append(int(n)), [tf.shape(plan[1])[0]], [])
            return plan

    stream = episodes(Counting(shots=2), batch_size=6, seed=1, num_episodes=6)
    list(stream.shared(Share(2, 1, 3)))
    assert made == [2]


def test_batches_of_any_dataset_are_cut():
    batches = tf.data.Dataset.range(10).map(lambda i: (i, -i)).batch(5)
    parts = [a.numpy().tolist() for a, _ in Share(0, 2, 2).parts(batches)]
    assert parts == [[0, 1, 2], [3, 4], [5, 6, 7], [8, 9]]
