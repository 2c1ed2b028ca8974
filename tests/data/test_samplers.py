"""Every sampler gives the same episodes in each process, and after resuming."""

import hashlib
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from maml_keras import data

ROOTS = os.pathsep.join(sys.path)


def pool():
    x = np.random.default_rng(0).integers(0, 255, [120, 8, 8, 1], dtype="uint8")
    return data.from_arrays(x, np.arange(120) % 8, groups=list("aaaabbbb"))


SIZES = {"ways": 3, "shots": 1, "queries": 2}
SAMPLERS = {
    "plain": lambda: data.NWayKShot(pool(), **SIZES, rotate_classes=True),
    "ranges": lambda: data.NWayKShot(pool(), ways=(2, 4), shots=(1, 5), queries=3),
    "imbalanced": lambda: data.NWayKShot(
        pool(), ways=(2, 4), shots=data.ImbalancedShots(support=12), queries=3
    ),
    "within": lambda: data.NWayKShot(pool(), **SIZES, within="group"),
    "mixture": lambda: data.Mixture(
        [SAMPLERS["plain"](), SAMPLERS["within"]()], weights=[1, 2]
    ),
    "transformed": lambda: data.Transformed(
        SAMPLERS["plain"](), keras.layers.RandomFlip(), on="both"
    ),
    "rotated": lambda: data.Rotated(SAMPLERS["plain"]()),
    "without replacement": lambda: data.WithoutReplacement(SAMPLERS["plain"]()),
}


# The samplers of the quick test.
SOME = ("ranges", "without replacement")


def fingerprint(names, count, batch_size=7, start=0):
    """A hash of the episodes `start .. count - 1` of some samplers."""
    digest = hashlib.sha256()
    for name in names:
        stream = data.episodes(
            SAMPLERS[name](),
            batch_size=batch_size,
            seed=1,
            num_episodes=count,
            start=start,
        )
        arrays = [{**task, "query_y": query_y} for task, query_y in stream]
        for key in sorted(arrays[0]):
            digest.update(np.concatenate([a[key] for a in arrays]).tobytes())
    return digest.hexdigest()


def elsewhere(names, count, hash_seed, threads):
    """The fingerprint in a process with another hash seed and number of threads."""
    code = (
        "import tensorflow as tf\n"
        f"tf.config.threading.set_intra_op_parallelism_threads({threads})\n"
        f"tf.config.threading.set_inter_op_parallelism_threads({threads})\n"
        "from tests.data.test_samplers import fingerprint\n"
        f"print(fingerprint({names}, {count}, batch_size={5 * threads}))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": ROOTS}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()[-1]


@pytest.mark.slow
def test_ten_thousand_episodes_are_the_same_in_three_processes():
    count = 10_000
    found = {
        elsewhere(tuple(SAMPLERS), count, hash_seed, threads)
        for hash_seed, threads in (("0", 1), ("1", 2), ("random", 4))
    }
    assert found == {fingerprint(tuple(SAMPLERS), count)}


def test_a_few_episodes_are_the_same_in_another_process():
    assert elsewhere(SOME, 20, "1", 1) == fingerprint(SOME, 20)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_resumed_stream_goes_on_where_it_stopped(name):
    family = SAMPLERS[name]()

    def read(start):
        stream = data.episodes(
            family, batch_size=4, seed=1, num_episodes=20, start=start
        )
        return np.concatenate([task["query_x"] for task, _ in stream])

    np.testing.assert_array_equal(read(0)[11:], read(11))


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLERS)
def test_ten_thousand_tasks_share_no_example_and_labels_are_uniform(name):
    family = SAMPLERS[name]()
    report = data.audit(family, num_tasks=10_000)
    checks = {found.check for found in report.findings}
    assert not checks & {"support in queries", "labels by position", "order"}
    stream = data.episodes(family, batch_size=100, seed=2, num_episodes=10_000)
    first = np.concatenate(
        [query_y[:, 0] for task, query_y in stream if "query_weight" not in task]
        or [np.zeros(0, int)]
    )
    if len(first):
        counts = np.bincount(first, minlength=3)
        statistic = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
        assert statistic < 27.6  # One in 10**6 with two degrees of freedom.
