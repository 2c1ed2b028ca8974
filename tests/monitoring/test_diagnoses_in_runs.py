"""Real runs with one problem each get that finding alone; healthy runs get none."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import maml_keras as mk
from maml_keras.data.family import TaskFamily, first_row

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("tasks_in_a_loop")]


class Slopes(TaskFamily):
    """`y = a x + noise` with x of size one: a step of rate 0.5 solves it."""

    chunk = 64

    def sample(self, seed):
        return first_row(self.sample_many(seed, 1))

    def sample_many(self, seed, count):
        seeds = tf.unstack(tf.random.split(tf.cast(seed, tf.int32), 3))
        signs = tf.random.stateless_uniform([count, 20, 1], seeds[0])
        x = tf.where(signs < 0.5, -1.0, 1.0)
        slope = tf.random.stateless_uniform([count, 1, 1], seeds[1], 1.0, 3.0)
        y = slope * x + 0.3 * tf.random.stateless_normal(x.shape, seeds[2])
        task = {"support_x": x[:, :10], "support_y": y[:, :10], "query_x": x[:, 10:]}
        return task, y[:, 10:]


class Clusters(TaskFamily):
    """Two classes in opposite places. The labels are random, or leak by the place."""

    chunk = 64

    def __init__(self, leaks):
        self.leaks = leaks

    def sample(self, seed):
        return first_row(self.sample_many(seed, 1))

    def sample_many(self, seed, count):
        seeds = tf.unstack(tf.random.split(tf.cast(seed, tf.int32), 2))
        labels = tf.tile(tf.constant([[0, 1]]), [count, 10])
        flip = tf.random.stateless_uniform([count, 1], seeds[0], 0, 2, tf.int32)
        places = labels if self.leaks else tf.bitwise.bitwise_xor(labels, flip)
        noise = 0.5 * tf.random.stateless_normal([count, 20, 1], seeds[1])
        x = tf.cast(2 * places - 1, tf.float32)[..., None] + noise
        task = {
            "support_x": x[:, :10],
            "support_y": labels[:, :10],
            "query_x": x[:, 10:],
        }
        return task, labels[:, 10:]


def line(**settings):
    head = keras.layers.Dense(1, use_bias=False, **settings)
    return keras.Sequential([keras.Input([1]), head], name="line")


def titles(maml, family, tmp_path, *, epochs=4, optimizer=None, before=()):
    """The titles of the findings in a run with `Watch`."""
    # With such a slow optimizer the inner loop hardly changes.
    maml.compile(optimizer or keras.optimizers.SGD(1e-3), jit_compile=False)
    watch = mk.Watch(
        tmp_path,
        mk.data.episodes(family, batch_size=40, seed=2, num_episodes=40),
        every=1,
        views=[],
        pictures=[],
    )
    maml.fit(
        mk.data.episodes(family, batch_size=8, seed=1),
        steps_per_epoch=5,
        epochs=epochs,
        verbose=0,
        callbacks=[*before, watch],
    )
    return list(watch.findings), watch


def slopes(rule, *, steps=1, model=None):
    keras.utils.set_random_seed(0)
    return mk.MAML(model or line(), mk.InnerLoop("mse", rule, steps=steps))


@pytest.mark.parametrize(
    ("rule", "steps", "expected"),
    [
        (mk.SGD(0.1), 3, []),
        (mk.SGD(1e-5), 1, ["Adaptation does not help"]),
        (mk.SGD(0.5), 3, ["Steps after the first do nothing"]),
        # Each step multiplies the error by -5.
        (mk.SGD(3.0), 2, ["The inner rate is too large"]),
        # A learned rate that converges does not run away.
        (mk.PerStepSGD(0.1), 1, []),
    ],
    ids=["healthy", "no gain", "idle steps", "too large", "learned"],
)
def test_a_run_gets_the_finding_of_its_problem(rule, steps, expected, tmp_path):
    found, watch = titles(slopes(rule, steps=steps), Slopes(), tmp_path)
    if expected == ["The inner rate is too large"]:
        # This finding is true as well.
        found = [t for t in found if t != "Adaptation does not help"]
    assert found == expected, watch.findings


@pytest.mark.parametrize("epochs", [3, 4])
def test_a_learned_rate_that_runs_away_is_found_in_a_run(epochs, tmp_path):
    maml = slopes(mk.PerStepSGD(0.01))
    rates = maml.rule.rates
    # The rates are 0.04, 0.16, 0.64 and 2.56. The loss falls up to the third, and is 17
    # times as large with the fourth.
    grow = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: rates.assign(4.0 * rates)
    )
    # The optimizer must not move the rates, whose gradients become large, too.
    idle = keras.optimizers.SGD(1e-9)
    found, watch = titles(
        maml, Slopes(), tmp_path, epochs=epochs, before=[grow], optimizer=idle
    )
    expected = "A learned inner rate runs away"
    assert (expected in found) == (epochs == 4), watch.findings
    if found:
        assert "'line/" in watch.findings[expected][1].text


UNTRAINED = "No better than without meta-training"


@pytest.mark.parametrize(
    ("rate", "outer", "expected"),
    [
        (0.1, keras.optimizers.Adam(0.1), []),
        # Nothing is learned, or a step of 0.5 solves the tasks from any start.
        (0.1, keras.optimizers.SGD(1e-9), [UNTRAINED]),
        (0.5, keras.optimizers.Adam(0.1), [UNTRAINED]),
    ],
    ids=["healthy", "outer rate too small", "any start"],
)
def test_training_that_brings_nothing_is_found(rate, outer, expected, tmp_path):
    maml = slopes(mk.SGD(rate))
    before = [np.array(v) for v in maml.model.trainable_variables]
    found, watch = titles(maml, Slopes(), tmp_path, epochs=6, optimizer=outer)
    assert [t for t in found if t == UNTRAINED] == expected, watch.findings
    if expected:
        iteration, finding = watch.findings[UNTRAINED]
        assert iteration == 25  # The fifth look is the first that may judge.
        assert "Adapted in the same way, " in finding.text
    # The first look lent the network other weights, and gave its own back.
    [moved] = [np.abs(a - b) for a, b in zip(before, maml.model.trainable_variables)]
    assert (moved.max() < 1e-5) == (float(outer.learning_rate) < 1e-6)


def test_a_run_that_goes_on_after_training_is_not_compared_with_its_start(tmp_path):
    maml = slopes(mk.SGD(0.1))
    adam = keras.optimizers.Adam(0.1)
    titles(maml, Slopes(), tmp_path / "first", epochs=6, optimizer=adam)
    # The network is as good as it gets, and so was the start of this `fit`.
    watch = mk.Watch(
        tmp_path / "second",
        mk.data.episodes(Slopes(), batch_size=40, seed=2, num_episodes=40),
        every=1,
        views=[],
        pictures=[],
    )
    tasks = mk.data.episodes(Slopes(), batch_size=8, seed=1)
    maml.fit(tasks, steps_per_epoch=5, epochs=6, verbose=0, callbacks=[watch])
    assert not watch.findings


def test_a_layer_with_a_vanished_gradient_is_named(tmp_path):
    dead = keras.layers.Dense(
        4, "relu", bias_initializer=keras.initializers.Constant(-100.0), name="dead"
    )
    x = keras.Input([1])
    # A second path to the output avoids the dead layer.
    both = keras.layers.Concatenate()([dead(x), x])
    model = keras.Model(x, keras.layers.Dense(1, name="head")(both))
    found, watch = titles(slopes(mk.SGD(0.1), model=model), Slopes(), tmp_path)
    assert found == ["An inner gradient vanished"], watch.findings
    text = watch.findings["An inner gradient vanished"][1].text
    assert "dead'" in text
    assert "head'" not in text


class OneHot(TaskFamily):
    """The tasks of another family, with one-hot rows of two classes as targets."""

    chunk = 64

    def __init__(self, tasks):
        self.tasks = tasks

    def sample(self, seed):
        task, query_y = self.tasks.sample(seed)
        return {**task, "support_y": tf.one_hot(task["support_y"], 2)}, tf.one_hot(
            query_y, 2
        )


@pytest.mark.parametrize("one_hot", [False, True], ids=["numbers", "rows"])
@pytest.mark.parametrize("leaks", [False, True], ids=["sound", "leaking"])
def test_only_leaking_labels_are_found(leaks, one_hot, tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(2)])
    losses = keras.losses
    kind = losses.SparseCategoricalCrossentropy
    tasks = Clusters(leaks)
    if one_hot:
        kind, tasks = losses.CategoricalCrossentropy, OneHot(tasks)
    maml = mk.MAML(model, mk.InnerLoop(kind(from_logits=True), mk.SGD(0.5)))
    adam = keras.optimizers.Adam(0.1)
    found, watch = titles(maml, tasks, tmp_path, optimizer=adam)
    assert ("Labels leak" in found) == leaks, watch.findings
    if leaks:
        assert "; a guess has 50.0%" in watch.findings["Labels leak"][1].text
    else:
        assert found == []
    assert np.isfinite(watch._looks[-1].traces["validation"].query_loss).all()
