"""Baselines: each trains on what it should, or refuses."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import maml_keras as mk
from maml_keras.experiments import baselines, fixed_tasks, own_settings, registry
from maml_keras.experiments.baselines import (
    BASELINES,
    joint_pretraining,
    linear_probe,
    nearest_class_mean,
    random_initialisation,
)
from maml_keras.experiments.preset import Families

pytestmark = pytest.mark.journey


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


def few_shot(*, wrapped=lambda family: family, model=small_net, loss=None, **kinds):
    """A preset of 5-way tasks of blobs; `wrapped` changes the training family."""
    kinds = {"ways": 5, "shots": 1, "queries": 5, **kinds}

    def families(**_):
        train = mk.data.NWayKShot(blobs(20, 0), rotate_classes=True, **kinds)
        rest = mk.data.NWayKShot(blobs(9, 1), **kinds)
        return Families(wrapped(train), rest, rest)

    small = registry.get("omniglot_small")
    return dataclasses.replace(
        small,
        name="blobs",
        model=functools.partial(model, ways=5),
        families=families,
        loss=loss or small.loss,
    )


class Mirrored(mk.data.TaskFamily):
    """Image tasks of another family, half of the images mirrored."""

    def __init__(self, tasks):
        self.tasks = tasks

    def sample(self, seed):
        task, query_y = self.tasks.sample(seed)
        for stream, name in enumerate(["support_x", "query_x"], start=100):
            images = task[name]
            draws = tf.random.stateless_uniform(
                [images.shape[0], 1, 1, 1], tf.random.fold_in(seed, stream)
            )
            task[name] = tf.where(draws < 0.5, images, tf.reverse(images, axis=[2]))
        return task, query_y


class Hidden(mk.data.TaskFamily):
    """The last class of each task has the label -1."""

    def __init__(self, tasks):
        self.tasks = tasks

    def sample(self, seed):
        task, query_y = self.tasks.sample(seed)
        hidden = [tf.where(y < 4, y, -1) for y in (task["support_y"], query_y)]
        return {**task, "support_y": hidden[0]}, hidden[1]


class HiddenByName(Hidden):
    """The same, and its class numbers are those of the tasks within."""

    def class_numbers(self):
        return self.tasks.class_numbers()


class OneHot(mk.data.TaskFamily):
    """Rows in place of class numbers."""

    def __init__(self, tasks):
        self.tasks = tasks

    def sample(self, seed):
        task, query_y = self.tasks.sample(seed)
        rows = [tf.one_hot(y, 5) for y in (task["support_y"], query_y)]
        return {**task, "support_y": rows[0]}, rows[1]


def accuracy_of(found, steps=5):
    return fixed_tasks.evaluate_on(*found, steps=steps, num_tasks=40, verbose=0).mean


@pytest.mark.slow
def test_pretraining_on_all_classes_keeps_a_fresh_head():
    preset = few_shot()
    pretrained, found = joint_pretraining(preset, iterations=150, seed=0, verbose=0)
    keras.utils.set_random_seed(0)
    fresh = preset.build(iterations=150).model.variables
    for ours, start in zip(pretrained.model.variables, fresh):
        if "head" in ours.path:
            np.testing.assert_array_equal(ours, start)
        else:
            assert np.abs(ours - start).max() > 1e-3
    assert accuracy_of((pretrained, found)) > 0.6  # Chance is 0.2.


@pytest.mark.parametrize(
    "wrapped",
    [
        pytest.param(Mirrored, id="Mirrored"),
        pytest.param(HiddenByName, id="HiddenByName", marks=pytest.mark.slow),
    ],
)
def test_pretraining_learns_the_classes_below_a_wrapper(wrapped):
    # The labels of a wrapper change from task to task. A network that is trained on
    # them stays at the loss ln(5) = 1.6, with a body that knows no classes.
    rows = []
    seen = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda _, logs: rows.append(logs)
    )
    joint_pretraining(
        few_shot(wrapped=wrapped), iterations=200, verbose=0, callbacks=[seen]
    )
    # The mean over all steps; ln(80) = 4.4 is the loss of a guess.
    assert rows[-1]["accuracy"] > 0.3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"wrapped": Hidden}, "`Hidden` must tell which classes.*changes the labels"),
        ({"wrapped": lambda family: Unknown()}, "`Unknown` must tell.*0 families"),
        # The loss says nothing about classes here.
        ({"wrapped": OneHot, "loss": lambda: "mse"}, "`OneHot` must tell"),
        ({"model": lambda ways: Nested(ways)}, "must be a Sequential or functional"),
    ],
)
@pytest.mark.parametrize("name", ["pretrained", "linear_probe", "prototypes"])
def test_pretraining_refuses_what_it_cannot_train(name, settings, message):
    if name == "prototypes" and "loss" in settings:
        message = "'prototypes' needs tasks of classes"
    if name == "prototypes" and "model" in settings:
        message = "ends in a trainable Dense"
    preset = few_shot(**settings)
    with pytest.raises(ValueError, match=message):
        baselines.check(name, preset)
    with pytest.raises(ValueError, match=message):
        BASELINES[name](preset, iterations=1, verbose=0)


class Unknown(mk.data.TaskFamily):
    """Classes that nobody can name."""

    def sample(self, seed):
        x = tf.random.stateless_uniform([30, 8, 8, 1], seed)
        y = tf.tile(tf.range(5), [6])
        return {"support_x": x[:5], "support_y": y[:5], "query_x": x[5:]}, y[5:]


def Nested(ways):
    """A network whose last layer is a network."""
    return keras.Sequential([keras.Input([8, 8, 1]), small_net(ways)])


def test_prototypes_are_the_nearest_class_means_of_pretrained_features():
    preset = few_shot(shots=3)
    maml, families = nearest_class_mean(preset, iterations=150, seed=0, verbose=0)
    assert accuracy_of((maml, families)) > 0.6
    task, _ = next(iter(mk.data.episodes(families.test, batch_size=1, seed=5)))
    features = keras.Model(maml.model.inputs, maml.model.layers[-1].input)
    support, query = (
        np.asarray(features(task[k][0])) for k in ("support_x", "query_x")
    )
    labels = task["support_y"][0].numpy()
    means = np.stack([support[labels == c].mean(axis=0) for c in range(5)])
    nearest = np.square(query[:, None] - means).sum(-1).argmin(-1)
    np.testing.assert_array_equal(maml.predict(task, verbose=0)[0].argmax(-1), nearest)
    # No step changes anything.
    curve = fixed_tasks.evaluate_on(
        maml, families, steps=3, num_tasks=20, verbose=0
    ).curve
    assert np.ptp(curve) == 0.0


def test_a_linear_probe_is_logistic_regression_on_pretrained_features(monkeypatch):
    # One setting, so that each part of it is in the expected numbers.
    settings = own_settings.Grid((0.5,), (3,), (0.1,))
    monkeypatch.setattr(baselines, "grid_of", lambda names, preset: settings)
    maml, families = linear_probe(few_shot(shots=3), iterations=20, seed=0, verbose=0)
    assert own_settings.Choice.of(maml) == (0.5, 3, 0.1)
    task, _ = next(iter(mk.data.episodes(families.test, batch_size=1, seed=5)))
    features = keras.Model(maml.model.inputs, maml.model.layers[-1].input)
    support, query = (
        np.asarray(features(task[k][0]), float) for k in ("support_x", "query_x")
    )
    rows = np.eye(5)[task["support_y"][0].numpy()]
    kernel, bias = np.zeros([32, 5]), np.zeros(5)
    for _ in range(3):
        odds = np.exp(support @ kernel + bias)
        slope = (odds / odds.sum(axis=1, keepdims=True) - rows) / len(rows)
        kernel = kernel - 0.5 * (support.T @ slope + 0.1 * kernel)
        bias = bias - 0.5 * (slope.sum(axis=0) + 0.1 * bias)
    got = maml.predict(task, verbose=0)[0]
    np.testing.assert_allclose(got, query @ kernel + bias, rtol=1e-3, atol=1e-4)


def test_prototypes_refuse_regression():
    with pytest.raises(ValueError, match="needs tasks of classes"):
        nearest_class_mean(SHORT, iterations=1, verbose=0)


WAVES = mk.data.Sinusoid()
SHORT = dataclasses.replace(registry.get("sinusoid"), iterations=200)


@pytest.mark.slow
def test_random_initialisation_has_kernels_of_keras_size():
    maml, _ = random_initialisation(SHORT, seed=3)
    spread = [float(np.std(v)) for v in maml.model.trainable_variables if v.ndim == 2]
    # Glorot: sqrt(2 / (fan in + fan out)), for layers of 1, 40, 40 and 1 units.
    np.testing.assert_allclose(spread, np.sqrt([2 / 41, 2 / 80, 2 / 41]), rtol=0.35)
    again, _ = random_initialisation(SHORT, seed=3)
    for a, b in zip(maml.model.variables, again.model.variables):
        np.testing.assert_array_equal(a, b)


class Shifted(mk.data.TaskFamily):
    """A family around sinusoids, whose parameters nobody can read."""

    def __init__(self, tasks):
        self.tasks = tasks

    def sample(self, seed):
        task, query_y = self.tasks.sample(seed)
        return {**task, "support_y": task["support_y"] + 1.0}, query_y + 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"families": lambda **_: Families(Shifted(WAVES), WAVES, WAVES)},
            "needs a preset of sinusoids.*each family",
        ),
        ({"model": lambda: mk.models.mlp()}, "`model` has no argument `inputs`"),
    ],
)
def test_the_oracle_refuses_what_it_cannot_read(changes, message):
    preset = dataclasses.replace(SHORT, **changes)
    with pytest.raises(ValueError, match=message):
        baselines.check("oracle", preset)


@pytest.mark.slow
def test_pretraining_on_wrapped_regression_is_joint_training():
    preset = dataclasses.replace(
        SHORT, families=lambda **_: Families(Shifted(WAVES), WAVES, WAVES)
    )
    maml, _ = joint_pretraining(preset, iterations=300, verbose=0)
    # Curves that lie one higher have a higher mean.
    x = np.linspace(-5, 5, 50)[:, None]
    assert maml.model.predict(x, verbose=0).mean() > 0.5


@pytest.mark.slow
def test_the_oracle_has_half_the_error_of_joint_training():
    errors = {}
    for name in ("oracle", "pretrained"):
        maml, families = BASELINES[name](SHORT, iterations=1_500, verbose=0)
        tasks = mk.data.episodes(families.test, batch_size=50, seed=9, num_episodes=100)
        errors[name] = mk.evaluate_episodes(maml, tasks, steps=0, verbose=0).mean
    assert errors["oracle"] < 0.5 * errors["pretrained"]
