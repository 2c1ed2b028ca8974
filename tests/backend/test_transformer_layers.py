"""Faster attention, layer norm and `EinsumDense` give the results of Keras."""

import contextlib
import functools
import inspect
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import RATE, maml, mse, precision, regression, task_of, tensors
from keras import layers

from maml_keras.backend import layer_norm
from maml_keras.backend.attention import attended, heads_first
from maml_keras.backend.einsum_dense import as_products
from maml_keras.backend.layer_norm import written_out
from maml_keras.backend.moments import exact_moments
from maml_keras.learner.learner import Learner

TOLERANCE = {"float32": 2e-5, "float64": 1e-11}


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with precision(request.param):
        yield request.param


@pytest.fixture
def float64():
    with precision("float64"):
        yield


@contextlib.contextmanager
def ours():
    with heads_first(), written_out(), as_products():
        yield


def normal(*shape, seed=0):
    values = np.random.default_rng(seed).normal(size=shape)
    return tf.constant(values, keras.config.floatx())


def randomised(layer, *inputs, **options):
    """The layer after a first call, with random weights and biases."""
    layer(*inputs, **options)
    for seed, variable in enumerate(layer.trainable_variables):
        variable.assign(0.5 * normal(*variable.shape, seed=seed + 10) + 0.3)
    return layer


def results(layer, inputs, **options):
    """The output, and its first and second derivatives in inputs and weights."""
    of = [*inputs, *(v.value for v in layer.trainable_variables)]
    with tf.GradientTape() as outer:
        outer.watch(of)
        with tf.GradientTape() as tape:
            tape.watch(of)
            output = layer(*inputs, **options)
            loss = tf.reduce_sum(tf.sin(output))
        first = [
            tf.convert_to_tensor(g)
            for g in tape.gradient(loss, of, unconnected_gradients="zero")
        ]
        mixed = tf.add_n([tf.reduce_sum(tf.sin(3.0 * g)) for g in first])
    second = outer.gradient(mixed, of, unconnected_gradients="zero")
    return output, first, second


def assert_same(layer, inputs, scope, *, reference=contextlib.nullcontext, **options):
    randomised(layer, *inputs, **options)
    with reference():
        expected = tf.nest.flatten(results(layer, inputs, **options))
    with scope():
        got = tf.nest.flatten(results(layer, inputs, **options))
    # Sums run in another order, so tolerances are relative to the largest entry.
    tolerance = TOLERANCE[keras.config.floatx()]
    for a, b in zip(got, expected, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        largest = np.abs(b).max()
        np.testing.assert_allclose(a, b, atol=tolerance * max(1.0, largest))
    assert np.abs(expected[-1]).max() > 1e-3  # The second derivative is not zero.


def operations(layer, *inputs, **options):
    function = tf.function(functools.partial(layer, **options), autograph=False)
    return {
        op.type for op in function.get_concrete_function(*inputs).graph.get_operations()
    }


# Attention -------------------------------------------------------------------------

LOWER = np.tril(np.ones([4, 4], bool))
# The mask forbids all keys of the first query in the first sequence.
SOME = np.random.default_rng(1).random([2, 4, 4]) > 0.4
SOME[0, 0] = False


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


# Layer normalisation ---------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"axis": 2, "epsilon": 0.1},
        {"scale": False},
        {"center": False},
        {"scale": False, "center": False},
    ],
    ids=str,
)
def test_layer_norm_and_both_derivatives(options, dtype):
    layer = layers.LayerNormalization(**options)
    x = normal(2, 3, 4)
    # Keras's own second derivative lacks a term (see `exact_moments`).
    assert_same(layer, [x], written_out, reference=exact_moments)
    assert "IdentityN" not in operations(layer, x)
    with written_out():
        assert "IdentityN" in operations(layer, x)


