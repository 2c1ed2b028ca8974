"""Tasks of drawn sizes: ranges, Meta-Dataset's rule, groups; padding and weights."""

import numpy as np
import pytest
import tensorflow as tf

import maml_keras as mk
from maml_keras.data import ImbalancedShots, NWayKShot, Pool, episodes
from tests.data.test_few_shot import chi_square, draw, five_sigma, numbered

SIZES = [20, 4, 31, 12, 2, 60, 25]
CLASS_OF = np.repeat(np.arange(len(SIZES)), SIZES)
RANGES = {"ways": (2, 5), "shots": (1, 10), "queries": 4}
FAMILIES = {
    "ranges": RANGES,
    "ways only": {"ways": (2, 7), "shots": 1, "queries": 1},
    "imbalanced": {**RANGES, "shots": ImbalancedShots(support=30, per_class=20)},
}


def parts(got, part):
    """Rows, labels and whether they are examples, of a part of many tasks."""
    weight = got[f"{part}_weight"]
    assert set(np.unique(weight)) <= {0.0, 1.0}
    return got[f"{part}_x"][..., 0], got[f"{part}_y"], weight == 1


@pytest.mark.parametrize("name", FAMILIES)
def test_ten_thousand_tasks_of_drawn_sizes_are_sound(name):
    n, options = 10_000, FAMILIES[name]
    got = draw(NWayKShot(numbered(SIZES), **options), n)
    (sx, sy, s), (qx, qy, q) = parts(got, "support"), parts(got, "query")
    low, high = options["ways"]
    ways = np.zeros(n, int)
    for x, y, there in ((sx, sy, s), (qx, qy, q)):
        # Examples come first, and padding repeats the first of them.
        assert (np.diff(there.astype(int), axis=1) <= 0).all()
        assert there[:, 0].all()
        first = np.where(there, -1, x - x[:, :1]), np.where(there, 0, y - y[:, :1])
        assert (first[0][~there] == 0).all()
        assert (first[1] == 0).all()
        most = np.where(there, y, -1).max(axis=1) + 1
        # Every class of the task is in both sets.
        seen = np.zeros([n, high], bool)
        seen[np.nonzero(there)[0], y[there]] = True
        assert (seen.sum(axis=1) == most).all()
        ways = np.where(ways == 0, most, ways)
        assert (ways == most).all()
    # The number of classes is uniform.
    assert chi_square(np.bincount(ways)[low:]) < 5
    # No example twice, neither in a set nor in both sets.
    rows = np.where(
        np.hstack([s, q]),
        np.hstack([sx, qx]),
        -1 - np.arange(sx.shape[1] + qx.shape[1]),
    )
    assert (np.diff(np.sort(rows, axis=1), axis=1) > 0).all()
    # One class per label: as many pairs as classes.
    pairs = np.where(
        np.hstack([s, q]),
        CLASS_OF[np.hstack([sx, qx])] * high + np.hstack([sy, qy]),
        -1,
    )
    distinct = (np.diff(np.sort(pairs, axis=1), axis=1) > 0).sum(axis=1)
    padded = (pairs == -1).any(axis=1)
    assert (distinct + ~padded == ways).all()
    # Labels of the first support place are uniform among the classes of a balanced
    # task of two classes, so position tells nothing.
    two = (ways == 2) & (s.sum(axis=1) % 2 == 0)
    if name != "imbalanced":
        equal = [
            np.bincount(row[t], minlength=2)[:2] for row, t in zip(sy[two], s[two])
        ]
        balanced = np.array([a == b for a, b in equal])
        share = sy[two][balanced, 0].mean()
        np.testing.assert_allclose(share, 0.5, atol=five_sigma(0.5, balanced.sum()))


def sizes_of(got, high):
    """Support and query examples of each class, `[tasks, high]`."""
    counts = []
    for part in ("support", "query"):
        _, y, there = parts(got, part)
        hot = np.eye(high, dtype=int)[y] * there[..., None]
        counts.append(hot.sum(axis=1))
    return counts


def examples_of(got, high):
    """The examples that each class of a task has in the pool; 0 for no class."""
    x, y, there = parts(got, "query")
    sizes = np.zeros([len(x), high], int)
    rows = np.nonzero(there)[0]
    sizes[rows, y[there]] = np.array(SIZES)[CLASS_OF[x[there]]]
    return sizes


