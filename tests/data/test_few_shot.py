"""`NWayKShot`: distinct classes and examples, uniform choices, no leaks, rotations."""

import math

import numpy as np
import pytest

from maml_keras.data import NWayKShot, Pool, from_arrays


def numbered(sizes):
    """A pool whose examples are their row numbers."""
    total = sum(sizes)
    names = [f"class{c}" for c in range(len(sizes))]
    return Pool(
        np.arange(total, dtype=np.int32)[:, None], counts=sizes, class_names=names
    )


def draw(tasks, count, seed=(3, 4)):
    task, query_y = tasks.sample_many(seed, count)
    arrays = {key: value.numpy() for key, value in task.items()}
    return {**arrays, "query_y": query_y.numpy()}


def five_sigma(p, n):
    """Half-width that the share in n draws exceeds once in 10**6."""
    return 5 * math.sqrt(p * (1 - p) / n)


def chi_square(counts):
    """The statistic of uniform counts over its degrees of freedom; about 1 if they are.

    With one degree of freedom it exceeds 20 once in 10**5; with three, 6 in 2,000.
    """
    expected = counts.sum() / counts.size
    return ((counts - expected) ** 2 / expected).sum() / (counts.size - 1)


@pytest.mark.parametrize("queries", [1, 5, 15])
def test_ten_thousand_episodes_are_disjoint(queries):
    sizes = [20, 17, 31, 20, 18, 20, 25]
    pool = numbered(sizes)
    class_of = np.repeat(np.arange(7), sizes)
    got = draw(NWayKShot(pool, ways=5, shots=2, queries=queries), 10_000)
    assert got["support_x"].shape == (10_000, 10, 1)
    assert got["query_x"].shape == (10_000, 5 * queries, 1)
    ids = np.concatenate([got["support_x"], got["query_x"]], axis=1)[..., 0]
    labels = np.concatenate([got["support_y"], got["query_y"]], axis=1)
    # No example occurs twice, neither within a set nor in both sets.
    assert (np.diff(np.sort(ids, axis=1), axis=1) > 0).all()
    for part, per_class in (("support_y", 2), ("query_y", queries)):
        expected = np.repeat(np.arange(5), per_class)
        assert (np.sort(got[part], axis=1) == expected).all()
    # One class per label and one label per class: an episode has five different
    # (class, label) pairs and five different classes.
    pairs = np.sort(class_of[ids] * 5 + labels, axis=1)
    assert ((np.diff(pairs, axis=1) > 0).sum(axis=1) == 4).all()
    classes = np.sort(class_of[ids], axis=1)
    assert ((np.diff(classes, axis=1) > 0).sum(axis=1) == 4).all()


def test_classes_and_examples_are_uniform_for_any_class_sizes():
    sizes, n = [2, 3, 11, 40], 20_000
    class_of = np.repeat(np.arange(4), sizes)
    got = draw(NWayKShot(numbered(sizes), ways=2, shots=1, queries=1), n)
    for part in ("support_x", "query_x"):
        ids = got[part].ravel()
        times = np.bincount(class_of[ids], minlength=4)
        # A class is in an episode with probability ways / classes.
        np.testing.assert_allclose(times / n, 0.5, atol=five_sigma(0.5, n))
        each = np.bincount(ids, minlength=sum(sizes))
        for c, size in enumerate(sizes):
            share = each[class_of == c] / times[c]
            np.testing.assert_allclose(
                share, 1 / size, atol=five_sigma(1 / size, times[c])
            )


