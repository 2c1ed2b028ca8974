"""`split_classes`: disjoint classes, whole groups, the same for ever."""

import numpy as np
import pytest
from helpers import lettered

from maml_keras.data import from_arrays, from_table, split_classes, split_tasks


def names(pools):
    return [list(pool.class_names) for pool in pools]


@pytest.mark.parametrize(
    ("parts", "sizes"),
    [
        ((6, 2, 4), [6, 2, 4]),
        ((6, 2, 3), [6, 2, 3]),
        ((6, None, 4), [6, 2, 4]),
        ((None, 0, 4), [8, 0, 4]),
        ((0.5, 0.25, 0.25), [6, 3, 3]),
        ((0.6, 0.2, 0.2), [7, 3, 2]),
        ((0.5, 2, None), [6, 2, 4]),
        ((["c03", "c00"], 1, None), [2, 1, 9]),
        ((["c03"], ["c00"], ["c01", "c11"]), [1, 1, 2]),
    ],
)
def test_split_sizes_and_disjointness(parts, sizes):
    pool = lettered()
    train, validation, test = parts
    pools = split_classes(pool, train=train, validation=validation, test=test, seed=1)
    assert [part.num_classes for part in pools] == sizes
    together = [name for part in pools for name in part.class_names]
    assert len(set(together)) == len(together) == sum(sizes)
    for given, part in zip(parts, pools, strict=True):
        if isinstance(given, list):
            assert part.class_names == tuple(sorted(given))
        # Each class keeps its examples and its group.
        for c, name in enumerate(part.class_names):
            number = int(name[1:])
            rows = part.examples[part.offsets[c] : part.offsets[c] + part.counts[c]]
            assert rows.ravel().tolist() == [100 * number + i for i in range(3)]
            assert part.groups[c] == f"g{number % 3}"


def test_fractions_that_sum_to_one_use_every_class():
    for classes in range(5, 60):
        pool = lettered(classes)
        pools = split_classes(pool, train=0.6, validation=0.2, test=0.2)
        assert sum(part.num_classes for part in pools) == classes


def test_split_by_group_keeps_groups_whole():
    pools = split_classes(lettered(), train=1, validation=1, test=1, by="group")
    groups = [set(part.groups) for part in pools]
    assert [len(g) for g in groups] == [1, 1, 1]
    assert set.union(*groups) == {"g0", "g1", "g2"}
    assert [part.num_classes for part in pools] == [4, 4, 4]
    listed = split_classes(
        lettered(), train=["g2"], validation=0, test=None, by="group"
    )
    assert set(listed[0].groups) == {"g2"}
    assert set(listed[2].groups) == {"g0", "g1"}


def test_split_depends_on_the_seed():
    pool = lettered(40)
    splits = [
        names(split_classes(pool, train=20, validation=10, test=10, seed=seed))
        for seed in (0, 0, 1, 2)
    ]
    assert splits[0] == splits[1]
    assert splits[0] != splits[2] != splits[3] != splits[0]


def split_digest():
    # `test_episodes.py` compares this with the result of another process.
    pools = split_classes(lettered(40), train=20, validation=10, test=10, seed=3)
    return [part.fingerprint() for part in pools]


def test_split_does_not_depend_on_the_order_of_classes():
    order = np.random.default_rng(0).permutation(40)
    shuffled = lettered(40, order=order)
    pools = split_classes(shuffled, train=20, validation=10, test=10, seed=3)
    assert [part.fingerprint() for part in pools] == split_digest()


def test_split_never_changes():
    # A recorded split. Published results depend on it, so never change this list.
    pools = split_classes(lettered(8), train=4, validation=1, test=3, seed=0)
    assert names(pools) == [
        ["c00", "c04", "c06", "c07"],
        ["c01"],
        ["c02", "c03", "c05"],
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": 20}, r"must fit the data. Received: 22 wanted, but 12 of 12"),
        ({"train": 0}, r"`train` must get at least one class. Received: train=0"),
        ({"test": 0.0}, "`test` must get at least .* Only `validation` may"),
        ({"train": None, "validation": 11}, r"`train` must get at least one class"),
        ({"train": None, "test": None}, r"At most one .* None for \['train', 'test'\]"),
        ({"train": ["c01"], "test": ["c01"]}, r"overlap. .*'c01' in train and test"),
        ({"train": ["c1"]}, r"`train` must list names of a class.*'c1'. Did you.*c01"),
        ({"train": ["c01", "c01"]}, r"`train` must list each name once.*'c01'"),
        ({"train": 1.5}, r"`train` must be a count, .* Received: 1.5"),
        ({"train": -1}, r"`train` must be a count, .* Received: -1"),
        ({"validation": True}, r"`validation` must be a count, .* Received: True"),
        ({"train": "c01"}, r"`train` must be a count, .* Received: 'c01'"),
        ({"by": "alphabet"}, r"`by` must be 'class' or 'group'.*'alphabet'"),
        ({"by": "group", "train": 3}, r"5 wanted, but 3 of 3 are left .* by group"),
    ],
)
def test_wrong_splits_are_explained(change, message):
    arguments = {"train": 4, "validation": 1, "test": 1, **change}
    with pytest.raises(ValueError, match=message):
        split_classes(lettered(), **arguments)


def test_split_by_group_needs_groups():
    pool = from_arrays(np.arange(4), [0, 1, 2, 3])
    with pytest.raises(ValueError, match="needs a pool with groups"):
        split_classes(pool, train=1, validation=1, test=1, by="group")


def shops(count=12):
    """Two rows for each of some shops in three towns; sales grow with the number."""
    number = np.repeat(np.arange(count), 2)
    data = {
        "shop": [f"s{n:02d}" for n in number],
        "town": [f"t{n % 3}" for n in number],
        "size": np.tile([0.0, 1.0], count),
        "sales": number + np.tile([0.0, 0.5], count),
    }
    return from_table(data, task="shop", inputs=["size"], target="sales", groups="town")


def test_tasks_are_split_like_classes():
    parts = split_tasks(shops(), train=0.5, validation=2, test=None, seed=3)
    assert [part.num_tasks for part in parts] == [6, 2, 4]
    assert len({name for part in parts for name in part.names}) == 12
    # The same names as classes of a pool give the same split.
    pool = from_arrays(np.arange(12.0), np.arange(12), class_names=shops().names)
    pools = split_classes(pool, train=0.5, validation=2, test=None, seed=3)
    assert [part.names for part in parts] == [pool.class_names for pool in pools]


def test_groups_of_tasks_stay_whole_and_preparation_sees_training_alone():
    train, validation, test = split_tasks(
        shops(), train=["t1"], validation=["t0"], test=1, by="town"
    )
    assert train.names == ("s01", "s04", "s07", "s10")
    assert set(validation.groups) == {"t0"}
    assert set(test.groups) == {"t2"}
    sales = np.array([1, 1.5, 4, 4.5, 7, 7.5, 10, 10.5])
    targets = train.preparation.target_columns
    np.testing.assert_allclose(targets.mean, [sales.mean()])
    np.testing.assert_allclose(targets.variance, [sales.var()])
    assert validation.preparation is test.preparation is train.preparation


def test_a_column_without_groups_is_refused():
    with pytest.raises(ValueError, match="`by` must be 'task' or the column of groups"):
        split_tasks(shops(), train=6, validation=0, test=6, by="city")
    with pytest.raises(ValueError, match="`train` must get at least one task"):
        split_tasks(shops(), train=0, validation=0, test=6)
