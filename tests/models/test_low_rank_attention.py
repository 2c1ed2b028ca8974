"""Low-rank changes of the projections of attention."""

import keras
import numpy as np
import pytest
from helpers import maml, with_noise

from maml_keras import (
    LowRankAttention,
    check_meta_gradient,
    with_low_rank_adapters,
)

pytestmark = pytest.mark.journey

layers = keras.layers


def test_unfrozen_projections_stay_unfrozen(tmp_path):
    x = keras.Input([4, 3])
    h = layers.MultiHeadAttention(num_heads=2, key_dim=2, name="attention")(x, x)
    adapted = with_low_rank_adapters(keras.Model(x, h), rank=2)
    attention = adapted.get_layer("attention")
    frozen = len(adapted.trainable_variables)
    attention._output_dense.layer.trainable = True
    assert len(adapted.trainable_variables) == frozen + 2
    adapted.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [v.path for v in loaded.trainable_variables] == [
        v.path for v in adapted.trainable_variables
    ]


def attentive(mask=False):
    x = keras.Input([5], dtype="int32")
    h = layers.Embedding(7, 6, mask_zero=mask)(x)
    h = layers.MultiHeadAttention(2, 3, name="attention")(h, h)
    h = layers.LayerNormalization()(h)
    h = layers.GlobalAveragePooling1D()(h)
    return keras.Model(x, layers.Dense(2, name="head")(h))


def tokens():
    generator = np.random.default_rng(0)
    x = generator.integers(0, 7, [2, 6, 5])
    y = generator.normal(size=[2, 6, 2]).astype("float32")
    task = {"support_x": x[:, :4], "support_y": y[:, :4], "query_x": x[:, 4:]}
    return task, y[:, 4:]


@pytest.mark.parametrize("mask", [False, True])
def test_the_projections_of_attention_get_adapters(mask, tmp_path):
    model, x = attentive(mask), tokens()[0]["query_x"][0]
    paper = lambda layer: layer.name in ("query", "value")  # noqa: E731
    adapted = with_low_rank_adapters(model, 2, layers=paper)
    np.testing.assert_allclose(adapted(x), model(x), rtol=1e-5, atol=1e-6)
    # A and B of two projections, beside all variables of the original, each once.
    learned = [v.path for v in adapted.trainable_variables]
    assert len(learned) == 4
    assert all("low_rank" in path for path in learned)
    assert len(adapted.variables) == len(model.variables) + 4
    # Adding A @ B to the kernels by hand gives the same change.
    moved = with_noise(adapted)
    by_hand = keras.models.clone_model(model)
    by_hand.set_weights(model.get_weights())
    for attribute in ("_query_dense", "_value_dense"):
        low_rank = getattr(moved.get_layer("attention"), attribute)
        change = np.tensordot(low_rank.low_rank_a, low_rank.low_rank_b, axes=1)
        kernel = getattr(by_hand.get_layer("attention"), attribute).kernel
        kernel.assign_add(change)
    np.testing.assert_allclose(moved(x), by_hand(x), rtol=1e-4, atol=1e-4)
    moved.save(tmp_path / "moved.keras")
    loaded = keras.saving.load_model(tmp_path / "moved.keras")
    np.testing.assert_allclose(loaded(x), moved(x), rtol=1e-6)
    assert [v.path for v in loaded.trainable_variables] == learned


def test_gradients_through_adapted_attention_are_right():
    adapted = with_noise(with_low_rank_adapters(attentive(), 2))
    checks = check_meta_gradient(maml(adapted, steps=2), tokens(), verbose=0)
    assert all(check.decided for check in checks)
    assert len(checks) == 10  # Four projections and the head, A and B of each.


def test_masks_go_through_adapters():
    x = keras.Input([5], dtype="int32")
    h = layers.Embedding(7, 6, mask_zero=True)(x)
    h = layers.Dense(4)(h)
    model = keras.Model(x, layers.Dense(2)(layers.LSTM(3)(h)))
    padded = np.array([[1, 2, 3, 0, 0], [4, 0, 0, 0, 0]])
    adapted = with_low_rank_adapters(model, 2)
    np.testing.assert_allclose(adapted(padded), model(padded), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adapted": ["gate"]}, "use_gate=True"),
        ({"rank": 0}, "`rank` must be positive"),
    ],
)
def test_impossible_attention_adapters_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LowRankAttention(num_heads=2, key_dim=2, **options)


def test_an_unknown_projection_is_refused():
    with pytest.raises(ValueError, match="`adapted` must hold names out of"):
        LowRankAttention(num_heads=1, key_dim=2, adapted=["querry"])
