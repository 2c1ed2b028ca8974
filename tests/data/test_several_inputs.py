"""Pools of several inputs, through tasks, training and evaluation."""

import keras
import numpy as np
import pytest

import maml_keras as mk

GENERATOR = np.random.default_rng(0)
X = {
    "image": GENERATOR.integers(0, 256, [24, 4, 4, 1], np.uint8),
    "age": np.arange(24.0)[:, None],
}


def network():
    inputs = {
        "image": keras.Input([4, 4, 1], name="image"),
        "age": keras.Input([1], name="age"),
    }
    flat = keras.layers.Flatten()(inputs["image"])
    joined = keras.layers.Concatenate()([flat, inputs["age"] / 24])
    return keras.Model(inputs, keras.layers.Dense(2)(joined))


@pytest.mark.parametrize("on_disk", [False, True])
def test_inputs_of_an_example_stay_together_in_episodes(on_disk, tmp_path):
    pool = mk.data.from_arrays(X, np.arange(24) % 4)
    if on_disk:
        pool = mk.data.to_disk(pool, tmp_path / "a.pool")
    tasks = mk.data.NWayKShot(pool, ways=3, shots=1, queries=2)
    task, query_y = next(iter(mk.data.episodes(tasks, batch_size=4, seed=1)))
    for part, labels in (("support", task["support_y"]), ("query", query_y)):
        x = task[f"{part}_x"]
        assert set(x) == {"image", "age"}
        rows = x["age"].numpy()[..., 0].astype(int)
        np.testing.assert_array_equal(
            x["image"].numpy(), (X["image"] / np.float32(255))[rows]
        )
        # Equal labels within a task, equal classes.
        for numbers, classes in zip(labels.numpy(), rows % 4, strict=True):
            assert len(set(zip(numbers, classes, strict=True))) == 3


@pytest.mark.filterwarnings("ignore:The family of training allows only")
def test_a_model_of_several_inputs_trains_and_is_evaluated():
    pool = mk.data.from_arrays(X, np.arange(24) % 4)
    train, _, test = mk.data.split_classes(pool, train=2, validation=0, test=2)
    batches = [
        mk.data.episodes(
            mk.data.NWayKShot(part, ways=2, shots=1, queries=2), batch_size=2, seed=1
        )
        for part in (train, test)
    ]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    maml = mk.MAML(network(), mk.InnerLoop(loss, mk.SGD(0.1), steps=1))
    maml.compile("sgd", metrics=["accuracy"], jit_compile=False)
    maml.fit(batches[0], steps_per_epoch=1, verbose=0)
    result = mk.evaluate_episodes(maml, batches[1], steps=1, num_tasks=4, verbose=0)
    assert np.isfinite(result.mean)