@pytest.mark.filterwarnings("ignore:You passed `rms_scaling=True`")
@pytest.mark.parametrize(
    "options", [{"axis": 1}, {"axis": [1, 2]}, {"rms_scaling": True}], ids=str
)
def test_other_layer_norms_are_left_to_keras(options):
    layer = layers.LayerNormalization(**options)
    x = normal(2, 3, 4)
    assert_same(layer, [x], written_out)
    with written_out():
        assert "IdentityN" not in operations(layer, x)


def plainly_normalised(x, scale, offset, epsilon):
    mean = tf.reduce_mean(x, -1, keepdims=True)
    variance = tf.reduce_mean(tf.square(x - mean), -1, keepdims=True)
    return (x - mean) / tf.sqrt(variance + epsilon) * scale + offset


@pytest.mark.usefixtures("float64")
def test_derivatives_of_layer_norm_of_every_order():
    inputs = [normal(5, 3), normal(3, seed=1), normal(3, seed=2)]

    def derivative(function, order):
        if order == 0:
            return function

        def total(*inputs):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                value = tf.reduce_sum(tf.sin(derivative(function, order - 1)(*inputs)))
            gradients = tape.gradient(value, inputs, unconnected_gradients="zero")
            return tf.concat([tf.reshape(g, [-1]) for g in gradients], 0)

        return total

    plain = functools.partial(plainly_normalised, epsilon=0.1)
    written = functools.partial(layer_norm.layer_normalised, epsilon=0.1)
    for order in range(4):
        expected = derivative(plain, order)(*inputs)
        got = tf.function(derivative(written, order))(*inputs)
        np.testing.assert_allclose(got, expected, atol=1e-11 * np.abs(expected).max())


# EinsumDense -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("equation", "shape", "bias", "product"),
    [
        ("abc,cd->abd", (None, 5), "d", True),
        ("abc,cde->abde", (None, 5, 2), "de", True),
        ("abc,bcd->ad", (5,), "d", True),
        ("abc,cd->abd", (None, 5), None, True),
        ("abc,cd->abd", (4, 5), "bd", False),
        ("abc,cde->abde", (None, 5, 2), "d", False),
        ("abc,cde->abde", (None, 5, 2), "e", False),
        ("abc,cde->abed", (None, 2, 5), "de", False),
        ("abc,bd->adc", (5, 3), "d", False),
        ("...c,cd->...d", (5,), "d", False),
    ],
)
def test_einsum_dense(equation, shape, bias, product, dtype):
    layer = layers.EinsumDense(equation, shape, bias_axes=bias, activation="tanh")
    x = normal(2, 4, 3)
    assert_same(layer, [x], as_products)
    with as_products():
        assert ("MatMul" in operations(layer, x)) == product
    assert "MatMul" not in operations(layer, x)


def test_einsum_dense_of_unknown_sizes():
    layer = layers.EinsumDense("abc,cde->abde", (None, 5, 2), bias_axes="de")
    x = normal(2, 4, 3)
    expected = layer(x)
    spec = tf.TensorSpec([None, None, 3], x.dtype)
    with as_products():
        function = tf.function(layer, input_signature=[spec], autograph=False)
        assert function.get_concrete_function().output_shapes[2:] == [5, 2]
    np.testing.assert_allclose(function(x), expected, atol=1e-6)  # float32


def test_low_rank_adapters_of_einsum_dense_are_included():
    layer = layers.EinsumDense("abc,cde->abde", (None, 5, 2), bias_axes="de")
    x = normal(2, 4, 3)
    without = layer(x)
    layer.enable_lora(2)
    assert_same(layer, [x], as_products)
    assert np.abs(layer(x) - without).max() > 0.1


def test_quantized_einsum_dense_keeps_kerass_code():
    layer = layers.EinsumDense("abc,cde->abde", (None, 5, 2), bias_axes="de")
    x = normal(2, 4, 3)
    layer(x)
    layer.quantize("int8")
    with as_products():
        got = layer(x)
    np.testing.assert_array_equal(got, layer(x))


# Together --------------------------------------------------------------------------


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
        ("sequential", False),
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
