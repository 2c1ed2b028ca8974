"""episodes: purity, resuming, cardinality, shapes, errors, throughput."""

import hashlib
import itertools
import math
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
import test_samplers
import test_split

from maml_keras.data import NWayKShot, Sinusoid, TaskFamily, episodes, from_arrays
from maml_keras.data.seeds import seed_from


class Lines(TaskFamily):
    """A user's family: only the abstract method is defined."""

    chunk = 16

    def sample(self, seed):
        x = tf.random.stateless_normal([5, 1], seed)
        y = x * tf.random.stateless_normal([], tf.random.fold_in(seed, 1))
        return {"support_x": x[:2], "support_y": y[:2], "query_x": x[2:]}, y[2:]


def n_way():
    pool = from_arrays(np.arange(240, dtype=np.int32)[:, None], np.arange(240) // 20)
    return NWayKShot(pool, ways=3, shots=2, queries=4)


FAMILIES = {"lines": Lines, "sinusoid": Sinusoid, "n_way": n_way}


@pytest.fixture(params=FAMILIES)
def tasks(request):
    return FAMILIES[request.param]()


def rows(dataset, count=None):
    """Each episode as one flat array."""
    found = []
    for task, query_y in dataset:
        parts = [task["support_x"], task["support_y"], task["query_x"], query_y]
        flat = [np.reshape(p, [len(p), -1]).astype(np.float64) for p in parts]
        found.extend(np.concatenate(flat, axis=1))
        if count is not None and len(found) >= count:
            break
    return np.array(found[:count])


def digest(seed=7):
    """A hash of the first episodes of each family; another process computes it, too."""
    found = hashlib.sha256()
    for family in FAMILIES.values():
        found.update(rows(episodes(family(), batch_size=5, seed=seed), 70).tobytes())
    return found.hexdigest()


def test_an_episode_is_a_row_of_its_chunk(tasks):
    got = rows(episodes(tasks, batch_size=7, seed=3, start=2 * tasks.chunk - 2), 4)
    for index, row in enumerate(got, start=2 * tasks.chunk - 2):
        seed = tf.random.fold_in(
            seed_from(3), tf.constant(index // tasks.chunk, "int64")
        )
        chunk = tasks.sample_many(seed, tasks.chunk)
        expected = rows([tf.nest.map_structure(lambda t: t.numpy(), chunk)])
        np.testing.assert_array_equal(row, expected[index % tasks.chunk])


def test_batch_size_does_not_change_episodes(tasks):
    expected = rows(episodes(tasks, batch_size=1, seed=3), 150)
    assert len(np.unique(expected, axis=0)) == 150
    for batch_size in (7, 64, 150):
        got = rows(episodes(tasks, batch_size=batch_size, seed=3), 150)
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("start", [63, 100])
def test_start_is_an_offset(tasks, start):
    expected = rows(episodes(tasks, batch_size=8, seed=3), 140)[start:]
    endless = episodes(tasks, batch_size=8, seed=3, start=start)
    np.testing.assert_array_equal(rows(endless, 140 - start), expected)
    finite = episodes(tasks, batch_size=8, seed=3, start=start, num_episodes=140)
    np.testing.assert_array_equal(rows(finite), expected)


def test_every_pass_is_the_same(tasks):
    dataset = episodes(tasks, batch_size=8, seed=3, num_episodes=20)
    np.testing.assert_array_equal(rows(dataset), rows(dataset))


@pytest.mark.journey
def test_another_process_gives_the_same_episodes_and_splits():
    code = (
        "import test_episodes, test_samplers, test_split; "
        "print(test_episodes.digest(), test_samplers.fingerprint(test_samplers.SOME, "
        "20, batch_size=3), *test_split.split_digest())"
    )
    here = os.path.dirname(__file__)
    path = os.pathsep.join([here, os.path.dirname(here)])
    env = {**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True
    )
    sampled = test_samplers.fingerprint(test_samplers.SOME, 20)
    expected = [digest(), sampled, *test_split.split_digest()]
    assert done.stdout.split() == expected, done.stderr[-2000:]
    assert digest(seed=8) != digest()


@pytest.mark.parametrize(("dtype", "num_episodes"), [("int32", None), ("int64", 200)])
def test_resumes_at_a_variable(tasks, dtype, num_episodes):
    start = tf.Variable(0, dtype=dtype)
    arguments = {"batch_size": 8, "seed": 3, "num_episodes": num_episodes}
    expected = rows(episodes(tasks, **arguments), 200)
    dataset = episodes(tasks, start=start, **arguments)
    for value in (0, 70, 16):
        start.assign(value)
        np.testing.assert_array_equal(rows(dataset, 100), expected[value : value + 100])


def test_variable_is_read_once_per_iterator():
    counter = tf.Variable(0, dtype=tf.int64)
    expected = rows(episodes(Lines(), batch_size=4, seed=3), 80)
    got = []
    for batch in episodes(Lines(), batch_size=4, seed=3, start=counter):
        counter.assign_add(4)  # A training loop counts like this.
        got.append(rows([batch]))
        if len(got) == 20:
            break
    np.testing.assert_array_equal(np.concatenate(got), expected)


@pytest.mark.parametrize("variable", [False, True])
def test_finite_start_wraps(variable):
    arguments = {"batch_size": 4, "seed": 3, "num_episodes": 10}
    expected = rows(episodes(Lines(), **arguments))
    start = tf.Variable(23) if variable else 23
    got = rows(episodes(Lines(), start=start, **arguments))
    np.testing.assert_array_equal(got, expected[3:])


def test_starting_at_keeps_the_other_arguments(tasks):
    dataset = episodes(tasks, batch_size=4, seed=3, num_episodes=90, start=5)
    expected = rows(dataset.starting_at(0))
    assert len(expected) == 90
    resumed = dataset.starting_at(tf.Variable(70))
    assert [len(query_y) for _, query_y in resumed] == [4] * 5
    np.testing.assert_array_equal(rows(resumed.starting_at(66)), expected[66:])


@pytest.mark.parametrize(
    ("num_episodes", "start"), [(1, 0), (64, 0), (65, 0), (600, 0), (600, 590), (7, 9)]
)
def test_finite_cardinality_is_the_number_of_batches(num_episodes, start):
    dataset = episodes(
        Lines(), batch_size=8, seed=0, num_episodes=num_episodes, start=start
    )
    sizes = [len(query_y) for _, query_y in dataset]
    assert sum(sizes) == num_episodes - start % num_episodes
    assert all(size == 8 for size in sizes[:-1])
    assert int(dataset.cardinality()) == len(sizes) == math.ceil(sum(sizes) / 8)


@pytest.mark.parametrize("start", [0, 10**12, "variable"])
def test_endless_cardinality(start):
    start = tf.Variable(10**12, dtype=tf.int64) if start == "variable" else start
    dataset = episodes(Lines(), batch_size=8, seed=0, start=start)
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    assert len(rows(dataset, 8)) == 8


@pytest.mark.parametrize(("num_episodes", "batch"), [(None, 6), (20, None)])
def test_shapes_are_static(num_episodes, batch):
    dataset = episodes(n_way(), batch_size=6, seed=0, num_episodes=num_episodes)
    task, query_y = dataset.element_spec
    assert {key: (spec.shape.as_list(), spec.dtype) for key, spec in task.items()} == {
        "support_x": ([batch, 6, 1], tf.int32),
        "support_y": ([batch, 6], tf.int32),
        "query_x": ([batch, 12, 1], tf.int32),
    }
    assert query_y.shape.as_list() == [batch, 12]


class NoQuery(TaskFamily):
    def sample(self, seed):
        x = tf.random.stateless_normal([5, 1], seed)
        return {"support_x": x, "support_y": x}, x


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": [1, 2]}, r"`tasks` must be a TaskFamily. Received: \[1, 2\]"),
        ({"tasks": NoQuery()}, r"(?s)`tasks` must produce .*NoQuery.*Return that pair"),
        ({"batch_size": 0}, r"`batch_size` must be .* at least 1. Received: 0"),
        ({"batch_size": 2.0}, r"`batch_size` must be .* Received: 2.0"),
        ({"num_episodes": 0}, r"`num_episodes` must be .* at least 1. Received: 0"),
        ({"seed": 1.5}, r"`seed` must be an integer. Received: 1.5"),
        ({"seed": True}, r"`seed` must be an integer. Received: True"),
        ({"start": -1}, r"`start` must be .* at least 0. Received: -1"),
        ({"start": 0.5}, r"`start` must be .* Received: 0.5"),
        ({"start": "float"}, r"`start` must be .* dtype=float32, shape=\(\)"),
        ({"start": "vector"}, r"`start` must be .* dtype=int32, shape=\(2,\)"),
    ],
)
def test_wrong_arguments_are_explained(change, message):
    variables = {"float": 0.0, "vector": [0, 0]}
    if change.get("start") in variables:
        change = {"start": tf.Variable(variables[change["start"]])}
    arguments = {"tasks": Lines(), "batch_size": 4, "seed": 0, **change}
    with pytest.raises(ValueError, match=message):
        episodes(arguments.pop("tasks"), **arguments)