@pytest.mark.parametrize("part", ["support", "query"])
def test_neither_position_nor_class_tells_the_label(part):
    n, ways = 10_000, 4
    got = draw(NWayKShot(numbered([6] * 5), ways=ways, shots=2, queries=3), n)
    labels, classes = got[f"{part}_y"], got[f"{part}_x"][..., 0] // 6
    bound = five_sigma(1 / ways, n)
    for position in range(labels.shape[1]):
        share = np.bincount(labels[:, position], minlength=ways) / n
        np.testing.assert_allclose(share, 1 / ways, atol=bound)
    for c in range(5):
        present = (classes == c).any(axis=1)
        label = np.where(classes == c, labels, -1).max(axis=1)[present]
        share = np.bincount(label, minlength=ways) / len(label)
        np.testing.assert_allclose(share, 1 / ways, atol=five_sigma(0.25, len(label)))
    # A neighbour does not tell the label either: equal labels are neighbours by chance.
    k = labels.shape[1] // ways
    same = (labels[:, 0] == labels[:, 1]).mean()
    expected = (k - 1) / (k * ways - 1)
    np.testing.assert_allclose(same, expected, atol=five_sigma(expected, n))


def cornered(classes=6, size=4):
    """2 x 2 images with the row number + 1 in one corner, so that rotations show."""
    x = np.zeros([classes * size, 2, 2, 1], np.float32)
    x[:, 0, 0, 0] = np.arange(1, classes * size + 1)
    return from_arrays(x, np.arange(classes * size) // size)


def turns_of(images):
    """Quarter turns of cornered images `[..., 2, 2, 1]`."""
    # np.rot90 of [[1, 0], [0, 0]] moves the corner 0 -> 2 -> 3 -> 1 (flattened).
    corner = images.reshape([*images.shape[:-3], 4]).argmax(axis=-1)
    return np.array([0, 3, 1, 2])[corner]


def test_each_class_has_its_own_rotation_which_both_sets_share():
    n = 4000
    tasks = NWayKShot(cornered(), ways=5, shots=1, queries=3, rotate_classes=True)
    got = draw(tasks, n)
    support = turns_of(got["support_x"])
    turn = np.zeros([n, 5], int)
    np.put_along_axis(turn, got["support_y"], support, axis=1)
    query = turns_of(got["query_x"])
    assert (query == np.take_along_axis(turn, got["query_y"], axis=1)).all()
    share = np.bincount(turn.ravel(), minlength=4) / turn.size
    np.testing.assert_allclose(share, 0.25, atol=five_sigma(0.25, turn.size))
    # Two classes of an episode agree by chance only; one rotation for all gives 1.
    for other in range(1, 5):
        same = (turn[:, 0] == turn[:, other]).mean()
        np.testing.assert_allclose(same, 0.25, atol=five_sigma(0.25, n))
    # The same class is not always turned the same way.
    first = (got["support_x"].max(axis=(2, 3, 4)).astype(int) - 1) // 4
    assert {0, 1, 2, 3} == set(support[first == 0].tolist())


def test_rotations_change_nothing_else():
    plain = NWayKShot(cornered(), ways=5, shots=1, queries=3)
    turned = NWayKShot(cornered(), ways=5, shots=1, queries=3, rotate_classes=True)
    one, other = draw(plain, 50), draw(turned, 50)
    assert (turns_of(one["query_x"]) == 0).all()
    np.testing.assert_array_equal(one["query_y"], other["query_y"])
    turns = turns_of(other["query_x"])
    assert turns.any()
    for e in range(50):
        for q in range(15):
            expected = np.rot90(one["query_x"][e, q], turns[e, q])
            np.testing.assert_array_equal(other["query_x"][e, q], expected)


def test_a_table_of_bytes_keeps_its_values():
    ages = np.arange(256, dtype=np.uint8)[:, None]
    pool = from_arrays(ages, np.arange(256) // 64)
    got = draw(NWayKShot(pool, ways=4, shots=60, queries=4), 1)
    values = np.sort(np.concatenate([got["support_x"], got["query_x"]], axis=1).ravel())
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, np.arange(256))


def test_images_of_bytes_are_scaled_and_other_integers_are_kept():
    x = np.arange(256, dtype=np.uint8)[:, None, None]
    tasks = NWayKShot(from_arrays(x, np.arange(256) // 64), ways=4, shots=60, queries=4)
    got = draw(tasks, 1)
    values = np.sort(np.concatenate([got["support_x"], got["query_x"]], axis=1).ravel())
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, np.arange(256, dtype=np.float32) / 255)
    tokens = numbered([5, 5])
    assert draw(NWayKShot(tokens, ways=2, shots=1, queries=1), 1)["query_x"].dtype == (
        np.int32
    )


def test_sample_is_the_first_task_of_sample_many():
    tasks = NWayKShot(numbered([9] * 6), ways=5, shots=2, queries=3)
    task, query_y = tasks.sample([1, 2])
    many = draw(tasks, 1, seed=[1, 2])
    np.testing.assert_array_equal(query_y, many["query_y"][0])
    np.testing.assert_array_equal(task["query_x"], many["query_x"][0])
    assert task["support_y"].shape == (10,)
    assert task["support_y"].dtype == query_y.dtype == "int32"


def test_episodes_of_one_call_differ_and_seeds_matter():
    tasks = NWayKShot(numbered([20] * 20), ways=5, shots=1, queries=5)
    ids = draw(tasks, 500)["query_x"][..., 0]
    assert len(np.unique(ids, axis=0)) == 500
    assert (draw(tasks, 500, seed=(3, 5))["query_x"][..., 0] != ids).mean() > 0.9


def test_repr_shows_pool_and_sizes():
    text = repr(NWayKShot(numbered([9] * 6), ways=5, shots=2, queries=3))
    assert "6 classes" in text
    assert "ways=5, shots=2, queries=3, rotate_classes=False" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pool": "omniglot"}, r"`pool` must be a Pool. Received: type str"),
        ({"ways": 1}, r"`ways` must be .* at least 2. Received: 1"),
        ({"ways": 4}, r"`ways` must not exceed .* ways=4, but the pool has 3"),
        ({"shots": 0}, r"`shots` must be .* at least 1. Received: 0"),
        ({"queries": 1.0}, r"`queries` must be .* Received: 1.0"),
        (
            {"queries": 4},
            r"shots=1, queries=4, but class 'class1' has 4 examples."
            r".*drop_smaller_than\(5\)",
        ),
        ({"rotate_classes": True}, r"`rotate_classes` needs square images .*\(1,\)"),
    ],
)
def test_wrong_arguments_are_explained(change, message):
    arguments = {"pool": numbered([6, 4, 5]), "ways": 2, "shots": 1, "queries": 2}
    arguments.update(change)
    with pytest.raises(ValueError, match=message):
        NWayKShot(arguments.pop("pool"), **arguments)


def test_empty_pool_is_explained():
    empty = numbered([6, 4]).select([])
    with pytest.raises(ValueError, match=r"(?s)empty pool.*split_classes"):
        NWayKShot(empty, ways=2, shots=1, queries=1)


def test_rotation_refuses_oblong_images():
    pool = from_arrays(np.zeros([8, 4, 6, 1]), np.arange(8) % 2)
    with pytest.raises(ValueError, match=r"square images .*\(4, 6, 1\)"):
        NWayKShot(pool, ways=2, shots=1, queries=1, rotate_classes=True)


def test_resized_tasks_equal_those_of_a_new_family_and_share_examples():
    pool = numbered([6, 7, 8, 6])
    tasks = NWayKShot(pool, ways=3, shots=1, queries=2)
    resized = tasks.resized(shots=2, queries=4)
    expected = draw(NWayKShot(pool, ways=3, shots=2, queries=4), 5)
    got = draw(resized, 5)
    for key, array in expected.items():
        np.testing.assert_array_equal(got[key], array)
    assert resized._table is tasks._table
    assert (tasks.shots, tasks.queries) == (1, 2)
    with pytest.raises(ValueError, match="must fit in the smallest class"):
        tasks.resized(shots=2, queries=5)
