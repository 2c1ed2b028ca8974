"""Copies across a split, and families with few different tasks, give a warning."""

import itertools
import warnings

import keras
import numpy as np
import pytest

import maml_keras as mk


def pool(copied):
    """Six classes of five rows; class 5 may be class 0 under another name."""
    x = np.random.default_rng(0).normal(size=[6, 5, 3])
    if copied:
        x[5] = x[0]
    return mk.data.from_arrays(x.reshape(30, 3), np.repeat(np.arange(6), 5))


@pytest.mark.parametrize("copied", [False, True])
def test_the_same_rows_under_two_names_in_train_and_test_are_found(copied):
    parts = {"train": list("0123"), "validation": ["4"], "test": ["5"]}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mk.data.split_classes(pool(copied), **parts)
    found = [str(w.message) for w in caught]
    assert len(found) == copied
    if copied:
        assert "5 different examples are in train and in test" in found[0]
        assert "one of class '0' and of class '5'" in found[0]
        assert "have 5 examples in common" in found[0]


def test_an_empty_part_has_no_copies():
    mk.data.split_classes(pool(False), train=4, validation=0, test=2)


@pytest.mark.parametrize("rotated", [False, True])
def test_distinct_tasks_are_counted(rotated):
    counts, shots = [3, 4, 6], 2
    x = np.zeros([13, 2, 2, 1], "float32")
    family = mk.data.NWayKShot(
        mk.data.from_arrays(x, np.repeat(np.arange(3), counts)),
        ways=2,
        shots=shots,
        queries=1,
        rotate_classes=rotated,
    )
    ways = [len(list(itertools.combinations(range(n), shots))) for n in counts]
    expected = sum(a * b for a, b in itertools.combinations(ways, 2))
    assert family.distinct_tasks() == expected * (16 if rotated else 1)


def fit(family):
    model = keras.Sequential([keras.Input([3]), keras.layers.Dense(family.ways)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    maml = mk.recipes.maml(model, loss, 0.1)
    maml.compile("sgd")
    episodes = mk.data.episodes(family, batch_size=2, seed=1)
    maml.fit(episodes, steps_per_epoch=1, verbose=0)


def test_fit_warns_of_few_different_tasks_alone():
    three, six = pool(False).select([0, 1, 2]), pool(False)
    sizes = {"ways": 3, "queries": 1}
    few = mk.data.NWayKShot(three, shots=1, **sizes)
    assert few.distinct_tasks() == 125
    fit(few)  # Warnings are errors here.
    fit(mk.data.NWayKShot(six, shots=4, **sizes))
    fewer = mk.data.NWayKShot(six.select([0, 1, 2]), shots=4, ways=2, queries=1)
    assert fewer.distinct_tasks() == 75
    with pytest.warns(UserWarning, match="only 75 different support sets"):
        fit(fewer)