def batches_per_second(dataset, count):
    iterator = iter(dataset)
    for _ in range(20):
        next(iterator)
    begin = time.perf_counter()
    for _ in range(count):
        next(iterator)
    return count / (time.perf_counter() - begin)


@pytest.mark.slow
def test_omniglot_sized_throughput():
    # A promised minimum; two idle cores deliver several times as much.
    x = np.random.default_rng(0).integers(0, 256, [32460, 28, 28, 1], np.uint8)
    pool = from_arrays(x, np.arange(32460) // 20)
    tasks = NWayKShot(pool, ways=5, shots=1, queries=15)
    rate = batches_per_second(episodes(tasks, batch_size=32, seed=0), 400)
    assert rate * 32 > 5000


@pytest.mark.slow
def test_sinusoid_throughput():
    rate = batches_per_second(episodes(Sinusoid(), batch_size=25, seed=0), 4000)
    assert rate > 2000


def test_seeds_are_unrelated_streams():
    # A wave in two streams, at any offset, would repeat its ten float32 inputs.
    streams = [
        {r.tobytes() for r in rows(episodes(Sinusoid(), batch_size=100, seed=s), 1100)}
        for s in (0, 1, -1, 2**40, 10**30)
    ]
    assert all(len(stream) == 1100 for stream in streams)
    for one, other in itertools.combinations(streams, 2):
        assert not one & other
