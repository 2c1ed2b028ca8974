"""Low-rank changes of dense kernels."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import assert_identical, maml, pretrained, regression, with_noise

from maml_keras import (
    LowRank,
    with_low_rank_adapters,
)

pytestmark = pytest.mark.journey

layers = keras.layers


def test_one_matrix_starts_random_and_the_other_at_zero():
    adapted = with_low_rank_adapters(pretrained(), 2)
    for variable in adapted.trainable_variables:
        zero = variable.path.endswith("low_rank_b")
        assert (np.abs(variable).max() == 0.0) == zero
    # If both matrices were zero, their gradients would always be zero.
    _, gradients = maml(adapted, batch_norm="frozen").compute_meta_gradients(
        regression((4, 3))
    )
    for variable, gradient in zip(adapted.trainable_variables, gradients):
        if variable.path.endswith("low_rank_b"):
            assert np.abs(gradient).max() > 1e-4


@pytest.mark.parametrize(("alpha", "scale"), [(None, 1.0), (6.0, 3.0)])
def test_the_change_is_scaled_by_alpha_over_rank(alpha, scale):
    model = keras.Sequential([keras.Input([3]), layers.Dense(5)])
    adapted = with_noise(with_low_rank_adapters(model, 2, alpha=alpha))
    x = tf.random.stateless_normal([2, 3], [0, 1])
    a, b = (v.numpy() for v in adapted.trainable_variables)
    np.testing.assert_allclose(adapted(x) - model(x), scale * x @ a @ b, rtol=1e-3)


@pytest.mark.parametrize(
    ("equation", "x_shape", "kernel"),
    [
        ("abc,cd->abd", (2, 4, 3), (3, 5)),
        ("abc,cde->abde", (2, 4, 3), (3, 2, 5)),
        ("abcd,cde->abe", (2, 4, 3, 2), (3, 2, 5)),
        ("ab,cb->ac", (2, 3), (5, 3)),  # Sums over the last axis of the kernel.
        ("...x,xy->...y", (2, 4, 3), (3, 5)),
    ],
)
def test_einsum_adapter_adds_the_product_to_the_kernel(equation, x_shape, kernel):
    output = {"abd": (4, 5), "abde": (4, 2, 5), "abe": (4, 5), "ac": (5,), "...y": (5,)}
    shape = output[equation.split("->")[1]]
    base = layers.EinsumDense(equation, output_shape=shape)
    x = tf.random.stateless_normal(x_shape, [0, 1])
    base(x)
    assert tuple(base.kernel.shape) == kernel
    layer = LowRank(base, 2, alpha=6.0)
    layer(x)
    with_noise(layer)
    a, b = layer.low_rank_a.numpy(), layer.low_rank_b.numpy()
    expected = tf.einsum(equation, x, base.kernel.numpy() + 3.0 * a @ b)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-3, atol=1e-4)  # float32


def test_dense_adapter_adds_the_product_to_the_kernel():
    base = layers.Dense(5, activation="relu", bias_initializer="ones")
    x = tf.random.stateless_normal([2, 3], [0, 1])
    base(x)
    layer = with_noise(LowRank(base, 2))
    layer(x)
    with_noise(layer)
    moved = base.kernel.numpy() + layer.low_rank_a.numpy() @ layer.low_rank_b.numpy()
    np.testing.assert_allclose(layer(x), tf.nn.relu(x @ moved + 1.0), rtol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_an_adapter_has_the_precision_of_its_layer(dtype):
    layer = keras.layers.Dense(4, dtype=dtype)
    layer.build([None, 3])
    adapter = LowRank(layer)
    assert adapter.dtype_policy.name == dtype
    x = tf.ones([2, 3], dtype)
    assert_identical(adapter(x), layer(x))


def test_an_activity_regularizer_is_kept():
    dense = keras.layers.Dense(2, activity_regularizer="l2")
    model = keras.Sequential([keras.Input([3]), dense])
    adapted, x = with_low_rank_adapters(model), np.ones([4, 3], "float32")
    model(x), adapted(x)
    assert float(model.losses[0]) > 0.0
    np.testing.assert_allclose(adapted.losses[0], model.losses[0], rtol=1e-5)
