"""Predictions after adaptation do not depend on the padding of series."""

import keras
import numpy as np
import pytest

import maml_keras as mk

layers = keras.layers
GENERATOR = np.random.default_rng(0)
SERIES = [GENERATOR.normal(size=[n, 2]) for n in (3, 7, 5, 4, 6, 2, 7, 3)]
LABELS = [0, 1] * 4
MODELS = {
    "recurrent": lambda: [layers.Masking(0.0), layers.GRU(5)],
    "both ways": lambda: [layers.Masking(0.0), layers.Bidirectional(layers.LSTM(3))],
    "pooled": lambda: [
        layers.Masking(0.0),
        layers.Dense(5, activation="tanh"),
        layers.GlobalAveragePooling1D(),
    ],
}
DEAF = {
    "convolution": lambda: [
        layers.Masking(0.0),
        layers.Conv1D(4, 3, padding="same"),
        layers.GlobalAveragePooling1D(),
    ],
    "no mask": lambda: [layers.GRU(5)],
}


def network(parts):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input([None, 2]), *parts(), layers.Dense(2)])


@pytest.mark.parametrize("name", MODELS)
def test_a_masked_model_adapts_and_predicts_the_same_with_more_padding(name):
    model = network(MODELS[name])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    maml = mk.MAML(model, mk.InnerLoop(loss, mk.SGD(0.5), steps=2))
    predicted = []
    for length in (7, 12):
        pool = mk.data.from_series(SERIES, LABELS, length=length)
        mk.data.check_padding(model, pool)
        x, y = pool.examples[:, None], np.repeat([0, 1], 4)[:, None]
        task = {"support_x": x[1:7, 0][None], "support_y": y[1:7, 0][None]}
        predicted.append(np.asarray(maml({**task, "query_x": x[::7, 0][None]})))
    # Sums of float32 in another order.
    np.testing.assert_allclose(*predicted, rtol=1e-5, atol=1e-6)
    before = np.asarray(model(x[::7, 0]))
    assert np.abs(predicted[0][0] - before).max() > 1e-3


@pytest.mark.filterwarnings("ignore:.*does not support masking")
@pytest.mark.parametrize("name", DEAF)
def test_a_model_that_sees_padding_is_refused(name):
    pool = mk.data.from_series(SERIES, LABELS)
    deaf = "know no mask: conv1d" if name == "convolution" else "Begin with"
    with pytest.raises(ValueError, match=f"must not depend on the padding.*{deaf}"):
        mk.data.check_padding(network(DEAF[name]), pool)


def test_tokens_are_masked_by_their_embedding():
    pool = mk.data.from_series([[1, 2, 3], [4], [2, 2]], [0, 1, 0])
    for mask_zero in (True, False):
        model = keras.Sequential(
            [
                keras.Input([None], dtype="int32"),
                layers.Embedding(5, 3, mask_zero=mask_zero),
                layers.GlobalAveragePooling1D(),
            ]
        )
        if mask_zero:
            mk.data.check_padding(model, pool)
        else:
            with pytest.raises(ValueError, match="mask_zero=True"):
                mk.data.check_padding(model, pool)


def test_a_model_of_one_length_cannot_be_checked():
    model = keras.Sequential([keras.Input([7, 2]), layers.Flatten(), layers.Dense(2)])
    with pytest.raises(ValueError, match="series of any length.*Flatten"):
        mk.data.check_padding(model, mk.data.from_series(SERIES, LABELS))
