"""Attention with the heads first gives the results of Keras."""

import inspect

import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras_layers import assert_same, normal, operations, ours, randomised

from maml_keras.backend.attention import attended, heads_first
from maml_keras.backend.einsum_dense import as_products

LOWER = np.tril(np.ones([4, 4], bool))

# The mask forbids all keys of the first query in the first sequence.
SOME = np.random.default_rng(1).random([2, 4, 4]) > 0.4


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_causal_mask": True},
        {"attention_mask": LOWER},
        {"attention_mask": SOME},
        {"attention_mask": SOME[:, None].repeat(2, 1)},
        {"attention_mask": SOME[:, None].astype("int32")},
        {"attention_mask": SOME, "use_causal_mask": True},
    ],
    ids=["plain", "causal", "[q k]", "[b q k]", "[b h q k]", "[b 1 q k]", "both"],
)
def test_self_attention(options, dtype):
    x = normal(2, 4, 3)
    assert_same(layers.MultiHeadAttention(2, 3), [x, x], heads_first, **options)


def test_a_mask_and_causality_apply_together():
    q, k, v = (normal(2, 4, 2, 3, seed=seed) for seed in range(3))
    got = attended(q, k, v, scale=1.0, mask=SOME, causal=True)
    expected = attended(q, k, v, scale=1.0, mask=SOME & LOWER)
    np.testing.assert_allclose(got, expected, atol=1e-6)  # float32
    assert np.abs(got - attended(q, k, v, scale=1.0, mask=SOME)).max() > 0.01


@pytest.mark.parametrize("causal", [False, True])
def test_attention_to_another_sequence(causal, dtype):
    layer = layers.MultiHeadAttention(2, 3, value_dim=5, output_shape=4, use_bias=False)
    inputs = [normal(2, 4, 3), normal(2, 6, 2, seed=1), normal(2, 6, 5, seed=2)]
    assert_same(layer, inputs, heads_first, use_causal_mask=causal)


KNOWN = inspect.signature(layers.MultiHeadAttention).parameters


@pytest.mark.parametrize(
    "option",
    [
        pytest.param(
            {name: value},
            marks=pytest.mark.skipif(name not in KNOWN, reason="not in this Keras"),
        )
        for name, value in {"use_gate": True, "sliding_window": 2}.items()
    ],
    ids=str,
)
@pytest.mark.usefixtures("float64")
def test_attention_of_newer_versions_of_keras(option):
    x = normal(2, 4, 3)
    assert_same(layers.MultiHeadAttention(2, 3, **option), [x, x], heads_first)


@pytest.mark.usefixtures("float64")
def test_padding_is_not_attended_to():
    tokens = np.array([[1, 2, 3, 0], [4, 0, 0, 0]])
    embedded = layers.Embedding(5, 3, mask_zero=True)
    attention = layers.MultiHeadAttention(2, 3)

    class Masked(layers.Layer):
        def __init__(self):
            super().__init__()
            self.parts = [embedded, attention]

        def call(self, x):
            return attention(embedded(x), embedded(x))

    layer = randomised(Masked(), tokens)
    with ours():
        got = layer(tokens)
    np.testing.assert_allclose(got, layer(tokens), atol=1e-12)
    without = attention(*2 * [tf.gather(embedded.embeddings.value, tokens)])
    assert np.abs(got - without).max() > 1e-3  # The mask changes the output.


def test_heads_are_moved_once_and_no_einsum_remains():
    x = normal(2, 4, 3)
    layer = randomised(layers.MultiHeadAttention(2, 3), x, x)
    assert "Einsum" in operations(layer, x, x)
    with heads_first(), as_products():
        assert "Einsum" not in operations(layer, x, x)
        assert "BatchMatMulV2" in operations(layer, x, x)
    assert "Einsum" in operations(layer, x, x)


def test_dropout_on_scores_keeps_kerass_code_and_seeds():
    x = normal(2, 4, 3)
    layer = randomised(layers.MultiHeadAttention(2, 3, dropout=0.5), x, x)
    generator = layer._dropout_layer.seed_generator.state

    def answer():
        generator.assign([3, 4])
        return layer(x, x, training=True, use_causal_mask=True)

    expected = answer()
    with ours():
        np.testing.assert_allclose(answer(), expected, atol=1e-6)  # float32
    assert np.abs(expected - layer(x, x, use_causal_mask=True)).max() > 0.01


def test_returned_scores_come_from_kerass_code():
    x = normal(2, 4, 3)
    layer = randomised(layers.MultiHeadAttention(2, 3), x, x)
    expected = layer(x, x, return_attention_scores=True)
    with ours():
        got = layer(x, x, return_attention_scores=True)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)  # float32


@pytest.mark.parametrize("axes", [None, (2,)])
def test_images_and_other_axes_of_attention_are_left_to_keras(axes):
    x = normal(2, 3, 4, 3)
    layer = layers.MultiHeadAttention(2, 3, attention_axes=axes)
    assert_same(layer, [x, x], heads_first)


def test_subclasses_may_wrap_the_method_and_pass_arguments_by_name():
    class Doubled(layers.MultiHeadAttention):
        def _compute_attention(
            self, query, key, value, attention_mask=None, *args, **kwargs
        ):
            output, scores = super()._compute_attention(
                query=query, key=key, value=value, attention_mask=attention_mask
            )
            return 2.0 * output, scores

    x = normal(2, 4, 3)
    assert_same(Doubled(2, 3), [x, x], heads_first, attention_mask=LOWER)


def test_flash_attention_is_refused_as_in_keras():
    x = normal(2, 4, 3)
    layer = layers.MultiHeadAttention(2, 3, flash_attention=True)
    with heads_first(), pytest.raises(ValueError, match="not supported in tensorflow"):
        layer(x, x)
