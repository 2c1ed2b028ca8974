"""`Transformed` and `Rotated`: pure functions of the episode's seed."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_keras.data import NWayKShot, Rotated, Transformed, episodes, from_arrays
from tests.data.test_few_shot import chi_square, cornered, draw, turns_of


def tasks(queries=2):
    x = np.random.default_rng(0).random([40, 8, 8, 1]).astype("float32")
    pool = from_arrays(x, np.arange(40) % 4)
    return NWayKShot(pool, ways=2, shots=2, queries=queries)


def flip():
    return keras.layers.RandomFlip("horizontal")


def flipped(before, after):
    """Whether each image was flipped; every image was, or was left as it is."""
    turned = (before[..., ::-1, :] == after).all(axis=(-3, -2, -1))
    kept = (before == after).all(axis=(-3, -2, -1))
    assert (turned ^ kept).all()
    return turned


def test_only_the_chosen_part_changes_each_example_by_itself():
    plain = draw(tasks(), 200)
    support = draw(Transformed(tasks(), flip(), on="support"), 200)
    both = draw(Transformed(tasks(), flip(), on="both"), 200)
    for key in ("support_y", "query_x", "query_y"):
        np.testing.assert_array_equal(plain[key], support[key])
    turned = flipped(plain["support_x"], support["support_x"])
    # 800 fair coins, one for each example of each task: 5 sigma are 0.09.
    assert abs(turned.mean() - 0.5) < 0.09
    assert len(np.unique(turned, axis=0)) == 16
    queries = flipped(plain["query_x"], both["query_x"])
    np.testing.assert_array_equal(
        turned, flipped(plain["support_x"], both["support_x"])
    )
    assert (queries != turned[:, :1]).any()


def test_an_episode_is_a_function_of_seed_and_index_whatever_ran_before():
    layer = keras.layers.Pipeline([flip(), keras.layers.RandomBrightness(0.2)])
    family = Transformed(tasks(), layer, on="both")

    def read(batch_size, start=0):
        stream = episodes(
            family, batch_size=batch_size, seed=3, num_episodes=12, start=start
        )
        return np.concatenate([task["query_x"] for task, _ in stream])

    first = read(4)
    np.testing.assert_array_equal(first, read(6))
    layer(first[0], training=True)  # Moves the layer's own generators.
    np.testing.assert_array_equal(first[5:], read(4, start=5))


@keras.saving.register_keras_serializable(package="tests")
class FromElsewhere(keras.layers.Layer):
    def __init__(self, kind):
        super().__init__(name=kind)
        self.kind = kind
        self.seen = self.add_weight(name="seen", trainable=False, initializer="zeros")

    def call(self, x):
        if self.kind == "python":
            return x + random.random()
        if self.kind == "global":
            return keras.random.dropout(x, 0.5)
        if self.kind == "operation":
            return x + tf.random.uniform([])
        self.seen.assign_add(1.0)
        return x


@pytest.mark.parametrize("kind", ["python", "global", "operation", "counting"])
def test_a_layer_that_is_no_function_of_the_seed_is_refused_by_name(kind):
    own = "must not change its own state" if kind == "counting" else "of its own"
    with pytest.raises(ValueError, match=f"{own}.*'{kind}'"):
        Transformed(tasks(), FromElsewhere(kind))


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="`on` must be one of"):
        Transformed(tasks(), flip(), on="queries")
    with pytest.raises(ValueError, match="`layer` must be a Keras layer"):
        Transformed(tasks(), lambda x: x)
    flat = NWayKShot(
        from_arrays(np.zeros([20, 8]), np.arange(20) % 4), ways=2, shots=1, queries=1
    )
    with pytest.raises(ValueError, match="must have square images"):
        Rotated(flat)


def test_all_images_of_a_task_turn_together():
    family = NWayKShot(cornered(), ways=3, shots=1, queries=2)
    got = draw(Rotated(family), 2000)
    for k in range(4):
        row = turns_of(got["query_x"])[:, 0].tolist().index(k)
        plain = draw(family, 2000)["query_x"][row, 0]
        np.testing.assert_array_equal(got["query_x"][row, 0], np.rot90(plain, k))
    turns = np.hstack([turns_of(got["support_x"]), turns_of(got["query_x"])])
    assert (turns == turns[:, :1]).all()
    assert chi_square(np.bincount(turns[:, 0])) < 6
    plain = draw(family, 2000)
    np.testing.assert_array_equal(plain["support_y"], got["support_y"])
    assert Rotated(family).distinct_tasks() == family.distinct_tasks()
    numbers = Transformed(tasks(), flip()).class_numbers()
    assert numbers.num_classes == 4
