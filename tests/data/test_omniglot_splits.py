"""The papers' splits of Omniglot, on a pool of the names alone."""

import numpy as np
import pytest

from maml_keras.data import from_arrays, split_omniglot
from maml_keras.data.omniglot_splits import numbered


@pytest.fixture(scope="module")
def pool():
    names = numbered()
    groups = [name.split("/")[0] for name in names]
    # Different rows, so that no part shares an example with another.
    rows = np.arange(2 * len(names), dtype=np.float32).reshape(-1, 2)
    return from_arrays(rows, np.arange(len(names)), class_names=names, groups=groups)


@pytest.mark.parametrize(
    ("protocol", "sizes"),
    [
        ("finn", [1100, 100, 423]),
        ("vinyals", [1028, 172, 423]),
        ("lake", [964, 0, 659]),
    ],
)
def test_the_parts_are_whole_and_disjoint(pool, protocol, sizes):
    parts = split_omniglot(pool, protocol)
    assert [part.num_classes for part in parts] == sizes
    names = [name for part in parts for name in part.class_names]
    assert sorted(names) == sorted(pool.class_names)


def test_vinyals_holds_out_the_last_characters_by_number(pool):
    train, validation, test = split_omniglot(pool, "vinyals")
    # The published lists: validation is five alphabets, and the tests begin with four
    # characters of Gurmukhi, the other 41 of which are for training.
    assert len(set(validation.groups)) == 5
    gurmukhi = [name for name in test.class_names if name.startswith("Gurmukhi")]
    assert gurmukhi == [f"Gurmukhi/character{number}" for number in range(42, 46)]
    assert train.groups.count("Gurmukhi") == 41
    assert len(set(test.groups) - {"Gurmukhi"}) == 12


def test_lake_holds_out_alphabets(pool):
    train, _, test = split_omniglot(pool, "lake")
    assert (len(set(train.groups)), len(set(test.groups))) == (30, 20)
    assert not set(train.groups) & set(test.groups)


def test_the_papers_own_draw_is_by_seed_and_names(pool):
    first, again, other = (
        split_omniglot(pool, "finn", seed=seed)[2].class_names for seed in (0, 0, 1)
    )
    assert first == again != other
    shuffled = pool.select(np.random.default_rng(0).permutation(pool.num_classes))
    assert split_omniglot(shuffled, "finn")[2].class_names == first


def test_unknown_protocols_and_small_pools_are_refused(pool):
    with pytest.raises(ValueError, match="'lake'. Received: 'ravi'"):
        split_omniglot(pool, "ravi")
    with pytest.raises(ValueError, match="list names of a group.*Angelic"):
        split_omniglot(pool.select(np.arange(964)), "lake")
