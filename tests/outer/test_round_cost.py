"""The bytes of a round, against the bytes of the arrays themselves."""

import keras
import numpy as np
import pytest
from helpers import RATE, batch_normalised, dense

import maml_keras as mk


def sent(variables):
    """The bytes of the arrays as they would go over a wire."""
    return len(b"".join(np.asarray(v.value).tobytes() for v in variables))


def learner(model, rule=None, **options):
    inner = mk.InnerLoop("mse", rule or mk.SGD(RATE))
    return mk.MAML(model, inner, meta_gradient=mk.Reptile(), **options)


@pytest.mark.parametrize("rule", [mk.SGD(RATE), mk.MetaSGD(RATE)], ids=["sgd", "meta"])
def test_a_client_gets_and_sends_every_learned_number(rule):
    maml = learner(dense(), rule if isinstance(rule, mk.SGD) else mk.MetaSGD(RATE))
    cost = mk.round_cost(maml, clients=10)
    assert cost.down == cost.up == sent(maml.trainable_variables)
    assert cost.total == 20 * cost.up
    assert str(cost) == (
        f"{cost.up} bytes to and {cost.up} bytes from each of 10 clients, "
        f"{cost.total / 1e3:.1f} KB a round"
    )


def test_moving_statistics_travel_unless_they_are_frozen():
    model = batch_normalised()
    frozen = mk.round_cost(learner(model, batch_norm="frozen"), clients=1)
    moving = mk.round_cost(learner(model), clients=1)
    assert frozen.up == sent(model.trainable_variables)
    assert moving.up == sent(model.variables)


def test_frozen_weights_stay_where_they_are():
    whole = keras.Sequential(
        [keras.Input([64]), keras.layers.Dense(64), keras.layers.Dense(3)]
    )
    adapted = mk.with_low_rank_adapters(whole, rank=2)
    cost = mk.round_cost(learner(adapted), clients=3)
    assert cost.up == sent(adapted.trainable_variables)
    assert cost.up == 4 * (2 * (64 + 64) + 2 * (64 + 3))


def test_half_precision_costs_half():
    layers = [keras.Input([8]), keras.layers.Dense(2, dtype="bfloat16")]
    half = keras.Sequential(layers)
    assert mk.round_cost(learner(half), clients=1).up == 2 * (8 * 2 + 2)


@pytest.mark.parametrize("count", [0, -1, 2.5, True])
def test_no_clients_are_refused(count):
    with pytest.raises(ValueError, match="`clients` must be a positive integer"):
        mk.round_cost(learner(dense()), clients=count)
