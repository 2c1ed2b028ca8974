"""Baselines: joint training finds the best answer for all tasks together."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import maml_keras as mk
from maml_keras.experiments import registry, runs
from maml_keras.experiments.baselines import (
    BASELINES,
    joint_pretraining,
    random_initialisation,
    train_jointly,
)
from maml_keras.experiments.preset import Families

pytestmark = pytest.mark.journey


class Constants(mk.data.TaskFamily):
    """y = 1 in one half of the tasks and y = 3 in the other."""

    def sample(self, seed):
        draw = tf.random.stateless_uniform([], seed)
        y = tf.fill([4, 1], tf.where(draw < 0.5, 1.0, 3.0))
        x = tf.ones([4, 1])
        return {"support_x": x, "support_y": y, "query_x": x}, y


def test_joint_training_finds_the_mean_over_tasks():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1, use_bias=False)])
    episodes = mk.data.episodes(Constants(), batch_size=64, seed=1)
    train_jointly(model, "mse", episodes, iterations=400, learning_rate=0.05, verbose=0)
    # The least squares answer is 2. The random halves of a batch of 64 tasks keep the
    # result within 0.25 of it.
    np.testing.assert_allclose(model.predict(np.ones([1, 1]), verbose=0), 2, atol=0.25)


def blobs(classes, seed):
    """Noisy 8x8 prototypes, twenty of each class."""
    generator = np.random.default_rng(seed)
    x = np.repeat(generator.normal(size=[classes, 8, 8, 1]), 20, axis=0)
    x += 0.3 * generator.normal(size=x.shape)
    return mk.data.from_arrays(x.astype("float32"), np.repeat(np.arange(classes), 20))


def small_net(ways):
    layers = [
        keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(32, activation="relu"),
        keras.layers.Dense(ways, name="head"),
    ]
    return keras.Sequential([keras.Input([8, 8, 1]), *layers])


def test_pretraining_on_all_classes_keeps_the_body_and_a_fresh_head():
    def families(**_):
        kinds = {"ways": 5, "shots": 1, "queries": 5}
        train = mk.data.NWayKShot(blobs(20, 0), rotate_classes=True, **kinds)
        return Families(train, *(mk.data.NWayKShot(blobs(9, 1), **kinds),) * 2)

    made = []

    def model(ways=5):
        made.append(small_net(ways))
        return made[-1]

    preset = dataclasses.replace(
        registry.get("omniglot_small"), model=model, families=families
    )
    pretrained, found = joint_pretraining(preset, iterations=150, seed=0, verbose=0)
    # Twenty classes in four rotations each.
    assert [m.output_shape[-1] for m in made] == [5, 80]
    learned = made[1].variables
    keras.utils.set_random_seed(0)
    fresh = preset.build(iterations=150).model.variables
    for ours, classifier, start in zip(pretrained.model.variables, learned, fresh):
        if "head" in ours.path:
            np.testing.assert_array_equal(ours, start)
        else:
            np.testing.assert_array_equal(ours, classifier)
            assert np.abs(ours - start).max() > 1e-3
    result = runs.evaluate_on(pretrained, found, steps=5, num_tasks=40, verbose=0)
    assert result.mean > 0.6  # Chance is 0.2.


def test_joint_training_takes_the_given_number_of_steps():
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    episodes = mk.data.episodes(Constants(), batch_size=2, seed=1)
    train_jointly(model, "mse", episodes, iterations=130, verbose=0)
    assert int(model.optimizer.iterations) == 130


SHORT = dataclasses.replace(registry.get("sinusoid"), iterations=200)


def test_random_initialisation_has_kernels_of_keras_size():
    maml, _ = random_initialisation(SHORT, seed=3)
    spread = [float(np.std(v)) for v in maml.model.trainable_variables if v.ndim == 2]
    # Glorot: sqrt(2 / (fan in + fan out)), for layers of 1, 40, 40 and 1 units.
    np.testing.assert_allclose(spread, np.sqrt([2 / 41, 2 / 80, 2 / 41]), rtol=0.35)
    again, _ = random_initialisation(SHORT, seed=3)
    for a, b in zip(maml.model.variables, again.model.variables):
        np.testing.assert_array_equal(a, b)


def test_the_oracle_has_half_the_error_of_joint_training():
    errors = {}
    for name in ("oracle", "pretrained"):
        maml, families = BASELINES[name](SHORT, iterations=1_500, verbose=0)
        tasks = mk.data.episodes(families.test, batch_size=50, seed=9, num_episodes=100)
        errors[name] = mk.evaluate_episodes(maml, tasks, steps=0, verbose=0).mean
    assert errors["oracle"] < 0.5 * errors["pretrained"]
