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


def table(order=None):
    """Twelve tasks of 8 to 19 rows, in which each row has values of its own."""
    task = np.repeat(np.arange(12), np.arange(8, 20))
    columns = {"task": task, "time": np.arange(len(task)), "x": np.arange(len(task))}
    columns["y"] = np.sin(columns["x"])
    made = data.from_table(columns, task="task", inputs=["x"], target="y", order=order)
    return data.split_tasks(made, train=8, validation=0, test=4)[0]


# Samplers of tasks whose targets are numbers.
OF_NUMBERS = {
    "few examples": lambda: data.FewExamples(table(), shots=3, queries=4),
    "few examples in order": lambda: data.FewExamples(
        table(order="time"), shots=3, queries=4
    ),
    "the rest as queries": lambda: data.FewExamples(table(), shots=3, queries="rest"),
    "sinusoids": lambda: data.Sinusoid(shots=3, queries=4),
}
EVERY = {**SAMPLERS, **OF_NUMBERS}

# `test_episodes.py` compares these samplers with those of another process.
SOME = ("ranges", "without replacement", "the rest as queries")


def fingerprint(names, count, batch_size=7, start=0):
    """A hash of the episodes `start .. count - 1` of some samplers."""
    digest = hashlib.sha256()
    for name in names:
        stream = data.episodes(
            EVERY[name](),
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
        elsewhere(tuple(EVERY), count, hash_seed, threads)
        for hash_seed, threads in (("0", 1), ("1", 2), ("random", 4))
    }
    assert found == {fingerprint(tuple(EVERY), count)}


@pytest.mark.parametrize("name", EVERY)
def test_a_resumed_stream_goes_on_where_it_stopped(name):
    family = EVERY[name]()

    def read(start):
        stream = data.episodes(
            family, batch_size=4, seed=1, num_episodes=20, start=start
        )
        return np.concatenate([task["query_x"] for task, _ in stream])

    np.testing.assert_array_equal(read(0)[11:], read(11))


def stacked(family, count=10_000):
    """Many episodes as arrays `[count, examples, ...]`."""
    stream = data.episodes(family, batch_size=100, seed=2, num_episodes=count)
    batches = [{**task, "query_y": query_y} for task, query_y in stream]
    return {key: np.concatenate([b[key] for b in batches]) for key in batches[0]}


def counted(found, part):
    """Which examples of a part are no padding."""
    there = found.get(f"{part}_weight")
    return np.ones(found[f"{part}_y"].shape[:2], bool) if there is None else there > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_ten_thousand_tasks_share_no_example(name):
    report = data.audit(EVERY[name](), num_tasks=10_000)
    checks = {found.check for found in report.findings}
    wrong = {"support in queries", "labels by position", "order"}
    # In time, the order of the rows is meant.
    assert not checks & (wrong - ({"order"} if "in order" in name else set()))


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLERS)
def test_ten_thousand_tasks_have_different_classes_and_uniform_labels(name):
    family = SAMPLERS[name]()
    found, known = stacked(family), stacked(family.class_numbers().tasks)
    local, numbers, there = (
        np.concatenate(parts, axis=1)
        for parts in zip(
            *(
                (found[f"{p}_y"], known[f"{p}_y"], counted(found, p))
                for p in ("support", "query")
            )
        )
    )
    ways = np.where(there, local, -1).max(axis=1) + 1
    for task in range(len(local)):
        pairs = {*zip(local[task, there[task]], numbers[task, there[task]])}
        # Each label is one class, and each class has one label.
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
        assert len(pairs) == ways[task]
    first = found["query_y"][
        np.arange(len(ways)), np.argmax(counted(found, "query"), axis=1)
    ]
    for size in np.unique(ways):
        counts = np.bincount(first[ways == size], minlength=size)
        statistic = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
        # One in 10**6 with one to three degrees of freedom.
        assert statistic < {2: 23.9, 3: 27.6, 4: 30.7}[size]


@pytest.mark.slow
def test_ten_thousand_tasks_of_a_table_are_drawn_evenly():
    # The rows of a task are its own, so a support row tells the task.
    family = OF_NUMBERS["few examples"]()
    row = family.preparation.restored(stacked(family)["support_y"][:, :1])
    names, counts = np.unique(np.round(row, 4), return_counts=True)
    sizes = family.table.counts
    assert len(names) == sizes.sum()
    of_row = np.repeat(sizes, sizes)
    order = np.argsort(np.round(family.table.targets["y"].values, 4))
    expected = 10_000 / len(sizes) / of_row[order]
    statistic = ((counts - expected) ** 2 / expected).sum()
    # Six standard deviations above the mean of chi-square.
    free = len(names) - 1
    assert statistic < free + 6 * np.sqrt(2 * free)
