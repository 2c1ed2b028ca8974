"""Faster attention, layer norm and `EinsumDense` give the results of Keras."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import RATE, maml, mse, regression, task_of, tensors
from keras import layers
from keras_layers import operations, ours

from maml_keras.backend.moments import exact_moments
from maml_keras.learner.learner import Learner


def transformer():
    """A post-norm block of causal attention."""
    tokens = keras.Input([4], dtype="int32")
    x = layers.Embedding(5, 4)(tokens)
    attended = layers.MultiHeadAttention(2, 2)(x, x, use_causal_mask=True)
    x = layers.LayerNormalization(epsilon=0.1)(x + attended)
    hidden = layers.EinsumDense("abc,cd->abd", (None, 6), "tanh", "d")(x)
    x = layers.LayerNormalization(epsilon=0.1)(x + layers.Dense(4)(hidden))
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(tokens, layers.Dense(2)(x))


def plain_meta_gradient(model, batch):
    """Nested tapes over Keras's layers; of our changes, only `exact_moments` is on."""
    theta = [v.value for v in model.trainable_variables]

    def loss(weights, x, y):
        return mse(y, model.stateless_call(weights, [], x)[0])

    losses = []
    with exact_moments(), tf.GradientTape() as tape:
        tape.watch(theta)
        for index in range(len(batch[1])):
            task, query_y = task_of(batch, index)
            with tf.GradientTape() as inner:
                inner.watch(theta)
                support_loss = loss(theta, task["support_x"], task["support_y"])
            gradients = map(tf.convert_to_tensor, inner.gradient(support_loss, theta))
            weights = [w - RATE * g for w, g in zip(theta, gradients)]
            losses.append(loss(weights, task["query_x"], query_y))
        mean = tf.reduce_mean(losses)
    return [tf.convert_to_tensor(g) for g in tape.gradient(mean, theta)]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("task_map", "xla"),
    [
        ("parallel", False),
        ("vectorized", False),
        pytest.param("vectorized", True, marks=pytest.mark.slow),
    ],
)
def test_meta_gradient_equals_the_gradient_of_keras_layers(task_map, xla):
    model, batch = transformer(), regression((4,), integers=5)
    expected = plain_meta_gradient(model, batch)
    mapped = maml(model, task_map=task_map)

    @tf.function(autograph=False, jit_compile=xla)
    def gradients(batch):
        return mapped.compute_meta_gradients(batch)[1]

    for got, want in zip(gradients(tensors(batch)), expected, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-12)  # float64


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_half_precision(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = transformer()
    finally:
        keras.config.set_dtype_policy(before)
    tokens = np.random.default_rng(0).integers(0, 5, [3, 4])
    learner = Learner(model)
    got = learner(learner.weights(), learner.state(), tokens, training=True)
    expected = model(tokens, training=True)
    assert got.predictions.dtype == expected.dtype == model.compute_dtype
    # The tolerance allows a few roundings of numbers around one.
    atol = 0.05 if "bfloat16" in policy else 0.01
    np.testing.assert_allclose(
        tf.cast(got.predictions, "float32"), tf.cast(expected, "float32"), atol=atol
    )


METHODS = [
    (layers.MultiHeadAttention, "_compute_attention"),
    (layers.LayerNormalization, "call"),
    (layers.EinsumDense, "call"),
]


def test_keras_is_unchanged_outside_a_pass_and_in_other_threads():
    originals = [getattr(kind, name) for kind, name in METHODS]
    model, tokens = transformer(), tf.zeros([3, 4], "int32")
    learner = Learner(model)
    expected = operations(model, tokens)
    elsewhere = []
    with ours():
        assert operations(model, tokens) != expected
        thread = threading.Thread(
            target=lambda: elsewhere.append(operations(model, tokens))
        )
        thread.start()
        thread.join()
    assert elsewhere == [expected]
    learner(learner.weights(), learner.state(), tokens, training=True)
    assert [getattr(kind, name) for kind, name in METHODS] == originals


def test_a_learners_pass_uses_all_three():
    learner = Learner(transformer())

    def one_pass(tokens):
        weights, state = learner.weights(), learner.state()
        return learner(weights, state, tokens, training=True).predictions

    seen = operations(one_pass, tf.zeros([3, 4], "int32"))
    assert "Einsum" not in seen
    assert "IdentityN" in seen