@pytest.mark.parametrize("name", ["ranges", "imbalanced"])
def test_sizes_are_those_of_the_published_rule(name):
    got = draw(NWayKShot(numbered(SIZES), **FAMILIES[name]), 4000)
    support, query = sizes_of(got, 5)
    pool = examples_of(got, 5)
    there = pool > 0
    # q = min(queries, min_c floor(n_c / 2)), the same for all classes of a task.
    half = np.where(there, pool // 2, 99).min(axis=1)
    q = np.minimum(4, half)[:, None]
    assert (query == q * there).all()
    left = pool - q
    if name == "ranges":
        # One k for the task, of which smaller classes give what they have left.
        k = support.max(axis=1, keepdims=True)
        assert (support == np.minimum(k, left) * there).all()
        unbounded = (np.where(there, left, 99).min(axis=1) >= 10) & (k[:, 0] <= 10)
        assert chi_square(np.bincount(k[unbounded, 0])[1:]) < 4
    else:
        total = support.sum(axis=1)
        contributions = (np.minimum(left, 20) * there).sum(axis=1)
        assert (support[there] >= 1).all()
        assert (support <= left.clip(0) * there).all()
        assert (total <= np.minimum(30, contributions)).all()
        # Classes follow their sizes: a_c moves a share by less than a factor of 4.
        both = there & (left > 20)
        pairs = both.sum(axis=1) >= 2
        assert (
            np.corrcoef(support[pairs][both[pairs]], pool[pairs][both[pairs]])[0, 1]
            > 0.2
        )


def test_the_support_size_of_two_equal_classes_has_the_published_distribution():
    # Two classes of 12: q = 2, 10 left each. |S| = 2 ceil(10 beta): 2, 4 .. 20, each
    # with probability 1/10; the shots differ only by rounding down.
    shots = ImbalancedShots(support=500, per_class=100)
    tasks = NWayKShot(numbered([12, 12]), ways=2, shots=shots, queries=2)
    support, _ = sizes_of(draw(tasks, 20_000), 2)
    total = support.sum(axis=1)
    # |S| of 2 and of 4 give no room for more than one rounding loss.
    np.testing.assert_allclose((total == 2).mean(), 0.1, atol=five_sigma(0.1, 20_000))
    assert total.max() <= 20
    assert support.max() <= 10


def grouped(pool, groups):
    return Pool(
        pool.examples, counts=pool.counts, class_names=pool.class_names, groups=groups
    )


def test_all_classes_come_from_one_group():
    pool = grouped(numbered([6] * 9), list("aabbbcccc"))
    group_of = np.repeat([0, 0, 1, 1, 1, 2, 2, 2, 2], 6)
    got = draw(NWayKShot(pool, ways=2, shots=1, queries=2, within="group"), 10_000)
    groups = group_of[np.hstack([got["support_x"], got["query_x"]])[..., 0]]
    assert (groups == groups[:, :1]).all()
    # Groups are equally likely, and classes of a group, too.
    assert chi_square(np.bincount(groups[:, 0])) < 6
    classes = got["support_x"][..., 0] // 6
    of_c = classes[groups[:, 0] == 2]
    assert chi_square(np.bincount(of_c.ravel(), minlength=9)[5:]) < 6
    # A range goes as far as a group does.
    drawn = NWayKShot(pool, ways=(2, 4), shots=1, queries=2, within="group")
    got = draw(drawn, 3000)
    ways = got["support_weight"].sum(axis=1).astype(int)
    group = group_of[got["support_x"][:, 0, 0]]
    for g, most in enumerate((2, 3, 4)):
        assert set(ways[group == g]) == set(range(2, most + 1))
    # Pairs in each group: 1 + 3 + 6; each with 6 * 6 supports.
    assert NWayKShot(
        pool, ways=2, shots=1, queries=2, within="group"
    ).distinct_tasks() == 36 * (1 + 3 + 6)


def test_distinct_tasks_of_ranges():
    pool = numbered([2, 2, 2])
    # Three pairs with 2 * 2 supports, and one triple with 8.
    assert NWayKShot(pool, ways=(2, 3), shots=1, queries=1).distinct_tasks() == 20
    assert NWayKShot(pool, ways=2, shots=(1, 2), queries=1).distinct_tasks() is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ways": (3, 2)}, r"`ways` must be an integer, or \(low, high\)"),
        ({"shots": (0, 2)}, "`shots` must be an integer of at least 1"),
        ({"ways": (2, 8)}, r"ways=\(2, 8\), but the pool has 7 classes"),
        ({"within": "group"}, "needs a pool with groups"),
        ({"within": "alphabet"}, "`within` must be None or 'group'"),
        ({"shots": ImbalancedShots(support=4)}, "`support` must be at least the"),
        ({"shots": 3}, r"class 'class4' has 2 examples"),
    ],
)
def test_wrong_sizes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        NWayKShot(numbered(SIZES), **{**RANGES, **options})


def test_a_class_of_one_example_is_refused_by_name():
    with pytest.raises(ValueError, match="at least 2 examples.*'class1' has 1"):
        NWayKShot(numbered([3, 1]), ways=2, shots=(1, 2), queries=1)
    pool = grouped(numbered([6] * 5), list("aaabb"))
    with pytest.raises(ValueError, match=r"group 'b' has 2 classes.*ways=\(2, 3\)"):
        NWayKShot(pool, ways=3, shots=1, queries=2, within="group")
    with pytest.raises(ValueError, match="`support` must be an integer"):
        ImbalancedShots(support=1.5)


def test_a_model_trains_on_tasks_of_drawn_sizes():
    tasks = NWayKShot(numbered(SIZES), ways=(2, 3), shots=(1, 3), queries=2)
    batches = episodes(tasks, batch_size=4, seed=1, num_episodes=8)
    model = _tiny()
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    maml = mk.MAML(model, mk.InnerLoop(loss, mk.SGD(0.1)), task_map="parallel")
    maml.compile("adam", metrics=["accuracy"], run_eagerly=True)
    logs = maml.fit(batches, epochs=1, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    assert 0 <= logs["accuracy"][0] <= 1


def _tiny():
    return tf.keras.Sequential(
        [tf.keras.Input([1]), tf.keras.layers.Rescaling(0.01), tf.keras.layers.Dense(3)]
    )
