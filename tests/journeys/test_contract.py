"""One contract for all combinations of rule, selector, objective, map and network."""

import itertools
import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import classification, tensors
from members import (
    BODIES,
    ESTIMATORS,
    LOOPS,
    MAPS,
    OBJECTIVES,
    POLICIES,
    RULES,
    SELECTORS,
    STARTS,
    forgotten,
)

import maml_keras as mk

PRODUCT = [
    combination
    for combination in itertools.product(
        RULES,
        SELECTORS,
        OBJECTIVES,
        ESTIMATORS,
        MAPS,
        STARTS,
        POLICIES,
        LOOPS,
        BODIES,
    )
    # Implicit gradients need the plain initialisation as start and the whole support
    # set. Reptile and implicit gradients only have the final objective.
    if not (combination[3] == "implicit" and combination[5] != "initialisation")
    and not (combination[3] == "implicit" and combination[7] == "parts")
    and not (combination[3] in ("reptile", "implicit") and combination[2] != "final")
]


def sample(count, product=PRODUCT):
    """Random combinations in which every member appears at least once."""
    # Some thousands hold every member; searching all combinations takes seconds.
    shuffled = random.Random(0).sample(product, 4000)
    chosen, missing = [], {member for axis in zip(*product) for member in axis}
    while missing:  # Take the combination with most of the missing members.
        best = max(shuffled, key=lambda c: len(missing & {*c}))
        chosen.append(best)
        missing -= {*best}
    chosen += [c for c in shuffled if c not in chosen][: max(0, count - len(chosen))]
    for axis in zip(*product):
        assert set(axis) <= {member for combination in chosen for member in combination}
    return chosen


def build(combination, task_map="sequential"):
    rule, selector, objective, estimator, _, start, policy, loop, body = combination
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input([3]),
            *BODIES[body](),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(3, name="head"),
        ]
    )
    model.layers[-2].moving_mean.assign([0.1, -0.2, 0.3, 0.0])
    inner = mk.InnerLoop(
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        RULES[rule](),
        steps=2,
        adapt=SELECTORS[selector](),
        proximal=1.0 if estimator == "implicit" else 0.0,
        start=STARTS[start](),
        **LOOPS[loop],
    )
    return mk.MAML(
        model,
        inner,
        meta_gradient=ESTIMATORS[estimator](OBJECTIVES[objective]()),
        batch_norm=policy,
        task_map=task_map,
        seed=0,
    )


def assert_keeps_the_contract(combination, path):
    batch = classification(tasks=3)
    maml = build(combination)

    # Configuration.
    config = maml.get_config()
    assert mk.MAML.from_config(config).get_config() == config

    # Every map gives the same numbers, and the order of tasks does not matter.
    loss, gradients = maml.compute_meta_gradients(batch)
    other = build(combination, MAPS[combination[4]]())
    mapped = tf.function(other.compute_meta_gradients, autograph=False)(tensors(batch))
    order = [2, 0, 1]
    swapped = {k: v[order] for k, v in batch[0].items()}, batch[1][order]
    permuted = maml.compute_meta_gradients(swapped)
    for other_loss, others in (mapped, permuted):
        np.testing.assert_allclose(other_loss, loss, rtol=1e-4)
        assert len(others) == len(maml.trainable_variables)
        for variable, a, b in zip(maml.trainable_variables, others, gradients):
            # float32, sums in another order.
            np.testing.assert_allclose(
                a, b, rtol=2e-3, atol=2e-5, err_msg=variable.path
            )

    # A true gradient passes the check. The second phase is a true gradient.
    if combination[3] in ("backprop", "phases"):
        maml.meta_steps.assign(100)
        checks = mk.check_meta_gradient(maml, batch, tolerance=1e-5)
        assert len(checks) == len(maml.trainable_variables)
        assert all(check.decided for check in checks)
        maml.meta_steps.assign(0)

    # Training is traced once, and the trained model is saved and loaded.
    traces = []
    step = maml.train_step
    maml.train_step = lambda data: (traces.append(1), step(data))[1]
    maml.compile(keras.optimizers.SGD(0.01))
    before = [v.numpy() for v in maml.trainable_variables]
    data = tf.data.Dataset.from_tensors(batch).repeat()
    maml.fit(data, steps_per_epoch=2, epochs=2, verbose=0)
    assert len(traces) == 1
    del maml.train_step
    after = [v.numpy() for v in maml.trainable_variables]
    assert any(np.any(a != b) for a, b in zip(after, before))
    assert all(np.isfinite(a).all() for a in after)
    maml.save(path)
    loaded = keras.saving.load_model(path)
    np.testing.assert_allclose(loaded(batch[0]), maml(batch[0]), rtol=1e-5, atol=1e-6)


def name(combination):
    return "-".join(combination)


# Combinations without rematerialised loops, which can take minutes to trace.
KEPT = [combination for combination in PRODUCT if combination[7] == "kept"]


@pytest.mark.journey
@pytest.mark.parametrize("combination", sample(8, KEPT), ids=name)
def test_a_sample_keeps_the_contract(combination, tmp_path):
    assert_keeps_the_contract(combination, tmp_path / "model.keras")


@pytest.mark.slow
@pytest.mark.parametrize("combination", sample(200), ids=name)
def test_many_keep_the_contract(combination, tmp_path):
    with forgotten():
        assert_keeps_the_contract(combination, tmp_path / "model.keras")
